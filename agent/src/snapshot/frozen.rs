//! Whoever is frozen is thawed: when all went well, when something failed, when it was cancelled, in a panic, and if the
//! process was killed, by the next one.
//!
//! Before the first command runs, `STORE/frozen/NAME` says durably which command thaws; it goes when that has
//! succeeded. The process that writes the store is alone in making snapshots, so whatever it finds there that it
//! did not begin itself was left by one that is gone.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cairn_store::io::{Io, Os};
use cairn_store::{Error, Name, Writer};
use serde::{Deserialize, Serialize};

use super::SnapshotError;
use crate::hook::{self, Hook, HookError};

/// The folder of a store that says what is frozen.
const FROZEN: &str = "frozen";

/// The snapshots that this process is making, by store and name.
static RUNNING: Mutex<BTreeSet<(PathBuf, Name)>> = Mutex::new(BTreeSet::new());

fn running() -> MutexGuard<'static, BTreeSet<(PathBuf, Name)>> {
    // Each change is made whole.
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// No other snapshot of the same name is made while this lives.
#[derive(Debug)]
pub(super) struct Alone((PathBuf, Name));

impl Alone {
    pub(super) fn of(store: &Path, name: &Name) -> Result<Self, SnapshotError> {
        let this = (store.to_owned(), name.clone());
        if !running().insert(this.clone()) {
            return Err(SnapshotError::Running { name: name.clone() });
        }
        Ok(Self(this))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        running().remove(&self.0);
    }
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    dir: PathBuf,
    thaw: String,
    time_ms: u64,
}

impl Marker {
    fn run(&self, name: &Name, round: Option<u64>) -> Result<(), HookError> {
        let mut env: Vec<(&'static str, OsString)> =
            vec![("CAIRN_NAME", name.as_str().into()), ("CAIRN_DIR", self.dir.clone().into())];
        env.extend(round.map(|round| ("CAIRN_ROUND", round.to_string().into())));
        let time_max = Duration::from_millis(self.time_ms);
        let hook = Hook { purpose: "thaw", command: self.thaw.clone(), env, dir: Some("/".into()), time_max };
        // Nobody stops this one.
        hook::run(&hook, &|| false).map(drop)
    }
}

fn folder(store: &Path) -> PathBuf {
    store.join(FROZEN)
}

/// Durable when it returns.
fn write(io: &dyn Io, store: &Path, name: &Name, marker: &Marker) -> Result<(), Error> {
    let (folder, path) = (folder(store), folder(store).join(name.as_str()));
    let failed = |action: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    };
    io.create_dir_all(&folder).map_err(failed("create", &folder))?;
    io.sync_dir(store).map_err(failed("sync", store))?;
    let bytes = serde_json::to_vec(marker).map_err(|error| failed("write", &path)(error.into()))?;
    io.write_atomic(&path, &bytes).map_err(failed("write", &path))
}

fn remove(io: &dyn Io, store: &Path, name: &Name) -> Result<(), Error> {
    let path = folder(store).join(name.as_str());
    match io.remove(&path).and_then(|()| io.sync_dir(&folder(store))) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(Error::Io { action: "remove", path, source })
        }
        _ => Ok(()),
    }
}

/// The names that are marked as frozen, each with what thaws it. What cannot be read is told to the log: nobody knows
/// what thaws it.
fn marked(io: &dyn Io, store: &Path) -> Result<Vec<(Name, Marker)>, Error> {
    let folder = folder(store);
    let names = match io.names(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        names => names.map_err(|source| Error::Io { action: "list", path: folder.clone(), source })?,
    };
    let mut found = Vec::new();
    for name in names.into_iter().filter(|name| !name.ends_with(".part")) {
        let marker = || serde_json::from_slice(&io.read(&folder.join(&name)).ok()?).ok();
        match (name.parse(), marker()) {
            (Ok(name), Some(marker)) => found.push((name, marker)),
            _ => {
                tracing::error!(path = %folder.join(&name).display(), "it is not known how to thaw what this says is frozen")
            }
        }
    }
    Ok(found)
}

/// Frozen until this is thawed or dropped.
#[derive(Debug)]
pub(super) struct Frozen<'a> {
    store: &'a Path,
    name: &'a Name,
    marker: Marker,
    round: Option<u64>,
    since: Instant,
    is_over: bool,
}

