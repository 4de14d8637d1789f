//! Contents to chunk lists: from the start, or from the chunk that holds a given byte.

use super::node::{Child, ContentNode, Totals};
use super::{ChunkRef, Content};
use crate::cursor::Defect;
use crate::error::Result;
use crate::object::{ObjectSource, PassOver};

/// The chunks of a content of `size` bytes, with the offset in bytes at which each begins. [`Content::Inline`] has
/// none.
#[must_use]
pub fn chunks<'a>(content: &'a Content, size: u64, source: &'a dyn ObjectSource) -> Chunks<'a> {
    chunks_from(content, size, 0, source)
}

/// Like [`chunks`], beginning with the chunk that holds the byte at `offset`; nothing if that is at or past the end.
/// Reads one node per level to get there.
#[must_use]
pub fn chunks_from<'a>(
    content: &'a Content,
    size: u64,
    offset: u64,
    source: &'a dyn ObjectSource,
) -> Chunks<'a> {
    let state = match content {
        Content::Chunks(list) if offset < size => State::List(list),
        Content::Long { root, chunks } if offset < size => {
            State::Root(Child { id: (*root).into(), totals: Totals { bytes: size, chunks: *chunks } })
        }
        _ => State::Done,
    };
    Chunks { state, source, path: Vec::new(), at: 0, skip_to: offset, pass_over: None, previous: None }
}

/// Iterator over a content's chunks. Holds one path of nodes; ends after its first error.
pub struct Chunks<'a> {
    state: State<'a>,
    source: &'a dyn ObjectSource,
    /// From the root to a leaf, each with the index of its next entry.
    path: Vec<(ContentNode, u32)>,
    /// Offset of the next entry of the innermost node.
    at: u64,
    /// Entries that end at or before this offset are passed over.
    skip_to: u64,
    /// Nodes below the root that are passed over with all that is below them.
    pass_over: Option<&'a PassOver<'a>>,
    previous: Option<ChunkRef>,
}

enum State<'a> {
    List(&'a [ChunkRef]),
    Root(Child),
    Nodes,
    Done,
}

impl<'a> Chunks<'a> {
    /// Passes over the nodes below the root that `pass_over` says true of, unread, with all chunks below them.
    #[must_use]
    pub fn passing_over(mut self, pass_over: &'a PassOver<'a>) -> Self {
        self.pass_over = Some(pass_over);
        self
    }

    fn next_of_list(&mut self) -> Option<(u64, ChunkRef)> {
        while let State::List([first, rest @ ..]) = self.state {
            self.state = State::List(rest);
            let at = self.at;
            self.at = at.saturating_add(first.len.into());
            if self.at > self.skip_to {
                return Some((at, *first));
            }
        }
        None
    }

    fn next_of_nodes(&mut self) -> Result<Option<(u64, ChunkRef)>> {
        if let State::Root(root) = &self.state {
            let node = ContentNode::read_root(&root.id, root.totals, self.source)?;
            self.state = State::Nodes;
            self.path.push((node, 0));
        }
        while let Some((node, next)) = self.path.last_mut() {
            if *next == node.count {
                self.path.pop();
                continue;
            }
            let index = *next;
            *next += 1;
            if node.level > 0 {
                let child = node.child(index)?;
                let end = self.at.saturating_add(child.totals.bytes);
                let passed_over = self.pass_over.is_some_and(|pass_over| pass_over(&child.id));
                if end <= self.skip_to || passed_over {
                    (self.at, self.previous) = (end, None);
                    continue;
                }
                let below = ContentNode::read_child(&child, node.level, self.source)?;
                self.path.push((below, 0));
                continue;
            }
            let chunk = node.chunk(index)?;
            chunk.check(self.previous.as_ref()).map_err(|defect: Defect| defect.of("content", &node.id))?;
            let at = self.at;
            self.at = at.saturating_add(chunk.len.into());
            if self.at > self.skip_to {
                self.previous = Some(chunk);
                return Ok(Some((at, chunk)));
            }
        }
        Ok(None)
    }
}

impl Iterator for Chunks<'_> {
    type Item = Result<(u64, ChunkRef)>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.state {
            State::Done => None,
            State::List(_) => self.next_of_list().map(Ok),
            State::Root(_) | State::Nodes => {
                let next = self.next_of_nodes().transpose();
                if !matches!(next, Some(Ok(_))) {
                    self.state = State::Done;
                    self.path.clear();
                }
                next
            }
        }
    }
}
