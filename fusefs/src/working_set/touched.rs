//! Which places of an open file were read: a bit for each granule, set by whoever reads, without a lock.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a granule, at least: about a chunk.
const GRANULE_MIN: u64 = 16 << 10;
/// Granules of a file, at most; 8 KiB of bits.
const GRANULES_MAX: u64 = 1 << 16;

/// Bytes of a granule of a file of `size` bytes.
pub(super) fn granule(size: u64) -> u64 {
    let least = size.div_ceil(GRANULES_MAX).max(GRANULE_MIN);
    least.checked_next_power_of_two().unwrap_or(1 << 63)
}

/// The granules of an open file.
#[derive(Debug)]
pub(crate) struct Touched {
    size: u64,
    granule: u64,
    bits: OnceLock<Box<[AtomicU64]>>,
}

impl Touched {
    /// Of a file of `size` bytes, none touched.
    pub(crate) fn new(size: u64) -> Self {
        Self { size, granule: granule(size), bits: OnceLock::new() }
    }

    /// A read of so many bytes.
    pub(crate) fn note(&self, offset: u64, len: u32) {
        let end = offset.saturating_add(len.into()).min(self.size);
        if offset >= end {
            return;
        }
        let bits = self.bits.get_or_init(|| {
            let words = usize::try_from(self.size.div_ceil(self.granule).div_ceil(64)).unwrap_or(0);
            (0..words).map(|_| AtomicU64::new(0)).collect()
        });
        for number in offset / self.granule..=(end - 1) / self.granule {
            let word = usize::try_from(number / 64).ok().and_then(|word| bits.get(word));
            let bit = 1 << (number % 64);
            // Most reads touch what was touched before: looking is cheaper than writing.
            if let Some(word) = word
                && word.load(Ordering::Relaxed) & bit == 0
            {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// The granules that were touched, in runs.
    pub(super) fn runs(&self) -> Vec<Range<u32>> {
        let mut runs: Vec<Range<u32>> = Vec::new();
        let words = self.bits.get().map(|bits| &**bits).unwrap_or_default();
        for (number, word) in (0u32..).zip(words) {
            let word = word.load(Ordering::Relaxed);
            for bit in (0..64).filter(|bit| word >> bit & 1 == 1) {
                let at = number * 64 + bit;
                match runs.last_mut() {
                    Some(last) if last.end == at => last.end += 1,
                    _ => runs.push(at..at + 1),
                }
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(touched: &Touched) -> Vec<(u32, u32)> {
        touched.runs().iter().map(|run| (run.start, run.end)).collect()
    }

    #[test]
    fn what_is_read_is_touched_and_nothing_else() {
        let touched = Touched::new(10 << 20);
        assert_eq!(runs(&touched), []);
        touched.note(0, 1);
        touched.note(16 << 10, 4096);
        touched.note((1 << 20) - 1, 2);
        touched.note(10 << 20, 4096);
        touched.note(u64::MAX, 4096);
        assert_eq!(runs(&touched), [(0, 2), (63, 65)]);
        touched.note(0, u32::MAX);
        assert_eq!(runs(&touched), [(0, 640)]);
    }

    #[test]
    fn a_file_of_any_length_has_a_bounded_number_of_granules() {
        for size in [0, 1, GRANULE_MIN, 1 << 30, (1 << 30) + 1, 1 << 40, u64::MAX >> 1] {
            assert!(size.div_ceil(granule(size)) <= GRANULES_MAX, "{size}");
            let touched = Touched::new(size);
            touched.note(size.saturating_sub(1), 1);
            assert_eq!(touched.runs().len(), usize::from(size > 0));
        }
    }
}
