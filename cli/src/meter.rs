//! How far a job is, as its threads count it. A thread of its own tells the client a few times a second, so that the
//! working threads only count; who asked for no news gets none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cairn_server::{JobIo, Task};
use cairn_store::Progress;

use crate::progress;

/// How often there is news.
const EVERY: Duration = Duration::from_millis(100);
/// Over how long the rate of late is smoothed.
const SMOOTHED: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
struct Counts {
    bytes_expected: AtomicU64,
    bytes: AtomicU64,
    files_expected: AtomicU64,
    files: AtomicU64,
}

/// The progress of one piece of work: counts, perhaps tells, and knows whether the client wants it to stop.
pub(crate) struct Meter {
    counts: Arc<Counts>,
    io: JobIo,
    /// Tells until `done` is set and it is unparked.
    telling: Option<(JoinHandle<()>, Arc<AtomicBool>)>,
}

impl Meter {
    /// A meter that tells if that is `wanted`. `task` says what is done: `adding`.
    pub(crate) fn new(task: &'static str, wanted: bool, io: JobIo) -> Self {
        Self::begin(task, wanted, io, None)
    }

    /// The same for work of which it is known how many bytes it is: it is told at what rate it goes.
    pub(crate) fn with_rate(task: &'static str, wanted: bool, io: JobIo) -> Self {
        Self::begin(task, wanted, io, Some(Rate::default()))
    }

    fn begin(task: &'static str, wanted: bool, io: JobIo, rate: Option<Rate>) -> Self {
        let counts = Arc::<Counts>::default();
        let telling = wanted.then(|| tell(task, Arc::clone(&counts), io.clone(), rate)).flatten();
        Self { counts, io, telling }
    }
}

/// Bytes a second of late.
#[derive(Debug, Default)]
struct Rate {
    before: u64,
    per_second: Option<f64>,
}

impl Rate {
    /// So many bytes were done at the end of `passed`.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "shown with three digits"
    )]
    fn after(&mut self, bytes: u64, passed: Duration) -> u64 {
        let now = bytes.saturating_sub(self.before) as f64 / passed.as_secs_f64().max(1e-3);
        self.before = bytes;
        let part = (passed.as_secs_f64() / SMOOTHED.as_secs_f64()).min(1.0);
        let smoothed = self.per_second.map_or(now, |rate| rate + (now - rate) * part);
        self.per_second = Some(smoothed);
        smoothed as u64
    }
}

impl Progress for Meter {
    fn expect(&self, bytes: u64, files: u64) {
        self.counts.bytes_expected.fetch_add(bytes, Ordering::Relaxed);
        self.counts.files_expected.fetch_add(files, Ordering::Relaxed);
    }

    fn advance(&self, bytes: u64, files: u64) {
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.counts.files.fetch_add(files, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.io.is_cancelled()
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some((thread, done)) = self.telling.take() {
            done.store(true, Ordering::Relaxed);
            thread.thread().unpark();
            // A thread that panicked tells nothing more.
            let _ = thread.join();
        }
    }
}

/// Starts the thread that tells; without it there is no news, which is no reason to fail.
fn tell(
    task: &'static str,
    counts: Arc<Counts>,
    io: JobIo,
    mut rate: Option<Rate>,
) -> Option<(JoinHandle<()>, Arc<AtomicBool>)> {
    let done = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&done);
    let started = Instant::now();
    let work = move || {
        std::thread::park_timeout(progress::PATIENCE);
        if told.load(Ordering::Relaxed) {
            return;
        }
        let mut before = started;
        while !told.load(Ordering::Relaxed) {
            let mut task = counts.task(task, started.elapsed());
            let passed = before.elapsed();
            before += passed;
            task.bytes_per_s = rate.as_mut().map(|rate| rate.after(task.bytes, passed));
            io.progress(Some(task));
            std::thread::park_timeout(EVERY);
        }
        io.progress(None);
    };
    let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(work).ok()?;
    Some((thread, done))
}

impl Counts {
    fn task(&self, task: &str, elapsed: Duration) -> Task {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Task {
            task: task.to_owned(),
            bytes: load(&self.bytes),
            bytes_expected: load(&self.bytes_expected),
            files: load(&self.files),
            files_expected: load(&self.files_expected),
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            bytes_per_s: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_follows_what_happens_of_late() {
        let second = Duration::from_secs(1);
        let mut rate = Rate::default();
        assert_eq!(rate.after(3_000, second), 3_000);
        assert_eq!(rate.after(6_000, second), 3_000);
        let stalled = rate.after(6_000, second);
        assert!((1_990..=2_000).contains(&stalled), "{stalled}");
        assert_eq!(rate.after(6_000, SMOOTHED), 0);
    }
}
