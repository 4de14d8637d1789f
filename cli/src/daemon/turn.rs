//! Ingests of several clients of one daemon follow each other: each has all cores, and the packs that it writes.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a waiter asks whether it is still wanted.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Who has the turn.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    /// The client's process.
    pub(crate) pid: u32,
    /// RFC 3339.
    pub(crate) since: String,
}

/// Why a turn was not got.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Somebody else has it.
    Busy(Holder),
    /// Its client is gone.
    Cancelled,
}

/// What one job has at a time.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Guards who has it. A leaf lock.
    holder: Mutex<Option<Holder>>,
    freed: Condvar,
}

impl Turn {
    /// Takes the turn, as soon as it is free, within `wait`.
    pub(crate) fn take(
        &self,
        holder: Holder,
        wait: Duration,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Taken<'_>, Refused> {
        let begun = Instant::now();
        let mut held = self.lock();
        while let Some(other) = &*held {
            let left = wait.saturating_sub(begun.elapsed());
            if is_cancelled() {
                return Err(Refused::Cancelled);
            }
            if left.is_zero() {
                return Err(Refused::Busy(other.clone()));
            }
            let waited = self.freed.wait_timeout(held, left.min(ASK_EVERY));
            held = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *held = Some(holder);
        Ok(Taken(self))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Holder>> {
        // It is replaced whole: a panic elsewhere leaves it sound.
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn, until dropped.
#[derive(Debug)]
pub(crate) struct Taken<'a>(&'a Turn);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(pid: u32) -> Holder {
        Holder { pid, since: "then".to_owned() }
    }

    #[test]
    fn the_second_learns_who_has_it_and_gets_it_afterwards() {
        let turn = Turn::default();
        let first = turn.take(holder(1), Duration::ZERO, &|| false).unwrap();
        let refused = turn.take(holder(2), Duration::from_millis(1), &|| false).unwrap_err();
        assert!(matches!(refused, Refused::Busy(Holder { pid: 1, .. })), "{refused:?}");
        let refused = turn.take(holder(2), Duration::from_secs(60), &|| true).unwrap_err();
        assert!(matches!(refused, Refused::Cancelled));
        drop(first);
        turn.take(holder(2), Duration::ZERO, &|| false).unwrap();
    }
}
