//! Cuts and hashes a stretch of a file: what a worker does with it.
//!
//! A long file is scanned in windows, several at a time, each as if a chunk began at its start. Where that is not so,
//! the cuts fall into step after a few chunks, and [`super::stitch`] takes each window from the first boundary that it
//! shares with the true sequence. The result is exactly that of cutting the file from its start.
//!
//! A chunk that an earlier version of the file had at the same place is tried before it is cut: when the bytes still
//! hash to it, the cut is known, for a cut depends on the chunk's bytes alone.

use std::sync::Arc;

use super::source::Source;
use crate::chunker::Cutter;
use crate::error::Result;
use crate::id::ChunkId;
use crate::index::Index;
use crate::pool::Buffers;

/// Bytes that are read at a time, so that they are cut and hashed while they are in the cache.
const READ_LEN: usize = 256 << 10;

/// A chunk as cut, hashed and looked up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub(super) len: u32,
    pub(super) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Zero bytes only.
    Hole,
    /// In the index as it was when the ingest began.
    Held(ChunkId),
    /// Not there.
    New(ChunkId),
}

/// A chunk that an earlier version had.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hint {
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) id: ChunkId,
    /// Whether the earlier version ended with it, so that the end of the file may be what cut it.
    pub(super) last: bool,
}

/// The result of scanning a window.
#[derive(Debug)]
pub(super) struct Scanned {
    /// Offset in the file.
    pub(super) start: u64,
    /// The file's bytes from `start` on; what follows the last cut has no meaning. Empty where the window is a hole.
    pub(super) buffer: Vec<u8>,
    pub(super) cuts: Vec<Cut>,
    /// No byte was read: it is all hole, and so are the next chunk's bytes after it.
    pub(super) all_hole: bool,
}

/// Classifies the bytes of one chunk.
pub(super) fn classify(bytes: &[u8], index: &Index) -> State {
    if is_zero(bytes) {
        return State::Hole;
    }
    let id = ChunkId::of(bytes);
    if index.lookup(&id).is_some() { State::Held(id) } else { State::New(id) }
}

/// Whether all bytes are zero.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    // Nearly every chunk that is not zero shows it at one of its ends.
    if bytes.first().is_some_and(|byte| *byte != 0) || bytes.last().is_some_and(|byte| *byte != 0) {
        return false;
    }
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// A window to be scanned.
pub(super) struct Window {
    pub(super) source: Arc<Source>,
    pub(super) cutter: Cutter,
    pub(super) start: u64,
    /// Where the next window begins; the last chunk may pass it.
    pub(super) end: u64,
    /// Ascending by offset.
    pub(super) hints: Vec<Hint>,
}

impl Window {
    /// Reads, cuts and hashes.
    pub(super) fn scan(self, buffers: &Buffers, index: &Index) -> Result<Scanned> {
        let Self { source, cutter, start, end, hints } = self;
        let size = source.size();
        let bound = (end + cutter.max() as u64).min(size);
        let room = usize::try_from(bound - start).expect("a window is a few MiB");
        let mut buffer = buffers.take();
        if buffer.len() < room {
            buffer.resize(room, 0);
        }
        let mut cuts = Vec::with_capacity(usize::try_from(end - start).unwrap_or(0) / (8 << 10) + 1);
        let (mut filled, mut at) = (0, 0);
        let mut hints = hints.into_iter().peekable();
        while start + (at as u64) < end.min(size) {
            if filled - at < cutter.max() && filled < room {
                let want = READ_LEN.max(cutter.max()).min(room - filled);
                source.read_at(&mut buffer[filled..filled + want], start + filled as u64)?;
                filled += want;
            }
            let rest = &buffer[at..filled];
            let offset = start + at as u64;
            while hints.next_if(|hint| hint.offset < offset).is_some() {}
            let hint = hints.next_if(|hint| hint.offset == offset);
            let at_end = |len: usize| offset + len as u64 == size;
            let known = hint.and_then(|hint| {
                let bytes = rest.get(..hint.len as usize)?;
                ((!hint.last || at_end(bytes.len())) && ChunkId::of(bytes) == hint.id).then_some(hint)
            });
            let cut = match known {
                Some(hint) if index.lookup(&hint.id).is_some() => Cut { len: hint.len, state: State::Held(hint.id) },
                Some(hint) => Cut { len: hint.len, state: State::New(hint.id) },
                None => {
                    let len = cutter.cut(rest);
                    let state = classify(&rest[..len], index);
                    Cut { len: u32::try_from(len).expect("a chunk is at most 256 KiB"), state }
                }
            };
            at += cut.len as usize;
            cuts.push(cut);
        }
        Ok(Scanned { start, buffer, cuts, all_hole: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_zero_bytes_of_any_length_and_nothing_else() {
        for len in [0, 1, 15, 16, 17, 4096, 65_537] {
            let mut bytes = vec![0; len];
            assert!(is_zero(&bytes));
            for at in [0, len / 2, len.saturating_sub(1)] {
                if at < len {
                    bytes[at] = 1;
                    assert!(!is_zero(&bytes), "{at} of {len}");
                    bytes[at] = 0;
                }
            }
        }
    }
}
