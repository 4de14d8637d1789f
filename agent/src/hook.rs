//! Runs a shell command for somebody: with an environment, a deadline, and a way to stop it. Whatever it started in its process
//! group ends with it when it is late or no longer wanted.
//!
//! What a command leaves running in the background when it exits by itself goes on: a hook that holds a database's lock
//! until another lets go of it is one of these. Nobody waits for what such a process prints.

use std::ffi::OsString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// Most bytes of a command's standard output that are taken.
pub const STDOUT_MAX: usize = 64 << 10;
/// So many bytes of the end of its standard error are kept for who asks what went wrong.
const STDERR_MAX: usize = 4 << 10;
/// How often it is asked whether the command is still wanted.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How long a process group that was told to end has until it is killed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A command to be run by `sh -c`.
#[derive(Debug, Clone)]
pub struct Hook {
    /// What it is for: `freeze`, `round`.
    pub purpose: &'static str,
    /// The shell command.
    pub command: String,
    /// Variables that are set for it, beside those of this process.
    pub env: Vec<(&'static str, OsString)>,
    /// Where it runs; where this process is, if nothing is said.
    pub dir: Option<PathBuf>,
    /// How long it may take.
    pub time_max: Duration,
}

/// What a command said that succeeded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookOutput {
    /// All of its standard output.
    pub stdout: Vec<u8>,
}

/// A command that did not do what it was to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// It could not be started or watched.
    #[error("cannot run the {purpose} command {command:?}")]
    Run {
        /// What it is for.
        purpose: &'static str,
        /// The command.
        command: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It ended with a failure.
    #[error("the {purpose} command {command:?} {ended}{}", Said(stderr))]
    Failed {
        /// What it is for.
        purpose: &'static str,
        /// The command.
        command: String,
        /// How it ended.
        ended: Ended,
        /// The end of its standard error.
        stderr: String,
    },
    /// It took too long, and was killed with its process group.
    #[error("the {purpose} command {command:?} took longer than {time_max:?} and was killed{}", Said(stderr))]
    Late {
        /// What it is for.
        purpose: &'static str,
        /// The command.
        command: String,
        /// How long it had.
        time_max: Duration,
        /// The end of its standard error.
        stderr: String,
    },
    /// It printed more than [`STDOUT_MAX`] bytes, and was killed with its process group.
    #[error("the {purpose} command {command:?} printed more than {STDOUT_MAX} bytes and was killed")]
    TooMuch {
        /// What it is for.
        purpose: &'static str,
        /// The command.
        command: String,
    },
    /// It is no longer wanted, and was killed with its process group.
    #[error("the {purpose} command was stopped")]
    Cancelled {
        /// What it is for.
        purpose: &'static str,
    },
}

/// How a command ended that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By exit(2), with a status that is not 0.
    Exit(i32),
    /// By a signal.
    Signal(i32),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exited with status {code}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
        }
    }
}

/// What a command said, as the end of a sentence about it.
struct Said<'a>(&'a str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.trim() {
            "" => Ok(()),
            said => write!(f, "; it said: {said}"),
        }
    }
}

