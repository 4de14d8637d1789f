//! The progress bar that a client draws on standard error, where that is a terminal, of what the job tells it.

use std::io::{self, IsTerminal};
use std::time::Duration;

use cairn_server::Task;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::text;

/// Work that is done in less time is not worth a bar.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// Whether a bar would be seen.
pub(crate) fn is_visible() -> bool {
    io::stderr().is_terminal()
}

/// A bar while there is work to show.
#[derive(Default)]
pub(crate) struct Bar(Option<ProgressBar>);

impl Bar {
    /// Draws how far the work is; nothing when it is over.
    pub(crate) fn show(&mut self, task: Option<&Task>) {
        let Some(task) = task else { return self.clear() };
        let bar = self.0.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix} [{bar:20}] {msg}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        bar.set_prefix(task.task.clone());
        bar.set_length(task.bytes_expected.max(task.bytes).max(1));
        bar.set_position(task.bytes);
        bar.set_message(describe(task));
        bar.tick();
    }

    /// Takes the bar away, so that something else can be printed.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

/// `284 MiB of 1.4 GiB, 507 MiB/s, 3 of 12 files`; what is not known yet is left out.
fn describe(task: &Task) -> String {
    let mut message = text::size(task.bytes);
    if task.bytes_expected >= task.bytes && task.bytes_expected > 0 {
        message += &format!(" of {}", text::size(task.bytes_expected));
    }
    let second = Duration::from_secs(1);
    message += &match task.bytes_per_s {
        Some(rate) => format!(", {}", text::rate(rate, second)),
        None => format!(", {}", text::rate(task.bytes, Duration::from_millis(task.elapsed_ms))),
    };
    if let Some(left) = time_left(task) {
        let left = match left.as_secs() {
            seconds @ ..60 => format!("{seconds} s"),
            _ => text::duration(left),
        };
        message += &format!(", {left} left");
    }
    if task.files_expected > 0 {
        message += &format!(", {} of {}", task.files, text::count(task.files_expected, "file"));
    }
    message
}

/// When the rest will be done, at the rate of late, in whole seconds; as long as that can be told.
fn time_left(task: &Task) -> Option<Duration> {
    const FOREVER: u64 = 100 * 3600;
    let left = task.bytes_expected.checked_sub(task.bytes)?;
    let seconds = left.div_ceil(task.bytes_per_s.filter(|rate| *rate > 0)?);
    (left > 0 && seconds < FOREVER).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_says_what_is_known() {
        let mut task = Task { task: "adding".into(), elapsed_ms: 1000, ..Task::default() };
        assert_eq!(describe(&task), "0 B, 0 B/s");
        task = Task { bytes: 1 << 20, bytes_expected: 4 << 20, files_expected: 2, elapsed_ms: 2000, ..task };
        assert_eq!(describe(&task), "1.0 MiB of 4.0 MiB, 512 KiB/s, 0 of 2 files");
        task = Task { files_expected: 0, bytes_per_s: Some(1 << 20), ..task };
        assert_eq!(describe(&task), "1.0 MiB of 4.0 MiB, 1.0 MiB/s, 3 s left");
        task.bytes_per_s = Some(0);
        assert_eq!(describe(&task), "1.0 MiB of 4.0 MiB, 0 B/s");
    }
}
