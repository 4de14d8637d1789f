//! The thread that seals packs by itself: full ones, and those to which nothing was added for a while.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::packs::Packs;
use crate::error::{Error, Result};
use crate::store::lock;

/// The thread, from the first frame on.
pub(super) struct Sealer {
    packs: Arc<Packs>,
    /// Guards the thread. A leaf lock but for its beginning.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Sealer {
    pub(super) fn new(packs: Arc<Packs>) -> Self {
        Self { packs, thread: Mutex::new(None) }
    }

    /// Begins it, if it has not begun.
    pub(super) fn start(&self) -> Result<()> {
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let packs = Arc::clone(&self.packs);
            let started = thread::Builder::new().name("sealer".to_owned()).spawn(move || run(&packs));
            *thread = Some(started.map_err(Error::io("start a thread for", self.packs.store().path()))?);
        }
        Ok(())
    }

    /// Waits for its end, once the packs are closed.
    pub(super) fn join(&self) {
        if let Some(thread) = lock(&self.thread).take() {
            // If it panicked, what it left open is for the next writer to recover.
            let _ = thread.join();
        }
    }
}

fn run(packs: &Packs) {
    while packs.wait_for_work() {
        while packs.seal_next() {}
        if let Err(error) = packs.settle() {
            tracing::warn!(%error, "the names of new packs may not be durable yet");
        }
    }
}
