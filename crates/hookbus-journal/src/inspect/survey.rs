//! Reading all segments of a folder that nobody writes to, as the next start would find them.

use std::{ops::ControlFlow, sync::Arc};

use crate::{
    Unopenable,
    format::{EVENT, Footer},
    recover::last_before,
    segment::{self, Evidence, NoSegment, START, Segment},
    store::Store,
};

use super::Finding;

/// The segments that hold records, and what is wrong with them. Those that were not sealed have the footer they would get,
/// in memory.
pub(super) struct Survey {
    pub(super) findings: Vec<Finding>,
    /// Segments that were made ahead and never written to.
    pub(super) unused: Vec<u64>,
    /// Bytes of all files, as far as they are known.
    pub(super) disk_bytes: u64,
}

/// Reads the segments of a store's folder into it.
pub(super) fn survey(store: &Store) -> Result<Survey, Unopenable> {
    let mut numbers: Vec<_> = store.folder.names()?.iter().filter_map(|name| segment::number(name)).collect();
    numbers.sort_unstable();
    let mut survey = Survey { findings: Vec::new(), unused: Vec::new(), disk_bytes: 0 };
    // From the end, as a start reads them: each one says where the one before must end.
    let mut next: Option<Arc<Segment>> = None;
    for number in numbers.into_iter().rev() {
        let opened = Segment::open(&*store.folder, &store.key, number);
        let page_is_sound = opened.is_ok();
        let segment = match opened {
            Ok(segment) => segment,
            Err(NoSegment::Io(error)) => return Err(error.into()),
            Err(why @ NoSegment::Newer(_)) => {
                return Err(Unopenable::Newer { segment: number, why: why.to_string() });
            }
            Err(NoSegment::OtherKey) => return Err(Unopenable::OtherKey { segment: number }),
            Err(NoSegment::Damaged) => Segment::without_header(&*store.folder, number)?,
        };
        survey.disk_bytes += segment.bytes();
        let end = next.as_ref().map(|next| last_before(store, next)).transpose()?.flatten();
        let before = survey.findings.len();
        if let Some(footer) = survey.segment(store, &segment, end)? {
            if segment.footer.get().is_none() {
                survey.findings.push(match page_is_sound {
                    true => Finding::Unsealed { segment: number },
                    false => Finding::FirstPage { segment: number },
                });
                let _ = segment.footer.set(footer);
            }
            let segment = Arc::new(segment);
            store.segments().insert(number, Arc::clone(&segment));
            next = Some(segment);
        } else if page_is_sound && survey.findings.len() == before {
            survey.unused.push(number);
        } else {
            survey.findings.truncate(before);
            survey.findings.push(Finding::Unreadable { segment: number });
        }
    }
    survey.findings.reverse();
    Ok(survey)
}

impl Survey {
    /// Reads one segment whole; `end` is the number of its last record by what comes behind it. Its footer, or the one it
    /// would get; nothing where it holds no record.
    fn segment(
        &mut self,
        store: &Store,
        segment: &Segment,
        end: Option<u64>,
    ) -> Result<Option<Footer>, Unopenable> {
        let sealed = segment.footer.get().copied();
        // What was cut off is a hole too.
        let to = sealed.map_or(segment.header.capacity.max(START + 1), |footer| footer.end);
        let mut events = 0;
        let scan = segment.scan(&store.key, START, to, |_, record| {
            events += u64::from(record.head().kind == EVENT);
            ControlFlow::Continue(())
        })?;
        let torn = if end.is_some() { (0, 0) } else { scan.torn() };
        let made = Footer { end: scan.next, events, torn, ..Footer::default() };
        let evidence = match (sealed, end) {
            (Some(footer), _) => Evidence::Footer(footer),
            (None, Some(last_sequence)) => Evidence::Footer(Footer { last_sequence, ..made }),
            (None, None) => Evidence::Records,
        };
        let damage = scan.damage(evidence);
        let finding = |(hole, events): (segment::Hole, u64)| Finding::Damaged {
            segment: segment.number,
            from: hole.from,
            to: hole.to,
            events,
        };
        let damage: Vec<_> = damage.map(finding).collect();
        // Found from the end, told from the beginning.
        let missing = sealed.zip(end).map_or(0, |(footer, end)| end.saturating_sub(footer.last_sequence));
        if missing > 0 {
            let next = store.segments().keys().next().copied().unwrap_or(segment.number);
            self.findings.push(Finding::Missing { segment: next, events: missing });
        }
        self.findings.extend(damage.into_iter().rev());
        Ok(sealed.or(scan.last.map(|last_sequence| Footer { last_sequence, ..made })))
    }
}
