//! How much is asked for at once: little for who jumps about, as the page faults of a starting program do; more and more
//! for who reads on, since each request costs the way there and back.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use crate::files::FileId;

/// A single read that is shorter asks for the part of the file around it that begins and ends at multiples of this.
const ALIGNMENT: u64 = 64 << 10;
/// Bytes beyond a read that begins a file: it is most often read on.
const BEGINNING: u64 = 256 << 10;
/// Bytes beyond the second read in a row; twice as many each time. Page faults of a program are often close to each other.
const BEYOND_MIN: u64 = 64 << 10;
/// Bytes beyond a read, at most: a third of a second of a link of 100 Mbit/s.
const BEYOND_MAX: u64 = 4 << 20;
/// How far behind the end of what was asked for a read may begin to be its continuation.
const SLACK: u64 = 64 << 10;
/// Files whose streams are known, at most.
const FILES_MAX: usize = 256;
/// Streams of one file, at most.
const STREAMS_MAX: usize = 8;

struct Stream {
    /// What was asked for last.
    asked: Range<u64>,
    /// How much is asked for beyond the next read.
    beyond: u64,
}

/// The streams that are known.
#[derive(Default)]
pub(super) struct Windows {
    /// Latest first.
    files: HashMap<FileId, VecDeque<Stream>>,
    order: VecDeque<FileId>,
}

impl Windows {
    /// What to ask for because a read of `read`, of a file of `size` bytes, lacks something. All of `read` is part of it.
    pub(super) fn note(&mut self, id: FileId, read: Range<u64>, size: u64) -> Range<u64> {
        if !self.files.contains_key(&id) {
            if self.order.len() == FILES_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.files.remove(&oldest);
            }
            self.order.push_back(id);
        }
        let streams = self.files.entry(id).or_default();
        let continues = |stream: &Stream| {
            (stream.asked.start..=stream.asked.end.saturating_add(SLACK)).contains(&read.start)
        };
        let stream = streams.iter().position(continues).and_then(|at| streams.remove(at));
        let stream = match stream {
            // On its way with another request, or lost again: nothing tells that more is wanted.
            Some(stream) if read.end <= stream.asked.end => {
                streams.push_front(stream);
                return read;
            }
            Some(stream) => {
                let end = read.end.saturating_add(stream.beyond).min(size);
                Stream { asked: read.start..end, beyond: (stream.beyond * 2).min(BEYOND_MAX) }
            }
            None if read.start == 0 => {
                Stream { asked: 0..read.end.saturating_add(BEGINNING).min(size), beyond: BEGINNING * 2 }
            }
            None if read.end - read.start >= ALIGNMENT => {
                Stream { asked: read.start..read.end.min(size), beyond: BEYOND_MIN }
            }
            None => {
                let start = read.start / ALIGNMENT * ALIGNMENT;
                let end = read.end.checked_next_multiple_of(ALIGNMENT).unwrap_or(size).min(size);
                Stream { asked: start..end, beyond: BEYOND_MIN }
            }
        };
        let asked = stream.asked.clone();
        streams.truncate(STREAMS_MAX - 1);
        streams.push_front(stream);
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId([1; 32]);
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    #[test]
    fn who_reads_on_asks_for_more_each_time_and_never_twice() {
        let mut windows = Windows::default();
        let (mut here, mut requests) = (0, 0);
        while here < 64 * MIB {
            let asked = windows.note(FILE, here..here + 128 * KIB, 64 * MIB);
            assert_eq!(asked.start, here);
            assert!(asked.end - asked.start <= 128 * KIB + BEYOND_MAX);
            (here, requests) = (asked.end, requests + 1);
        }
        assert_eq!(here, 64 * MIB);
        assert!(requests < 24, "{requests} requests");
    }

    #[test]
    fn who_jumps_about_gets_little_more_than_was_asked_for() {
        let mut windows = Windows::default();
        for number in 0..1000u64 {
            let start = (number * 7919 % 1000) * MIB + 300 * KIB + 5;
            let asked = windows.note(FILE, start..start + 4 * KIB, 2000 * MIB);
            assert!(asked.start <= start && start + 4 * KIB <= asked.end, "{asked:?}");
            assert!(asked.end - asked.start <= 2 * ALIGNMENT, "{asked:?}");
            let fault = start + 500 * KIB..start + 564 * KIB;
            assert_eq!(windows.note(FILE, fault.clone(), 2000 * MIB), fault);
        }
    }

    #[test]
    fn what_is_on_its_way_is_no_reason_to_ask_for_more() {
        let mut windows = Windows::default();
        let first = windows.note(FILE, 0..16 * KIB, 64 * MIB);
        assert_eq!(first, 0..16 * KIB + BEGINNING);
        assert_eq!(windows.note(FILE, 16 * KIB..144 * KIB, 64 * MIB), 16 * KIB..144 * KIB);
        let next = windows.note(FILE, first.end..first.end + 128 * KIB, 64 * MIB);
        assert!(next.end - next.start > 512 * KIB, "{next:?}");
    }

    #[test]
    fn nothing_past_the_end_is_asked_for_and_files_and_streams_are_bounded() {
        let mut windows = Windows::default();
        assert_eq!(windows.note(FILE, 0..KIB, KIB), 0..KIB);
        assert_eq!(windows.note(FILE, 0..KIB, KIB), 0..KIB);
        for number in 0..=255 {
            for start in 0..20 {
                let end = start * 10 * MIB + 1;
                let size = 191 * MIB;
                assert!(windows.note(FileId([number; 32]), start * 10 * MIB..end, size).end <= size);
                windows.note(FileId([number ^ 1; 32]), 0..1, size);
            }
        }
        assert!(windows.files.len() <= FILES_MAX && windows.order.len() == windows.files.len());
        assert!(windows.files.values().all(|streams| streams.len() <= STREAMS_MAX));
    }
}
