//! Who reads on and on: a read that begins about where an earlier one of the same file ended belongs to its stream.
//! Handles say nothing (they must mean the same to a process that takes over), so streams are told apart by place.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use crate::files::FileId;

/// Files whose streams are known, at most.
const FILES_MAX: usize = 256;
/// Streams of one file, at most.
const STREAMS_MAX: usize = 4;
/// How far off the end of a stream a read may begin: the kernel's requests overtake each other.
const SLACK: u64 = 1 << 20;
/// Reads in a row from which on a stream is read ahead.
const STREAK_MIN: u32 = 2;
/// Bytes that are decoded ahead at first.
const AHEAD_MIN: u64 = 1 << 20;

struct Stream {
    /// Where it has come to.
    end: u64,
    streak: u32,
    /// Up to where blocks are decoded, or about to be.
    ahead: u64,
    /// How far ahead of `end` that is to be.
    distance: u64,
}

/// The streams that are known.
pub(super) struct Patterns {
    /// Latest first.
    files: HashMap<FileId, VecDeque<Stream>>,
    order: VecDeque<FileId>,
    distance_max: u64,
}

impl Patterns {
    /// With so many bytes ahead of a stream, at most.
    pub(super) fn new(distance_max: u64) -> Self {
        Self { files: HashMap::new(), order: VecDeque::new(), distance_max }
    }

    /// Takes note of a read from `start` to `end` of a file of `size` bytes; says what to decode ahead.
    pub(super) fn note(&mut self, id: FileId, start: u64, end: u64, size: u64) -> Option<Range<u64>> {
        if self.distance_max < AHEAD_MIN {
            return None;
        }
        if !self.files.contains_key(&id) {
            if self.order.len() == FILES_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.files.remove(&oldest);
            }
            self.order.push_back(id);
        }
        let streams = self.files.entry(id).or_default();
        let is_near = |stream: &Stream| start.abs_diff(stream.end) <= SLACK;
        let Some(at) = streams.iter().position(is_near) else {
            streams.truncate(STREAMS_MAX - 1);
            // A file is most often read from its start to its end.
            let streak = if start == 0 { STREAK_MIN - 1 } else { 0 };
            streams.push_front(Stream { end, streak, ahead: end, distance: AHEAD_MIN });
            return None;
        };
        let mut stream = streams.remove(at)?;
        // Reading a place again gets nobody further.
        if end > stream.end {
            stream.streak += 1;
            stream.end = end;
        }
        let wanted = stream.end.saturating_add(stream.distance).min(size);
        stream.ahead = stream.ahead.max(stream.end);
        // In steps of half the distance, so that not each read asks.
        let due = wanted == size || wanted.saturating_sub(stream.ahead) >= stream.distance / 2;
        let is_read_on = stream.streak >= STREAK_MIN && stream.ahead < wanted;
        let range = (is_read_on && due).then_some(stream.ahead..wanted);
        if range.is_some() {
            stream.ahead = wanted;
            stream.distance = (stream.distance * 2).min(self.distance_max);
        }
        streams.push_front(stream);
        range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn file(number: u8) -> FileId {
        FileId([number; 32])
    }

    #[test]
    fn who_reads_on_is_read_ahead_without_gaps_and_without_twice() {
        let mut patterns = Patterns::new(8 * MIB);
        let (size, step) = (100 * MIB, 128 << 10);
        let mut ahead = 0;
        for start in (0..size).step_by(128 << 10) {
            if let Some(range) = patterns.note(file(1), start, start + step, size) {
                assert!(
                    range.start == ahead || (ahead == 0 && range.start <= MIB),
                    "{range:?} after {ahead}"
                );
                assert!(range.end - (start + step) <= 8 * MIB);
                ahead = range.end;
            }
            if start > MIB {
                assert!(ahead >= start + step, "{ahead} at {start}");
            }
        }
        assert_eq!(ahead, size);
    }

    #[test]
    fn who_jumps_about_is_not() {
        let mut patterns = Patterns::new(8 * MIB);
        for number in 0..1000u64 {
            let start = number * 7919 % 1000 * 10 * MIB + 5 * MIB;
            assert_eq!(patterns.note(file(1), start, start + 4096, 10_000 * MIB), None);
        }
    }

    #[test]
    fn streams_of_a_file_and_of_many_files_are_kept_apart_and_are_bounded() {
        let mut patterns = Patterns::new(8 * MIB);
        let mut asked = [0; 3];
        for step in 0..40 {
            for (stream, asked) in (0..3).zip(&mut asked) {
                let start = (stream * 100 + 10) * MIB + step * MIB / 4;
                *asked += usize::from(patterns.note(file(1), start, start + MIB / 4, 1 << 40).is_some());
            }
        }
        assert!(asked.iter().all(|asked| *asked >= 3), "{asked:?}");
        for number in 0..=255 {
            for start in 0..20 {
                patterns.note(FileId([number; 32]), start * 10 * MIB, start * 10 * MIB + 1, 1 << 40);
                patterns.note(FileId([number ^ 1; 32]), 0, 1, 1 << 40);
            }
        }
        assert!(patterns.files.len() <= FILES_MAX && patterns.order.len() == patterns.files.len());
        assert!(patterns.files.values().all(|streams| streams.len() <= STREAMS_MAX));
    }
}
