//! What is wrong with a folder that nobody writes to.

use std::sync::Arc;

use hookbus_core::RecordKey;

use super::{Finding, InspectError, Report, read_only::ReadOnly, survey::survey};
use crate::{Folder, LettersFound, dead_letters, dedup, segment, store::Store};

/// Reads every segment, table and dead letter of a folder that nobody else holds, and changes nothing. Blocks.
///
/// # Errors
/// [`InspectError`], where the folder cannot be read at all. Damage is a [`Finding`].
pub fn check(folder: Arc<dyn Folder>, key: RecordKey) -> Result<Report, InspectError> {
    let folder: Arc<dyn Folder> = Arc::new(ReadOnly(folder));
    let store = Store::new(Arc::clone(&folder), key);
    let survey = survey(&store)?;
    let segments = store.segments().len() + survey.unused.len();
    let mut report = Report { segments, findings: survey.findings, ..Report::default() };
    let unfinished = report.tables(&*folder, &store.key)?;
    report.add(dead_letters::look(&*folder, &store.key)?);
    let superfluous = unfinished.into_iter().chain(folder.names()?.into_iter().filter(|name| is_stray(name)));
    report.findings.extend(superfluous.map(|file| Finding::Superfluous { file }));
    Ok(report)
}

impl Report {
    /// Reads the tables; those that were not finished are in the answer.
    pub(super) fn tables(
        &mut self,
        folder: &dyn Folder,
        key: &RecordKey,
    ) -> Result<Vec<String>, InspectError> {
        let tables = dedup::check(folder, key)?;
        self.tables = tables.sound;
        self.findings.extend(tables.damaged.into_iter().map(|segment| Finding::Table { segment }));
        Ok(tables.unfinished)
    }

    /// Adds what was found of dead letters.
    pub fn add(&mut self, found: LettersFound) {
        self.letters = found.count;
        if found.damaged > 0 {
            self.findings.push(Finding::Letters { places: found.damaged });
        }
        if found.unfinished > 0 {
            self.findings.push(Finding::UnfinishedLetter { bytes: found.unfinished });
        }
    }
}

/// Whether a file has a name like those of the journal and is none of its files. What others put there is left alone.
fn is_stray(name: &str) -> bool {
    let ours = segment::number(name).is_some() || dead_letters::is_letters(name) || dedup::is_table(name);
    let looks_like_ours = ["key.new", "format.new"].contains(&name)
        || [".segment", ".ids"].iter().any(|suffix| name.ends_with(suffix));
    !ours && looks_like_ours && !name.starts_with(super::repair::ASIDE)
}
