//! Answers that are given at the latest at a moment, whatever else does not come: one thread waits for the next such moment.
//!
//! It answers nothing by itself: what it runs is short and hands work on.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

type Late = Box<dyn FnOnce() + Send>;
/// When, and a number that tells those of one moment apart.
type Key = (Instant, u64);

#[derive(Default)]
struct State {
    waiting: BTreeMap<Key, Late>,
    number: u64,
    over: bool,
}

#[derive(Default)]
struct Shared {
    /// Guards what is waited for; a leaf lock.
    state: Mutex<State>,
    /// There is an earlier moment, or it is over.
    changed: Condvar,
}

/// The moments that are waited for. What has not come when this is dropped is dropped with it.
pub(crate) struct Deadlines {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A moment that is waited for, until this is dropped.
pub(crate) struct Watched {
    shared: Arc<Shared>,
    key: Key,
}

impl Deadlines {
    pub(crate) fn new() -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let builder = std::thread::Builder::new().name("deadlines".to_owned());
        let thread = builder.spawn(move || theirs.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Runs `late` at that moment, unless what this returns is dropped before.
    pub(crate) fn watch(&self, at: Instant, late: impl FnOnce() + Send + 'static) -> Watched {
        let mut state = self.shared.lock();
        state.number += 1;
        let key = (at, state.number);
        state.waiting.insert(key, Box::new(late));
        if state.waiting.first_key_value().is_some_and(|(first, _)| *first == key) {
            self.shared.changed.notify_one();
        }
        drop(state);
        Watched { shared: Arc::clone(&self.shared), key }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        while !state.over {
            let Some(first) = state.waiting.first_entry() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = first.key().0.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let late = first.remove();
                drop(state);
                late();
                state = self.lock();
            } else {
                state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let gone = self.shared.lock().waiting.remove(&self.key);
        // It may own what takes locks of its own to drop.
        drop(gone);
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.over = true;
        let left = std::mem::take(&mut state.waiting);
        drop(state);
        drop(left);
        self.shared.changed.notify_one();
        let this = std::thread::current().id();
        // The last owner may be what this thread runs itself.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != this) {
            // Its panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn what_comes_too_late_is_answered_in_order_and_what_came_in_time_is_not() {
        let deadlines = Deadlines::new().unwrap();
        let (send, answers) = mpsc::channel();
        let at = |number: u32, at: Instant| {
            let send = send.clone();
            deadlines.watch(at, move || send.send(number).unwrap())
        };
        let now = Instant::now();
        let _never = at(1, now + LONG);
        let kept = [at(3, now + Duration::from_millis(20)), at(2, now + Duration::from_millis(10))];
        drop(at(4, now + Duration::from_millis(15)));
        assert_eq!(answers.iter().take(2).collect::<Vec<_>>(), [2, 3]);
        drop(kept);
        assert!(answers.try_recv().is_err());
    }

    #[test]
    fn its_end_is_not_waited_for() {
        let deadlines = Deadlines::new().unwrap();
        let (send, answers) = mpsc::channel::<()>();
        let watched = deadlines.watch(Instant::now() + LONG, move || send.send(()).unwrap());
        drop(deadlines);
        assert!(answers.recv().is_err());
        drop(watched);
    }
}
