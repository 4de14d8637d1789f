//! What was fetched before: a store, in a folder that is emptied when it grows too large.
//!
//! One `fetch` at a time uses a cache; others wait. The store lies in a folder of its own below the cache's, so that
//! emptying it never touches what somebody else put there.

use std::env;
use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::app::App;
use crate::error::Usage;

/// Root's cache.
const SYSTEM_CACHE: &str = "/var/cache/cairn";
/// The store in a cache, and what its users hold locked.
const STORE: &str = "fetched";
const LOCK: &str = "fetched.lock";
/// How often a waiter looks again.
const PAUSE: Duration = Duration::from_millis(20);

/// A cache, for this process alone.
pub(crate) struct Cache {
    store: PathBuf,
    /// Locked until it is closed.
    _lock: File,
}

impl Cache {
    /// Opens or makes it, and waits for whoever uses it, as long as `--wait` says. One of more than `max` bytes is emptied.
    pub(crate) fn open(given: Option<PathBuf>, max: u64, app: &App) -> anyhow::Result<Self> {
        let folder = cache_folder(given)?;
        let failed = || format!("cannot use the cache {}", folder.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).with_context(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(folder.join(LOCK)).with_context(failed)?;
        acquire(&lock, app).with_context(failed)?;
        let store = folder.join(STORE);
        let cache = Self { store, _lock: lock };
        if size(&cache.store) > max {
            cache.clear()?;
        }
        Ok(cache)
    }

    /// Empties it. Nobody may have its store open.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        empty(&self.store).with_context(|| format!("cannot empty the cache {}", self.store.display()))
    }

    /// The folder of its store.
    pub(crate) fn store(&self) -> PathBuf {
        self.store.clone()
    }
}

/// Where what was fetched is kept: the given folder, else the system's for root, else the user's.
pub(crate) fn cache_folder(given: Option<PathBuf>) -> Result<PathBuf, Usage> {
    let is_root = rustix::process::geteuid().is_root();
    locate(given, is_root, env::var_os("XDG_CACHE_HOME"), env::var_os("HOME"))
}

fn acquire(lock: &File, app: &App) -> anyhow::Result<()> {
    let (began, stopper) = (Instant::now(), app.stopper());
    loop {
        match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK | Errno::INTR) if stopper() => {
                return Err(cairn_store::Error::Cancelled.into());
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) if began.elapsed() < app.patience() => {
                std::thread::sleep(PAUSE)
            }
            Err(Errno::WOULDBLOCK) => anyhow::bail!("another fetch uses it"),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Bytes of the packs of a store.
fn size(store: &Path) -> u64 {
    let Ok(packs) = store.join("packs").read_dir() else { return 0 };
    packs.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[expect(clippy::disallowed_methods, reason = "nothing of it is needed: not its order of syncs either")]
fn empty(store: &Path) -> std::io::Result<()> {
    tracing::info!(store = %store.display(), "the cache is emptied");
    std::fs::remove_dir_all(store)
}

fn locate(
    given: Option<PathBuf>,
    is_root: bool,
    cache_home: Option<OsString>,
    home: Option<OsString>,
) -> Result<PathBuf, Usage> {
    // An empty variable counts as unset; the XDG specification says to ignore a relative path.
    let absolute = |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(given) = given.filter(|path| !path.as_os_str().is_empty()) {
        return Ok(given);
    }
    if is_root {
        return Ok(SYSTEM_CACHE.into());
    }
    let caches = absolute(cache_home).or_else(|| absolute(home).map(|home| home.join(".cache")));
    caches.map(|caches| caches.join("cairn")).ok_or_else(|| Usage {
        problem: "no cache is named, and there is no home directory to put one in".to_owned(),
        hint: "name one with --cache DIR or $CAIRN_CACHE",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_the_given_one_else_the_systems_else_the_users() {
        let at = |given: Option<&str>, root, cache: Option<&str>, home: Option<&str>| {
            locate(given.map(Into::into), root, cache.map(Into::into), home.map(Into::into)).ok()
        };
        assert_eq!(at(Some("c"), true, None, None), Some("c".into()));
        assert_eq!(at(None, true, Some("/c"), None), Some(SYSTEM_CACHE.into()));
        assert_eq!(at(None, false, Some("/c"), Some("/h")), Some("/c/cairn".into()));
        assert_eq!(at(Some(""), false, Some("relative"), Some("/h")), Some("/h/.cache/cairn".into()));
        assert_eq!(at(None, false, None, Some("")), None);
    }
}
