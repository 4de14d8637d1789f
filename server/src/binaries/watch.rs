//! The threads that keep the registry true: one watches the folder, one hashes.
//!
//! The kernel tells when something changes (inotify); each time, and every [`RESCAN`] anyway, the whole folder is looked at,
//! and what was seen decides. So a lost event costs seconds and nothing else. Only that a file was renamed to its name is
//! believed of an event, which makes it wait less.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use sha2::{Digest, Sha256};

use super::folder::{Folder, OpenError, Stamp};
use super::registry::{Due, Hashed, Job, Now};
use super::sums::Sums;
use super::{Shared, writers};

/// How often the folder is looked at though nothing was told.
const RESCAN: Duration = Duration::from_secs(2);
/// How long at least between two looks: events come in crowds.
const PAUSE: Duration = Duration::from_millis(25);
/// Names of renamed files that are kept until the next look; what is beyond waits as any other file does.
const MOVED_MAX: usize = 10_000;
/// Bytes that are hashed at a time.
const READ_LEN: usize = 1 << 20;

/// What makes the watching thread look.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// Guards what was told since the last look. A leaf lock.
    told: Mutex<Told>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct Told {
    look: bool,
    stop: bool,
    /// Names that something was renamed to.
    moved: BTreeSet<String>,
}

impl Bell {
    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.rung.notify_one();
    }

    /// Something may have changed.
    pub(super) fn ring(&self) {
        self.tell(|told| told.look = true);
    }

    /// The thread is to end.
    pub(super) fn stop(&self) {
        self.tell(|told| told.stop = true);
    }

    fn hear(&self, event: notify::Result<notify::Event>) {
        let Ok(event) = event else { return self.ring() };
        match event.kind {
            // Our own reading, and everybody's.
            EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write) => {}
            EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
                let name = event.paths.last().and_then(|path| path.file_name()?.to_str());
                self.tell(|told| {
                    told.look = true;
                    if let Some(name) = name.filter(|_| told.moved.len() < MOVED_MAX) {
                        told.moved.insert(name.to_owned());
                    }
                });
            }
            _ => self.ring(),
        }
    }

    /// Waits for something to look at, or until `patience` is over. Gives the renamed names; `None` is the end.
    fn wait(&self, patience: Duration) -> Option<BTreeSet<String>> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = |told: &mut Told| !told.look && !told.stop;
        let waited = self.rung.wait_timeout_while(told, patience, quiet);
        let mut told = waited.unwrap_or_else(PoisonError::into_inner).0;
        let Told { look: _, stop, moved } = std::mem::take(&mut *told);
        // It stays stopped, whoever asks next.
        told.stop = stop;
        (!stop).then_some(moved)
    }

    /// Lets events gather; nothing but the end cuts it short.
    fn rest(&self) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.rung.wait_timeout_while(told, PAUSE, |told| !told.stop));
    }
}

/// Watches until it is told to stop.
pub(super) fn watch(shared: &Arc<Shared>, folder: &Folder, jobs: &Sender<Job>) {
    let mut events = Events { bell: Arc::clone(&shared.bell), watched: None };
    let mut sums = shared.sums_path.as_deref().map(Sums::load).unwrap_or_default();
    let mut moved = BTreeSet::new();
    loop {
        events.follow(folder);
        let due = look(shared, folder, &moved, &sums);
        // What was recalled once is in the registry.
        sums = Sums::default();
        for job in due.jobs {
            // The other thread ends after this one.
            let _ = jobs.send(job);
        }
        shared.registered.ring();
        shared.bell.rest();
        match shared.bell.wait(due.again_in.map_or(RESCAN, |again| again.min(RESCAN))) {
            Some(renamed) => moved = renamed,
            None => return,
        }
    }
}

fn look(shared: &Shared, folder: &Folder, moved: &BTreeSet<String>, sums: &Sums) -> Due {
    let listed = match folder.list() {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut registry = shared.registry();
            let due = registry.observe(Vec::new(), moved, sums, now());
            registry.note_problem(format!("{} is not there", folder.path().display()));
            return due;
        }
        Err(error) => {
            shared.registry().note_problem(format!("cannot list {}: {error}", folder.path().display()));
            return Due::default();
        }
    };
    shared.registry().observe(listed, moved, sums, now())
}

