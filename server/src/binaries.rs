//! The binaries that agents and scripts fetch: a watched folder, and what is known of the files in it.
//!
//! A file named `{name}-{version}-{platform}-{arch}[.exe]` is registered when it is complete (`registry` has the rule),
//! hashed once (SHA-256; `sums` keeps it across restarts), and, where there is a store, added to it (`shelf`). What is given
//! out is what was registered: a file is opened for each request, and given out only while its inode, size and time of
//! modification are what they were when it was hashed, which is looked at again after each read and before the bytes are
//! sent. A file that changes meanwhile ends the answer early, and one that has changed is refused until it is registered
//! again.
//!
//! Who asks is answered by `routes::binaries`. This knows no HTTP.

mod file_name;
mod folder;
mod platform;
mod registry;
mod shelf;
mod sums;
#[cfg(test)]
mod tests;
mod watch;
mod writers;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use axum::Router;
use cairn_store::Writer;
use serde::{Deserialize, Serialize};

use self::folder::{Folder, OpenError, Stamp};
pub(crate) use self::platform::{Arch, System};
pub(crate) use self::registry::Registered;
use self::registry::Registry;
pub use self::shelf::CHECKSUM_FACT;
use self::shelf::Signal;
use self::watch::Bell;
use crate::entrance::{Door, behind};
use crate::peer_api::PeerApi;
use crate::routes;

/// Where binaries are.
#[derive(Debug, Clone, Default)]
pub struct BinariesOptions {
    /// The folder to watch. It may appear later. Without one, nothing is ever registered.
    pub dir: Option<PathBuf>,
    /// The file to keep checksums in across restarts, which can be deleted at any time. Without one, everything is hashed at
    /// each start.
    pub sums: Option<PathBuf>,
}

/// A file that is not registered, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unregistered {
    /// Its name in the folder; U+FFFD stands for what is not text.
    pub file: String,
    /// The reason, for people.
    pub reason: String,
}

/// How it stands with the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinariesStatus {
    /// Whether all that was complete at the start has been registered.
    pub ready: bool,
    /// Files that are registered.
    pub registered: usize,
    /// Files that will be when they are complete.
    pub waiting: Vec<Unregistered>,
    /// Files that are not, for their names or for what they are.
    pub refused: Vec<Unregistered>,
    /// Registered files that are not in the store, though there is one.
    pub not_in_store: Vec<Unregistered>,
    /// Why the folder cannot be looked at.
    pub problem: Option<String>,
}

/// What the threads share.
struct Shared {
    /// Guards what is known of the folder; held for look-ups and while a listing is taken in, never while anything is read.
    registry: Mutex<Registry>,
    bell: Arc<Bell>,
    registered: Signal,
    /// Held while a file is added to the store. The outermost lock.
    gate: Mutex<()>,
    /// How many want nothing to be added to the store.
    holds: AtomicUsize,
    /// Guards why files are not in the store. A leaf lock.
    not_shelved: Mutex<std::collections::BTreeMap<String, String>>,
    sums_path: Option<PathBuf>,
    stopped: AtomicBool,
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn is_held(&self) -> bool {
        self.holds.load(Ordering::Relaxed) > 0
    }
}

/// Locks what is sound whenever it is not locked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The binaries of a server. When it is dropped, nothing is watched any more.
pub struct Binaries {
    shared: Arc<Shared>,
    folder: Option<Folder>,
    /// Guards the threads that run; empty when it was stopped.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Why binaries cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("cannot start a thread that watches binaries")]
pub struct BinariesError(#[source] io::Error);

/// While this lives, nothing is added to the store.
pub struct StoreHold<'a> {
    shared: &'a Shared,
    _gate: MutexGuard<'a, ()>,
}

impl Drop for StoreHold<'_> {
    fn drop(&mut self) {
        self.shared.holds.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a registered file is not given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unavailable {
    /// There is none of this name.
    Unknown,
    /// It was changed and is not registered again yet.
    Changed,
}

/// A registered file, open.
#[derive(Debug)]
pub(crate) struct Opened {
    file: File,
    pub(crate) binary: Arc<Registered>,
}

impl Opened {
    /// Reads at `offset`, at most `len` bytes, all of which are of the bytes that were registered.
    pub(crate) fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let changed = || io::Error::new(io::ErrorKind::InvalidData, "the file changed while it was sent");
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset)?;
        // A write sets the time before the bytes: what was read is what was there when the time was still the old one.
        match Stamp::of_file(&self.file)?.has_bytes_of(&self.binary.stamp) {
            true => Ok(bytes),
            false => Err(changed()),
        }
    }
}

impl Binaries {
    /// Begins to watch. What lies in the folder is registered one after the other from now on; with a writer, it is also
    /// added to the store.
    ///
    /// # Errors
    /// [`BinariesError`].
    pub fn start(options: BinariesOptions, writer: Option<Writer>) -> Result<Arc<Self>, BinariesError> {
        let shared = Arc::new(Shared {
            registry: Mutex::default(),
            bell: Arc::default(),
            registered: Signal::default(),
            gate: Mutex::default(),
            holds: AtomicUsize::new(0),
            not_shelved: Mutex::default(),
            sums_path: options.sums,
            stopped: AtomicBool::new(false),
        });
        let folder = options.dir.map(|dir| Folder::at(&dir));
        let binaries = Arc::new(Self { shared, folder, threads: Mutex::default() });
        binaries.spawn(writer)?;
        Ok(binaries)
    }

