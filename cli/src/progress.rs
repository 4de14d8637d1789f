//! A progress bar on standard error, and Ctrl-C. The bar is drawn only on a terminal and only for what takes more than
//! half a second; a thread of its own draws it, so that the working threads only count.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cairn_store::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::{error, text};

/// What is faster than this shows no bar.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the bar is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// Set by the first Ctrl-C or SIGTERM once [`watch_signals`] was called.
static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on the first SIGINT or SIGTERM asks for an orderly stop, and the second exits at once. Commands that
/// change nothing and hold nothing do not call this: the signal ends them as it ends any program.
pub(crate) fn watch_signals() -> Arc<AtomicBool> {
    STOP.get_or_init(|| {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The order matters: the shutdown looks at the flag before this very signal sets it.
            let registered =
                flag::register_conditional_shutdown(signal, error::INTERRUPTED, Arc::clone(&stop))
                    .and_then(|_| flag::register(signal, Arc::clone(&stop)));
            if let Err(error) = registered {
                tracing::warn!(signal, %error, "cannot watch a signal; it will end the program at once");
            }
        }
        stop
    })
    .clone()
}

/// How far the work is, as its threads count it.
#[derive(Debug, Default)]
struct Counts {
    bytes_expected: AtomicU64,
    bytes: AtomicU64,
    files_expected: AtomicU64,
    files: AtomicU64,
}

/// The progress of one piece of work: counts, perhaps draws, and knows about Ctrl-C. Dropping it clears the bar.
#[derive(Debug)]
pub(crate) struct Meter {
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    /// Draws until `done` is set and it is unparked.
    drawing: Option<(JoinHandle<()>, Arc<AtomicBool>)>,
}

impl Meter {
    /// A meter that draws if `wanted` and standard error is a terminal. `task` stands before the bar: `adding`.
    pub(crate) fn new(task: &'static str, wanted: bool) -> Self {
        let counts = Arc::<Counts>::default();
        let drawing =
            (wanted && std::io::stderr().is_terminal()).then(|| draw(task, Arc::clone(&counts))).flatten();
        Self { counts, stop: watch_signals(), drawing }
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
        self.stop.load(Ordering::Relaxed)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some((thread, done)) = self.drawing.take() {
            done.store(true, Ordering::Relaxed);
            thread.thread().unpark();
            // A bar that panicked has nothing left to clear.
            let _ = thread.join();
        }
    }
}

/// Starts the thread that draws; without it there is no bar, which is no reason to fail.
fn draw(task: &'static str, counts: Arc<Counts>) -> Option<(JoinHandle<()>, Arc<AtomicBool>)> {
    let done = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&done);
    let started = Instant::now();
    let work = move || {
        std::thread::park_timeout(PATIENCE);
        if told.load(Ordering::Relaxed) {
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("{prefix} [{bar:20}] {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(task);
        while !told.load(Ordering::Relaxed) {
            let (done, expected) = (load(&counts.bytes), load(&counts.bytes_expected));
            bar.set_length(expected.max(done).max(1));
            bar.set_position(done);
            bar.set_message(describe(&counts, started.elapsed()));
            if bar.is_hidden() {
                // Not before there is something to show.
                bar.set_draw_target(ProgressDrawTarget::stderr());
            }
            bar.tick();
            std::thread::park_timeout(FRAME);
        }
        bar.finish_and_clear();
    };
    let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(work).ok()?;
    Some((thread, done))
}

/// `284 MiB of 1.4 GiB, 507 MiB/s, 3 of 12 files`; what is not known yet is left out.
fn describe(counts: &Counts, elapsed: Duration) -> String {
    let (bytes, expected) = (load(&counts.bytes), load(&counts.bytes_expected));
    let mut message = text::size(bytes);
    if expected >= bytes && expected > 0 {
        message += &format!(" of {}", text::size(expected));
    }
    message += &format!(", {}", text::rate(bytes, elapsed));
    let (files, expected) = (load(&counts.files), load(&counts.files_expected));
    if expected > 0 {
        message += &format!(", {files} of {}", text::count(expected, "file"));
    }
    message
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_says_what_is_known() {
        let counts = Counts::default();
        assert_eq!(describe(&counts, Duration::from_secs(1)), "0 B, 0 B/s");
        counts.bytes.store(1 << 20, Ordering::Relaxed);
        counts.bytes_expected.store(4 << 20, Ordering::Relaxed);
        counts.files_expected.store(2, Ordering::Relaxed);
        assert_eq!(describe(&counts, Duration::from_secs(2)), "1.0 MiB of 4.0 MiB, 512 KiB/s, 0 of 2 files");
    }
}
