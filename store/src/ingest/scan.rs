//! Cuts and hashes a stretch of a file: what a worker does with it.
//!
//! A long file is scanned in windows, several at a time, each as if a chunk began at its start. Where that is not so,
//! the cuts fall into step after a few chunks, and [`super::stitch`] takes each window from the first boundary that it
//! shares with the true sequence. The result is exactly that of cutting the file from its start.
//!
//! A chunk that an earlier version of the file had at the same place is tried before it is cut: when the bytes still
//! hash to it, the cut is known, for a cut depends on the chunk's bytes alone.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use super::reliance::Reliance;
use super::source::Source;
use crate::chunker::Cutter;
use crate::error::Result;
use crate::hash;
use crate::id::ChunkId;
use crate::pool::Buffers;

/// Bytes that are read at a time, so that they are cut and hashed while they are in the cache.
const READ_LEN: usize = 512 << 10;

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
    /// In a pack that stays until the ingest is named or given up.
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

/// Classifies the bytes of chunks.
pub(super) fn classify(chunks: &[&[u8]], held: &Reliance) -> Vec<State> {
    let solid: Vec<&[u8]> = chunks.iter().copied().filter(|bytes| !is_zero(bytes)).collect();
    let mut ids = hash::ids(&solid).into_iter();
    let holes = chunks.iter().map(|bytes| is_zero(bytes));
    holes
        .map(|hole| if hole { State::Hole } else { look_up(ids.next().expect("one for each"), held) })
        .collect()
}

fn look_up(id: ChunkId, held: &Reliance) -> State {
    if held.has(&id) { State::Held(id) } else { State::New(id) }
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
    pub(super) fn scan(self, buffers: &Buffers, held: &Reliance) -> Result<Scanned> {
        let Self { source, cutter, start, end, hints } = self;
        let size = source.size();
        let bound = (end + cutter.max() as u64).min(size);
        let room = usize::try_from(bound - start).expect("a window is a few MiB");
        let stop = usize::try_from(end.min(size) - start).expect("a window is a few MiB");
        let mut buffer = buffers.take();
        if buffer.len() < room {
            buffer.resize(room, 0);
        }
        let mut hints = Expected::new(start, size, hints);
        let mut cuts = Vec::with_capacity(stop / cutter.min() + 1);
        let (mut filled, mut at) = (0, 0);
        let mut unknown = Vec::new();
        while at < stop {
            let want = READ_LEN.max(cutter.max()).min(room - filled);
            source.read_at(&mut buffer[filled..filled + want], start + filled as u64)?;
            filled += want;
            hints.check(&buffer[..filled], at);
            while at < stop && (filled == room || filled - at >= cutter.max()) {
                let len = match hints.take(at) {
                    Some((len, id)) => {
                        cuts.push(Cut { len, state: look_up(id, held) });
                        len as usize
                    }
                    None => {
                        let len = cutter.cut(&buffer[at..filled]);
                        unknown.push((cuts.len(), at..at + len));
                        let short = u32::try_from(len).expect("a chunk is at most 256 KiB");
                        cuts.push(Cut { len: short, state: State::Hole });
                        len
                    }
                };
                at += len;
            }
            let chunks: Vec<&[u8]> = unknown.iter().map(|(_, range)| &buffer[range.clone()]).collect();
            for ((nth, _), state) in unknown.iter().zip(classify(&chunks, held)) {
                cuts[*nth].state = state;
            }
            unknown.clear();
        }
        Ok(Scanned { start, buffer, cuts, all_hole: false })
    }
}

/// The chunks of an earlier version, tried against what is there now.
struct Expected {
    start: u64,
    size: u64,
    hints: Peekable<IntoIter<Hint>>,
    /// Offset in the window, length and id of those that are there, ascending.
    there: VecDeque<(usize, u32, ChunkId)>,
}

impl Expected {
    fn new(start: u64, size: u64, hints: Vec<Hint>) -> Self {
        Self { start, size, hints: hints.into_iter().peekable(), there: VecDeque::new() }
    }

    /// Tries the chunks that lie within the window's first bytes, from `at` on.
    fn check(&mut self, filled: &[u8], at: usize) {
        let mut tried = Vec::new();
        let filled_end = self.start + filled.len() as u64;
        while let Some(hint) = self.hints.next_if(|hint| hint.offset + u64::from(hint.len) <= filled_end) {
            let from = usize::try_from(hint.offset - self.start).expect("within the window");
            let is_whole = !hint.last || hint.offset + u64::from(hint.len) == self.size;
            if from >= at && is_whole {
                tried.push((from, hint));
            }
        }
        let bytes: Vec<&[u8]> =
            tried.iter().map(|(from, hint)| &filled[*from..*from + hint.len as usize]).collect();
        let ids = hash::ids(&bytes);
        let there = tried.into_iter().zip(ids).filter(|((_, hint), id)| hint.id == *id);
        self.there.extend(there.map(|((from, hint), id)| (from, hint.len, id)));
    }

    /// The chunk that is known to begin at `at`.
    fn take(&mut self, at: usize) -> Option<(u32, ChunkId)> {
        while self.there.pop_front_if(|(from, ..)| *from < at).is_some() {}
        self.there.pop_front_if(|(from, ..)| *from == at).map(|(_, len, id)| (len, id))
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
