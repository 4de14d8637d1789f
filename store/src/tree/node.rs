//! Tree nodes: where they end, and how one is read and checked against what its parent says of it.

use std::ops::Range;
use std::sync::Arc;

use super::encoding::{EntryRef, take_name};
use super::entry::ENTRY_LEN_MAX;
use crate::cursor::{Cursor, Defect};
use crate::error::Result;
use crate::id::{ChunkId, TreeId};
use crate::object::{NODE_ENTRIES_MIN, NODE_HEADER_LEN, NodeHeader, ObjectSource};

pub(super) const MAGIC: [u8; 4] = *b"CTRE";
/// A node ends when it has grown to this many bytes.
const NODE_LEN_TARGET: usize = 64 << 10;
/// So none is longer than this.
const NODE_LEN_MAX: usize = NODE_LEN_TARGET + ENTRY_LEN_MAX;
/// A leaf ends after an entry whose name's CRC32C has these bits clear: one in 256.
const NAME_MASK: u32 = 0xff;
/// A higher node ends after an entry whose child's id begins with a little-endian u16 that has these bits clear.
const CHILD_MASK: u16 = 0xff;

/// Whether a leaf of `count` entries and `len` bytes ends after `name`.
pub(super) fn is_name_boundary(name: &[u8], count: u32, len: usize) -> bool {
    len >= NODE_LEN_TARGET || (count >= NODE_ENTRIES_MIN && crc32c::crc32c(name) & NAME_MASK == 0)
}

/// Whether a higher node of `count` entries and `len` bytes ends after `child`.
pub(super) fn is_child_boundary(child: &ChunkId, count: u32, len: usize) -> bool {
    let first = u16::from_le_bytes([child.0[0], child.0[1]]);
    len >= NODE_LEN_TARGET || (count >= NODE_ENTRIES_MIN && first & CHILD_MASK == 0)
}

/// An entry of a node above the leaves.
#[derive(Debug, Clone)]
pub(super) struct Child<'a> {
    /// Name of the first directory entry below.
    pub(super) first: &'a [u8],
    pub(super) id: ChunkId,
    /// Directory entries below.
    pub(super) entries: u64,
}

impl<'a> Child<'a> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::try_from(self.first.len()).expect("names have at most 255 bytes"));
        out.extend_from_slice(self.first);
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.entries.to_le_bytes());
    }

    fn decode(cursor: &mut Cursor<'a>) -> Result<Self, Defect> {
        Ok(Self { first: take_name(cursor)?, id: cursor.id()?, entries: cursor.u64()? })
    }
}

/// A node that is being read, with the position of its next entry. A node above the leaves is checked as a whole when
/// it is read; a leaf's entries are checked as they are taken.
#[derive(Debug, Clone)]
pub(super) struct TreeNode {
    bytes: Arc<[u8]>,
    id: ChunkId,
    level: u8,
    /// Position of the next entry.
    at: usize,
    /// Entries not taken yet.
    left: u32,
    /// Where the name of the last entry taken lies; empty before the first.
    last: Range<usize>,
}

impl TreeNode {
    pub(super) fn read_root(tree: &TreeId, source: &dyn ObjectSource) -> Result<Self> {
        let id = ChunkId::from(*tree);
        Self::read(&id, source, |node| {
            if node.level > 0 && node.left < 2 {
                return Err(Defect::new("a root with one child"));
            }
            node.check_children().map(drop)
        })
    }

    /// Reads a child of `parent` and checks that it is what the parent says.
    pub(super) fn read_child(child: &Child<'_>, level: u8, source: &dyn ObjectSource) -> Result<Self> {
        Self::read(&child.id, source, |node| {
            if node.level.checked_add(1) != Some(level) {
                return Err(Defect::new("not one level below its parent"));
            }
            if node.check_children()? != child.entries {
                return Err(Defect::new("holds another number of entries than its parent says"));
            }
            if node.left == 0 || take_name(&mut Cursor::starting_at(&node.bytes, node.at))? != child.first {
                return Err(Defect::new("begins with another name than its parent says"));
            }
            Ok(())
        })
    }

    fn read(
        id: &ChunkId,
        source: &dyn ObjectSource,
        check: impl FnOnce(&Self) -> Result<(), Defect>,
    ) -> Result<Self> {
        let bytes = source.get(id)?;
        let decode = || {
            if bytes.len() > NODE_LEN_MAX {
                return Err(Defect::new(format!("a node of {} bytes", bytes.len())));
            }
            let header = NodeHeader::decode(&mut Cursor::new(&bytes), MAGIC)?;
            let node = Self {
                bytes: Arc::clone(&bytes),
                id: *id,
                level: header.level,
                at: NODE_HEADER_LEN,
                left: header.count,
                last: 0..0,
            };
            check(&node)?;
            Ok(node)
        };
        decode().map_err(|defect: Defect| defect.of("tree", id))
    }

