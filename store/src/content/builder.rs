//! Chunk lists to contents, in one pass and bounded memory.

use super::node::{self, Child, Totals};
use super::{ChunkRef, Content, FILE_BYTES_MAX, INLINE_CHUNKS_MAX};
use crate::cursor::Defect;
use crate::error::Result;
use crate::id::{ChunkId, ContentId};
use crate::object::{NODE_HEADER_LEN, NodeHeader, ObjectSink};

/// The node of one level that is being filled.
#[derive(Debug, Default)]
struct Filling {
    /// Encoded entries, behind room for the header.
    bytes: Vec<u8>,
    count: u32,
    totals: Totals,
    /// The next entry begins a new node. Cutting waits for it, so that no node comes out empty and no root has one
    /// child.
    is_due: bool,
}

impl Filling {
    fn add(&mut self, id: &ChunkId, totals: Totals, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.bytes.is_empty() {
            self.bytes.resize(NODE_HEADER_LEN, 0);
        }
        encode(&mut self.bytes);
        self.count += 1;
        self.totals = self.totals.plus(totals).expect("no more than FILE_BYTES_MAX");
        self.is_due = node::is_boundary(id, self.count);
    }

    fn write(&mut self, level: usize, sink: &mut dyn ObjectSink) -> Result<Child> {
        let level = u8::try_from(level).expect("nodes have 32 entries or more, so 2^64 need 13 levels");
        let header = NodeHeader { level, count: self.count };
        self.bytes[..NODE_HEADER_LEN].copy_from_slice(&header.encode(node::MAGIC));
        let done = std::mem::take(self);
        Ok(Child { id: sink.put(done.bytes)?, totals: done.totals })
    }
}

/// Makes a file's [`Content`] from its chunks in order. Holds one unfinished node of at most 96 KiB per level.
///
/// Files of up to [`INLINE_BYTES_MAX`](super::INLINE_BYTES_MAX) bytes do not come here: they are [`Content::Inline`].
/// After an error the builder is of no further use.
#[derive(Debug, Default)]
pub struct ContentBuilder {
    levels: Vec<Filling>,
    /// Zeros seen since the last chunk, below 2^32 - 1.
    hole: u32,
    bytes: u64,
}

impl ContentBuilder {
    /// A content of no bytes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes pushed so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends a chunk or a hole. Holes in a row become one.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a length that a list cannot have; whatever the sink returns.
    pub fn push(&mut self, chunk: ChunkRef, sink: &mut dyn ObjectSink) -> Result<()> {
        chunk.check(None).map_err(|defect| defect.refusal("chunk", chunk.id.to_string()))?;
        self.bytes += u64::from(chunk.len);
        if self.bytes > FILE_BYTES_MAX {
            return Err(Defect::new("longer than a file can be").refusal("content", self.bytes.to_string()));
        }
        if chunk.is_hole() {
            match self.hole.checked_add(chunk.len) {
                Some(u32::MAX) | None => {
                    self.hole = self.hole.wrapping_add(chunk.len).wrapping_add(1);
                    return self.add(ChunkRef::hole(u32::MAX), sink);
                }
                Some(sum) => self.hole = sum,
            }
            return Ok(());
        }
        self.flush_hole(sink)?;
        self.add(chunk, sink)
    }

    fn flush_hole(&mut self, sink: &mut dyn ObjectSink) -> Result<()> {
        match std::mem::take(&mut self.hole) {
            0 => Ok(()),
            len => self.add(ChunkRef::hole(len), sink),
        }
    }

    fn add(&mut self, chunk: ChunkRef, sink: &mut dyn ObjectSink) -> Result<()> {
        if self.levels.is_empty() {
            self.levels.push(Filling::default());
        }
        if self.levels[0].is_due {
            self.close(0, sink)?;
        }
        let totals = Totals { bytes: chunk.len.into(), chunks: 1 };
        self.levels[0].add(&chunk.id, totals, |out| chunk.encode(out));
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
        self.levels[above].add(&child.id, child.totals, |out| child.encode(out));
        Ok(())
    }

    /// The content of everything pushed.
    ///
    /// # Errors
    /// Whatever the sink returns.
    pub fn finish(mut self, sink: &mut dyn ObjectSink) -> Result<Content> {
        self.flush_hole(sink)?;
        let Some(leaf) = self.levels.first() else {
            return Ok(Content::Inline(Vec::new()));
        };
        if self.levels.len() == 1 && leaf.count as usize <= INLINE_CHUNKS_MAX {
            return Ok(Content::Chunks(ChunkRef::decode_list(&leaf.bytes[NODE_HEADER_LEN..])));
        }
        let mut level = 0;
        while level + 1 < self.levels.len() {
            self.close(level, sink)?;
            level += 1;
        }
        let root = self.levels[level].write(level, sink)?;
        Ok(Content::Long { root: ContentId(root.id.0), chunks: root.totals.chunks })
    }
}
