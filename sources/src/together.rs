//! Several things at once: all are done, or what failed first stops the others.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::watch::Watch;

/// Who watches all of them: cancelled also when one failed.
pub(crate) struct Together<'a> {
    watch: &'a dyn Watch,
    has_failed: AtomicBool,
}

impl<'a> Together<'a> {
    pub(crate) fn new(watch: &'a dyn Watch) -> Self {
        Self { watch, has_failed: AtomicBool::new(false) }
    }

    /// Does `one` for each of `count` things, at most `at_once` at a time: what came of them in order, or why one failed. Those
    /// that were cancelled because of that are not why.
    pub(crate) fn all<T: Send>(
        &self,
        count: usize,
        at_once: usize,
        one: impl Fn(usize) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
        let done: Mutex<Vec<(usize, T)>> = Mutex::new(Vec::with_capacity(count));
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= count || self.has_failed.load(Ordering::Relaxed) {
                    return;
                }
                match one(at) {
                    Ok(came) => done.lock().unwrap_or_else(PoisonError::into_inner).push((at, came)),
                    Err(error) => {
                        let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                        if matches!(*failure, None | Some(Error::Cancelled)) {
                            *failure = Some(error);
                        }
                        self.has_failed.store(true, Ordering::Relaxed);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..count.min(at_once) {
                scope.spawn(work);
            }
            work();
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(at, _)| *at);
        Ok(done.into_iter().map(|(_, came)| came).collect())
    }
}

impl Watch for Together<'_> {
    fn expect(&self, bytes: u64) {
        self.watch.expect(bytes);
    }

    fn came(&self, bytes: i64) {
        self.watch.came(bytes);
    }

    fn say(&self, line: &str) {
        self.watch.say(line);
    }

    fn warn(&self, line: &str) {
        self.watch.warn(line);
    }

    fn cancelled(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed) || self.watch.cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::NoWatch;

    #[test]
    fn all_come_in_order() {
        let doubled = Together::new(&NoWatch).all(100, 4, |at| Ok(2 * at)).unwrap();
        assert_eq!(doubled, (0..100).map(|at| 2 * at).collect::<Vec<_>>());
        assert!(Together::new(&NoWatch).all(0, 4, Ok).unwrap().is_empty());
    }

    #[test]
    fn what_failed_stops_the_others_and_is_the_reason() {
        let together = Together::new(&NoWatch);
        let failed = together.all(50, 4, |at| {
            if at == 7 {
                return Err(Error::Usage { problem: "seven".to_owned(), hint: String::new() });
            }
            // Whoever waits is told.
            while at > 7 && !together.cancelled() {
                std::thread::yield_now();
            }
            if together.cancelled() { Err(Error::Cancelled) } else { Ok(at) }
        });
        assert_eq!(failed.unwrap_err().to_string(), "seven");
    }
}
