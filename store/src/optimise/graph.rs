//! What stands on what: all frames of all packs of deltas that there are, whether a look-up gives them or not.
//!
//! One rule keeps it sound however often chunks are told anew: what something stands on is not told, and what is told
//! nothing stands on. So nothing ever stands on itself, and to read a chunk, frames are decoded of one level more.

use std::collections::HashSet;

use crate::block::FrameHeader;
use crate::error::Result;
use crate::id::{ChunkId, PackId};
use crate::store::Store;

/// What stands on what.
#[derive(Default)]
pub(super) struct Graph {
    /// The chunks that are told in terms of others.
    told: HashSet<ChunkId>,
    /// The chunks that others are told in terms of.
    based: HashSet<ChunkId>,
}

impl Graph {
    /// Reads the headers of packs of deltas.
    pub(super) fn of(store: &Store, packs: impl Iterator<Item = PackId>) -> Result<Self> {
        let mut graph = Self::default();
        for id in packs {
            // Of what does not hold nothing can be read, so nothing stands on what it says.
            store.pack(id)?.sound_headers()?.iter().for_each(|(_, header)| graph.add(header));
        }
        Ok(graph)
    }

    pub(super) fn is_told(&self, id: &ChunkId) -> bool {
        self.told.contains(id)
    }

    pub(super) fn is_base(&self, id: &ChunkId) -> bool {
        self.based.contains(id)
    }

    /// Whether a frame may be there beside those that are.
    pub(super) fn allows(&self, header: &FrameHeader) -> bool {
        !header.chunks.iter().any(|(id, _)| self.is_base(id))
            && !header.bases.iter().any(|id| self.is_told(id))
    }

    /// Takes a frame.
    pub(super) fn add(&mut self, header: &FrameHeader) {
        if !header.bases.is_empty() {
            self.told.extend(header.chunks.iter().map(|(id, _)| *id));
            self.based.extend(&header.bases);
        }
    }
}
