//! The threads that hash, compress and decompress.
//!
//! Jobs come in two ranks: what finishes work (compression) goes before what begins more (reading), so that memory
//! drains before it fills. The queue itself has no bound: whoever submits counts its jobs in flight and waits for the
//! oldest before it submits more, which also keeps results in order. Workers never wait for one another.

use std::collections::VecDeque;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::block::{Compressor, Decompressor};

/// Buffers kept for reuse, at most.
const SPARE_MAX: usize = 16;

/// What a worker keeps from job to job.
pub(crate) struct Tools {
    pub(crate) compressor: Compressor,
    pub(crate) decompressor: Decompressor,
    pub(crate) buffers: Buffers,
}

/// Buffers that go round between the workers and who submits jobs, for fresh memory costs a page fault every 4 KiB.
#[derive(Clone, Default)]
pub(crate) struct Buffers(
    /// Guards the spare buffers; a leaf lock.
    Arc<Mutex<Vec<Vec<u8>>>>,
);

impl Buffers {
    /// A buffer from an earlier job, or an empty one. Its content is whatever it was.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub(crate) fn give(&self, buffer: Vec<u8>) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_MAX && buffer.capacity() > 0 {
            spare.push(buffer);
        }
    }
}

type Job = Box<dyn FnOnce(&mut Tools) + Send>;

#[derive(Default)]
struct Queues {
    finishing: VecDeque<Job>,
    beginning: VecDeque<Job>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    /// Guards the queues; held for a push or a pop only, a leaf lock.
    queues: Mutex<Queues>,
    work: Condvar,
}

/// A pool of workers for the length of one operation. Dropping it drops the jobs that no worker has begun, and waits
/// for the rest.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    buffers: Buffers,
    workers: Vec<JoinHandle<()>>,
}

/// A result that a worker will deliver.
pub(crate) struct Pending<T>(Receiver<thread::Result<T>>);

impl<T> Pending<T> {
    /// Waits for the result.
    ///
    /// # Panics
    /// With the job's panic, if it panicked.
    pub(crate) fn wait(self) -> T {
        match self.0.recv() {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("a job that is awaited delivers its result or its panic"),
        }
    }
}

/// When a job is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rank {
    /// Before all that begin more work.
    Finishing,
    /// When nothing is left to finish.
    Beginning,
}

impl Pool {
    /// Starts workers: so many, or one for each core.
    pub(crate) fn new(threads: Option<NonZero<usize>>) -> Self {
        let shared = Arc::new(Shared::default());
        let buffers = Buffers::default();
        let workers = (0..threads.map_or_else(default_threads, NonZero::get))
            .map(|_| {
                let (shared, buffers) = (Arc::clone(&shared), buffers.clone());
                thread::spawn(move || work(&shared, buffers))
            })
            .collect();
        Self { shared, buffers, workers }
    }

    /// How many workers there are.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len()
    }

    /// The buffers that go round.
    pub(crate) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// Hands a job to the workers.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        rank: Rank,
        job: impl FnOnce(&mut Tools) -> T + Send + 'static,
    ) -> Pending<T> {
        let (sender, receiver) = channel();
        let job: Job = Box::new(move |tools| {
            let result = catch_unwind(AssertUnwindSafe(|| job(tools)));
            // Nobody listens after an error elsewhere.
            let _ = sender.send(result);
        });
        let mut queues = self.shared.queues.lock().unwrap_or_else(PoisonError::into_inner);
        match rank {
            Rank::Finishing => queues.finishing.push_back(job),
            Rank::Beginning => queues.beginning.push_back(job),
        }
        drop(queues);
        self.shared.work.notify_one();
        Pending(receiver)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut queues = self.shared.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.closed = true;
        let dropped = (std::mem::take(&mut queues.finishing), std::mem::take(&mut queues.beginning));
        drop(queues);
        drop(dropped);
        self.shared.work.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches its jobs' panics; it has none of its own.
            let _ = worker.join();
        }
    }
}

fn work(shared: &Shared, buffers: Buffers) {
    let mut tools =
        Tools { compressor: Compressor::default(), decompressor: Decompressor::default(), buffers };
    loop {
        let mut queues = shared.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let job = loop {
            if let Some(job) = queues.finishing.pop_front() {
                break job;
            }
            if let Some(job) = queues.beginning.pop_front() {
                break job;
            }
            if queues.closed {
                return;
            }
            queues = shared.work.wait(queues).unwrap_or_else(PoisonError::into_inner);
        };
        drop(queues);
        job(&mut tools);
    }
}

/// As many threads as there are cores.
pub(crate) fn default_threads() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_back_and_workers_end() {
        let pool = Pool::new(NonZero::new(3));
        let pending: Vec<_> = (0..100u64).map(|n| pool.submit(Rank::Beginning, move |_| n * n)).collect();
        let sum: u64 = pending.into_iter().map(Pending::wait).sum();
        assert_eq!(sum, 328_350);
    }

    #[test]
    #[should_panic(expected = "in a job")]
    fn a_job_that_panics_panics_where_its_result_is_awaited() {
        let pool = Pool::new(NonZero::new(1));
        pool.submit(Rank::Finishing, |_| panic!("in a job")).wait();
    }
}
