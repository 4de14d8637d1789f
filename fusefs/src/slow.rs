//! The pool for what takes long: opens that must first write a whole file, reads that must decode, and whatever waits for
//! other machines. The threads that read requests from the kernel hand these over with the reply, and go on.
//!
//! Reads come first, and opens never take all threads: a program that waits for one page does not wait behind files of
//! a gigabyte. What waits for other machines has threads of its own, made when they are needed: however many of them do
//! not answer, what is here is read. Nobody waits to hand a job over, for jobs do so too: each is a request of the kernel,
//! which has one for each thread that waits for it, and a bounded number of reads ahead.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that wait for other machines, at most. What comes when all do waits its turn, and no longer than until its
/// deadline (see `deadline`).
const FAR_THREADS_MAX: usize = 32;

/// How long a job may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// A few blocks to decode.
    Short,
    /// A whole file to write.
    Long,
    /// As long as other machines take.
    Far,
}

/// Threads that run jobs, until it is dropped. Jobs that have not begun by then are dropped too.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Guards the queues; no other lock is taken with it held.
    state: Mutex<State>,
    /// A job came that is not far, or a long one ended, or it is over.
    work: Condvar,
    /// A far job came, or it is over.
    far_work: Condvar,
    long_max: usize,
}

#[derive(Default)]
struct State {
    short: VecDeque<Job>,
    long: VecDeque<Job>,
    far: VecDeque<Job>,
    long_running: usize,
    far_threads: usize,
    /// Those of them that wait for a job.
    far_idle: usize,
    over: bool,
}

impl Pool {
    /// So many threads, at least 2.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let threads = threads.max(2);
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            far_work: Condvar::new(),
            long_max: threads - 1,
        });
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
        let mut state = self.shared.lock();
        state.queue(length).push_back(Box::new(job));
        if length != Length::Far {
            drop(state);
            return self.shared.work.notify_one();
        }
        let is_thread_wanted = state.far.len() > state.far_idle && state.far_threads < FAR_THREADS_MAX;
        state.far_threads += usize::from(is_thread_wanted);
        drop(state);
        self.shared.far_work.notify_one();
        if is_thread_wanted {
            self.start_far();
        }
    }

    /// One more thread for what waits for other machines. Nobody waits for its end: that may be as far away.
    fn start_far(&self) {
        let shared = Arc::clone(&self.shared);
        let builder = std::thread::Builder::new().name("far".to_owned());
        if let Err(error) = builder.spawn(move || shared.run_far()) {
            // Another one does it, or the job's deadline ends it.
            tracing::warn!(%error, "there is no thread to wait for other machines");
            self.shared.lock().far_threads -= 1;
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.over = true;
        let left =
            [Length::Short, Length::Long, Length::Far].map(|length| std::mem::take(state.queue(length)));
        drop(state);
        drop(left);
        self.shared.work.notify_all();
        self.shared.far_work.notify_all();
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
            Length::Far => &mut self.far,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some((length, job)) = self.take() {
            run(job);
            if length == Length::Long {
                self.lock().long_running -= 1;
                self.work.notify_one();
            }
        }
    }

    fn run_far(&self) {
        let mut state = self.lock();
        while !state.over {
            if let Some(job) = state.far.pop_front() {
                drop(state);
                run(job);
                state = self.lock();
                continue;
            }
            state.far_idle += 1;
            state = self.far_work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.far_idle -= 1;
        }
        state.far_threads -= 1;
    }

    /// The next job that is not far; none when it is over.
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

fn run(job: Job) {
    // Whoever gave the job answers for its panics; this only keeps the thread.
    if catch_unwind(AssertUnwindSafe(job)).is_err() {
        tracing::error!("a job of the mount's pool panicked");
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
            let length = [Length::Long, Length::Short, Length::Far][number % 3];
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
        let lengths = [Length::Long, Length::Short, Length::Far];
        for length in lengths.repeat(4) {
            pool.run(length, || panic!("in a job"));
        }
        let (ended, after) = mpsc::channel();
        for length in lengths {
            let ended = ended.clone();
            pool.run(length, move || ended.send(()).unwrap());
        }
        assert_eq!(after.iter().take(3).count(), 3);
    }

    #[test]
    fn far_jobs_keep_nobody_waiting_and_are_not_waited_for_at_the_end() {
        let pool = Pool::new(2).unwrap();
        let (begun, has_begun) = mpsc::channel();
        // The pool ends before anything is sent: who waited for these would wait for ever.
        let (go, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        for _ in 0..2 * FAR_THREADS_MAX {
            let (begun, wait) = (begun.clone(), Arc::clone(&wait));
            pool.run(Length::Far, move || {
                begun.send(()).unwrap();
                let _ = wait.lock().unwrap().recv();
            });
        }
        for _ in 0..FAR_THREADS_MAX {
            has_begun.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
        }
        assert_eq!(pool.shared.lock().far_threads, FAR_THREADS_MAX);
        let (ended, others) = mpsc::channel();
        for length in [Length::Short, Length::Long] {
            let ended = ended.clone();
            pool.run(length, move || ended.send(()).unwrap());
        }
        for _ in 0..2 {
            others.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
        }
        drop(pool);
        assert!(has_begun.try_recv().is_err(), "there was room for no more");
        drop(go);
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
