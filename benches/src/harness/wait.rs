//! Waits for a child and learns what it used: `wait4(2)`, which neither std nor rustix offers.
#![expect(unsafe_code, reason = "wait4(2) is the one way to a single child's peak memory; see SAFETY below")]

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::Duration;

/// How a process ended and what it, with the children that it waited for, used.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) cpu: Duration,
    /// The largest resident set that the kernel saw, mapped files included. It counts from before `exec`, so it is
    /// never below what the bench itself has resident (some MiB).
    pub(super) peak_resident_bytes: u64,
}

/// Takes the child, since nobody else may wait for it afterwards.
pub(super) fn wait(child: Child) -> io::Result<Ended> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    let mut status: libc::c_int = 0;
    // SAFETY: rusage is a C struct of integers; all zeroes is a value of it.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live, exclusively borrowed locals of the types that wait4 writes. `pid` is a
        // child of ours that was not waited for yet: `child` is owned here, so its id cannot have been reused.
        let ended = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
        if ended == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    drop(child);
    Ok(Ended {
        status: ExitStatus::from_raw(status),
        cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
        peak_resident_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024),
    })
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
}
