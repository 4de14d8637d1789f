//! A program of this machine that is talked with through pipes: `ssh`, or a shell.
//!
//! What goes in and what comes out is counted. No wait is longer than it was allowed to be without a byte, and each looks
//! twenty times a second whether it is still wanted. The program ends with its session, at the latest when that is dropped.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Error, Result};
use crate::watch::Watch;

/// How often it is asked whether it is still wanted.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// So many bytes of the end of its standard error are kept.
const SAID_MAX: usize = 4 << 10;
/// How long a program that has closed its output has until it is killed.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A running program, its pipes, and how much went through them.
#[derive(Debug)]
pub(super) struct Session {
    child: Child,
    exit: OwnedFd,
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    errors: Option<OwnedFd>,
    said: Vec<u8>,
    /// What went through it, both ways.
    wire_bytes: Arc<AtomicU64>,
    /// For messages: whom it is spoken with.
    who: String,
}

/// What can be waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Input,
    Output,
    Exit,
}

impl Session {
    /// Starts the program; `who` is for messages, and what goes through its pipes is added to `wire_bytes`.
    pub(super) fn start(mut command: Command, who: &str, wire_bytes: Arc<AtomicU64>) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |source| Error::Program { program: program.clone(), source };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let input = child.stdin.take().map(OwnedFd::from);
        let output = child.stdout.take().map(OwnedFd::from);
        let errors = child.stderr.take().map(OwnedFd::from);
        let prepared = prepare(&child, [&input, &output, &errors].map(Option::as_ref));
        let exit = match prepared {
            Ok(exit) => exit,
            Err(errno) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(errno.into()));
            }
        };
        let (said, who) = (Vec::new(), who.to_owned());
        Ok(Self { child, exit, input, output, errors, said, wire_bytes, who })
    }

    /// Gives it all of `bytes`, if it takes some of them every `idle_max`.
    pub(super) fn send(&mut self, mut bytes: &[u8], idle_max: Duration, watch: &dyn Watch) -> Result<()> {
        while !bytes.is_empty() {
            self.wait(Event::Input, idle_max, watch)?;
            let Some(input) = &self.input else { return Err(self.broken("it is closed")) };
            match rustix::io::write(input, bytes) {
                Ok(written) => {
                    self.wire_bytes.fetch_add(written as u64, Ordering::Relaxed);
                    bytes = &bytes[written..];
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::PIPE) => return Err(self.broken("it ended too early")),
                Err(errno) => return Err(self.broken(&errno.to_string())),
            }
        }
        Ok(())
    }

    /// Takes what it has given, at least one byte; none at its end.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        idle_max: Duration,
        watch: &dyn Watch,
    ) -> Result<usize> {
        loop {
            self.wait(Event::Output, idle_max, watch)?;
            let Some(output) = &self.output else { return Ok(0) };
            match rustix::io::read(output, &mut *buffer) {
                Ok(0) => {
                    self.output = None;
                    return Ok(0);
                }
                Ok(read) => {
                    self.wire_bytes.fetch_add(read as u64, Ordering::Relaxed);
                    return Ok(read);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(self.broken(&errno.to_string())),
            }
        }
    }

    /// Closes its input, and waits until it ends by itself; kills it if it does not.
    pub(super) fn finish(&mut self, watch: &dyn Watch) -> Result<ExitStatus> {
        self.input = None;
        let ended = self.wait(Event::Exit, LAST_WORDS, watch);
        if ended.is_err() {
            let _ = self.child.kill();
        }
        self.drain();
        let status = self.child.wait();
        match (ended, status) {
            (Err(Error::Cancelled), _) => Err(Error::Cancelled),
            (_, Ok(status)) => Ok(status),
            (_, Err(source)) => Err(self.broken(&source.to_string())),
        }
    }

    /// The end of what it said on its standard error.
    pub(super) fn said(&self) -> String {
        String::from_utf8_lossy(&self.said).into_owned()
    }

    /// The connection does not work any more; with what was said last.
    pub(super) fn broken(&self, how: &str) -> Error {
        let said = self.said();
        let reason = match said.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
            Some(line) => format!("{how}; it said: {line}"),
            None => how.to_owned(),
        };
        let hint = "try again; nothing was changed".to_owned();
        Error::Unavailable { what: self.who.clone(), reason, hint }
    }

    fn wait(&mut self, event: Event, idle_max: Duration, watch: &dyn Watch) -> Result<()> {
        let begun = Instant::now();
        loop {
            if watch.cancelled() {
                return Err(Error::Cancelled);
            }
            if self.poll(event).map_err(|errno| self.broken(&errno.to_string()))? {
                return Ok(());
            }
            if begun.elapsed() >= idle_max {
                return Err(self.broken(&format!("nothing came for {} s", idle_max.as_secs())));
            }
        }
    }

    /// Waits a little; whether the event is there. Takes what is said meanwhile.
    fn poll(&mut self, event: Event) -> Result<bool, Errno> {
        let time = Timespec::try_from(ASK_EVERY).map_err(|_| Errno::INVAL)?;
        let (fd, flags) = match event {
            Event::Input => (self.input.as_ref(), PollFlags::OUT),
            Event::Output => (self.output.as_ref(), PollFlags::IN),
            Event::Exit => (Some(&self.exit), PollFlags::IN),
        };
        let Some(fd) = fd else { return Ok(true) };
        let mut fds = vec![PollFd::new(fd, flags)];
        fds.extend(self.errors.iter().map(|errors| PollFd::new(errors, PollFlags::IN)));
        match poll(&mut fds, Some(&time)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(false),
            Err(errno) => return Err(errno),
        }
        let is_there = !fds[0].revents().is_empty();
        if fds.get(1).is_some_and(|errors| !errors.revents().is_empty()) {
            self.drain();
        }
        Ok(is_there)
    }

    /// Takes what is on its standard error now; of one that never stops, a part.
    fn drain(&mut self) {
        let mut buffer = [0; SAID_MAX];
        for _ in 0..16 {
            let Some(errors) = &self.errors else { return };
            match rustix::io::read(errors.as_fd(), &mut buffer) {
                Ok(0) => self.errors = None,
                Ok(read) => {
                    self.said.extend_from_slice(&buffer[..read]);
                    let too_much = self.said.len().saturating_sub(SAID_MAX);
                    self.said.drain(..too_much);
                }
                Err(_) => return,
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes the pipes such that nothing waits in them, and gives what tells of the end.
fn prepare(child: &Child, pipes: [Option<&OwnedFd>; 3]) -> Result<OwnedFd, Errno> {
    for pipe in pipes.into_iter().flatten() {
        fcntl_getfl(pipe).and_then(|flags| fcntl_setfl(pipe, flags | OFlags::NONBLOCK))?;
    }
    pidfd_open(Pid::from_child(child), PidfdFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::NoWatch;

    const SOON: Duration = Duration::from_secs(30);

    fn shell(script: &str) -> Session {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Session::start(command, "a shell", Arc::default()).unwrap()
    }

    fn all(session: &mut Session) -> Result<Vec<u8>> {
        let (mut all, mut buffer) = (Vec::new(), [0; 1000]);
        loop {
            match session.receive(&mut buffer, SOON, &NoWatch)? {
                0 => return Ok(all),
                read => all.extend_from_slice(&buffer[..read]),
            }
        }
    }

    #[test]
    fn bytes_go_both_ways_and_are_counted() {
        let mut session = shell("head -c 3000 | tr a b; echo oops >&2; exit 3");
        session.send(&[b'a'; 3000], SOON, &NoWatch).unwrap();
        assert_eq!(all(&mut session).unwrap(), [b'b'; 3000]);
        assert_eq!(session.finish(&NoWatch).unwrap().code(), Some(3));
        assert_eq!((session.said().as_str(), session.wire_bytes.load(Ordering::Relaxed)), ("oops\n", 6000));
    }

    #[test]
    fn who_is_silent_is_not_waited_for() {
        let mut session = shell("echo busy >&2; sleep 1000");
        let error = session.receive(&mut [0; 9], Duration::from_millis(300), &NoWatch).unwrap_err();
        assert_eq!(error.to_string(), "a shell: nothing came for 0 s; it said: busy");
        struct Over;
        impl Watch for Over {
            fn cancelled(&self) -> bool {
                true
            }
        }
        let error = session.receive(&mut [0; 9], SOON, &Over).unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
    }

    #[test]
    fn what_does_not_read_is_told() {
        let mut session = shell("exec <&-; echo closed; sleep 1000");
        session.receive(&mut [0; 9], SOON, &NoWatch).unwrap();
        let error = session.send(b"anything", SOON, &NoWatch).unwrap_err();
        assert!(error.to_string().contains("it ended too early"), "{error}");
        let mut session = shell("sleep 1000");
        let error = session.send(&[0; 1 << 20], Duration::from_millis(200), &NoWatch).unwrap_err();
        assert!(error.to_string().contains("nothing came"), "{error}");
    }

    #[test]
    fn noise_without_end_does_not_fill_memory() {
        let mut session =
            shell("i=0; while [ $i -lt 2000 ]; do echo line $i >&2; i=$((i+1)); done; echo done");
        assert_eq!(all(&mut session).unwrap(), b"done\n");
        session.finish(&NoWatch).unwrap();
        let said = session.said();
        assert!(said.len() <= SAID_MAX && said.ends_with("line 1999\n"), "{said}");
    }
}
