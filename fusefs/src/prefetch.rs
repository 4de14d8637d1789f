//! Makes whole files in the background: one at a time, in the order in which they were asked for, a bounded number.
//! Whatever fails there is tried again by whoever needs the file. What is not all here is passed over.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use cairn_store::Store;

use crate::files::{FileId, FileSpec};
use crate::materialise::Materialiser;

/// Files that wait, at most; what finds no place is left out.
const WAITING_MAX: usize = 1024;
/// What part of the cache a single file may take.
const SHARE: u64 = 2;

#[derive(Default)]
struct Queue {
    waiting: VecDeque<FileSpec>,
    /// The ids of those that wait or are under way.
    ids: HashSet<FileId>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    /// Guards the queue; a leaf lock.
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// The thread that works in the background. Dropping it ends what it does.
pub(crate) struct Prefetcher {
    shared: Arc<Shared>,
    materialiser: Arc<Materialiser>,
    thread: Option<JoinHandle<()>>,
}

impl Prefetcher {
    /// Of files of a store that fetches nothing.
    pub(crate) fn new(materialiser: Arc<Materialiser>, store: Store) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("cairn-prefetch".to_owned()).spawn({
            let (shared, materialiser) = (Arc::clone(&shared), Arc::clone(&materialiser));
            move || {
                while let Some(file) = shared.next() {
                    let id = FileId::of(&file);
                    let is_partial = matches!(store.file_is_here(&file.content, file.size), Ok(false));
                    if !is_partial && let Err(error) = materialiser.materialise(&file, None) {
                        tracing::debug!(%id, %error, "a file is not made ahead");
                    }
                    shared.lock().ids.remove(&id);
                }
            }
        })?;
        Ok(Self { shared, materialiser, thread: Some(thread) })
    }

    /// Makes the whole file some time, unless it is there or asked for already, or would fill the cache.
    pub(crate) fn add(&self, file: &FileSpec) {
        let id = FileId::of(file);
        let fits = file.size <= self.materialiser.bytes_max() / SHARE;
        if !fits || !self.materialiser.is_well() || self.materialiser.has(&id) {
            return;
        }
        let mut queue = self.shared.lock();
        if queue.waiting.len() < WAITING_MAX && queue.ids.insert(id) {
            queue.waiting.push_back(file.clone());
            self.shared.changed.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<FileSpec> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(file) = queue.waiting.pop_front() {
                return Some(file);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        self.materialiser.stop();
        if let Some(thread) = self.thread.take() {
            // Its panic was reported when it happened.
            let _ = thread.join();
        }
    }
}
