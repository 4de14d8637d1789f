//! A command line, run as a process and measured from before it is started until it is reaped.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use serde::Serialize;

use super::wait::wait;
use crate::error::{Error, Result};

/// How much of what a failed program said goes into the report.
const COMPLAINT_BYTES_MAX: usize = 400;

/// What one run of a program cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cost {
    pub(crate) wall_s: f64,
    pub(crate) cpu_s: f64,
    pub(crate) peak_resident_bytes: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Line {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
    /// Prefixes of variables that it does not inherit.
    kept_from: Vec<&'static str>,
    folder: Option<PathBuf>,
}

impl Line {
    pub(crate) fn new(program: impl Into<PathBuf>) -> Line {
        Line {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            kept_from: Vec::new(),
            folder: None,
        }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Line {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Line {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Line {
        self.env.push((name, value.as_ref().to_owned()));
        self
    }

    /// Keeps variables that begin with `prefix` from it, unless they are given by [`Line::env`].
    pub(crate) fn keep_from(mut self, prefix: &'static str) -> Line {
        self.kept_from.push(prefix);
        self
    }

    /// Where it runs; else where the bench runs.
    pub(crate) fn folder(mut self, folder: &Path) -> Line {
        self.folder = Some(folder.to_owned());
        self
    }

    pub(crate) fn program_name(&self) -> String {
        self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy().into_owned()
    }

    /// Runs it with its output thrown away; an exit code other than 0 is an error with the end of what it said.
    pub(crate) fn run(&self) -> Result<Cost> {
        self.run_into(Stdio::null())
    }

    /// Runs it, measured, for what it prints.
    pub(crate) fn run_reading(&self) -> Result<(Cost, String)> {
        let folder = std::env::temp_dir();
        let mut printed = tempfile::tempfile().map_err(Error::io("make a file in", &folder))?;
        let stdout = printed.try_clone().map_err(Error::io("make a file in", &folder))?;
        let cost = self.run_into(stdout.into())?;
        let mut text = String::new();
        let read = printed.rewind().and_then(|()| printed.read_to_string(&mut text));
        read.map_err(Error::io("read what was printed by", &self.program))?;
        Ok((cost, text))
    }

    /// Starts it with its output thrown away, in a process group of its own: what interrupts the bench does not reach
    /// it before the bench has let go of what it serves.
    pub(super) fn start(&self, complaint: &File) -> Result<Child> {
        let stderr = complaint.try_clone().map_err(Error::io("make a file in", &std::env::temp_dir()))?;
        let mut command = self.command();
        command.stdout(Stdio::null()).stderr(stderr).process_group(0);
        command.spawn().map_err(|error| self.not_started(error))
    }

    fn run_into(&self, stdout: Stdio) -> Result<Cost> {
        let complaint = tempfile::tempfile().map_err(Error::io("make a file in", &std::env::temp_dir()))?;
        let stderr = complaint.try_clone().map_err(Error::io("make a file in", &std::env::temp_dir()))?;
        let mut command = self.command();
        command.stdout(stdout).stderr(stderr);
        let started = Instant::now();
        let child = command.spawn().map_err(|error| self.not_started(error))?;
        let ended = wait(child).map_err(Error::io("wait for", &self.program))?;
        let wall = started.elapsed();
        if !ended.status.success() {
            return Err(self.failed(ended.status, &read_complaint(complaint)));
        }
        Ok(Cost {
            wall_s: wall.as_secs_f64(),
            cpu_s: ended.cpu.as_secs_f64(),
            peak_resident_bytes: ended.peak_resident_bytes,
        })
    }

    /// Runs it for what it prints. Not for measuring.
    pub(crate) fn output(&self) -> Result<String> {
        let output = self.command().output().map_err(|error| self.not_started(error))?;
        if !output.status.success() {
            return Err(self.failed(output.status, &String::from_utf8_lossy(&output.stderr)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null()).env("LC_ALL", "C");
        for (name, _) in std::env::vars_os() {
            if self.kept_from.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes())) {
                command.env_remove(name);
            }
        }
        for (name, value) in &self.env {
            command.env(name, value);
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }

    fn not_started(&self, error: io::Error) -> Error {
        // A folder that is not there gives the same code, but the harness makes the folders that it names.
        if error.kind() == io::ErrorKind::NotFound {
            return Error::NotInstalled { program: self.program_name() };
        }
        Error::Io { action: "start", path: self.program.clone(), source: error }
    }

    pub(super) fn failed(&self, status: ExitStatus, complaint: &str) -> Error {
        let status = match (status.code(), status.signal()) {
            (Some(code), _) => format!("code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => status.to_string(),
        };
        let words: Vec<&str> = complaint.split_whitespace().collect();
        let complaint = tail(&words.join(" "), COMPLAINT_BYTES_MAX).to_owned();
        Error::Failed { program: self.program_name(), status, complaint }
    }
}

/// Best effort: what a program said only explains an error that is reported in any case.
pub(super) fn read_complaint(mut file: File) -> String {
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(0)).is_ok() {
        let _ = file.take(1 << 20).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tail(text: &str, bytes_max: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes_max);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_measured() {
        let cost =
            Line::new("sh").arg("-c").arg("i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done").run().unwrap();
        assert!(cost.wall_s > 0.0 && cost.peak_resident_bytes > 0);
    }

    #[test]
    fn a_failure_carries_the_code_and_what_was_said() {
        let error = Line::new("sh").arg("-c").arg("echo no such thing >&2; exit 3").run().unwrap_err();
        assert_eq!(error.chain(), "sh ended with code 3: no such thing");
    }

    #[test]
    fn variables_are_kept_from_it_but_not_the_given_ones() {
        // Cargo sets these for tests.
        let line = Line::new("sh").arg("-c").arg("echo $CARGO_PKG_NAME:$CARGO_PKG_VERSION");
        let line = line.keep_from("CARGO_").env("CARGO_PKG_NAME", "given");
        assert_eq!(line.output().unwrap(), "given:");
    }

    #[test]
    fn an_absent_program_is_said_to_be_absent() {
        let error = Line::new("cairn-no-such-program").run().unwrap_err();
        assert!(matches!(error, Error::NotInstalled { .. }));
    }

    #[test]
    fn the_tail_respects_characters() {
        assert_eq!(tail("aé", 1), "");
        assert_eq!(tail("aé", 2), "é");
        assert_eq!(tail("aé", 9), "aé");
    }
}
