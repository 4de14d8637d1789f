//! A disk that fails, for a program that a test starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The names of what can fail, as in `faults.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Making durable.
    Sync,
}

/// What happens to such a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// `EIO`.
    Io,
    /// `ENOSPC`.
    NoSpace,
    /// It waits until something else is planned.
    Stalls,
}

/// A library that lets calls fail, and what it is told.
#[derive(Debug)]
pub struct Faults {
    library: PathBuf,
    plan: PathBuf,
}

impl Faults {
    /// Makes the library in a folder.
    ///
    /// # Errors
    /// Why it cannot be made: there is no compiler.
    pub fn make(dir: &Path) -> Result<Self, String> {
        let (library, plan) = (dir.join("faults.so"), dir.join("faults"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/faults.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
        let output = compiler.output().map_err(|error| format!("cc: {error}"))?;
        if output.status.success() {
            return Ok(Self { library, plan });
        }
        Err(format!("cc: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// Lets calls of this program meet them.
    pub fn apply(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("CAIRN_TEST_FAULTS", &self.plan);
    }

    /// From now on such calls, of files with `part` in their path, end like this, and no others.
    ///
    /// # Panics
    /// If it cannot be told.
    pub fn plan(&self, call: Call, fate: Fate, part: &str) {
        let call = match call {
            Call::Read => "read",
            Call::Write => "write",
            Call::Sync => "sync",
        };
        let number = match fate {
            Fate::Io => rustix::io::Errno::IO.raw_os_error(),
            Fate::NoSpace => rustix::io::Errno::NOSPC.raw_os_error(),
            Fate::Stalls => 0,
        };
        let next = self.plan.with_extension("next");
        fs::write(&next, format!("{call} {number} {part}")).expect("the plan can be written");
        fs::rename(next, &self.plan).expect("the plan can be told");
    }

    /// From now on all is well.
    pub fn heal(&self) {
        // Nothing may have been planned.
        let _ = fs::remove_file(&self.plan);
    }
}