    fn spawn(&self, writer: Option<Writer>) -> Result<(), BinariesError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let start = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread =
                std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(BinariesError)?;
            lock(&self.threads).push(thread);
            Ok(())
        };
        let (sender, receiver) = mpsc::channel();
        let (shared, watched) = (Arc::clone(&self.shared), folder.clone());
        start("watch-binaries", Box::new(move || watch::watch(&shared, &watched, &sender)))?;
        let (shared, hashed) = (Arc::clone(&self.shared), folder.clone());
        start("hash-binaries", Box::new(move || watch::hash_all(&shared, &hashed, &receiver)))?;
        if let Some(writer) = writer {
            let (shared, shelved) = (Arc::clone(&self.shared), folder.clone());
            start("shelve-binaries", Box::new(move || shelf::fill(&shared, &shelved, &writer)))?;
        }
        Ok(())
    }

    /// Stops watching, and waits until nothing of it runs. What is registered is given out as long as it is unchanged.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.shared.bell.stop();
        self.shared.registered.ring();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            if thread.join().is_err() {
                tracing::error!("a thread that watches binaries panicked");
            }
        }
    }

    /// Waits until nothing is added to the store, and lets nothing be added as long as the hold lives. What was being
    /// added begins again afterwards.
    #[must_use]
    pub fn hold_store(&self) -> StoreHold<'_> {
        self.shared.holds.fetch_add(1, Ordering::Relaxed);
        StoreHold { shared: &self.shared, _gate: lock(&self.shared.gate) }
    }

    /// Whether all that was complete at the start has been registered.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.folder.is_none() || self.shared.registry().is_ready()
    }

    /// How it stands with the folder.
    #[must_use]
    pub fn status(&self) -> BinariesStatus {
        let list = |found: &mut dyn Iterator<Item = (&str, &str)>| {
            let entry = |(file, reason): (&str, &str)| Unregistered {
                file: file.to_owned(),
                reason: reason.to_owned(),
            };
            found.map(entry).collect()
        };
        let not_in_store = {
            let found = lock(&self.shared.not_shelved);
            list(&mut found.iter().map(|(file, reason)| (file.as_str(), reason.as_str())))
        };
        let registry = self.shared.registry();
        BinariesStatus {
            ready: self.folder.is_none() || registry.is_ready(),
            registered: registry.all().count(),
            waiting: list(&mut registry.waiting()),
            refused: list(&mut registry.refused()),
            not_in_store,
            problem: registry.problem().map(ToOwned::to_owned),
        }
    }

    /// The routes of the binary API, each behind its door, for [`peer_router`](crate::peer_router).
    pub fn router(self: &Arc<Self>, api: &Arc<PeerApi>) -> Router {
        let records = routes::binaries::records(Arc::clone(self));
        let files = routes::binaries::files(Arc::clone(self));
        behind(Door::Reads, records, api).merge(behind(Door::Transfers, files, api))
    }

    /// All that is registered, or all of one program, by program, platform and version.
    pub(crate) fn list(&self, program: Option<&str>) -> Vec<Arc<Registered>> {
        let registry = self.shared.registry();
        let of_program = |binary: &&Arc<Registered>| program.is_none_or(|name| binary.name.program == name);
        let mut found: Vec<_> = registry.all().filter(of_program).cloned().collect();
        drop(registry);
        found.sort_by(|a, b| {
            let key = |binary: &Arc<Registered>| (binary.name.system, binary.name.arch);
            a.name
                .program
                .cmp(&b.name.program)
                .then_with(|| a.name.version.cmp(&b.name.version))
                .then_with(|| key(a).cmp(&key(b)))
        });
        found
    }

    /// The names of the programs.
    pub(crate) fn programs(&self) -> Vec<String> {
        self.shared.registry().programs().into_iter().map(ToOwned::to_owned).collect()
    }

    /// One binary: of a version, or the latest.
    pub(crate) fn find(
        &self,
        program: &str,
        version: Option<&cairn_store::Version>,
        system: System,
        arch: Arch,
    ) -> Option<Arc<Registered>> {
        let registry = self.shared.registry();
        let found = match version {
            Some(version) => registry.find(program, version, system, arch),
            None => registry.latest(program, system, arch),
        };
        found.cloned()
    }

    /// Opens a registered file that is what it was. Reads the disk.
    pub(crate) fn open(&self, file: &str) -> Result<Opened, Unavailable> {
        let binary = self.shared.registry().by_file(file).cloned().ok_or(Unavailable::Unknown)?;
        let folder = self.folder.as_ref().ok_or(Unavailable::Unknown)?;
        let opened = folder.open_file(file);
        match opened {
            Ok((file, stamp)) if stamp.has_bytes_of(&binary.stamp) => return Ok(Opened { file, binary }),
            _ => self.shared.bell.ring(),
        }
        match opened {
            Err(OpenError::Gone) => Err(Unavailable::Unknown),
            _ => Err(Unavailable::Changed),
        }
    }
}

impl Drop for Binaries {
    fn drop(&mut self) {
        self.stop();
    }
}
