//! Checking a journal that goes on meanwhile.

use std::{ops::ControlFlow, sync::Arc};

use super::{Finding, InspectError, Report};
use crate::{
    engine::Engine,
    segment::{Evidence, NoSegment, START, Segment},
};

/// Reads what is safe.
pub(crate) fn check_running(engine: &Engine) -> Result<Report, InspectError> {
    let mut report = Report::default();
    let segments: Vec<_> = engine.store.segments().values().map(Arc::clone).collect();
    for segment in segments {
        let (safe, durable) = {
            let open = engine.open();
            (open.safe, open.durable)
        };
        let (end, evidence) = match segment.footer.get() {
            Some(footer) if footer.last_sequence < durable => (footer.end, Evidence::Footer(*footer)),
            _ if segment.number == safe.segment => (safe.offset, Evidence::Safe),
            // None of it is safe.
            _ => continue,
        };
        let scan = segment.scan(&engine.store.key, START, end, |_, _| ControlFlow::Continue(()))?;
        let page = Segment::open(&*engine.store.folder, &engine.store.key, segment.number);
        // One that was let go of meanwhile may be another one by now.
        if !is_there(engine, &segment) {
            continue;
        }
        report.segments += 1;
        match page {
            Ok(_) => {}
            Err(NoSegment::Io(error)) => return Err(error.into()),
            Err(_) => report.findings.push(Finding::FirstPage { segment: segment.number }),
        }
        let damaged = scan.damage(evidence).map(|(hole, events)| Finding::Damaged {
            segment: segment.number,
            from: hole.from,
            to: hole.to,
            events,
        });
        report.findings.extend(damaged);
    }
    report.tables(&*engine.store.folder, &engine.store.key)?;
    Ok(report)
}

/// Whether the segment has not been let go of.
pub(super) fn is_there(engine: &Engine, segment: &Arc<Segment>) -> bool {
    engine.store.segment(segment.number).is_some_and(|there| Arc::ptr_eq(&there, segment))
}
