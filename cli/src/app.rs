//! What a job works with: where the store is, who asks, where output goes. Nothing is opened, started or read before a
//! command asks for it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use cairn_net::{Net, NetOptions, Peers, Source};
use cairn_server::{Caller, Input, JobIo, Request};
use cairn_store::{
    ArtifactId, Error, Held, HoldGuard, Lease, ProfileName, Progress, Store, StreamBounds, Streams, Writer,
    WriterOptions,
};

use crate::args::Command;
use crate::commands::token::TOKENS;
use crate::daemon::Daemon;
use crate::daemon::Taken;
use crate::error::{Foreign, NoStore, Usage};
use crate::meter::Meter;
use crate::output::Output;

/// Root's store.
const SYSTEM_STORE: &str = "/var/lib/cairn";
/// The name of the daemon's socket in the store.
pub(crate) const SOCKET: &str = "daemon.sock";

/// Where jobs find their store.
#[derive(Clone)]
pub(crate) enum Place {
    /// Whatever the command line says; no daemon has it.
    Alone {
        /// `--store`.
        store: Option<PathBuf>,
        /// The command line, for those who wait for this writer.
        command: String,
    },
    /// The daemon that this is has it open.
    Daemon(Arc<Daemon>),
}

/// What is read stays while this lives.
#[must_use = "it holds nothing once it is dropped"]
pub(crate) enum Reading {
    /// Against whoever writes the store; none where this process may not write there.
    Alone { _lease: Option<Lease> },
    /// In the process that writes it.
    InDaemon { _guard: HoldGuard },
}

/// What commands work with.
pub(crate) struct App {
    pub(crate) out: Output,
    io: JobIo,
    place: Place,
    caller: Caller,
    wait: Duration,
    accepted: Instant,
    json: bool,
    quiet: bool,
    progress: bool,
    /// Made when it is first wanted, where no daemon runs this.
    net: OnceLock<Arc<Net>>,
}

impl App {
    pub(crate) fn new(place: Place, request: &Request<Command>, caller: Caller, io: JobIo) -> Self {
        Self {
            out: Output::new(io.clone()),
            io,
            place,
            caller,
            wait: Duration::from_millis(request.wait_ms),
            accepted: Instant::now(),
            json: request.json,
            quiet: request.quiet,
            progress: request.progress,
            net: OnceLock::new(),
        }
    }

    /// The output, for who writes while it is read with what is here; to be put back.
    pub(crate) fn take_output(&mut self) -> Output {
        std::mem::replace(&mut self.out, Output::new(self.io.clone()))
    }

    /// Whether results are wanted as JSON.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether only what was asked for is to be said.
    pub(crate) fn quiet(&self) -> bool {
        self.quiet
    }

    /// Where the store is or would be.
    pub(crate) fn store_path(&self) -> Result<PathBuf, Usage> {
        match &self.place {
            Place::Alone { store, .. } => locate_store(store.clone()),
            Place::Daemon(daemon) => Ok(daemon.store().path().to_owned()),
        }
    }

    /// The store for reading: takes no lock and waits for nobody.
    pub(crate) fn store(&self) -> anyhow::Result<Store> {
        match &self.place {
            Place::Alone { .. } => open(&self.store_path()?),
            Place::Daemon(daemon) => Ok(daemon.store().clone()),
        }
    }

    /// The store for writing, made if it is not there. Waits for another writer as long as `--wait` says.
    pub(crate) fn writer(&self, progress: &Meter) -> anyhow::Result<Writer> {
        if let Place::Daemon(daemon) = &self.place {
            return Ok(daemon.writer(who(self.caller.uid)));
        }
        Ok(Writer::open(&self.store_path()?, &self.writer_options(), progress)?)
    }

    /// The streams of the store, for reading and appending: the daemon's, or the ones of this process, which has the store as
    /// long as it has them.
    pub(crate) fn streams(&self, writer: &Writer) -> anyhow::Result<Arc<Streams>> {
        if let Place::Daemon(daemon) = &self.place {
            return Ok(Arc::clone(daemon.streams()));
        }
        // Nothing goes because nobody has said how much is kept: a daemon may have been told to keep more.
        Ok(Streams::open(writer, StreamBounds { bytes_max: u64::MAX })?)
    }

    /// How this process opens a store for writing.
    pub(crate) fn writer_options(&self) -> WriterOptions {
        let command = match &self.place {
            Place::Alone { command, .. } => command.clone(),
            Place::Daemon(_) => "cairn daemon".to_owned(),
        };
        WriterOptions { wait: self.wait, command, who: who(self.caller.uid) }
    }

