//! What is to be said of an index: which of its files are not what was written, and what they say that a pack had.

use std::path::PathBuf;

use super::{Index, Run, entry};
use crate::id::{ChunkId, PackId};
use crate::io::Io;

impl Index {
    /// The files of it that are damaged, each with what does not hold. Nothing is lost by that: they are made again from
    /// the packs.
    pub(crate) fn damaged_files(&self, io: &dyn Io) -> Vec<(PathBuf, &'static str)> {
        const CHECKSUM: &str = "its checksum does not hold";
        let bad = self.runs.iter().filter(|(_, run)| !run.checksum_holds());
        let mut found: Vec<_> = bad.map(|(path, _)| (path.clone(), CHECKSUM)).collect();
        for path in &self.unused {
            match io.open(path).and_then(|file| file.map()).map(Run::open) {
                Ok(Err(detail)) => found.push((path.clone(), detail)),
                Ok(Ok(run)) if !run.checksum_holds() => found.push((path.clone(), CHECKSUM)),
                // One that is whole was merged into another, or names packs that are gone.
                _ => {}
            }
        }
        found
    }

    /// The chunks that a pack had when the index was written. Nothing where no run on disk tells.
    pub(crate) fn listed_in(&self, pack: &PackId) -> Vec<ChunkId> {
        let mut listed = Vec::new();
        for (_, run) in self.runs.iter().filter(|(_, run)| run.packs().contains(pack)) {
            if run.checksum_holds() {
                let places = run.entries().iter().filter_map(|entry| {
                    let place = entry::place(entry, run.packs())?;
                    (place.pack == *pack).then(|| crate::block::format::id_at(entry))
                });
                listed.extend(places);
            }
        }
        listed
    }
}