/// Runs the command to its end, to its deadline, or until `cancelled` says so.
///
/// # Errors
/// [`HookError`], for anything but an exit with status 0.
pub fn run(hook: &Hook, cancelled: &dyn Fn() -> bool) -> Result<HookOutput, HookError> {
    let begun = Instant::now();
    let failed = |source: std::io::Error| HookError::Run {
        purpose: hook.purpose,
        command: hook.command.clone(),
        source,
    };
    let mut command = Command::new("sh");
    command.arg("-c").arg(&hook.command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command.envs(hook.env.iter().map(|(name, value)| (name, value)));
    if let Some(dir) = &hook.dir {
        command.current_dir(dir);
    }
    let mut running = Running(command.spawn().map_err(failed)?);
    let (purpose, said) = (hook.purpose, || hook.command.clone());
    let mut watch = Watch::of(&mut running.0).map_err(failed)?;
    loop {
        let is_over = watch.wait(ASK_EVERY).map_err(failed)?;
        let verdict = if watch.stdout.len() > STDOUT_MAX {
            HookError::TooMuch { purpose, command: said() }
        } else if is_over {
            break;
        } else if cancelled() {
            HookError::Cancelled { purpose }
        } else if begun.elapsed() >= hook.time_max {
            let stderr = watch.stderr_text();
            HookError::Late { purpose, command: said(), time_max: hook.time_max, stderr }
        } else {
            continue;
        };
        running.end_group(&mut watch);
        return Err(verdict);
    }
    let status = running.reap().map_err(failed)?;
    let stderr = watch.stderr_text();
    if !status.success() {
        let ended = status.signal().map_or_else(|| Ended::Exit(status.code().unwrap_or(-1)), Ended::Signal);
        return Err(HookError::Failed { purpose, command: said(), ended, stderr });
    }
    if !stderr.trim().is_empty() {
        tracing::info!(purpose, said = stderr.trim(), "a command said something");
    }
    Ok(HookOutput { stdout: watch.stdout })
}

/// A child that was not reaped yet, so that its number and its group's are its own.
struct Running(Child);

impl Running {
    fn group(&self) -> Option<Pid> {
        i32::try_from(self.0.id()).ok().and_then(Pid::from_raw)
    }

    /// Ends everything in its process group: first by SIGTERM, and then for certain.
    fn end_group(&mut self, watch: &mut Watch) {
        let Some(group) = self.group() else { return };
        let _ = kill_process_group(group, Signal::TERM);
        let told = Instant::now();
        while told.elapsed() < LAST_WORDS && !watch.wait(ASK_EVERY).unwrap_or(true) {}
        // The leader is not reaped yet, so the group is still this one, whoever is left in it.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.0.wait();
    }

    fn reap(&mut self) -> std::io::Result<ExitStatus> {
        self.0.wait()
    }
}

/// The child's ends that are listened to.
struct Watch {
    exit: OwnedFd,
    out: Option<OwnedFd>,
    err: Option<OwnedFd>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Watch {
    fn of(child: &mut Child) -> std::io::Result<Self> {
        let end = |child: &mut Child, error: std::io::Error| {
            let _ = child.kill();
            let _ = child.wait();
            error
        };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH);
        let exit = match pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty())) {
            Ok(exit) => exit,
            Err(errno) => return Err(end(child, errno.into())),
        };
        let out: Option<OwnedFd> = child.stdout.take().map(Into::into);
        let err: Option<OwnedFd> = child.stderr.take().map(Into::into);
        for fd in out.iter().chain(&err) {
            if let Err(errno) = fcntl_getfl(fd).and_then(|flags| fcntl_setfl(fd, flags | OFlags::NONBLOCK)) {
                return Err(end(child, errno.into()));
            }
        }
        Ok(Self { exit, out, err, stdout: Vec::new(), stderr: Vec::new() })
    }

    /// Waits for a while and takes what is printed; true when the child has ended and all that it printed itself was taken.
    fn wait(&mut self, time: Duration) -> std::io::Result<bool> {
        let time = Timespec::try_from(time).map_err(std::io::Error::other)?;
        let is_over = {
            let mut fds = vec![PollFd::new(&self.exit, PollFlags::IN)];
            fds.extend(self.out.iter().chain(&self.err).map(|fd| PollFd::new(fd, PollFlags::IN)));
            match poll(&mut fds, Some(&time)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            !fds[0].revents().is_empty()
        };
        take(&mut self.out, |bytes| {
            // One byte too many is enough to know.
            let room = (STDOUT_MAX + 1).saturating_sub(self.stdout.len());
            self.stdout.extend_from_slice(&bytes[..bytes.len().min(room)]);
        })?;
        take(&mut self.err, |bytes| {
            self.stderr.extend_from_slice(bytes);
            let too_much = self.stderr.len().saturating_sub(STDERR_MAX);
            self.stderr.drain(..too_much);
        })?;
        Ok(is_over)
    }

    fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// Takes what is there now; what has ended is closed. Of a command that prints without end, a part.
fn take(pipe: &mut Option<OwnedFd>, mut taken: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut buffer = [0; 8 << 10];
    for _ in 0..(STDOUT_MAX / buffer.len() + 1) {
        let Some(fd) = pipe.as_ref().map(AsFd::as_fd) else { return Ok(()) };
        match read(fd, &mut buffer)? {
            Some(0) => *pipe = None,
            Some(len) => taken(&buffer[..len]),
            None => return Ok(()),
        }
    }
    Ok(())
}

/// None where nothing is there now.
fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> std::io::Result<Option<usize>> {
    match rustix::io::read(fd, buffer) {
        Ok(len) => Ok(Some(len)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn hook(command: &str) -> Hook {
        Hook {
            purpose: "test",
            command: command.to_owned(),
            env: Vec::new(),
            dir: None,
            time_max: Duration::from_secs(60),
        }
    }

    fn never() -> bool {
        false
    }

    #[test]
    fn output_environment_and_place_are_the_commands() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().canonicalize().unwrap();
        let mut hook = hook("printf '%s %s' \"$CAIRN_NAME\" \"$PWD\"; echo noise >&2");
        hook.env = vec![("CAIRN_NAME", "state".into())];
        hook.dir = Some(place.clone());
        let output = run(&hook, &never).unwrap();
        assert_eq!(output.stdout, format!("state {}", place.display()).as_bytes());
    }

    #[test]
    fn failures_say_how_and_what_was_said_last() {
        let error = run(&hook("echo no such disk >&2; exit 3"), &never).unwrap_err();
        let text = error.to_string();
        assert!(text.ends_with("exited with status 3; it said: no such disk"), "{text}");
        let error = run(&hook("kill -9 $$"), &never).unwrap_err();
        assert!(matches!(error, HookError::Failed { ended: Ended::Signal(9), .. }), "{error}");
        let error =
            run(&hook("i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1"), &never);
        let HookError::Failed { stderr, .. } = error.unwrap_err() else { panic!("it failed") };
        assert!(stderr.len() <= STDERR_MAX && stderr.ends_with("line 2999\n"), "{stderr}");
    }

    #[test]
    fn much_output_is_taken_and_too_much_ends_it() {
        let output = run(&hook("head -c 65536 /dev/zero"), &never).unwrap();
        assert_eq!(output.stdout.len(), STDOUT_MAX);
        let error = run(&hook("cat /dev/zero"), &never).unwrap_err();
        assert!(matches!(error, HookError::TooMuch { .. }), "{error}");
    }

    /// Gives the reading end of a FIFO that every process of the group has open until it ends.
    fn witness(dir: &std::path::Path) -> (String, std::fs::File) {
        let fifo = dir.join("alive");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let read = rustix::fs::open(&fifo, flags, rustix::fs::Mode::empty()).unwrap();
        fcntl_setfl(&read, OFlags::empty()).unwrap();
        (fifo.display().to_string(), read.into())
    }

    #[test]
    fn who_is_late_or_not_wanted_ends_with_all_that_it_started() {
        for is_late in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let (fifo, mut alive) = witness(dir.path());
            // The shell and its children ignore a polite word.
            let script =
                format!("exec 3>{fifo}; trap '' TERM; (while :; do sleep 1000; done) & echo ready >&3; wait");
            let mut hook = hook(&script);
            hook.time_max = Duration::from_secs(if is_late { 1 } else { 60 });
            let begun = Instant::now();
            let error = run(&hook, &|| !is_late && begun.elapsed() > Duration::from_secs(1)).unwrap_err();
            match error {
                HookError::Late { .. } => assert!(is_late),
                HookError::Cancelled { .. } => assert!(!is_late),
                other => panic!("{other}"),
            }
            // Ends when nobody has it open for writing.
            let mut text = String::new();
            alive.read_to_string(&mut text).unwrap();
            assert!(text == "ready\n" || text.is_empty(), "{text}");
        }
    }

    #[test]
    fn what_stays_in_the_background_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, mut alive) = witness(dir.path());
        let script =
            format!("(exec 3>{fifo}; echo here >&3; read line < {fifo}.go; echo gone >&3) & echo done");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            format!("{fifo}.go"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let output = run(&hook(&script), &never).unwrap();
        assert_eq!(output.stdout, b"done\n");
        run(&hook(&format!("echo go > {fifo}.go")), &never).unwrap();
        let mut text = String::new();
        alive.read_to_string(&mut text).unwrap();
        assert!(text.ends_with("gone\n"), "{text}");
    }

    #[test]
    fn what_cannot_run_is_told() {
        let mut hook = hook("true");
        hook.dir = Some("/nonexistent".into());
        assert!(matches!(run(&hook, &never).unwrap_err(), HookError::Run { .. }));
    }
}
