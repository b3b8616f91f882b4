//! Keys that the format has and this version does not act on: an error each, never ignored in silence.

use hookbus_core::config::{Problem, Table};

/// A table of the format.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Top,
    Server,
    Source,
    Sink,
    Route,
}

/// The keys per table, and what to do without them.
fn keys(place: Place) -> &'static [(&'static str, &'static str)] {
    match place {
        Place::Top => &[],
        Place::Server => &[],
        Place::Source => &[],
        Place::Sink => &[("dead-letter", "leave it out; dead letters are kept in the data folder")],
        Place::Route => &[("where", "leave it out; choose events by `sources` and `types`")],
    }
}

/// Takes such keys out of a table and reports each.
pub(super) fn refuse(place: Place, table: &mut Table<'_>, problems: &mut Vec<Problem>) {
    for (key, instead) in keys(place) {
        if let Some((span, _)) = table.take(key) {
            problems
                .push(Problem::new(span, format!("`{key}` is not available in this version")).help(*instead));
        }
    }
}
