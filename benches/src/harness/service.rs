//! A program that keeps running while others are measured, and what it has used so far.
#![expect(unsafe_code, reason = "another process's clock is read by libc alone; see SAFETY below")]

use std::fs::File;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::command::{Line, read_complaint};
use super::janitor::Janitor;
use crate::error::{Error, Result};

/// How long it may take to end when it is asked to.
const END_WITHIN: Duration = Duration::from_secs(20);
/// Between looks at what cannot be waited for otherwise.
const LOOK_EVERY: Duration = Duration::from_micros(200);

pub(crate) struct Service {
    line: Line,
    child: Child,
    complaint: File,
}

impl Service {
    pub(crate) fn start(line: Line, janitor: &Janitor) -> Result<Service> {
        let complaint = tempfile::tempfile().map_err(Error::io("make a file in", &std::env::temp_dir()))?;
        let child = line.start(&complaint)?;
        let service = Service { line, child, complaint };
        janitor.process(service.child.id())?;
        Ok(service)
    }

    /// Waits until `ready` says so; an error if the program ends first, or takes longer than `within`.
    pub(crate) fn wait_until(&mut self, within: Duration, ready: impl Fn() -> bool) -> Result<()> {
        let started = Instant::now();
        while !ready() {
            if let Some(status) = self.ended() {
                return Err(self.failed(status));
            }
            if started.elapsed() > within {
                let what = format!("not ready within {} s", within.as_secs());
                return Err(Error::Wrong { program: self.line.program_name(), what });
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.ended().is_some()
    }

    /// Waits for its end; an error if it failed.
    pub(crate) fn ended_well(&mut self) -> Result<()> {
        loop {
            match self.ended() {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.failed(status)),
                None => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    /// The processor time that all its threads have used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let failed =
            || Error::Wrong { program: self.line.program_name(), what: "its clock cannot be read".into() };
        let pid = libc::pid_t::try_from(self.child.id()).map_err(|_| failed())?;
        let mut clock: libc::clockid_t = 0;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: both calls write to live, exclusively borrowed locals of the types that they are declared with.
        let read = unsafe {
            libc::clock_getcpuclockid(pid, &raw mut clock) == 0
                && libc::clock_gettime(clock, &raw mut time) == 0
        };
        let seconds = u64::try_from(time.tv_sec).map_err(|_| failed())?;
        let nanoseconds = u32::try_from(time.tv_nsec).map_err(|_| failed())?;
        if read { Ok(Duration::new(seconds, nanoseconds)) } else { Err(failed()) }
    }

    /// What it has in memory now, mapped files included.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most that it ever had in memory.
    pub(crate) fn peak_resident_bytes(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> Result<u64> {
        let path = std::path::PathBuf::from(format!("/proc/{}/status", self.child.id()));
        let status = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        let missing = || Error::Wrong { program: self.line.program_name(), what: format!("no {field}") };
        Ok(kib.ok_or_else(missing)? * 1024)
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn stop(mut self) -> Result<()> {
        let status = self.end().ok_or_else(|| Error::Wrong {
            program: self.line.program_name(),
            what: format!("did not end within {} s", END_WITHIN.as_secs()),
        })?;
        if status.success() { Ok(()) } else { Err(self.failed(status)) }
    }

    fn end(&mut self) -> Option<ExitStatus> {
        if let Some(status) = self.ended() {
            return Some(status);
        }
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may end by itself meanwhile; it is a child that was not waited for, so the number is still its own.
            let _ = kill_process(pid, Signal::TERM);
        }
        let asked = Instant::now();
        while asked.elapsed() < END_WITHIN {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        None
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn failed(&self, status: ExitStatus) -> Error {
        let said = self.complaint.try_clone().map(read_complaint).unwrap_or_default();
        self.line.failed(status, &said)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.end().is_none() {
            // Nothing is left to try if that fails.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
