//! Programs that a test starts: with none of this process's settings, and none for longer than a deadline.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a test waits for anything.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A program that runs in a folder and knows of this store and of no other setting; it is given no input, and what it
/// prints is kept.
pub fn command(program: impl AsRef<OsStr>, arguments: &[&str], dir: &Path, store: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CAIRN_")) {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(dir).env("CAIRN_STORE", store);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits for a child, and kills it at the deadline.
///
/// # Panics
/// At the deadline, or if it cannot be waited for.
pub fn finish(child: Child) -> Output {
    let pid = Pid::from_child(&child);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(DEADLINE) {
        Ok(output) => output.expect("a child can be waited for"),
        Err(_) => {
            let _ = kill_process(pid, Signal::KILL);
            panic!("a command was still running after {DEADLINE:?}");
        }
    }
}

/// Waits until `ready` says so.
///
/// # Panics
/// At the deadline.
pub fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        std::thread::yield_now();
    }
}

/// What was printed.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
