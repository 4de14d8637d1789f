//! Open files: how each inode is open, and how often.
//!
//! The kernel has one rule, and answers EIO where it is broken: while an inode is open in one way, every further open is
//! in the same way, and with the same backing file. So the way is decided when the first one opens it and stays until
//! the last one has closed it. The kernel is done with a file before it tells us of its release: our count is never below
//! its own.
//!
//! Through the *backing* file the kernel reads by itself, as fast as any local file, and goes on if this process dies; the
//! whole file must be there first. *Cached* means that the page cache asks us for what it lacks.
//!
//! Handles say no more than the way (1 and 2), so that another process understands them.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::attr::Ino;
use crate::device::{BackingFile, Device};
use crate::errno::Errno;
use crate::files::{FileId, FileSpec, Files, ReadError, Ready};
use crate::working_set::{Names, Touched};

/// An open waits so long for a whole file, and is then answered by chunks.
const WHOLE_FILE_MAX: Duration = Duration::from_secs(30);
const SHARDS: usize = 16;

/// How an inode is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The kernel reads the backing file by itself.
    Backing(BackingFile),
    /// The page cache asks us.
    Cached,
}

/// A file that is opened.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) id: FileId,
    pub(crate) spec: FileSpec,
    /// What was read of it through us.
    pub(crate) touched: Touched,
    /// Whether a part of it was not here when that was looked at last.
    is_partial: AtomicBool,
}

impl OpenFile {
    pub(crate) fn new(spec: FileSpec) -> Self {
        let (id, touched) = (FileId::of(&spec), Touched::new(spec.size));
        Self { id, spec, touched, is_partial: AtomicBool::new(false) }
    }

    /// A part of it was not here.
    pub(crate) fn set_partial(&self) {
        self.is_partial.store(true, Ordering::Relaxed);
    }
}

/// What an open comes to.
pub(crate) enum Opening {
    /// It is open.
    Opened(Way),
    /// First the whole file has to be written: [`Opens::prepare`], then [`Opens::finish`].
    Wait(Arc<OpenFile>),
}

struct Open {
    way: Way,
    count: u64,
    file: Arc<OpenFile>,
}

/// An open inode, for another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct SavedOpen {
    pub(crate) ino: u64,
    pub(crate) count: u64,
    pub(crate) backing: Option<BackingFile>,
}

/// The open files of a mount. Each holds its whole file in the cache, be it there or not.
pub(crate) struct Opens {
    files: Arc<Files>,
    device: Arc<Device>,
    /// Whether the kernel takes backing files from us.
    passthrough: bool,
    /// Who knows what inodes are called.
    names: OnceLock<Weak<dyn Names>>,
    /// Each guards some inodes, and with them that the kernel is asked for one backing file an inode. No lock of this
    /// crate but those of [`Files`] is taken under one.
    shards: [Mutex<HashMap<u64, Open>>; SHARDS],
}

