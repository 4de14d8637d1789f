//! Progress that does something: how a test acts in the middle of an operation.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cairn_store::Progress;

/// Asks to stop at the `n`-th time that it is asked.
#[derive(Debug)]
pub struct CancelAt {
    left: AtomicU64,
}

impl CancelAt {
    /// 0 stops at once.
    #[must_use]
    pub fn new(n: u64) -> Self {
        Self { left: AtomicU64::new(n) }
    }

    /// Whether it has asked to stop.
    #[must_use]
    pub fn reached(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }
}

impl Progress for CancelAt {
    fn cancelled(&self) -> bool {
        let next = |left: u64| left.checked_sub(1);
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_err()
    }
}

/// Runs something once, when a file first becomes known.
pub struct OnFirstFile<F: Fn() + Sync> {
    done: AtomicBool,
    act: F,
}

impl<F: Fn() + Sync> OnFirstFile<F> {
    /// Runs `act`.
    pub fn new(act: F) -> Self {
        Self { done: AtomicBool::new(false), act }
    }
}

impl<F: Fn() + Sync> Progress for OnFirstFile<F> {
    fn expect(&self, _bytes: u64, _files: u64) {
        if !self.done.swap(true, Ordering::SeqCst) {
            (self.act)();
        }
    }
}