    /// Like [`App::writer`], for a store that must be there already.
    pub(crate) fn writer_of_existing(&self, progress: &Meter) -> anyhow::Result<Writer> {
        self.store()?;
        self.writer(progress)
    }

    /// Holds an artifact while it is read, so that no collection takes it though its names go. What was taken before is
    /// said to be absent by whoever reads.
    pub(crate) fn hold(&self, store: &Store, artifact: &ArtifactId) -> anyhow::Result<Reading> {
        let held = Held::Artifact(*artifact);
        Ok(match &self.place {
            Place::Alone { command, .. } => Reading::Alone { _lease: store.lease(held, command)? },
            Place::Daemon(daemon) => {
                let by = format!("a command of process {}", self.caller.pid);
                Reading::InDaemon { _guard: daemon.writer(who(self.caller.uid)).hold(held, by) }
            }
        })
    }

    /// Makes the store if it is not there.
    pub(crate) fn make_store(&self) -> anyhow::Result<()> {
        if self.daemon().is_none() && self.store().is_err() {
            drop(self.writer(&self.meter("waiting"))?);
        }
        Ok(())
    }

    /// The exchange with peers: the daemon's, or one of this process.
    pub(crate) fn net(&self) -> anyhow::Result<Arc<Net>> {
        if let Some(daemon) = self.daemon() {
            return Ok(Arc::clone(daemon.background().net()));
        }
        if let Some(net) = self.net.get() {
            return Ok(Arc::clone(net));
        }
        let net = Net::start(NetOptions::default())?;
        Ok(Arc::clone(self.net.get_or_init(|| net)))
    }

    /// Those who are asked for what is not whole: from now on they are peers of the store, if they were not.
    pub(crate) fn keep_sources(&self, sources: &[Source]) -> anyhow::Result<()> {
        let known = Peers::open(&self.store_path()?);
        let list = known.list()?;
        for source in sources.iter().filter(|source| list.iter().all(|peer| peer.url != source.url)) {
            known.add(source)?;
            self.say(&format!("{} is asked for the rest: it is one of `cairn peers` now", source.url));
        }
        Ok(())
    }

    /// Whether versions of a profile are shown as soon as their names are here, if nothing else is said.
    pub(crate) fn is_lazy(&self, profile: &ProfileName) -> bool {
        self.daemon().is_some_and(|daemon| daemon.mounts().is_lazy(profile))
    }

    /// Has the daemon look again at what lacks, and at who may be asked for it.
    pub(crate) fn wake_background(&self) {
        if let Some(daemon) = self.daemon() {
            daemon.background().wake();
        }
    }

    /// How long another process that is in the way is waited for.
    pub(crate) fn patience(&self) -> Duration {
        self.wait
    }

    /// Lets this job use the store at `path` from now on.
    pub(crate) fn use_store(&mut self, path: PathBuf) {
        self.place = Place::Alone { store: Some(path), command: "cairn demo".to_owned() };
    }

    /// The daemon that runs this job, if one does.
    pub(crate) fn daemon(&self) -> Option<&Arc<Daemon>> {
        match &self.place {
            Place::Alone { .. } => None,
            Place::Daemon(daemon) => Some(daemon),
        }
    }

