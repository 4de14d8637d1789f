//! What is said while packages come: lines on standard error, as text or as JSON, and one bar for all of them.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use cairn_server::Task;
use cairn_sources::Watch;
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::args::Global;
use crate::error;
use crate::progress::{self, Bar};

/// Says things, from any thread.
pub(crate) struct Tell {
    json: bool,
    quiet: bool,
    has_bar: bool,
    began: Instant,
    expected: AtomicU64,
    came: AtomicI64,
    bar: Mutex<Bar>,
    /// Held by whoever changes the store; before `bar`.
    turn: Mutex<()>,
    /// Set by Ctrl-C and SIGTERM; a second one ends the process at once.
    stop: Arc<AtomicBool>,
}

/// A line on standard error, as JSON.
#[derive(Serialize)]
struct Line<'a> {
    level: &'static str,
    package: Option<&'a str>,
    message: &'a str,
}

impl Tell {
    pub(crate) fn new(global: &Global) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The order matters: the shutdown looks at the flag before this very signal sets it.
            flag::register_conditional_shutdown(signal, error::INTERRUPTED, Arc::clone(&stop))
                .and_then(|_| flag::register(signal, Arc::clone(&stop)))
                .context("cannot watch for Ctrl-C")?;
        }
        Ok(Self {
            json: global.json,
            quiet: global.quiet,
            has_bar: !global.json && !global.quiet && progress::is_visible(),
            began: Instant::now(),
            expected: AtomicU64::new(0),
            came: AtomicI64::new(0),
            bar: Mutex::default(),
            turn: Mutex::default(),
            stop,
        })
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The right to change the store, which one package has at a time.
    pub(crate) fn turn(&self) -> std::sync::MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was done, of one package or of all.
    pub(crate) fn say(&self, package: Option<&str>, message: &str) {
        if !self.quiet {
            self.line("info", package, message);
        }
    }

    /// What is not as it should be, though it goes on.
    pub(crate) fn warn(&self, package: Option<&str>, message: &str) {
        self.line("warning", package, message);
    }

    /// What failed, with its hint; gives the exit code.
    pub(crate) fn fail(&self, package: Option<&str>, failure: &anyhow::Error) -> u8 {
        let told = error::tell_of(package, failure, self.json);
        self.print(&told.text);
        told.code
    }

    fn line(&self, level: &'static str, package: Option<&str>, message: &str) {
        if self.json {
            // Texts always have a JSON form.
            let line = serde_json::to_string(&Line { level, package, message }).unwrap_or_default();
            return self.print(&format!("{line}\n"));
        }
        let level = if level == "warning" { "warning: " } else { "" };
        let package = package.map(|package| format!("{package}: ")).unwrap_or_default();
        self.print(&format!("{level}{package}{message}\n"));
    }

    fn print(&self, text: &str) {
        let mut bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        bar.clear();
        error::print(text);
    }

    /// Draws how far all of it is, if it takes long enough for that.
    pub(crate) fn draw(&self) {
        let expected = self.expected.load(Ordering::Relaxed);
        if !self.has_bar || expected == 0 || self.began.elapsed() < progress::PATIENCE {
            return;
        }
        let task = Task {
            task: "syncing".to_owned(),
            bytes: u64::try_from(self.came.load(Ordering::Relaxed)).unwrap_or(0),
            bytes_expected: expected,
            elapsed_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            ..Task::default()
        };
        self.bar.lock().unwrap_or_else(PoisonError::into_inner).show(Some(&task));
    }

    /// Takes the bar away for good.
    pub(crate) fn end(&self) {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Who tells of one package.
    pub(crate) fn of<'a>(&'a self, package: &'a str) -> PackageWatch<'a> {
        PackageWatch { tell: self, package }
    }
}

/// Tells what happens with one package.
pub(crate) struct PackageWatch<'a> {
    tell: &'a Tell,
    package: &'a str,
}

impl Watch for PackageWatch<'_> {
    fn expect(&self, bytes: u64) {
        self.tell.expected.fetch_add(bytes, Ordering::Relaxed);
    }

    fn came(&self, bytes: i64) {
        self.tell.came.fetch_add(bytes, Ordering::Relaxed);
    }

    fn say(&self, line: &str) {
        self.tell.say(Some(self.package), line);
    }

    fn warn(&self, line: &str) {
        self.tell.warn(Some(self.package), line);
    }

    fn cancelled(&self) -> bool {
        self.tell.is_cancelled()
    }
}
