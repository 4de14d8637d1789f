//! When a collection stops, and how fast it may read and write.

use std::time::{Duration, Instant};

use super::{CollectOptions, Collections};
use crate::progress::Progress;

/// The longest sleep between two looks whether to stop.
const NAP_MAX: Duration = Duration::from_millis(20);
/// Bytes that may be used at once after a pause: what was not used before is not saved up.
const BURST: u64 = 1 << 20;

/// The pace of one collection.
pub(crate) struct Pace<'a> {
    progress: &'a dyn Progress,
    collections: &'a Collections,
    until: Option<Instant>,
    bandwidth: Option<u64>,
    /// When what was used so far is paid for.
    paid: Instant,
}

impl<'a> Pace<'a> {
    pub(crate) fn new(
        options: &CollectOptions,
        progress: &'a dyn Progress,
        collections: &'a Collections,
    ) -> Self {
        let now = Instant::now();
        let until = options.max_time.and_then(|time| now.checked_add(time));
        let bandwidth = options.bandwidth.map(|bytes| bytes.max(1));
        Self { progress, collections, until, bandwidth, paid: now }
    }

    pub(crate) fn must_stop(&self) -> bool {
        self.progress.cancelled()
            || self.collections.is_suspended()
            || self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Waits until so many more bytes may be read or written; false if it is to stop.
    pub(crate) fn spend(&mut self, bytes: u64) -> bool {
        let Some(bandwidth) = self.bandwidth else { return !self.must_stop() };
        let time = |bytes: u64| {
            let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bandwidth);
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        let now = Instant::now();
        let earliest = now.checked_sub(time(BURST)).unwrap_or(now);
        self.paid = self.paid.max(earliest) + time(bytes).min(Duration::from_secs(3600));
        loop {
            if self.must_stop() {
                return false;
            }
            let left = self.paid.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(NAP_MAX));
        }
    }
}