    /// The right to ingest, which one job of a daemon has at a time; waits for it as long as `--wait` says.
    pub(crate) fn turn(&self, progress: &Meter) -> Result<Option<Taken<'_>>, Error> {
        let Place::Daemon(daemon) = &self.place else { return Ok(None) };
        daemon.turn(self.caller, self.wait, &|| progress.cancelled()).map(Some)
    }

    /// Refuses what a daemon does not do for this caller: files that a command names are opened with the daemon's rights,
    /// so they have to be the caller's too.
    pub(crate) fn refuse_foreign(&self, command: &Command) -> anyhow::Result<()> {
        if self.daemon().is_none() {
            return Ok(());
        }
        if command.is_of_this_process() {
            let problem = "a daemon does not run this command".to_owned();
            return Err(
                Usage { problem, hint: "run it with the command line, in a process of its own" }.into()
            );
        }
        let (own, caller) = (rustix::process::geteuid().as_raw(), self.caller.uid);
        if command.acts_on_paths() && caller != 0 && caller != own {
            return Err(Foreign { own, caller }.into());
        }
        Ok(())
    }

    /// A profile was changed, and all mounts show it.
    pub(crate) fn note_change(&self) {
        if let Place::Daemon(daemon) = &self.place {
            daemon.note_change(self.accepted.elapsed());
        }
    }

    /// Says on standard error what is not as it was meant, though the command goes on.
    pub(crate) fn warn(&self, warning: &str) {
        self.io.err(&format!("warning: {warning}\n"));
    }

    /// Says on standard error what goes with the result and is no part of it.
    pub(crate) fn say(&self, line: &str) {
        self.io.err(&format!("{line}\n"));
    }

    /// Where the tokens are of whoever serves this store.
    pub(crate) fn tokens_path(&self) -> Result<PathBuf, Usage> {
        if let Some(served) = self.daemon().and_then(|daemon| daemon.served()) {
            return Ok(served.tokens().to_owned());
        }
        Ok(self.store_path()?.join(TOKENS))
    }

    /// The progress of `task` (`adding`), told to the client if it wants to know.
    pub(crate) fn meter(&self, task: &'static str) -> Meter {
        Meter::new(task, self.progress, self.io.clone())
    }

    /// The progress of a transfer (`pulling`), with its rate and the time that is left.
    pub(crate) fn transfer_meter(&self, task: &'static str) -> Meter {
        Meter::with_rate(task, self.progress, self.io.clone())
    }

    /// Whether the client wants the job to stop.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.io.is_cancelled()
    }

    /// Says at any time whether the client wants the job to stop.
    pub(crate) fn stopper(&self) -> Box<dyn Fn() -> bool> {
        let io = self.io.clone();
        Box::new(move || io.is_cancelled())
    }

    /// The client's standard input; none for whoever asks a second time.
    pub(crate) fn input(&self) -> Option<Input> {
        self.io.take_input()
    }
}

/// Opens a store for reading.
pub(crate) fn open(path: &Path) -> anyhow::Result<Store> {
    Store::open(path).map_err(|error| match error {
        Error::Absent { .. } => NoStore(path.to_owned()).into(),
        other => other.into(),
    })
}

/// `user@host`, as the journal records it.
pub(crate) fn who(uid: u32) -> String {
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    // Accounts that come from elsewhere (LDAP) are not in the file; the variable is about this process's user.
    let own = || env::var("USER").ok().filter(|_| uid == rustix::process::geteuid().as_raw());
    let user = account(&accounts, uid).map(ToOwned::to_owned).or_else(own);
    let user = user.filter(|user| !user.is_empty()).unwrap_or_else(|| format!("uid-{uid}"));
    format!("{user}@{}", rustix::system::uname().nodename().to_string_lossy())
}

/// The name of a user in the form of passwd(5).
fn account(accounts: &str, uid: u32) -> Option<&str> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// Where the store is or would be, by `--store` and the user.
pub(crate) fn locate_store(given: Option<PathBuf>) -> Result<PathBuf, Usage> {
    let is_root = rustix::process::geteuid().is_root();
    locate(given, is_root, env::var_os("XDG_DATA_HOME"), env::var_os("HOME"))
}

fn locate(
    given: Option<PathBuf>,
    is_root: bool,
    data_home: Option<OsString>,
    home: Option<OsString>,
) -> Result<PathBuf, Usage> {
    // An empty variable counts as unset; the XDG specification says to ignore a relative path.
    let absolute = |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(given) = given.filter(|path| !path.as_os_str().is_empty()) {
        return Ok(given);
    }
    if is_root {
        return Ok(SYSTEM_STORE.into());
    }
    let data = absolute(data_home).or_else(|| absolute(home).map(|home| home.join(".local/share")));
    data.map(|data| data.join("cairn")).ok_or_else(|| Usage {
        problem: "no store is named, and there is no home directory to look in".to_owned(),
        hint: "name one with --store DIR or $CAIRN_STORE",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_their_number() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\n# a comment\nada:x:1000:100::/home/ada:/bin/sh\n";
        assert_eq!(account(accounts, 0), Some("root"));
        assert_eq!(account(accounts, 1000), Some("ada"));
        assert_eq!(account(accounts, 100), None);
    }

    #[test]
    fn the_store_is_the_given_one_else_the_systems_else_the_users() {
        let at = |given: Option<&str>, root, data: Option<&str>, home: Option<&str>| {
            locate(given.map(Into::into), root, data.map(Into::into), home.map(Into::into)).ok()
        };
        assert_eq!(at(Some("s"), true, None, None), Some("s".into()));
        assert_eq!(at(None, true, Some("/d"), Some("/h")), Some(SYSTEM_STORE.into()));
        assert_eq!(at(Some(""), false, Some("/d"), Some("/h")), Some("/d/cairn".into()));
        assert_eq!(at(None, false, Some("relative"), Some("/h")), Some("/h/.local/share/cairn".into()));
        assert_eq!(at(None, false, None, Some("")), None);
    }
}
