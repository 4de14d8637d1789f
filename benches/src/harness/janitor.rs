//! The process that lets go of what the bench leaves mounted or running if it is interrupted or killed: `probe janitor`.
//! It is told of each mount and each process before it is relied on, and acts when its input ends, whatever ended the
//! bench. What the bench ends itself is gone by then.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::error::{Error, Result};

#[derive(Debug)]
pub(crate) struct Janitor {
    child: Child,
    /// None only while it is dropped.
    told: Option<ChildStdin>,
}

impl Janitor {
    pub(crate) fn start(probe: &Path) -> Result<Janitor> {
        let mut command = Command::new(probe);
        // In a process group of its own, so that an interrupt from the terminal leaves it.
        command.arg("janitor").stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        let mut child = command.spawn().map_err(Error::io("start", probe))?;
        let told = child.stdin.take();
        Ok(Janitor { child, told })
    }

    /// A mount that is about to be made.
    pub(crate) fn mount(&self, dir: &Path) -> Result<()> {
        self.tell(&[b"mount ", dir.as_os_str().as_encoded_bytes(), b"\n"].concat())
    }

    /// A process that must not outlive the bench.
    pub(crate) fn process(&self, pid: u32) -> Result<()> {
        self.tell(format!("process {pid}\n").as_bytes())
    }

    fn tell(&self, line: &[u8]) -> Result<()> {
        let told = self.told.as_ref().map(|mut told| told.write_all(line));
        told.unwrap_or(Ok(())).map_err(Error::io("write to", Path::new("the janitor")))
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        self.told = None;
        // It ends by itself, and there is nothing to do about it if it failed.
        let _ = self.child.wait();
    }
}