impl Opens {
    pub(crate) fn new(files: Arc<Files>, device: Arc<Device>, passthrough: bool) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { files, device, passthrough, names: OnceLock::new(), shards }
    }

    /// From now on what is opened is written down under the names that these inodes have.
    pub(crate) fn record_as(&self, names: Weak<dyn Names>) {
        // A second one would be a programmer's error without consequence: the first stays.
        let _ = self.names.set(names);
    }

    fn record(&self, ino: Ino, file: &Arc<OpenFile>, way: Way) {
        if let Some(names) = self.names.get() {
            self.files.note_opened(names, ino, file, matches!(way, Way::Backing(_)));
        }
    }

    pub(crate) fn has_passthrough(&self) -> bool {
        self.passthrough
    }

    fn shard(&self, ino: Ino) -> MutexGuard<'_, HashMap<u64, Open>> {
        // Numbers are hashes.
        let shard = usize::try_from(ino.0 % SHARDS as u64).unwrap_or(0);
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an inode, if that can be done at once. `spec` tells what it holds.
    pub(crate) fn open(
        &self,
        ino: Ino,
        spec: impl FnOnce() -> Result<FileSpec, Errno>,
    ) -> Result<Opening, Errno> {
        if let Some(open) = self.shard(ino).get_mut(&ino.0) {
            open.count += 1;
            return Ok(Opening::Opened(open.way));
        }
        let spec = spec()?;
        let file = Arc::new(OpenFile::new(spec));
        let ready = self.files.ready(&file.spec);
        match ready {
            Ready::MustMaterialise if self.passthrough => return Ok(Opening::Wait(file)),
            Ready::MustMaterialise | Ready::Large => self.files.prefetch(&file.spec),
            Ready::Inline | Ready::Small | Ready::Materialised => {}
        }
        self.files.hold(&file.id);
        let whole = match ready {
            Ready::Materialised if self.passthrough => match self.files.try_open_materialised(&file.id) {
                Some(whole) => Some(whole),
                None => {
                    // It takes the disk, or is gone again.
                    self.files.release(&file.id);
                    return Ok(Opening::Wait(file));
                }
            },
            _ => None,
        };
        Ok(Opening::Opened(self.finish(ino, &file, whole)))
    }

    /// Waits until the whole file is there, and holds it. Without one the file is read by chunks, and who reads a
    /// damaged one learns it then. A file that is not all here is not waited for: each read brings what it needs.
    pub(crate) fn prepare(&self, file: &OpenFile, path: impl FnOnce() -> Vec<u8>) -> Option<OwnedFd> {
        self.files.hold(&file.id);
        if self.files.is_partial(&file.spec) {
            file.set_partial();
            return None;
        }
        match self.files.materialise(&file.spec, Some(Instant::now() + WHOLE_FILE_MAX)) {
            Ok(whole) => Some(whole),
            Err(error) => {
                if matches!(error, ReadError::Deadline) {
                    self.files.prefetch(&file.spec);
                }
                // Where others can be asked each read does, and tells what was damaged and what is healed.
                if !self.files.can_fetch() {
                    self.files.note_damage(&error, path);
                }
                tracing::debug!(id = %file.id, %error, "opened without its whole file");
                None
            }
        }
    }

    /// Counts an open of a file that is held, and says how it is open.
    pub(crate) fn finish(&self, ino: Ino, file: &Arc<OpenFile>, whole: Option<OwnedFd>) -> Way {
        let mut shard = self.shard(ino);
        if let Some(open) = shard.get_mut(&ino.0) {
            // Somebody else was faster, and holds it.
            open.count += 1;
            let way = open.way;
            drop(shard);
            self.files.release(&file.id);
            return way;
        }
        let way = whole.map_or(Way::Cached, |whole| match self.device.open_backing(whole.as_fd()) {
            Ok(backing) => Way::Backing(backing),
            Err(error) => {
                tracing::debug!(id = %file.id, %error, "the kernel takes no backing file");
                Way::Cached
            }
        });
        shard.insert(ino.0, Open { way, count: 1, file: Arc::clone(file) });
        drop(shard);
        self.record(ino, file, way);
        way
    }

    /// The file behind an inode that is open.
    pub(crate) fn file(&self, ino: Ino) -> Option<Arc<OpenFile>> {
        self.shard(ino).get(&ino.0).map(|open| Arc::clone(&open.file))
    }

    /// Counts a release.
    pub(crate) fn release(&self, ino: Ino) {
        let mut shard = self.shard(ino);
        let Some(open) = shard.get_mut(&ino.0) else { return };
        open.count = open.count.saturating_sub(1);
        if open.count > 0 {
            return;
        }
        let Some(open) = shard.remove(&ino.0) else { return };
        drop(shard);
        if let Way::Backing(backing) = open.way
            && let Err(errno) = self.device.close_backing(backing)
        {
            tracing::debug!(%errno, "the kernel keeps a backing file");
        }
        self.files.release(&open.file.id);
        if open.file.is_partial.load(Ordering::Relaxed) {
            // It may be all here by now: the next one to open it finds the whole file.
            self.files.prefetch(&open.file.spec);
        }
    }

    /// Inodes that are open.
    pub(crate) fn len(&self) -> u64 {
        let len = |shard: &Mutex<HashMap<_, _>>| shard.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.shards.iter().map(|shard| len(shard) as u64).sum()
    }

    /// What is open, each inode once.
    pub(crate) fn open_files(&self) -> Vec<(Ino, FileSpec)> {
        let mut open = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            open.extend(shard.iter().map(|(ino, open)| (Ino(*ino), open.file.spec.clone())));
        }
        open
    }

    /// All open inodes, while nothing is opened or closed.
    pub(crate) fn save(&self) -> Vec<SavedOpen> {
        let mut saved = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            saved.extend(shard.iter().map(|(ino, open)| {
                let backing = match open.way {
                    Way::Backing(backing) => Some(backing),
                    Way::Cached => None,
                };
                SavedOpen { ino: *ino, count: open.count, backing }
            }));
        }
        saved
    }

    /// Takes over open inodes of another process. `file` tells what one holds; one that it knows nothing of is read with
    /// an error and released without a trace.
    pub(crate) fn restore(&self, saved: &[SavedOpen], file: impl Fn(Ino) -> Option<Arc<OpenFile>>) {
        for saved in saved {
            let Some(file) = file(Ino(saved.ino)) else { continue };
            self.files.hold(&file.id);
            let way = saved.backing.map_or(Way::Cached, Way::Backing);
            self.record(Ino(saved.ino), &file, way);
            self.shard(Ino(saved.ino)).insert(saved.ino, Open { way, count: saved.count, file });
        }
    }
}
