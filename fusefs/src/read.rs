//! Any range of any file, decoded from the store: for files that are not worth a whole copy, or too long for one, or of
//! which there is none yet.
//!
//! Blocks are decoded once for all readers that want them at the same time, and kept in a bounded amount of memory
//! (`blocks`); long lists of chunks are kept in pieces (`layout`); who reads on and on has the next blocks decoded ahead
//! (`pattern`, `ahead`), who jumps about gets what was asked for and no more.
//!
//! A chunk that is damaged, lost or not here yet fails the reads that touch it, and no others. Nothing is fetched from
//! other machines here: whoever may wait for those asks `far` first.

mod ahead;
mod blocks;
mod layout;
mod pattern;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use cairn_store::{ChunkRef, Content, Error, Store};

use self::ahead::Ahead;
use self::blocks::Blocks;
use self::layout::Layouts;
use self::pattern::Patterns;
use crate::files::{FileId, FileSpec, ReadError};

/// What part of the blocks' memory may be decoded ahead for one stream of reads.
const AHEAD_SHARE: u64 = 8;
/// Bytes that are decoded ahead for one stream, at most.
const AHEAD_MAX: u64 = 8 << 20;

/// Reads files by chunks.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    ahead: Ahead,
    /// Guards what is known of who reads what; a leaf lock.
    patterns: Mutex<Patterns>,
}

/// What readers and those who work ahead of them share.
struct Shared {
    /// It fetches nothing.
    store: Store,
    blocks: Blocks,
    layouts: Layouts,
}

/// Why bytes are not to be had.
#[derive(Debug)]
struct Bad {
    /// The chunk, and where in the file it ends; nothing where it is the list of chunks itself.
    chunk: Option<(ChunkRef, u64)>,
    source: Box<Error>,
}

impl From<Error> for Bad {
    fn from(source: Error) -> Self {
        Self { chunk: None, source: Box::new(source) }
    }
}

impl Reader {
    pub(crate) fn new(store: &Store, cache_bytes: u64) -> std::io::Result<Self> {
        let store = store.local();
        let shared = Arc::new(Shared {
            blocks: Blocks::new(store.clone(), cache_bytes),
            layouts: Layouts::default(),
            store,
        });
        let ahead = Ahead::new(Arc::clone(&shared))?;
        let patterns = Patterns::new((cache_bytes / AHEAD_SHARE).min(AHEAD_MAX));
        Ok(Self { shared, ahead, patterns: Mutex::new(patterns) })
    }

    /// Appends up to `len` bytes from `offset` on; fewer where the file ends. After an error `reply` has the bytes
    /// before those that failed.
    pub(crate) fn read(
        &self,
        file: &FileSpec,
        offset: u64,
        len: u32,
        reply: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        let end = offset.saturating_add(len.into()).min(file.size);
        if offset >= end || read_inline(file, offset, end, reply) {
            return Ok(());
        }
        let id = FileId::of(file);
        let ahead =
            self.patterns.lock().unwrap_or_else(PoisonError::into_inner).note(id, offset, end, file.size);
        if let Some(range) = ahead {
            self.ahead.add(file, id, range);
        }
        let read = self.shared.walk(file, &id, offset, end, |bytes| append(reply, bytes));
        read.map_err(|bad| match bad.chunk {
            Some((chunk, _)) => ReadError::of_chunk(chunk.id, *bad.source),
            None => ReadError::of_store(*bad.source),
        })
    }

    /// The chunks of a range that cannot be read, each with the reason.
    pub(crate) fn bad_chunks(
        &self,
        file: &FileSpec,
        id: &FileId,
        range: Range<u64>,
    ) -> cairn_store::Result<Vec<(ChunkRef, Error)>> {
        let (mut at, end) = (range.start, range.end.min(file.size));
        let mut found = Vec::new();
        while at < end && !matches!(file.content, Content::Inline(_)) {
            match self.shared.walk(file, id, at, end, |_| ()) {
                Ok(()) => break,
                Err(Bad { chunk: None, source }) => return Err(*source),
                Err(Bad { chunk: Some((chunk, chunk_end)), source }) => {
                    found.push((chunk, *source));
                    at = chunk_end;
                }
            }
        }
        Ok(found)
    }

    /// The chunks that make up a range of a file, holes left out. Their list is read from this store.
    pub(crate) fn chunks(
        &self,
        store: &Store,
        file: &FileSpec,
        id: &FileId,
        range: Range<u64>,
    ) -> cairn_store::Result<Vec<ChunkRef>> {
        let (mut at, end) = (range.start, range.end.min(file.size));
        let mut found = Vec::new();
        while at < end && !matches!(file.content, Content::Inline(_)) {
            let window = self.shared.layouts.window(store, file, id, at)?;
            let chunks = window.until(at, end);
            found.extend(chunks.iter().map(|(_, chunk)| *chunk).filter(|chunk| !chunk.is_hole()));
            at = ends(chunks);
        }
        Ok(found)
    }

    /// The same where nothing has to be decoded; else `reply` stays as it was.
    pub(crate) fn try_read(&self, file: &FileSpec, offset: u64, len: u32, reply: &mut Vec<u8>) -> bool {
        let end = offset.saturating_add(len.into()).min(file.size);
        if offset >= end || read_inline(file, offset, end, reply) {
            return true;
        }
        let id = FileId::of(file);
        let before = reply.len();
        if self.shared.walk_kept(file, &id, offset, end, |bytes| append(reply, bytes)).is_none() {
            reply.truncate(before);
            return false;
        }
        let mut patterns = self.patterns.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = patterns.note(id, offset, end, file.size);
        drop(patterns);
        if let Some(range) = ahead {
            self.ahead.add(file, id, range);
        }
        true
    }

