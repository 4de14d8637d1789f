//! Token buckets, as one instant each: the generic cell rate algorithm of ITU-T I.371. Pure: the time is given.

use std::time::{Duration, Instant};

/// Lets through so many a second, and so many at once.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    each: f64,
    /// How far ahead of the clock it may run.
    ahead_max: Duration,
    /// When all that was let through is paid for.
    paid_at: Instant,
}

impl Bucket {
    /// Full at `now`.
    pub(crate) fn new(per_second: f64, burst: f64, now: Instant) -> Self {
        // Slower than one in three years is never.
        let each = 1.0 / per_second.max(1e-8);
        Self { each, ahead_max: Duration::from_secs_f64((each * burst.max(1.0)).min(1e9)), paid_at: now }
    }

    /// Takes `count`, or says how long until it can be had.
    pub(crate) fn take(&mut self, count: u32, now: Instant) -> Result<(), Duration> {
        let paid_at = self.paid_at.max(now) + self.cost(f64::from(count));
        match paid_at.duration_since(now).checked_sub(self.ahead_max) {
            None | Some(Duration::ZERO) => {
                self.paid_at = paid_at;
                Ok(())
            }
            Some(wait) => Err(wait),
        }
    }

    /// Takes `count` in any case, and says how long to wait before it is used.
    pub(crate) fn reserve(&mut self, count: usize, now: Instant) -> Duration {
        let before = self.paid_at.max(now);
        self.paid_at = before + self.cost(count as f64);
        before.duration_since(now).saturating_sub(self.ahead_max)
    }

    /// Whether it is as it was at first.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.paid_at <= now
    }

    fn cost(&self, count: f64) -> Duration {
        Duration::from_secs_f64((self.each * count).min(1e9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_goes_through_and_then_as_many_as_come_back() {
        let now = Instant::now();
        let mut bucket = Bucket::new(10.0, 5.0, now);
        for _ in 0..5 {
            bucket.take(1, now).unwrap();
        }
        let wait = bucket.take(1, now).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= SECOND / 10, "{wait:?}");
        assert!(!bucket.is_full(now));
        bucket.take(1, now + wait).unwrap();
        bucket.take(1, now + wait).unwrap_err();
        assert!(bucket.is_full(now + 2 * SECOND));
        // Time that went unused is not saved up past the burst.
        let later = now + 100 * SECOND;
        let through = (0..100).filter(|_| bucket.take(1, later).is_ok()).count();
        assert_eq!(through, 5);
    }

    #[test]
    fn what_is_reserved_is_spread_over_time() {
        let now = Instant::now();
        let mut bucket = Bucket::new(1000.0, 100.0, now);
        let waits: Vec<Duration> = (0..30).map(|_| bucket.reserve(100, now)).collect();
        assert_eq!(waits[..2], [Duration::ZERO; 2]);
        let last = waits[29].as_secs_f64();
        assert!((last - 2.8).abs() < 0.01, "{last}");
    }

    #[test]
    fn absurd_rates_neither_panic_nor_let_all_through() {
        let now = Instant::now();
        for rate in [0.0, f64::MIN_POSITIVE, 1e300, -1.0] {
            let mut bucket = Bucket::new(rate, 1.0, now);
            bucket.take(1, now).unwrap();
            bucket.reserve(usize::MAX, now);
            if rate < 1.0 {
                bucket.take(1, now + SECOND).unwrap_err();
            }
        }
    }
}
