//! A user who may do less than root.

use std::io::Write;

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

const NOBODY: u32 = 65_534;

/// Whether the tests run as root.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Says that something is not tested here, and why, also where the output of tests that pass is not shown.
pub fn skip(what: &str, why: &str) {
    // Nobody is left to be told if standard error is gone.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}: {why}");
}

/// Runs something as a user to whom permission bits apply: in a thread with that user's rights if this is root. Threads
/// that it starts have them too.
///
/// # Panics
/// With what it panics with, or if the rights cannot be dropped.
pub fn unprivileged<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    if !is_root() {
        return run();
    }
    let dropped = || {
        let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        set_thread_groups(&[]).expect("root may");
        set_thread_res_gid(gid, gid, gid).expect("root may");
        set_thread_res_uid(uid, uid, uid).expect("root may");
        run()
    };
    std::thread::scope(|scope| match scope.spawn(dropped).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Gives a path to the user of [`unprivileged`].
///
/// # Panics
/// If it cannot.
pub fn give(path: &std::path::Path) {
    if is_root() {
        std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
}
