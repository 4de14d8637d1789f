//! Syncs files of the cache after they were written, on a thread of its own, and gives them their lasting names. It
//! waits a little first: a file that goes again soon, or that the system writes back by itself, costs nothing then. It
//! also notes on disk which files are used, so that nobody who opens one waits for that.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Cache;
use crate::files::FileId;

/// How long a file is left alone.
const SETTLE: Duration = Duration::from_secs(5);
/// Files that wait, at most. What finds no place stays unsynced, and is written again after a power cut or a reboot.
const WAITING_MAX: usize = 16_384;

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Instant, FileId)>,
    used: VecDeque<FileId>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    /// Guards the queue; a leaf lock.
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// What is to be done next.
enum Job {
    Sync(FileId),
    MarkUsed(FileId),
}

/// The thread that syncs. Dropping it leaves the rest unsynced.
pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    pub(super) fn new(cache: Arc<Cache>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("cairn-sync".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                while let Some(job) = shared.next() {
                    match job {
                        Job::Sync(id) => cache.sync(&id),
                        Job::MarkUsed(id) => cache.mark_used(&id),
                    }
                }
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Syncs a file in a while.
    pub(super) fn add(&self, id: FileId) {
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.len() < WAITING_MAX {
            queue.waiting.push_back((Instant::now() + SETTLE, id));
            self.shared.changed.notify_one();
        }
    }

    /// Notes on disk that a file is used, soon.
    pub(super) fn note_use(&self, id: FileId) {
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.used.len() < WAITING_MAX {
            queue.used.push_back(id);
            self.shared.changed.notify_one();
        }
    }
}

impl Shared {
    /// Waits for what is due; nothing once the queue is closed.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if queue.closed {
                return None;
            }
            if let Some(id) = queue.used.pop_front() {
                return Some(Job::MarkUsed(id));
            }
            queue = match queue.waiting.front() {
                None => self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some((due, _)) => match due.saturating_duration_since(Instant::now()) {
                    Duration::ZERO => return queue.waiting.pop_front().map(|(_, id)| Job::Sync(id)),
                    left => self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0,
                },
            };
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // Its panic was reported when it happened.
            let _ = thread.join();
        }
    }
}
