//! What a job works with: where the store is, who asks, where output goes. Nothing is opened, started or read before a
//! command asks for it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_server::{Caller, Input, JobIo, Request};
use cairn_store::{Error, Store, Writer, WriterOptions};

use crate::args::Command;
use crate::error::{NoStore, Usage};
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
}

/// What commands work with.
pub(crate) struct App {
    pub(crate) out: Output,
    io: JobIo,
    place: Place,
    caller: Caller,
    wait: Duration,
    json: bool,
    quiet: bool,
    progress: bool,
}

impl App {
    pub(crate) fn new(place: Place, request: &Request<Command>, caller: Caller, io: JobIo) -> Self {
        Self {
            out: Output::new(io.clone()),
            io,
            place,
            caller,
            wait: Duration::from_millis(request.wait_ms),
            json: request.json,
            quiet: request.quiet,
            progress: request.progress,
        }
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
        }
    }

    /// The store for reading: takes no lock and waits for nobody.
    pub(crate) fn store(&self) -> anyhow::Result<Store> {
        open(&self.store_path()?)
    }

    /// The store for writing, made if it is not there. Waits for another writer as long as `--wait` says.
    pub(crate) fn writer(&self, progress: &Meter) -> anyhow::Result<Writer> {
        let Place::Alone { command, .. } = &self.place;
        let options = WriterOptions { wait: self.wait, command: command.clone(), who: who(self.caller.uid) };
        Ok(Writer::open(&self.store_path()?, &options, progress)?)
    }

    /// Like [`App::writer`], for a store that must be there already.
    pub(crate) fn writer_of_existing(&self, progress: &Meter) -> anyhow::Result<Writer> {
        self.store()?;
        self.writer(progress)
    }

    /// Lets this job use the store at `path` from now on.
    pub(crate) fn use_store(&mut self, path: PathBuf) {
        let Place::Alone { store, .. } = &mut self.place;
        *store = Some(path);
    }

    /// Says on standard error what is not as it was meant, though the command goes on.
    pub(crate) fn warn(&self, warning: &str) {
        self.io.err(&format!("warning: {warning}\n"));
    }

    /// The progress of `task` (`adding`), told to the client if it wants to know.
    pub(crate) fn meter(&self, task: &'static str) -> Meter {
        Meter::new(task, self.progress, self.io.clone())
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
fn who(uid: u32) -> String {
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
