//! The bytes of a content node: a run of chunk references, or of child nodes with what lies below them. All entries of
//! a node have one width, so an entry is found without decoding the others.

use std::sync::Arc;

use super::{CHUNK_REF_LEN, ChunkRef};
use crate::cursor::{Cursor, Defect};
use crate::error::Result;
use crate::id::{ChunkId, ID_LEN};
use crate::object::{NODE_ENTRIES_MIN, NODE_HEADER_LEN, NodeHeader, ObjectSource};

pub(super) const MAGIC: [u8; 4] = *b"CCON";
/// Entries in a node, at most.
pub(super) const ENTRIES_MAX: u32 = 2048;
/// A node ends after an entry whose id's first two bytes have these bits clear: one in 512.
const BOUNDARY_MASK: u16 = 0x1ff;
const CHILD_LEN: usize = ID_LEN + 8 + 8;

/// What a node, or the entries of one so far, stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// Entries of the list.
    pub(super) chunks: u64,
}

impl Totals {
    pub(super) fn plus(self, other: Self) -> Option<Self> {
        Some(Self {
            bytes: self.bytes.checked_add(other.bytes)?,
            chunks: self.chunks.checked_add(other.chunks)?,
        })
    }
}

/// An entry of a node above the leaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Child {
    pub(super) id: ChunkId,
    pub(super) totals: Totals,
}

impl Child {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.totals.bytes.to_le_bytes());
        out.extend_from_slice(&self.totals.chunks.to_le_bytes());
    }

    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Defect> {
        Ok(Self { id: cursor.id()?, totals: Totals { bytes: cursor.u64()?, chunks: cursor.u64()? } })
    }
}

/// Whether a node of `count` entries ends after one that refers to `id`. Holes (id 0) never end a node: they would end
/// every one.
pub(super) fn is_boundary(id: &ChunkId, count: u32) -> bool {
    let first = u16::from_le_bytes([id.0[0], id.0[1]]);
    count == ENTRIES_MAX
        || (count >= NODE_ENTRIES_MIN
            && first & BOUNDARY_MASK == 0
            && !ChunkRef { id: *id, len: 0 }.is_hole())
}

/// A node whose header, length, entries and totals hold.
#[derive(Debug)]
pub(super) struct ContentNode {
    bytes: Arc<[u8]>,
    pub(super) id: ChunkId,
    pub(super) level: u8,
    pub(super) count: u32,
}

impl ContentNode {
    /// Reads the root of a content of which the directory says `totals`.
    pub(super) fn read_root(id: &ChunkId, totals: Totals, source: &dyn ObjectSource) -> Result<Self> {
        let node = Self::read(id, None, totals, source)?;
        if node.level > 0 && node.count < 2 {
            return Err(Defect::new("a root with one child").of("content", id));
        }
        Ok(node)
    }

    /// The nodes and chunks that a node names, whatever stands above it: gives each to `object` or `chunk`.
    pub(super) fn below(
        id: &ChunkId,
        source: &dyn ObjectSource,
        object: &mut dyn FnMut(ChunkId),
        chunk: &mut dyn FnMut(ChunkId),
    ) -> Result<()> {
        let node = Self::read_alone(id, source)?;
        for index in 0..node.count {
            if node.level > 0 {
                object(node.child(index)?.id);
                continue;
            }
            let found = node.chunk(index)?;
            if !found.is_hole() {
                chunk(found.id);
            }
        }
        Ok(())
    }

    /// Reads a node, whatever stands above it.
    fn read_alone(id: &ChunkId, source: &dyn ObjectSource) -> Result<Self> {
        let bytes = source.get(id)?;
        let decode = || {
            let header = NodeHeader::decode(&mut Cursor::new(&bytes), MAGIC)?;
            let node = Self { bytes: Arc::clone(&bytes), id: *id, level: header.level, count: header.count };
            node.check().map(|_| node)
        };
        decode().map_err(|defect: Defect| defect.of("content", id))
    }

    /// The nodes that a node names, whatever stands above it.
    pub(super) fn references(id: &ChunkId, source: &dyn ObjectSource) -> Result<Vec<ChunkId>> {
        let node = Self::read_alone(id, source)?;
        if node.level == 0 {
            return Ok(Vec::new());
        }
        (0..node.count).map(|index| node.child(index).map(|child| child.id)).collect()
    }

    /// Reads the child of a node on `level`.
    pub(super) fn read_child(child: &Child, level: u8, source: &dyn ObjectSource) -> Result<Self> {
        Self::read(&child.id, Some(level), child.totals, source)
    }

    fn read(id: &ChunkId, below: Option<u8>, totals: Totals, source: &dyn ObjectSource) -> Result<Self> {
        let bytes = source.get(id)?;
        let check = || {
            let header = NodeHeader::decode(&mut Cursor::new(&bytes), MAGIC)?;
            if below.is_some_and(|below| header.level.checked_add(1) != Some(below)) {
                return Err(Defect::new("not one level below its parent"));
            }
            let node = Self { bytes: Arc::clone(&bytes), id: *id, level: header.level, count: header.count };
            if node.check()? != totals {
                return Err(Defect::new("holds other totals than its parent says"));
            }
            Ok(node)
        };
        check().map_err(|defect: Defect| defect.of("content", id))
    }

    fn check(&self) -> Result<Totals, Defect> {
        if self.count == 0 || self.count > ENTRIES_MAX {
            return Err(Defect::new(format!("{} entries", self.count)));
        }
        let width = if self.level == 0 { CHUNK_REF_LEN } else { CHILD_LEN };
        let mut cursor = Cursor::starting_at(&self.bytes, NODE_HEADER_LEN);
        let expected = u64::from(self.count) * width as u64;
        if cursor.left() as u64 != expected {
            return Err(Defect::new(format!("{} bytes of entries instead of {expected}", cursor.left())));
        }
        let mut totals = Totals::default();
        let mut previous = None;
        for _ in 0..self.count {
            let below = if self.level == 0 {
                let chunk = ChunkRef::decode(&mut cursor)?;
                chunk.check(previous.as_ref())?;
                previous = Some(chunk);
                Totals { bytes: chunk.len.into(), chunks: 1 }
            } else {
                let Totals { bytes, chunks } = Child::decode(&mut cursor)?.totals;
                if chunks == 0 || bytes < chunks {
                    return Err(Defect::new(format!("a child of {bytes} bytes in {chunks} chunks")));
                }
                Totals { bytes, chunks }
            };
            totals = totals.plus(below).ok_or(Defect::new("totals past 2^64"))?;
        }
        Ok(totals)
    }

    /// The chunk at a place of a leaf; `index` is below the count.
    pub(super) fn chunk(&self, index: u32) -> Result<ChunkRef> {
        ChunkRef::decode(&mut self.at(index, CHUNK_REF_LEN)).map_err(|defect| defect.of("content", &self.id))
    }

    /// The child at a place of a node above the leaves; `index` is below the count.
    pub(super) fn child(&self, index: u32) -> Result<Child> {
        Child::decode(&mut self.at(index, CHILD_LEN)).map_err(|defect| defect.of("content", &self.id))
    }

    fn at(&self, index: u32, width: usize) -> Cursor<'_> {
        Cursor::starting_at(&self.bytes, NODE_HEADER_LEN + index as usize * width)
    }
}
