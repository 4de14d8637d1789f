//! How long something took, each of the last times that it happened.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Times that are kept.
const KEPT_MAX: usize = 16_384;

/// Durations as they come. Counting one costs a few nanoseconds.
#[derive(Debug, Default)]
pub struct Timings {
    /// Guards them. A leaf lock.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    count: u64,
    /// The last ones, in no order, in nanoseconds; a duration over four seconds counts as that.
    last: Vec<u32>,
}

/// What durations come to: how many there were in all, and the spread of the last 16,384.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spread {
    /// How many in all.
    pub count: u64,
    /// Half of them took no longer.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// None took longer.
    pub max: Duration,
}

impl Timings {
    /// Takes note of one.
    pub fn add(&self, took: Duration) {
        let nanoseconds = u32::try_from(took.as_nanos()).unwrap_or(u32::MAX);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.last.len() < KEPT_MAX {
            kept.last.push(nanoseconds);
        } else {
            let place = usize::try_from(kept.count).unwrap_or(0) % KEPT_MAX;
            kept.last[place] = nanoseconds;
        }
        kept.count += 1;
    }

    /// What they come to; zeros if there are none.
    #[must_use]
    pub fn spread(&self) -> Spread {
        let (count, mut last) = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            (kept.count, kept.last.clone())
        };
        last.sort_unstable();
        let at = |percent: usize| {
            // Nearest rank.
            let rank = (last.len() * percent).div_ceil(100).max(1);
            last.get(rank - 1)
                .map_or(Duration::ZERO, |nanoseconds| Duration::from_nanos((*nanoseconds).into()))
        };
        Spread { count, p50: at(50), p99: at(99), max: at(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest() {
        let timings = Timings::default();
        assert_eq!(timings.spread(), Spread::default());
        (1..=200).rev().for_each(|number| timings.add(Duration::from_nanos(number)));
        let expected = Spread {
            count: 200,
            p50: Duration::from_nanos(100),
            p99: Duration::from_nanos(198),
            max: Duration::from_nanos(200),
        };
        assert_eq!(timings.spread(), expected);
    }

    #[test]
    fn only_the_last_are_kept() {
        let timings = Timings::default();
        timings.add(Duration::from_secs(100));
        assert_eq!(timings.spread().max, Duration::from_nanos(u32::MAX.into()));
        (0..KEPT_MAX).for_each(|_| timings.add(Duration::from_nanos(7)));
        let spread = timings.spread();
        assert_eq!((spread.count, spread.max), (KEPT_MAX as u64 + 1, Duration::from_nanos(7)));
    }
}
