//! Lets go of what a bench that was killed left behind: it reads what is mounted and what runs from its standard input,
//! and when that ends, because the bench ended in whatever way, it ends those processes and takes those mounts away.
//! After a bench that ended by itself there is nothing left to do.

use std::collections::BTreeSet;
use std::io::BufRead as _;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::Result;

/// Lines are `process PID` and `mount PATH`.
pub(crate) fn run() -> Result<()> {
    let (mut processes, mut mounts) = (Vec::<OwnedFd>::new(), BTreeSet::new());
    for line in std::io::stdin().lock().lines() {
        match line?.split_once(' ') {
            Some(("process", pid)) => {
                // By descriptor: the number may be another's when it comes to an end. One that is gone needs nothing.
                let pid = Pid::from_raw(pid.parse()?).ok_or("no process has the number 0")?;
                processes.extend(pidfd_open(pid, PidfdFlags::empty()));
            }
            Some(("mount", path)) => drop(mounts.insert(path.to_owned())),
            _ => return Err("a line is `process PID` or `mount PATH`".into()),
        }
    }
    for process in &processes {
        // It may have ended long ago.
        let _ = pidfd_send_signal(process, Signal::TERM);
    }
    let mounted = std::fs::read_to_string("/proc/self/mountinfo")?;
    for path in mounts.iter().rev() {
        if mounted.lines().any(|line| line.split(' ').nth(4) == Some(path)) {
            let mut command = Command::new("umount");
            command.arg("-l").arg(path).stdin(Stdio::null()).stderr(Stdio::null());
            // Whoever serves it may have taken it away meanwhile; there is nobody to tell anything else.
            let _ = command.status();
        }
    }
    Ok(())
}
