//! Packs that are made, and which chunks are in them now.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::block::Frame;
use crate::error::Result;
use crate::id::{ChunkId, PackId};
use crate::index::Place;
use crate::pack::{Filling, PackKind};
use crate::store::Store;

/// What was written anew and not yet let go of where it was.
pub(super) struct Batch {
    pub(super) store: Store,
    kind: PackKind,
    filling: Option<Filling>,
    /// Chunks of the pack that is filled: each with its frame and slot, and the pack that it was in.
    open: HashMap<ChunkId, (u16, u16, PackId)>,
    frames: u16,
    /// Chunks in sealed packs.
    pub(super) moved: HashMap<ChunkId, Place>,
    pub(super) from: BTreeSet<PackId>,
    /// Bytes that they take where they were.
    pub(super) bytes: u64,
    /// Packs that were made, with their bytes, and whether they were not there before.
    pub(super) made: Vec<(PackId, u64, bool)>,
}

impl Batch {
    pub(super) fn new(store: Store, kind: PackKind) -> Self {
        Self {
            store,
            kind,
            filling: None,
            open: HashMap::new(),
            frames: 0,
            moved: HashMap::new(),
            from: BTreeSet::new(),
            bytes: 0,
            made: Vec::new(),
        }
    }

    /// Whether a chunk was told.
    pub(super) fn has(&self, id: &ChunkId) -> bool {
        self.moved.contains_key(id) || self.open.contains_key(id)
    }

    pub(super) fn append(&mut self, frame: &Frame, from: &HashMap<ChunkId, PackId>) -> Result<()> {
        let filling = match &mut self.filling {
            Some(filling) => filling,
            None => {
                let (io, dir) = (Arc::clone(self.store.io()), self.store.packs_dir());
                self.filling.insert(Filling::create(io, &dir, self.kind)?)
            }
        };
        filling.append(frame)?;
        for (slot, (id, _)) in (0u16..).zip(&frame.header.chunks) {
            if let Some(from) = from.get(id) {
                self.open.insert(*id, (self.frames, slot, *from));
            }
        }
        self.frames += 1;
        if filling.is_full() { self.seal() } else { Ok(()) }
    }

    /// Seals the pack that is filled.
    pub(super) fn seal(&mut self) -> Result<()> {
        // Kept until it is sealed, so that it can be discarded if that fails.
        let Some(filling) = &mut self.filling else { return Ok(()) };
        let pack = filling.seal(&|id| self.store.holds().claim(id))?;
        self.made.push((pack, filling.len(), !filling.replaced()));
        self.filling = None;
        self.frames = 0;
        for (id, (frame, slot, from)) in self.open.drain() {
            self.moved.insert(id, Place { pack, frame, slot });
            self.from.insert(from);
        }
        Ok(())
    }

    /// Removes what is not sealed.
    pub(super) fn discard_open(&mut self) {
        self.open.clear();
        self.frames = 0;
        if let Some(filling) = self.filling.take()
            && let Err(error) = self.store.io().remove(filling.path())
        {
            tracing::warn!(path = %filling.path().display(), %error, "cannot remove an unfinished pack");
        }
    }

    /// Removes the packs that were made, since they replace nothing.
    pub(super) fn discard_made(&mut self, named: u64) {
        let new: Vec<PackId> =
            self.made.iter().filter(|(.., is_new)| *is_new).map(|(pack, ..)| *pack).collect();
        if self.store.discard(&new, named) {
            self.made.clear();
        }
    }
}
