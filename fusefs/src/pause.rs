//! The gate: what changes tables and answers the kernel passes through it, so that a takeover can stop all of it at one
//! moment and copy tables that nothing changes any more.
//!
//! Slow work is done outside; only its end, "count it and answer", is inside. Nothing waits for anything slow while
//! inside, so that closing takes no longer than the slowest look-up.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Open until somebody closes it.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Guards nothing of its own: its readers are the handlers that are inside. It comes before every other lock here.
    inside: RwLock<()>,
}

impl Gate {
    /// Waits while the gate is closed; it stays open at least as long as what this returns lives. Never pass it twice
    /// at a time: who closes it in between waits for the first, and the second for who closes it.
    pub(crate) fn pass(&self) -> RwLockReadGuard<'_, ()> {
        // A handler that panics inside leaves nothing half done that this lock guards.
        self.inside.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for all who are inside; whoever comes next waits until what this returns is dropped.
    pub(crate) fn close(&self) -> RwLockWriteGuard<'_, ()> {
        self.inside.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn nobody_is_inside_while_it_is_closed() {
        let (gate, inside, passes) = (Gate::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while passes.load(Ordering::SeqCst) < 20_000 {
                        let _guard = gate.pass();
                        inside.fetch_add(1, Ordering::SeqCst);
                        passes.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
            for _ in 0..50 {
                let closed = gate.close();
                let before = passes.load(Ordering::SeqCst);
                std::thread::sleep(Duration::from_micros(50));
                assert_eq!(inside.load(Ordering::SeqCst), 0);
                assert_eq!(passes.load(Ordering::SeqCst), before);
                drop(closed);
            }
        });
    }

    #[test]
    fn a_panic_inside_does_not_shut_it() {
        let gate = Gate::default();
        std::thread::scope(|scope| {
            let panicked = scope.spawn(|| {
                let _guard = gate.pass();
                panic!("inside");
            });
            assert!(panicked.join().is_err());
        });
        drop(gate.close());
        drop(gate.pass());
    }
}
