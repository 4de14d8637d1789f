//! Work that stays behind what others do on this machine.

use std::thread;

/// The lowest priority that there is.
const NICE: i32 = 19;

/// Does some work on a thread of its own at the lowest priority, and so all threads that it starts. Where nobody else wants
/// the processor it is as fast as any.
pub(crate) fn behind_others<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            lower();
            work()
        });
        match worker.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Gives this thread, and those that it starts from now on, the lowest priority.
pub(crate) fn lower() {
    // On Linux no process means this thread.
    if let Err(errno) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%errno, "background work has the priority of everything else");
    }
}