impl<'a> Frozen<'a> {
    /// From here on thawing is certain; nothing is frozen yet.
    pub(super) fn prepare(
        store: &'a Path,
        name: &'a Name,
        dir: &Path,
        thaw: &str,
        time_max: Duration,
    ) -> Result<Self, Error> {
        let time_ms = u64::try_from(time_max.as_millis()).unwrap_or(u64::MAX);
        let marker = Marker { dir: dir.to_owned(), thaw: thaw.to_owned(), time_ms };
        write(&Os, store, name, &marker)?;
        Ok(Self { store, name, marker, round: None, since: Instant::now(), is_over: false })
    }

    /// The round, for the command that thaws.
    pub(super) fn set_round(&mut self, round: u64) {
        self.round = Some(round);
    }

    /// Thaws, and gives how long it was frozen.
    pub(super) fn thaw(mut self) -> Result<Duration, SnapshotError> {
        self.end().map(|()| self.since.elapsed())
    }

    fn end(&mut self) -> Result<(), SnapshotError> {
        self.is_over = true;
        thaw(&Os, self.store, self.name, &self.marker, self.round)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if !self.is_over
            && let Err(error) = self.end()
        {
            let error: &dyn std::error::Error = &error;
            tracing::error!(name = %self.name, error, "cannot thaw");
        }
    }
}

fn thaw(
    io: &dyn Io,
    store: &Path,
    name: &Name,
    marker: &Marker,
    round: Option<u64>,
) -> Result<(), SnapshotError> {
    marker.run(name, round).map_err(|source| SnapshotError::Thaw { name: name.clone(), source })?;
    // If this fails it is thawed once more, which does no harm.
    remove(io, store, name)
        .unwrap_or_else(|error| tracing::warn!(%name, %error, "it is thawed, and a file says otherwise"));
    Ok(())
}

/// Thaws what processes that are gone left frozen, and gives whose state that was. To be called when a daemon begins; each
/// snapshot does so first.
///
/// # Errors
/// [`SnapshotError::Store`] when it cannot be found out. What cannot be thawed is told to the log, and tried again
/// by the next call.
pub fn thaw_left(writer: &Writer) -> Result<Vec<Name>, SnapshotError> {
    let mut thawed = Vec::new();
    for (name, marker) in marked(&Os, writer.path())? {
        let Ok(_alone) = Alone::of(writer.path(), &name) else { continue };
        match thaw(&Os, writer.path(), &name, &marker, None) {
            Ok(()) => {
                tracing::warn!(%name, "thawed what a process left frozen that was killed");
                thawed.push(name);
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(%name, error, "cannot thaw what a process left frozen that was killed");
            }
        }
    }
    Ok(thawed)
}

/// Thaws what is left of one name, whose [`Alone`] the caller has.
pub(super) fn thaw_own(store: &Path, name: &Name) -> Result<(), SnapshotError> {
    for (_, marker) in marked(&Os, store)?.into_iter().filter(|(marked, _)| marked == name) {
        thaw(&Os, store, name, &marker, None)?;
        tracing::warn!(%name, "thawed what a process left frozen that was killed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cairn_store::io::Sim;

    use super::*;

    fn marker() -> Marker {
        Marker { dir: "/state".into(), thaw: "true".to_owned(), time_ms: 1000 }
    }

    #[test]
    fn what_is_marked_is_marked_after_a_crash_and_what_is_thawed_may_be_thawed_again() {
        let (store, name): (_, Name) = (Path::new("/store"), "state".parse().unwrap());
        let both = [Vec::new(), vec![(name.clone(), marker())]];
        for crash_at in 1.. {
            let sim = Sim::new(crash_at);
            sim.create_dir_all(store).unwrap();
            sim.settle();
            sim.crash_at_operation(crash_at);
            let written = write(&sim, store, &name, &marker());
            // Here it would be frozen.
            let is_marked = written.is_ok();
            let removed = written.and_then(|()| remove(&sim, store, &name));
            let crashed = sim.crashed();
            sim.crash();
            let found = marked(&sim.reboot(crash_at), store).unwrap();
            assert!(both.contains(&found), "{crash_at}: {found:?}");
            if !crashed {
                removed.unwrap();
                assert_eq!(found, []);
                assert!(is_marked && crash_at > 8, "it crashed at every operation before");
                return;
            }
        }
    }

    #[test]
    fn what_is_written_is_there_whatever_happens_next() {
        let (store, name): (_, Name) = (Path::new("/store"), "state".parse().unwrap());
        for seed in 0..50 {
            let sim = Sim::new(seed);
            sim.create_dir_all(store).unwrap();
            sim.settle();
            write(&sim, store, &name, &marker()).unwrap();
            sim.crash();
            assert_eq!(marked(&sim.reboot(seed), store).unwrap(), [(name.clone(), marker())]);
        }
    }
}
