//! Entries to a tree, in one pass and bounded memory.

use super::encoding::encode_entry;
use super::entry::Entry;
use super::node::{self, Child};
use crate::cursor::Defect;
use crate::error::{Error, Result};
use crate::id::{ChunkId, TreeId};
use crate::object::{NODE_HEADER_LEN, NodeHeader, ObjectSink};

/// The node of one level that is being filled.
#[derive(Debug, Default)]
struct Filling {
    /// Room for the header, then encoded entries.
    bytes: Vec<u8>,
    count: u32,
    /// Name of the first directory entry at or below this node.
    first: Vec<u8>,
    /// Directory entries at or below this node.
    entries: u64,
    /// The next entry begins a new node. Cutting waits for it, so that no node comes out empty and no root has one
    /// child.
    is_due: bool,
}

/// A node that was written.
struct Written {
    id: ChunkId,
    first: Vec<u8>,
    entries: u64,
}

impl Filling {
    fn begin(&mut self, first: &[u8]) {
        if self.count == 0 {
            self.bytes.resize(NODE_HEADER_LEN, 0);
            self.first = first.to_vec();
        }
    }

    fn add_entry(&mut self, entry: &Entry) -> Result<(), Defect> {
        self.begin(&entry.name);
        encode_entry(entry, &mut self.bytes)?;
        self.count += 1;
        self.entries += 1;
        self.is_due = node::is_name_boundary(&entry.name, self.count, self.bytes.len());
        Ok(())
    }

    fn add_child(&mut self, child: &Written) {
        self.begin(&child.first);
        Child { first: &child.first, id: child.id, entries: child.entries }.encode(&mut self.bytes);
        self.count += 1;
        self.entries += child.entries;
        self.is_due = node::is_child_boundary(&child.id, self.count, self.bytes.len());
    }

    fn write(&mut self, level: usize, sink: &mut dyn ObjectSink) -> Result<Written> {
        let level = u8::try_from(level).expect("nodes have 32 entries or more, so 2^64 need 13 levels");
        let header = NodeHeader { level, count: self.count };
        self.begin(&[]);
        self.bytes[..NODE_HEADER_LEN].copy_from_slice(&header.encode(node::MAGIC));
        let done = std::mem::take(self);
        Ok(Written { id: sink.put(done.bytes)?, first: done.first, entries: done.entries })
    }
}

/// Makes a directory from its entries. Holds one unfinished node per level, each of at most 64 KiB and one entry.
///
/// An entry that is refused is not added, and the builder can go on; after an error of the sink it is of no further
/// use.
#[derive(Debug)]
pub struct TreeBuilder {
    /// Never empty; leaves first.
    levels: Vec<Filling>,
    /// The last name pushed.
    last: Vec<u8>,
}

impl Default for TreeBuilder {
    fn default() -> Self {
        Self { levels: vec![Filling::default()], last: Vec::new() }
    }
}

impl TreeBuilder {
    /// A directory without entries yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless its name is bytewise greater than the last one's and everything in it is as [`Entry`]
    /// says; whatever the sink returns.
    pub fn push(&mut self, entry: &Entry, sink: &mut dyn ObjectSink) -> Result<()> {
        let given = || String::from_utf8_lossy(&entry.name).into_owned();
        if entry.name <= self.last {
            return Err(Error::Invalid {
                what: "directory entry",
                given: given(),
                reason: format!("it does not come after {:?}", String::from_utf8_lossy(&self.last)),
            });
        }
        if self.levels[0].is_due {
            self.close(0, sink)?;
        }
        self.levels[0].add_entry(entry).map_err(|defect| defect.refusal("directory entry", given()))?;
        self.last.clone_from(&entry.name);
        Ok(())
    }

    /// Writes the node of a level and enters it into the level above.
    fn close(&mut self, level: usize, sink: &mut dyn ObjectSink) -> Result<()> {
        let child = self.levels[level].write(level, sink)?;
        let above = level + 1;
        if self.levels.len() == above {
            self.levels.push(Filling::default());
        }
        if self.levels[above].is_due {
            self.close(above, sink)?;
        }
        self.levels[above].add_child(&child);
        Ok(())
    }

    /// The directory of everything pushed.
    ///
    /// # Errors
    /// Whatever the sink returns.
    pub fn finish(mut self, sink: &mut dyn ObjectSink) -> Result<TreeId> {
        let mut level = 0;
        while level + 1 < self.levels.len() {
            self.close(level, sink)?;
            level += 1;
        }
        let root = self.levels[level].write(level, sink)?;
        Ok(TreeId(root.id.0))
    }
}
