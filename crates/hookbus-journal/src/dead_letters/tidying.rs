//! Making room: what is left of the oldest file is copied on, so that the file can go.

use std::io;

use super::{
    NotKept, Store,
    index::Spot,
    letter::Letter,
    page,
    writer::{Group, Job, Writer},
};

/// Bytes that are copied at once. Few in tests, so that power cuts come between.
const STEP: usize = if cfg!(test) { 1 << 10 } else { 1 << 20 };

impl Store {
    /// Copies letters on where that makes room for a group that would not fit.
    pub(super) fn make_room(&self, writer: &mut Writer, jobs: &[Job]) {
        let needed: u64 = jobs.iter().map(|job| job.size() as u64).sum();
        // What is not worth it is left: else each letter at the limit would copy whole files for a few bytes.
        let worth = self.settings.max_size / 16;
        let files = self.index().segments.len();
        for _ in 0..files {
            let (size, dead) = {
                let index = self.index();
                let pages = index.segments.len() as u64 * page::PAGE;
                (index.size(), index.size().saturating_sub(index.live + pages))
            };
            if size + needed <= self.settings.max_size || dead == 0 || dead < worth {
                return;
            }
            if let Err(error) = self.copy_oldest_on(writer) {
                tracing::error!(%error, "dead letters could not be moved to make room");
                return;
            }
        }
    }

    /// Copies what is left in the oldest file to the newest, and removes the file.
    fn copy_oldest_on(&self, writer: &mut Writer) -> Result<(), NotKept> {
        let Some(oldest) = self.index().segments.keys().next().copied() else { return Ok(()) };
        if writer.current.as_ref().is_some_and(|current| current.number == oldest) {
            writer.current = None;
        }
        self.begin(writer)?;
        let mut spots: Vec<(u64, Spot)> = {
            let index = self.index();
            let there = index.letters.iter().filter(|(_, spot)| spot.file == oldest);
            there.map(|(id, spot)| (*id, *spot)).collect()
        };
        spots.sort_by_key(|(_, spot)| spot.offset);
        let (mut group, mut copied, mut rotten) = (Group::new(writer), Vec::new(), Vec::new());
        for (id, spot) in spots {
            let letter = match self.read(id, spot) {
                // It is lost wherever it lies, and must not hold up the others.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::error!(id, %error, "a dead letter is damaged and lost");
                    rotten.push(id);
                    continue;
                }
                read => read?,
            };
            self.seal_letter(writer, id, &letter, &mut group).map_err(|_| NotKept::TooLarge)?;
            if group.len() >= STEP {
                let full = std::mem::replace(&mut group, Group::new(writer));
                copied.push(self.write_copies(writer, full)?);
            }
        }
        if group.len() > 0 {
            copied.push(self.write_copies(writer, group)?);
        }
        self.sync(writer)?;
        if let Some(current) = &writer.current {
            let mut index = self.index();
            copied.into_iter().for_each(|(group, start)| group.apply(&mut index, current.number, start));
            rotten.into_iter().for_each(|id| index.lose(id));
        }
        self.unlink_unneeded(writer)
    }

    fn write_copies(&self, writer: &mut Writer, group: Group) -> Result<(Group, u64), NotKept> {
        if let Some(current) = &writer.current {
            // Known before they are there: whatever happens now, a removal outlives them.
            let mut index = self.index();
            group.ids().for_each(|id| index.copy(id, current.number));
        }
        let start = self.append(writer, &group)?;
        Ok((group.written(), start))
    }

    /// Reads a letter and proves that it is the one.
    pub(super) fn read(&self, id: u64, spot: Spot) -> io::Result<Letter> {
        let file = self.index().segments.get(&spot.file).map(|segment| std::sync::Arc::clone(&segment.file));
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = vec![0; spot.length as usize];
        let read = file.read_at(&mut bytes, spot.offset)?;
        let damaged = |what: &dyn std::fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidData, format!("dead letter {id}: {what}"))
        };
        let record = self.key.prove(&bytes[..read]).map_err(|error| damaged(&error))?;
        let place = record.head().place;
        if place.sequence != id || place.generation != self.marks.generation(spot.file) {
            return Err(damaged(&"another record is in its place"));
        }
        Letter::read(&record).map_err(|error| damaged(&error))
    }
}
