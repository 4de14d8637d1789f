//! What a file holds: its bytes if they are few, else the list of its chunks, which past [`INLINE_CHUNKS_MAX`] entries
//! becomes a tree of its own, so that a file of any size has a small directory entry and random access stays
//! logarithmic.
//!
//! Invariants, which make one encoding per content:
//! - up to [`INLINE_BYTES_MAX`] bytes are [`Content::Inline`], more never are;
//! - up to [`INLINE_CHUNKS_MAX`] list entries are [`Content::Chunks`], more are [`Content::Long`];
//! - a run of zeros that makes up whole chunks is a hole, and holes in a row are merged.
//!
//! Where nodes of a long list end depends on the chunk ids alone, so an edit rewrites the nodes around it and their
//! parents, not the list. docs/format.md has the bytes.

mod builder;
mod chunks;
mod node;

pub use builder::ContentBuilder;
pub use chunks::{Chunks, chunks, chunks_from};

use crate::cursor::{Cursor, Defect};

use crate::id::{ChunkId, ContentId, ID_LEN};
use crate::object::ObjectSource;

/// Files of up to this many bytes lie in their directory's entry. A chunk of its own costs about as much in ids (tree,
/// frame table, pack table) before its first byte.
pub const INLINE_BYTES_MAX: usize = 128;
/// Chunk lists of up to this many entries lie in their directory's entry.
pub const INLINE_CHUNKS_MAX: usize = 32;
/// Longest chunk, in bytes: what fits into one block.
pub const CHUNK_LEN_MAX: u32 = 1 << 20;
/// Largest file, in bytes: what a file offset can express.
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64;

/// Bytes of an encoded [`ChunkRef`].
pub(crate) const CHUNK_REF_LEN: usize = ID_LEN + 4;

/// One entry of a chunk list: so many bytes, with this id. The id of 32 zero bytes marks a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkRef {
    /// The chunk.
    pub id: ChunkId,
    /// Its length in bytes, never 0.
    pub len: u32,
}

impl ChunkRef {
    const HOLE: ChunkId = ChunkId([0; ID_LEN]);

    /// A run of `len` zero bytes, of which nothing is stored.
    #[must_use]
    pub fn hole(len: u32) -> Self {
        Self { id: Self::HOLE, len }
    }

    /// Whether this is a run of zeros.
    #[must_use]
    pub fn is_hole(&self) -> bool {
        self.id == Self::HOLE
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.len.to_le_bytes());
    }

    /// Reads an encoded list; bytes after the last whole entry are passed over.
    pub(crate) fn decode_list(bytes: &[u8]) -> Vec<Self> {
        let entry = |bytes: &[u8; CHUNK_REF_LEN]| {
            let [id @ .., a, b, c, d] = *bytes;
            Self { id: ChunkId(id), len: u32::from_le_bytes([a, b, c, d]) }
        };
        bytes.as_chunks().0.iter().map(entry).collect()
    }

    pub(crate) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Defect> {
        Ok(Self { id: cursor.id()?, len: cursor.u32()? })
    }

    /// What a list requires of an entry and the one before it.
    pub(crate) fn check(&self, previous: Option<&Self>) -> Result<(), Defect> {
        if self.len == 0 {
            return Err(Defect::new("a chunk of length 0"));
        }
        if !self.is_hole() {
            return match self.len {
                ..=CHUNK_LEN_MAX => Ok(()),
                len => Err(Defect::new(format!("a chunk of {len} bytes"))),
            };
        }
        match previous {
            Some(previous) if previous.is_hole() && previous.len < u32::MAX => {
                Err(Defect::new("holes that are not merged"))
            }
            _ => Ok(()),
        }
    }
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Content {
    /// At most [`INLINE_BYTES_MAX`] bytes, possibly none.
    Inline(Vec<u8>),
    /// 1 to [`INLINE_CHUNKS_MAX`] list entries.
    Chunks(Vec<ChunkRef>),
    /// More entries, in a tree of nodes.
    Long {
        /// The root node.
        root: ContentId,
        /// Entries of the whole list, holes included.
        chunks: u64,
    },
}

impl Content {
    /// List entries, holes included; 0 for inline bytes.
    #[must_use]
    pub fn chunk_count(&self) -> u64 {
        match self {
            Self::Inline(_) => 0,
            Self::Chunks(list) => list.len() as u64,
            Self::Long { chunks, .. } => *chunks,
        }
    }
}

/// What nodes begin with.
pub(crate) const NODE_MAGIC: [u8; 4] = node::MAGIC;

/// The objects that a node of a chunk list names.
pub(crate) fn references(id: &ChunkId, source: &dyn ObjectSource) -> crate::Result<Vec<ChunkId>> {
    node::ContentNode::references(id, source)
}

/// The objects and chunks that a node of a chunk list names.
pub(crate) fn below(
    id: &ChunkId,
    source: &dyn ObjectSource,
    object: &mut dyn FnMut(ChunkId),
    chunk: &mut dyn FnMut(ChunkId),
) -> crate::Result<()> {
    node::ContentNode::below(id, source, object, chunk)
}

#[cfg(test)]
mod tests;