fn now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { instant: Instant::now(), wall_ns: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX) }
}

/// What the kernel tells of the folder.
struct Events {
    bell: Arc<Bell>,
    /// The folder that is watched. None: at the path is no folder, or watching it failed.
    watched: Option<((u64, u64), Option<RecommendedWatcher>)>,
}

impl Events {
    /// Watches the folder that is at the path now.
    fn follow(&mut self, folder: &Folder) {
        let Ok(identity) = folder.identity() else {
            self.watched = None;
            return;
        };
        if self.watched.as_ref().is_some_and(|(watched, _)| *watched == identity) {
            return;
        }
        let bell = Arc::clone(&self.bell);
        let watcher = notify::recommended_watcher(move |event| bell.hear(event));
        let watching = watcher.and_then(|mut watcher| {
            watcher.watch(folder.path(), RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        let watching = watching.inspect_err(|error| {
            tracing::warn!(%error, folder = %folder.path().display(), "changes are not told; the folder is looked at every 2 s");
        });
        self.watched = Some((identity, watching.ok()));
    }
}

/// Hashes until nobody sends any more.
pub(super) fn hash_all(shared: &Shared, folder: &Folder, jobs: &Receiver<Job>) {
    let mut buffer = vec![0; READ_LEN];
    let mut is_unsaved = false;
    loop {
        let job = match jobs.try_recv() {
            Ok(job) => job,
            Err(_) => {
                if is_unsaved {
                    save(shared);
                    is_unsaved = false;
                }
                match jobs.recv() {
                    Ok(job) => job,
                    Err(_) => return,
                }
            }
        };
        if shared.is_stopped() {
            continue;
        }
        let hashed = hash(shared, folder, &job, &mut buffer);
        let registered = shared.registry().note_hashed(&job, hashed, now());
        is_unsaved |= registered.is_some();
        match registered {
            Some(_) => shared.registered.ring(),
            None => shared.bell.ring(),
        }
    }
}

fn save(shared: &Shared) {
    let Some(path) = &shared.sums_path else { return };
    let all: Vec<_> = shared.registry().all().cloned().collect();
    let sums = all.iter().map(|binary| (&*binary.file, binary.stamp, &*binary.checksum));
    Sums::of(sums).save(path);
}

fn hash(shared: &Shared, folder: &Folder, job: &Job, buffer: &mut [u8]) -> Hashed {
    let file = match folder.open_file(&job.file) {
        Ok((file, stamp)) if stamp == job.stamp => file,
        Ok(_) | Err(OpenError::Gone | OpenError::Outside | OpenError::NoFile(_)) => return Hashed::Changed,
        Err(error @ OpenError::Io(_)) => return Hashed::Failed(error.to_string()),
    };
    match writers::has_writer(&file) {
        Some(true) => return Hashed::Writer,
        None if !job.is_old => return Hashed::Unsure,
        _ => {}
    }
    let checksum = match digest(shared, &file, job.stamp.size, buffer) {
        Ok(Some(checksum)) => checksum,
        Ok(None) => return Hashed::Changed,
        Err(error) => return Hashed::Failed(format!("it cannot be read: {error}")),
    };
    // Whoever wrote meanwhile changed the time before the bytes, or has it open still.
    match Stamp::of_file(&file) {
        Ok(stamp) if stamp == job.stamp && writers::has_writer(&file) != Some(true) => Hashed::Done(checksum),
        Ok(_) => Hashed::Changed,
        Err(error) => Hashed::Failed(format!("it cannot be read: {error}")),
    }
}

/// The checksum of a file's first `size` bytes, if it has so many and nobody stops it.
fn digest(shared: &Shared, file: &File, size: u64, buffer: &mut [u8]) -> std::io::Result<Option<String>> {
    let mut hasher = Sha256::new();
    let mut at = 0;
    while at < size {
        if shared.is_stopped() {
            return Ok(None);
        }
        let want = usize::try_from(size - at).unwrap_or(usize::MAX).min(buffer.len());
        match file.read_at(&mut buffer[..want], at) {
            Ok(0) => return Ok(None),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                at += read as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(hex(&hasher.finalize())))
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