    /// Bytes of blocks in memory, and how often a block was there and was not.
    pub(crate) fn figures(&self) -> (u64, u64, u64) {
        self.shared.blocks.figures()
    }
}

/// A piece of a file.
enum Piece<'a> {
    Bytes(&'a [u8]),
    Zeros(usize),
}

fn append(reply: &mut Vec<u8>, piece: Piece<'_>) {
    match piece {
        Piece::Bytes(bytes) => reply.extend_from_slice(bytes),
        Piece::Zeros(len) => reply.resize(reply.len() + len, 0),
    }
}

fn read_inline(file: &FileSpec, offset: u64, end: u64, reply: &mut Vec<u8>) -> bool {
    let Content::Inline(bytes) = &file.content else { return false };
    let index = |at: u64| usize::try_from(at).map_or(bytes.len(), |at| at.min(bytes.len()));
    reply.extend_from_slice(&bytes[index(offset)..index(end)]);
    true
}

impl Shared {
    /// Gives `take` the bytes from `at` to `end`, which is not past the file's end, in order.
    fn walk(
        &self,
        file: &FileSpec,
        id: &FileId,
        mut at: u64,
        end: u64,
        mut take: impl FnMut(Piece<'_>),
    ) -> Result<(), Bad> {
        while at < end {
            let window = self.layouts.window(&self.store, file, id, at)?;
            let mut chunks = window.until(at, end);
            while let Some(&(start, chunk)) = chunks.first() {
                let count = if chunk.is_hole() {
                    take(Piece::Zeros(zeros(start, chunk, at, end)));
                    1
                } else {
                    self.read_run(chunks, |start, bytes| take(Piece::Bytes(part(start, bytes, at, end))))?
                };
                at = ends(&chunks[..count]).min(end);
                chunks = &chunks[count..];
            }
        }
        Ok(())
    }

    /// Gives the bytes of the first of some chunks, none of which may be a hole, and of those that follow it in its block;
    /// says how many they are.
    fn read_run(&self, chunks: &[(u64, ChunkRef)], mut take: impl FnMut(u64, &[u8])) -> Result<usize, Bad> {
        let (start, chunk) = chunks[0];
        let end = start + u64::from(chunk.len);
        let bad = |source| Bad { chunk: Some((chunk, end)), source: Box::new(source) };
        match self.store.block_of(&chunk.id).map_err(bad)? {
            Some((block, slot)) => {
                if let Ok(block) = self.blocks.get(block) {
                    let (count, bytes) = block.run(slot, chunks);
                    if count > 0 {
                        take(start, bytes);
                        return Ok(count);
                    }
                }
            }
            // Most likely nobody has fetched it yet; what would be wrong otherwise takes long to find out.
            None if self.store.has_fetch() => {
                return Err(bad(Error::Absent { what: format!("chunk {}", chunk.id) }));
            }
            None => {}
        }
        // Damaged, lost, or not where the index says: the slow way tries again, or says exactly what is wrong.
        take(start, &self.store.whole_chunk(chunk).map_err(bad)?);
        Ok(1)
    }

    /// Like [`Shared::walk`], as far as everything is in memory: nothing where it is not.
    fn walk_kept(
        &self,
        file: &FileSpec,
        id: &FileId,
        mut at: u64,
        end: u64,
        mut take: impl FnMut(Piece<'_>),
    ) -> Option<()> {
        while at < end {
            let window = self.layouts.kept_window(file, id, at)?;
            let mut chunks = window.until(at, end);
            while let Some(&(start, chunk)) = chunks.first() {
                let count = if chunk.is_hole() {
                    take(Piece::Zeros(zeros(start, chunk, at, end)));
                    1
                } else {
                    let (block, slot) = self.store.block_if_known(&chunk.id)?;
                    let block = self.blocks.kept(block)?;
                    let (count, bytes) = block.run(slot, chunks);
                    if count == 0 {
                        return None;
                    }
                    take(Piece::Bytes(part(start, bytes, at, end)));
                    count
                };
                at = ends(&chunks[..count]).min(end);
                chunks = &chunks[count..];
            }
        }
        Some(())
    }
}

/// Where the last of some chunks ends.
fn ends(chunks: &[(u64, ChunkRef)]) -> u64 {
    chunks.last().map_or(0, |(start, chunk)| start + u64::from(chunk.len))
}

/// How many bytes of a hole lie between `at` and `end`.
fn zeros(start: u64, hole: ChunkRef, at: u64, end: u64) -> usize {
    let bytes = (start + u64::from(hole.len)).min(end) - at.max(start);
    usize::try_from(bytes).expect("a read is no longer than 4 GiB")
}

/// What of the bytes that begin at `start` lies between `at` and `end`.
fn part(start: u64, bytes: &[u8], at: u64, end: u64) -> &[u8] {
    let index =
        |at: u64| usize::try_from(at.saturating_sub(start)).map_or(bytes.len(), |at| at.min(bytes.len()));
    &bytes[index(at)..index(end)]
}
