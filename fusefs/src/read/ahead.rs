//! Decodes blocks before they are asked for, on a few threads with a bounded queue. What finds no place in it is not
//! decoded ahead; what fails is found again by whoever reads it.

use std::collections::VecDeque;
use std::num::NonZero;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::Shared;
use crate::files::{FileId, FileSpec};

/// Ranges that wait, at most.
const WAITING_MAX: usize = 64;
/// Bytes of a range: about a block, so that threads share the work.
const RANGE_BYTES: u64 = 512 << 10;
const THREADS_MAX: usize = 4;

struct Job {
    file: Arc<FileSpec>,
    id: FileId,
    bytes: Range<u64>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    closed: bool,
}

#[derive(Default)]
struct Queues {
    /// Guards the queue; a leaf lock.
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// The threads that decode ahead.
pub(super) struct Ahead {
    queues: Arc<Queues>,
    threads: Vec<JoinHandle<()>>,
}

impl Ahead {
    pub(super) fn new(shared: Arc<Shared>) -> std::io::Result<Self> {
        let queues = Arc::new(Queues::default());
        let mut ahead = Self { queues, threads: Vec::new() };
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
        for _ in 0..threads {
            let (queues, shared) = (Arc::clone(&ahead.queues), Arc::clone(&shared));
            let builder = std::thread::Builder::new().name("cairn-ahead".to_owned());
            ahead.threads.push(builder.spawn(move || {
                while let Some(Job { file, id, bytes }) = queues.next() {
                    let decoded = shared.walk(&file, &id, bytes.start, bytes.end, |_| ());
                    if let Err(bad) = decoded {
                        tracing::debug!(%id, error = %bad.source, "nothing is decoded ahead");
                    }
                }
            })?);
        }
        Ok(ahead)
    }

    /// Decodes a range some time soon.
    pub(super) fn add(&self, file: &FileSpec, id: FileId, range: Range<u64>) {
        let file = Arc::new(file.clone());
        let mut queue = self.queues.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut start = range.start;
        while start < range.end && queue.waiting.len() < WAITING_MAX {
            let end = (start + RANGE_BYTES).min(range.end);
            queue.waiting.push_back(Job { file: Arc::clone(&file), id, bytes: start..end });
            start = end;
        }
        drop(queue);
        self.queues.changed.notify_all();
    }
}

impl Queues {
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if queue.closed {
                return None;
            }
            if let Some(range) = queue.waiting.pop_front() {
                return Some(range);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.queues.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.queues.changed.notify_all();
        for thread in self.threads.drain(..) {
            // Its panic was reported when it happened.
            let _ = thread.join();
        }
    }
}
