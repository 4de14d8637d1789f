//! Whether the cache's disk takes anything. After a failure nothing is tried for a while, twice as long each time, so
//! that a full disk costs one failed write now and then and not one for each open. Said once, until it works again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const DELAY_MIN: Duration = Duration::from_secs(1);
const DELAY_MAX: Duration = Duration::from_secs(60);

struct Failure {
    reason: Arc<str>,
    delay: Duration,
    until: Instant,
}

/// What is known of the disk.
#[derive(Default)]
pub(super) struct Health {
    /// Whether there is a failure, so that nobody needs the lock while there is none.
    failed: AtomicBool,
    /// Guards the failure; a leaf lock.
    failure: Mutex<Option<Failure>>,
}

impl Health {
    /// Why nothing is to be tried now.
    pub(super) fn reason(&self, now: Instant) -> Option<Arc<str>> {
        if !self.failed.load(Ordering::Relaxed) {
            return None;
        }
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().filter(|failure| now < failure.until).map(|failure| Arc::clone(&failure.reason))
    }

    /// Why the last write failed, if it did, though it may be tried again.
    pub(super) fn last_reason(&self) -> Option<String> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().map(|failure| failure.reason.to_string())
    }

    pub(super) fn note_failure(&self, reason: &Arc<str>, now: Instant) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let delay = match &*failure {
            // One of several writes that were under way at the same time.
            Some(before) if now < before.until => return,
            Some(before) => (before.delay * 2).min(DELAY_MAX),
            None => DELAY_MIN,
        };
        if failure.is_none() {
            tracing::warn!(
                reason = &**reason,
                "the cache of whole files takes nothing; files are read by chunks"
            );
        }
        *failure = Some(Failure { reason: Arc::clone(reason), delay, until: now + delay });
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(super) fn note_success(&self) {
        if !self.failed.swap(false, Ordering::Relaxed) {
            return;
        }
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.take().is_some() {
            tracing::info!("the cache of whole files works again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_twice_as_long_each_time_and_forgets_once_it_works() {
        let health = Health::default();
        let reason: Arc<str> = "full".into();
        let mut now = Instant::now();
        assert_eq!(health.reason(now), None);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            health.note_failure(&reason, now);
            // Others that failed at the same time count once.
            health.note_failure(&reason, now);
            assert_eq!(health.reason(now).as_deref(), Some("full"));
            now += Duration::from_secs(seconds);
            assert!(health.reason(now - Duration::from_millis(1)).is_some());
            assert_eq!(health.reason(now), None);
            assert_eq!(health.last_reason().as_deref(), Some("full"));
        }
        health.note_success();
        assert_eq!((health.reason(now), health.last_reason()), (None, None));
        health.note_failure(&reason, now);
        assert_eq!(health.reason(now + Duration::from_secs(1)), None);
    }
}
