//! The pool for what takes long: opens that must first write a whole file, and reads that must decode. The threads that
//! read requests from the kernel hand these over with the reply, and go on.
//!
//! Reads come first, and opens never take all threads: a program that waits for one page does not wait behind files of
//! a gigabyte. Nobody waits to hand a job over, for jobs do so too: each is a request of the kernel, which has one for each
//! thread that waits for it, and a bounded number of reads ahead.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

type Job = Box<dyn FnOnce() + Send>;

/// How long a job may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// A few blocks to decode.
    Short,
    /// A whole file to write.
    Long,
}

/// Threads that run jobs, until it is dropped. Jobs that have not begun by then are dropped too.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Guards the queues; no other lock is taken with it held.
    state: Mutex<State>,
    /// A job came, or a long one ended, or it is over.
    work: Condvar,
    long_max: usize,
}

#[derive(Default)]
struct State {
    short: VecDeque<Job>,
    long: VecDeque<Job>,
    long_running: usize,
    over: bool,
}

impl Pool {
    /// So many threads, at least 2.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let threads = threads.max(2);
        let shared =
            Arc::new(Shared { state: Mutex::default(), work: Condvar::new(), long_max: threads - 1 });
        let mut pool = Self { shared, threads: Vec::with_capacity(threads) };
        for number in 0..threads {
            let shared = Arc::clone(&pool.shared);
            let builder = std::thread::Builder::new().name(format!("slow-{number}"));
            pool.threads.push(builder.spawn(move || shared.run())?);
        }
        Ok(pool)
    }

    /// Runs a job when a thread is free.
    pub(crate) fn run(&self, length: Length, job: impl FnOnce() + Send + 'static) {
        self.shared.lock().queue(length).push_back(Box::new(job));
        self.shared.work.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.over = true;
        let left = (std::mem::take(&mut state.short), std::mem::take(&mut state.long));
        drop(state);
        drop(left);
        self.shared.work.notify_all();
        let this = std::thread::current().id();
        for thread in self.threads.drain(..) {
            // The last owner may be a job of the pool itself.
            if thread.thread().id() != this {
                // A job's panic is caught where it runs.
                let _ = thread.join();
            }
        }
    }
}

impl State {
    fn queue(&mut self, length: Length) -> &mut VecDeque<Job> {
        match length {
            Length::Short => &mut self.short,
            Length::Long => &mut self.long,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some((length, job)) = self.take() {
            // Whoever gave the job answers for its panics; this only keeps the thread.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a job of the mount's pool panicked");
            }
            if length == Length::Long {
                self.lock().long_running -= 1;
                self.work.notify_one();
            }
        }
    }

    /// The next job; none when it is over.
    fn take(&self) -> Option<(Length, Job)> {
        let mut state = self.lock();
        loop {
            if state.over {
                return None;
            }
            let mut taken = state.short.pop_front().map(|job| (Length::Short, job));
            if taken.is_none() && state.long_running < self.long_max {
                taken = state.long.pop_front().map(|job| (Length::Long, job));
                state.long_running += usize::from(taken.is_some());
            }
            if taken.is_some() {
                return taken;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    const JOBS: usize = 10_000;

    #[test]
    fn every_job_runs_once() {
        let count = Arc::new(AtomicUsize::new(0));
        let (ended, all) = mpsc::channel();
        let pool = Pool::new(3).unwrap();
        for number in 0..JOBS {
            let (count, ended) = (Arc::clone(&count), ended.clone());
            let length = if number % 3 == 0 { Length::Long } else { Length::Short };
            pool.run(length, move || {
                count.fetch_add(1, Ordering::Relaxed);
                ended.send(()).unwrap();
            });
        }
        assert_eq!(all.iter().take(JOBS).count(), JOBS);
        assert_eq!(count.load(Ordering::Relaxed), JOBS);
    }

    #[test]
    fn long_jobs_leave_a_thread_for_short_ones() {
        let pool = Pool::new(2).unwrap();
        let (go, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        for _ in 0..4 {
            let wait = Arc::clone(&wait);
            pool.run(Length::Long, move || wait.lock().unwrap().recv().unwrap());
        }
        let (ended, short) = mpsc::channel();
        pool.run(Length::Short, move || ended.send(()).unwrap());
        short.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
        for _ in 0..4 {
            go.send(()).unwrap();
        }
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let pool = Pool::new(2).unwrap();
        for length in [Length::Long, Length::Short].repeat(4) {
            pool.run(length, || panic!("in a job"));
        }
        let (ended, after) = mpsc::channel();
        for length in [Length::Long, Length::Short] {
            let ended = ended.clone();
            pool.run(length, move || ended.send(()).unwrap());
        }
        assert_eq!(after.iter().take(2).count(), 2);
    }

    #[test]
    fn what_has_not_begun_is_dropped_with_the_pool() {
        let pool = Pool::new(2).unwrap();
        let (begun, has_begun) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        pool.run(Length::Long, move || {
            begun.send(()).unwrap();
            let _ = wait.recv();
        });
        has_begun.recv().unwrap();
        let (never, nothing) = mpsc::channel::<()>();
        pool.run(Length::Long, move || never.send(()).unwrap());
        drop(go);
        drop(pool);
        // Either it ran after all, or its sender is gone.
        let _ = nothing.try_recv();
        assert!(nothing.recv().is_err());
    }
}
