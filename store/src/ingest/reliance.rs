//! What an ingest may count on: chunks in packs that were sealed when it began, each of which stays from the first chunk
//! that is found in it until the result is named or given up. A chunk of a pack that is about to be collected counts as
//! absent, and is stored again.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::holds::Stake;
use crate::id::{ChunkId, PackId};
use crate::index::Index;

/// What is here, for one ingest.
pub(super) struct Reliance {
    index: Arc<Index>,
    stake: Stake,
    /// Guards what is known of packs: whether they stay. A leaf lock but for that of the holds.
    packs: RwLock<HashMap<PackId, bool>>,
}

impl Reliance {
    /// The stake is older than the index.
    pub(super) fn new(index: Arc<Index>, stake: Stake) -> Self {
        Self { index, stake, packs: RwLock::default() }
    }

    pub(super) fn stake(&self) -> &Stake {
        &self.stake
    }

    /// Whether a chunk or object is here, and stays.
    pub(super) fn has(&self, id: &ChunkId) -> bool {
        self.index.lookup(id).is_some_and(|place| self.stays(place.pack))
    }

    /// Whether all that these packs were sealed with is here, and stays.
    pub(super) fn has_all_of(&self, packs: &[PackId]) -> bool {
        packs.iter().all(|pack| self.index.has_all_of(pack)) && packs.iter().all(|pack| self.stays(*pack))
    }

    /// The packs that something was found in, each of which stays.
    pub(super) fn relied_on(&self) -> Vec<PackId> {
        let packs = self.packs.read().unwrap_or_else(PoisonError::into_inner);
        packs.iter().filter(|(_, stays)| **stays).map(|(pack, _)| *pack).collect()
    }

    fn stays(&self, pack: PackId) -> bool {
        let known = self.packs.read().unwrap_or_else(PoisonError::into_inner).get(&pack).copied();
        known.unwrap_or_else(|| {
            let stays = self.stake.rely(&pack);
            self.packs.write().unwrap_or_else(PoisonError::into_inner).insert(pack, stays);
            stays
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use crate::ingest::{IngestOptions, Input};
    use crate::io::Sim;
    use crate::writer::{Writer, WriterOptions};

    /// More than a pack, so that one is sealed before the end, and then whatever `at_end` does.
    struct Long<F: FnMut()> {
        left: usize,
        at_end: F,
    }

    impl<F: FnMut()> Read for Long<F> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.left == 0 {
                (self.at_end)();
                return Ok(0);
            }
            let len = buffer.len().min(self.left).min(1 << 16);
            let mut hasher = blake3::Hasher::new();
            hasher.update(&self.left.to_le_bytes()).finalize_xof().fill(&mut buffer[..len]);
            self.left -= len;
            Ok(len)
        }
    }

    #[test]
    fn a_full_disk_gives_back_what_nobody_named_meanwhile() {
        for named in [false, true] {
            let sim = Sim::new(1);
            let options = WriterOptions { wait: Duration::ZERO, command: String::new(), who: String::new() };
            let writer =
                Arc::new(Writer::open_with(Arc::new(sim.clone()), Path::new("/store"), &options).unwrap());
            let (meanwhile, disk) = (Arc::clone(&writer), sim.clone());
            let at_end = move || {
                if named {
                    drop(meanwhile.holds().naming_what_is_here());
                }
                disk.full_from(1);
            };
            let reader = Box::new(Long { left: 150 << 20, at_end });
            let input = Input::Reader { name: "long".to_owned(), executable: false, reader };
            let package = IngestOptions::package("app".parse().unwrap(), "1".parse().unwrap());
            let error = writer.ingest(input, &package, &()).unwrap_err();
            assert!(error.is_disk_full(), "{error}");
            assert_eq!(writer.packs().unwrap().is_empty(), !named);
        }
    }
}