    /// The objects that a node names, whatever stands above it.
    pub(super) fn references(id: &ChunkId, source: &dyn ObjectSource) -> Result<Vec<ChunkId>> {
        let mut node = Self::read(id, source, |node| node.check_children().map(drop))?;
        let mut found = Vec::new();
        if node.is_leaf() {
            while let Some(entry) = node.next_entry()? {
                found.extend(entry.object());
            }
        } else {
            while let Some(child) = node.next_child()? {
                found.push(child.id);
            }
        }
        Ok(found)
    }

    /// The objects and chunks that a node names, whatever stands above it: gives each to `object` or `chunk`.
    pub(super) fn below(
        id: &ChunkId,
        source: &dyn ObjectSource,
        object: &mut dyn FnMut(ChunkId),
        chunk: &mut dyn FnMut(ChunkId),
    ) -> Result<()> {
        let mut node = Self::read(id, source, |node| node.check_children().map(drop))?;
        if node.is_leaf() {
            while let Some(entry) = node.next_entry()? {
                entry.object().into_iter().for_each(&mut *object);
                entry.chunks().filter(|chunk| !chunk.is_hole()).for_each(|found| chunk(found.id));
            }
        } else {
            while let Some(child) = node.next_child()? {
                object(child.id);
            }
        }
        Ok(())
    }

    /// Checks all children of a node above the leaves, and returns the number of entries below the node.
    fn check_children(&self) -> Result<u64, Defect> {
        if self.level == 0 {
            return Ok(self.left.into());
        }
        let mut cursor = Cursor::starting_at(&self.bytes, self.at);
        let (mut previous, mut entries): (&[u8], u64) = (&[], 0);
        for _ in 0..self.left {
            let child = Child::decode(&mut cursor)?;
            if child.first <= previous {
                return Err(Defect::new("children whose first names do not ascend"));
            }
            if child.entries == 0 {
                return Err(Defect::new("a child without entries"));
            }
            previous = child.first;
            entries = entries.checked_add(child.entries).ok_or(Defect::new("more than 2^64 entries"))?;
        }
        cursor.end()?;
        Ok(entries)
    }

    pub(super) fn level(&self) -> u8 {
        self.level
    }

    pub(super) fn is_leaf(&self) -> bool {
        self.level == 0
    }

    /// The next child of a node above the leaves.
    pub(super) fn next_child(&mut self) -> Result<Option<Child<'_>>> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut cursor = Cursor::starting_at(&self.bytes, self.at);
        let child = Child::decode(&mut cursor).map_err(|defect| defect.of("tree", &self.id))?;
        self.at = cursor.position();
        self.left -= 1;
        Ok(Some(child))
    }

    /// Passes over the children that lie wholly before `name`: all whose next sibling begins at or before it.
    pub(super) fn skip_children_before(&mut self, name: &[u8]) -> Result<()> {
        let mut cursor = Cursor::starting_at(&self.bytes, self.at);
        let mut skip = || {
            while self.left > 1 {
                Child::decode(&mut cursor)?;
                if take_name(&mut cursor.clone())? > name {
                    break;
                }
                self.at = cursor.position();
                self.left -= 1;
            }
            Ok(())
        };
        skip().map_err(|defect: Defect| defect.of("tree", &self.id))
    }

    /// The name of the last entry taken from a leaf, empty before the first.
    pub(super) fn last_name(&self) -> &[u8] {
        &self.bytes[self.last.clone()]
    }

    /// The next entry of a leaf, whose name has to be above the last one's. After the last entry, nothing may follow.
    pub(super) fn next_entry(&mut self) -> Result<Option<EntryRef<'_>>> {
        let refuse = |defect: Defect| Err(defect.of("tree", &self.id));
        if self.left == 0 {
            return Cursor::starting_at(&self.bytes, self.at).end().map(|()| None).or_else(refuse);
        }
        let (entry, after) = match EntryRef::decode(&self.bytes, self.at) {
            Ok(decoded) => decoded,
            Err(defect) => return refuse(defect),
        };
        if entry.name <= &self.bytes[self.last.clone()] {
            return refuse(Defect::new("names that do not ascend"));
        }
        // The name follows one byte for its length.
        self.last = self.at + 1..self.at + 1 + entry.name.len();
        self.at = after;
        self.left -= 1;
        Ok(Some(entry))
    }
}
