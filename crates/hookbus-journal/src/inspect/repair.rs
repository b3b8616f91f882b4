//! Mending what can be mended. No record is ever touched.

use std::{collections::BTreeSet, sync::Arc, time::SystemTime};

use hookbus_core::RecordKey;

use super::{Finding, InspectError, Repaired, check};
use crate::{
    Folder,
    cursor::seconds,
    dedup::{self, Dedup},
    known::Known,
    recover::{correct_table, read_segments, read_tables},
    segment,
    store::Store,
};

/// What the names of files that were set aside begin with.
pub(super) const ASIDE: &str = "repaired-";

/// Mends a folder that nobody else holds: writes first pages and footers anew, makes tables of identities anew, and gives
/// files that nobody can read another name. Blocks.
///
/// # Errors
/// [`InspectError`]; what was done by then is done, and it may be tried again.
pub fn repair(
    folder: &Arc<dyn Folder>,
    key: &RecordKey,
    settings: dedup::Settings,
) -> Result<Vec<Repaired>, InspectError> {
    let now = SystemTime::now();
    let report = check(Arc::clone(folder), key.clone())?;
    let mut done = Vec::new();
    let (mut unsealed, mut spoilt) = (BTreeSet::new(), BTreeSet::new());
    for finding in report.findings {
        let file = match finding {
            Finding::Unreadable { segment } => {
                spoilt.insert(segment);
                segment::name(segment)
            }
            Finding::Damaged { segment, .. } => {
                spoilt.insert(segment);
                continue;
            }
            Finding::Table { segment } => dedup::name(segment),
            Finding::Superfluous { file } => file,
            Finding::FirstPage { segment } | Finding::Unsealed { segment } => {
                unsealed.insert(segment);
                continue;
            }
            _ => continue,
        };
        let to = format!("{ASIDE}{}-{file}", seconds(now));
        folder.rename(&file, &to)?;
        done.push(Repaired::SetAside { file, to });
    }
    folder.sync()?;
    let store = Store::new(Arc::clone(folder), key.clone());
    read_segments(&store)?;
    for segment in store.segments().values().filter(|segment| segment.is_sealed()) {
        if unsealed.contains(&segment.number) {
            done.push(Repaired::Sealed { segment: segment.number });
        }
    }
    let (dedup, damaged) = Dedup::open(Arc::clone(folder), key, settings, now)?;
    let mut known = Known::new(dedup, Vec::new());
    read_tables(&store, &mut known, now)?;
    for segment in damaged {
        if !known.is_made_again(segment) {
            known.dedup.forget(segment, now)?;
        }
    }
    for segment in spoilt {
        correct_table(&store, &mut known, segment, now)?;
    }
    for sealing in std::mem::take(&mut known.sealings) {
        sealing.write()?;
        done.push(Repaired::Table { segment: sealing.segment() });
    }
    Ok(done)
}
