//! Takes in frames that come from elsewhere: verified by whoever received them, each chunk kept once, in packs of its own.
//!
//! What is kept can be read at once, through the store's overlay, and is durable after [`Intake::flush`]. Nothing waits
//! for a disk on the way: frames are appended, packs are synced behind, and sealed when they are full or when nothing
//! came for a while. A pack that cannot be written or synced is given up: its chunks are absent again, the next flush
//! fails, and what names them has to ask [`Store::missing`] first in any case.
//!
//! Roles: `frame` is the type of verified bytes; `packs` are the packs under way, and how they are sealed; `sealer` is
//! the thread that does so by itself. No thread outlives the writer.

#[cfg(test)]
mod crash_tests;
mod frame;
mod packs;
mod sealer;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

pub use frame::VerifiedFrame;

use self::packs::Packs;
use self::sealer::Sealer;
use crate::block::{BlockBuilder, Compressor, Frame};
use crate::error::Result;
use crate::id::ChunkId;
use crate::pack::PackKind;
use crate::store::Store;

/// What was new of a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// Chunks.
    pub chunks: u64,
    /// Their plain bytes.
    pub plain_bytes: u64,
    /// Bytes that they take in a pack.
    pub stored_bytes: u64,
}

/// Where frames from elsewhere go: one for each writer, shared by all transfers of the process.
pub struct Intake {
    packs: Arc<Packs>,
    sealer: Sealer,
}

impl Intake {
    /// An intake of a store; whoever writes an index run holds `running` meanwhile.
    pub(crate) fn new(store: &Store, running: Arc<Mutex<()>>) -> Self {
        let packs = Arc::new(Packs::new(store.local(), running));
        Self { sealer: Sealer::new(Arc::clone(&packs)), packs }
    }

    /// Keeps what is new of a frame: the frame as it is where all of it is, else what is, encoded anew. A chunk whose
    /// place was found damaged is new.
    ///
    /// # Errors
    /// [`crate::Error::Io`]; the chunks of the pack that failed are not here any more.
    pub fn keep(&self, kind: PackKind, frame: &VerifiedFrame) -> Result<Kept> {
        self.sealer.start()?;
        self.packs.keep(kind, frame, &|id| Ok(self.packs.store().sound_place(id)?.is_none()))
    }

    /// Keeps chunks of a frame that the store has, but damaged, or has not: from now on these are the ones that are read.
    /// The others are read to find that out.
    ///
    /// # Errors
    /// As [`Intake::keep`].
    pub fn heal(&self, kind: PackKind, frame: &VerifiedFrame) -> Result<Kept> {
        self.sealer.start()?;
        // Reading notes what is damaged, and a look-up is enough from then on.
        for (id, _) in frame.chunks() {
            let _ = self.packs.store().chunk(id);
        }
        self.packs.keep(kind, frame, &|id| Ok(self.packs.store().sound_place(id)?.is_none()))
    }

    /// Makes all that was kept before durable: data, then metadata, then their names.
    ///
    /// # Errors
    /// [`crate::Error::Io`] also when a pack that was sealed by itself failed since the last flush. What it held is not
    /// here any more.
    pub fn flush(&self) -> Result<()> {
        self.packs.flush()
    }

    pub(crate) fn store(&self) -> &Store {
        self.packs.store()
    }

    /// Makes all durable and takes nothing more until [`Intake::resume`]: another process is about to write the store.
    pub(crate) fn suspend(&self) {
        self.packs.suspend();
    }

    /// Takes frames again.
    pub(crate) fn resume(&self) {
        self.packs.resume();
    }

    /// Seals what is open and takes nothing more; its thread has ended.
    pub(crate) fn close(&self) {
        self.packs.close();
        self.sealer.join();
    }
}

/// The slots of the chunks that are wanted, each chunk once.
fn choose(frame: &VerifiedFrame, is_wanted: &dyn Fn(&ChunkId) -> Result<bool>) -> Result<Vec<usize>> {
    let (mut slots, mut seen) = (Vec::new(), HashSet::new());
    for (slot, (id, _)) in frame.chunks().iter().enumerate() {
        if is_wanted(id)? && seen.insert(*id) {
            slots.push(slot);
        }
    }
    Ok(slots)
}

/// A frame of some of another's chunks.
fn encode(frame: &VerifiedFrame, slots: &[usize]) -> Frame {
    let mut builder = BlockBuilder::default();
    for &slot in slots {
        builder.push(frame.chunks()[slot].0, frame.chunk(slot));
    }
    builder.finish(&mut Compressor::default()).0
}
