//! The way to a machine: the `ssh` of the user with the user's configuration, and one connection for all that is asked.
//!
//! The first session is the one that has the connection, and stays open until the link is dropped; the others go through it by
//! a socket in a folder that only this user can enter. A client that cannot do that makes a connection for each.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, unlinkat};
use rustix::rand::{GetRandomFlags, getrandom};

use super::session::Session;
use super::{refusal, script};
use crate::config::MachineSource;
use crate::error::{Error, Result};
use crate::watch::Watch;

/// Longest silence of a machine that works on something: a hash, a compression.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(120);
/// How long it may take until a machine answers, and where somebody may have to type a password.
const ANSWER_MAX: Duration = Duration::from_secs(30);
const ANSWER_TYPED_MAX: Duration = Duration::from_secs(150);
/// How long `ssh` tries to connect.
const CONNECT_SECONDS: u32 = 10;
/// Most bytes that a login shell says before it does what it is to do.
const NOISE_BYTES_MAX: usize = 64 << 10;
/// A socket's path has at most 108 bytes, of which `ssh` needs some for itself.
const CONTROL_PATH_BYTES_MAX: usize = 80;

/// The way to a machine.
#[derive(Debug)]
pub(super) struct Link {
    /// As it is called in the configuration.
    pub(super) machine: String,
    /// Program and options.
    client: Vec<String>,
    user: Option<String>,
    host: String,
    is_typed: bool,
    wire_bytes: Arc<AtomicU64>,
    /// Before the folder of its socket, so that it is dropped first.
    first: Mutex<Option<Session>>,
    control: Option<Control>,
}

impl Link {
    /// The way to `host`, which the configuration calls `machine`. Nothing is connected yet.
    pub(super) fn new(machine: &str, host: &str, source: &MachineSource) -> Result<Self> {
        for (what, name) in [("machine", Some(host)), ("user", source.user.as_deref())] {
            let Some(name) = name else { continue };
            if name.is_empty() || name.starts_with('-') || name.contains(|c: char| c.is_control() || c == ' ')
            {
                let problem = format!("{name:?} is no name of a {what}");
                let hint = format!("write the name that ssh knows: ssh {what}…");
                return Err(Error::Usage { problem, hint });
            }
        }
        let mut client = source.ssh.clone();
        if client.is_empty() {
            client.push("ssh".to_owned());
        }
        let is_typed = std::io::stderr().is_terminal()
            && rustix::fs::open("/dev/tty", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
                .is_ok();
        Ok(Self {
            machine: machine.to_owned(),
            client,
            user: source.user.clone(),
            host: host.to_owned(),
            is_typed,
            wire_bytes: Arc::default(),
            first: Mutex::new(None),
            control: Control::make(),
        })
    }

    /// Runs a script in a session of its own, and waits until it has said its mark.
    pub(super) fn open(&self, script: &str, mark: &str, watch: &dyn Watch) -> Result<Session> {
        let is_first = self.first().is_none();
        let who = format!("machine {}", self.machine);
        let mut session = Session::start(self.command(script, is_first), &who, Arc::clone(&self.wire_bytes))?;
        let answer_max = if self.is_typed { ANSWER_TYPED_MAX } else { ANSWER_MAX };
        let is_sent = match session.send(script.as_bytes(), answer_max, watch) {
            Ok(()) => true,
            Err(Error::Unavailable { .. }) => false,
            Err(error) => return Err(error),
        };
        if is_sent && find_mark(&mut session, mark, answer_max, watch)? {
            return Ok(session);
        }
        // It ended. Whatever it said on its output is the login shell's.
        let status = session.finish(watch)?;
        Err(refusal::explain(&self.machine, &self.destination(), status, &session.said()))
    }

    /// Leaves a session open for as long as there is the link: others go through its connection.
    pub(super) fn keep(&self, session: Session) {
        self.first().get_or_insert(session);
    }

    /// Bytes both ways, of all sessions.
    pub(super) fn wire_bytes(&self) -> u64 {
        self.wire_bytes.load(Ordering::Relaxed)
    }

    fn first(&self) -> MutexGuard<'_, Option<Session>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As somebody would type it.
    pub(super) fn destination(&self) -> String {
        self.user.as_ref().map_or_else(|| self.host.clone(), |user| format!("{user}@{}", self.host))
    }

    fn command(&self, script: &str, is_first: bool) -> Command {
        let mut command = Command::new(&self.client[0]);
        command.args(&self.client[1..]).arg("-T");
        let mut option = |option: String| {
            command.args(["-o", &option]);
        };
        option(format!("ConnectTimeout={CONNECT_SECONDS}"));
        option("RemoteCommand=none".to_owned());
        if !self.is_typed {
            option("BatchMode=yes".to_owned());
        }
        if let Some(control) = &self.control {
            option(format!("ControlMaster={}", if is_first { "yes" } else { "no" }));
            option(format!("ControlPath={}", control.socket().display()));
            option("ControlPersist=no".to_owned());
        }
        if let Some(user) = &self.user {
            command.args(["-l", user]);
        }
        command.arg("--").arg(&self.host).arg(script::command(script));
        command
    }
}

/// A mark that nothing else says.
pub(super) fn mark() -> Result<String> {
    Ok(format!(
        "cairn-{}",
        random_digits().map_err(|source| Error::Program { program: "getrandom".to_owned(), source })?
    ))
}

/// Reads to the end of the line that is the mark; false if the output ends before.
fn find_mark(session: &mut Session, mark: &str, answer_max: Duration, watch: &dyn Watch) -> Result<bool> {
    let mut line = Vec::new();
    for _ in 0..NOISE_BYTES_MAX {
        let mut byte = [0];
        if session.receive(&mut byte, answer_max, watch)? == 0 {
            return Ok(false);
        }
        match byte[0] {
            b'\n' if line == mark.as_bytes() => return Ok(true),
            b'\n' => line.clear(),
            // A line that is longer is not the mark, whatever is in it.
            _ if line.len() > mark.len() => {}
            byte => line.push(byte),
        }
    }
    Err(session.broken(&format!("it said more than {NOISE_BYTES_MAX} bytes before what it was to")))
}

/// A folder for the socket of one connection, that only this user can enter; gone when it is dropped.
#[derive(Debug)]
struct Control {
    folder: PathBuf,
}

impl Control {
    /// None where there is no place for one: each session then connects by itself.
    fn make() -> Option<Self> {
        let name = format!("cairn-{}", random_digits().ok()?);
        [std::env::temp_dir(), PathBuf::from("/tmp")].into_iter().find_map(|place| {
            let control = Self { folder: place.join(&name) };
            let is_short = control.socket().as_os_str().len() <= CONTROL_PATH_BYTES_MAX;
            // In a path, `ssh` takes % for the beginning of a word, and spaces for the end of it.
            let is_plain = !control.folder.to_string_lossy().contains(['%', ' ', '"', '$', '\\']);
            (is_short && is_plain && mkdirat(CWD, &control.folder, Mode::RWXU).is_ok()).then_some(control)
        })
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("s")
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // A client that was killed leaves its socket behind.
        let _ = unlinkat(CWD, self.socket(), AtFlags::empty());
        let _ = unlinkat(CWD, &self.folder, AtFlags::REMOVEDIR);
    }
}

/// Sixteen hexadecimal digits.
fn random_digits() -> std::io::Result<String> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}
