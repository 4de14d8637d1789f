//! Metadata objects (tree nodes, content nodes, artifacts): immutable bytes named by their BLAKE3 hash, stored as the
//! chunks of metadata packs. The two traits are all that trees, contents and artifacts know of a store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cursor::{Cursor, Defect};
use crate::error::{Error, Result};
use crate::id::ChunkId;

/// Longest object, in bytes: it fits into one block.
pub const OBJECT_LEN_MAX: usize = 1 << 20;

/// Bytes before the first entry of a tree or content node.
pub(crate) const NODE_HEADER_LEN: usize = 12;
/// Every level but the last node's has at least this many entries per node, so that levels shrink: see
/// [`NODE_LEVEL_MAX`].
pub(crate) const NODE_ENTRIES_MIN: u32 = 32;
/// Highest level of a node. With 32 entries or more in each, 2^64 entries need 13 levels.
pub(crate) const NODE_LEVEL_MAX: u8 = 15;

/// Where new objects go.
pub trait ObjectSink {
    /// Stores `bytes` and returns their id. Storing the same bytes again is free.
    fn put(&mut self, bytes: Vec<u8>) -> Result<ChunkId>;
}

/// Where objects come from.
pub trait ObjectSource: Sync {
    /// The bytes whose BLAKE3 hash is `id`, verified; [`Error::Absent`] when they are not here.
    fn get(&self, id: &ChunkId) -> Result<Arc<[u8]>>;
}

/// Says of an object whether a walk is to pass over it, unread, with all that it leads to.
pub type PassOver<'a> = dyn Fn(&ChunkId) -> bool + Sync + 'a;

/// Objects in memory: a sink and a source for tests and for trees that are never stored.
#[derive(Debug, Default)]
pub struct MemoryObjects {
    objects: BTreeMap<ChunkId, Arc<[u8]>>,
    bytes: u64,
    reads: AtomicU64,
}

impl MemoryObjects {
    /// No objects.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of distinct objects.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.objects.len() as u64
    }

    /// Their lengths in bytes, added up.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How often an object was read since the last call.
    pub fn take_reads(&self) -> u64 {
        self.reads.swap(0, Ordering::Relaxed)
    }

    /// The objects, ascending by id.
    pub fn iter(&self) -> impl Iterator<Item = (&ChunkId, &[u8])> {
        self.objects.iter().map(|(id, bytes)| (id, &**bytes))
    }

    /// Places `bytes` under an id that need not be theirs: how tests forge what no writer would make.
    pub fn forge(&mut self, id: ChunkId, bytes: Vec<u8>) {
        self.bytes += bytes.len() as u64;
        if let Some(old) = self.objects.insert(id, bytes.into()) {
            self.bytes -= old.len() as u64;
        }
    }

    /// Drops an object; whether it was here.
    pub fn remove(&mut self, id: &ChunkId) -> bool {
        let removed = self.objects.remove(id);
        self.bytes -= removed.as_ref().map_or(0, |bytes| bytes.len() as u64);
        removed.is_some()
    }
}

impl ObjectSink for MemoryObjects {
    fn put(&mut self, bytes: Vec<u8>) -> Result<ChunkId> {
        let id = ChunkId::of(&bytes);
        self.forge(id, bytes);
        Ok(id)
    }
}

impl ObjectSource for MemoryObjects {
    fn get(&self, id: &ChunkId) -> Result<Arc<[u8]>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.objects.get(id).cloned().ok_or_else(|| Error::Absent { what: format!("object {id}") })
    }
}

/// The 12 bytes that tree and content nodes begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeHeader {
    /// 0 for a leaf.
    pub(crate) level: u8,
    /// Entries that follow.
    pub(crate) count: u32,
}

impl NodeHeader {
    const VERSION: u8 = 1;

    pub(crate) fn encode(self, magic: [u8; 4]) -> [u8; NODE_HEADER_LEN] {
        let mut bytes = [0; NODE_HEADER_LEN];
        bytes[..4].copy_from_slice(&magic);
        bytes[4] = Self::VERSION;
        bytes[5] = self.level;
        bytes[8..].copy_from_slice(&self.count.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(cursor: &mut Cursor<'_>, magic: [u8; 4]) -> Result<Self, Defect> {
        if cursor.left() > OBJECT_LEN_MAX {
            return Err(Defect::new("longer than 1 MiB"));
        }
        if cursor.take(4)? != magic {
            return Err(Defect::new("does not begin with its magic"));
        }
        match cursor.u8()? {
            Self::VERSION => {}
            0 => return Err(Defect::new("format version 0")),
            found => {
                return Err(Defect::Newer { found: found.into(), supported: Self::VERSION.into() });
            }
        }
        let level = cursor.u8()?;
        if level > NODE_LEVEL_MAX {
            return Err(Defect::new(format!("level {level} is above {NODE_LEVEL_MAX}")));
        }
        if cursor.u16()? != 0 {
            return Err(Defect::new("reserved bytes are not zero"));
        }
        Ok(Self { level, count: cursor.u32()? })
    }
}
