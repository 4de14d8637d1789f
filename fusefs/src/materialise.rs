//! Whole files on disk, so that the kernel can read them without asking: made when they are first wanted, verified chunk
//! by chunk, bounded in bytes, least recently used out first.
//!
//! Invariants:
//! - what has a name was written whole, every chunk verified, by a process that had not failed (`folder`);
//! - a file that is held stays (`entries`);
//! - one thread writes a file, others wait for it (`flights`);
//! - a disk that takes nothing costs one attempt now and then (`health`);
//! - nobody who opens a file waits for a sync (`syncer`).
//!
//! Everything here can be lost at any time: the store has the truth. A process that takes over from another may use the
//! folder together with it for a while, so a name that is gone is no error.
//!
//! Locks are in `cache`: nobody waits for a disk under the one that the thread that reads requests takes, and that thread
//! opens only what takes no disk (`try_open`, `try_read`).

mod cache;
mod entries;
mod flights;
mod folder;
mod health;
#[cfg(feature = "shuttle")]
#[cfg(test)]
mod order_tests;
mod syncer;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use cairn_store::{Content, FileWriter, Progress, Store};
use rustix::fs::fstatvfs;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use self::cache::{Cache, Opened};
use self::flights::{Flights, Turn};
use self::folder::Folder;
use self::syncer::Syncer;
use crate::files::{FileId, FileSpec, ReadError};

/// What part of the free space the cache may take where nothing is said.
const FREE_SHARE: u64 = 5;
/// How often a file is waited for that is gone again before it can be opened.
const LOST_MAX: usize = 3;
/// Bytes that the file system may need for a file beside its own.
const SLACK: u64 = 8 << 10;

/// Figures of the cache.
pub(crate) struct CacheFigures {
    pub(crate) bytes: u64,
    pub(crate) bytes_max: u64,
    pub(crate) files: u64,
    pub(crate) held: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) materialised: u64,
    pub(crate) materialised_bytes: u64,
    pub(crate) evicted: u64,
    pub(crate) unavailable: Option<String>,
}

/// Makes whole files, and keeps them.
pub(crate) struct Materialiser {
    cache: Arc<Cache>,
    flights: Flights,
    writer: FileWriter,
    syncer: Syncer,
    stopping: AtomicBool,
}

impl Materialiser {
    pub(crate) fn open(store: Store, dir: &Path, bytes_max: Option<u64>) -> io::Result<Self> {
        Self::open_as(store, dir, bytes_max, &boot_id())
    }

    fn open_as(store: Store, dir: &Path, bytes_max: Option<u64>, boot: &str) -> io::Result<Self> {
        let folder = Folder::open(dir, boot)?;
        let mut found = folder.scan()?;
        found.sort_by_key(|file| file.used);
        let there = found.iter().map(|file| file.bytes).sum::<u64>();
        let bytes_max = match bytes_max {
            Some(bytes_max) => bytes_max,
            None => (free_bytes(&folder)? + there) / FREE_SHARE,
        };
        let cache = Arc::new(Cache::new(folder, bytes_max));
        let syncer = Syncer::new(Arc::clone(&cache))?;
        for file in found {
            cache.entries().insert(file.id, file.bytes, file.synced, 0);
            if !file.synced {
                syncer.add(file.id);
            }
        }
        let victims = cache.entries().give_up(0);
        cache.remove(&victims);
        Ok(Self {
            cache,
            flights: Flights::default(),
            writer: FileWriter::new(store, None),
            syncer,
            stopping: AtomicBool::new(false),
        })
    }

    /// Whether the whole file is there.
    pub(crate) fn has(&self, id: &FileId) -> bool {
        self.cache.entries().contains(id)
    }

    /// Whether the cache takes files at present.
    pub(crate) fn is_well(&self) -> bool {
        self.cache.health.reason(Instant::now()).is_none()
    }

    /// Bytes on disk that it may take.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.cache.entries().bytes_max()
    }

    pub(crate) fn hold(&self, id: &FileId) {
        self.cache.entries().hold(id);
    }

    pub(crate) fn release(&self, id: &FileId) {
        self.cache.entries().release(id);
    }

    /// From now on nothing is written any more, and what is being written ends.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Opens the whole file, if it is there.
    pub(crate) fn open_file(&self, id: &FileId) -> Option<OwnedFd> {
        self.note_hit(id, self.cache.open(id)?)
    }

    /// The same, if that takes no disk.
    pub(crate) fn try_open_file(&self, id: &FileId) -> Option<OwnedFd> {
        self.note_hit(id, self.cache.try_open(id)?)
    }

    fn note_hit(&self, id: &FileId, opened: Opened) -> Option<OwnedFd> {
        self.cache.counters.hits.fetch_add(1, Ordering::Relaxed);
        Some(self.used(id, opened))
    }

    /// A file that was opened, whose use is noted by another thread.
    fn used(&self, id: &FileId, opened: Opened) -> OwnedFd {
        if opened.is_to_be_noted {
            self.syncer.note_use(*id);
        }
        opened.file
    }

    /// Makes the whole file, unless it is there, and opens it.
    pub(crate) fn materialise(
        &self,
        file: &FileSpec,
        deadline: Option<Instant>,
    ) -> Result<OwnedFd, ReadError> {
        let id = FileId::of(file);
        let mut lost = 0;
        while lost < LOST_MAX {
            if let Some(opened) = self.open_file(&id) {
                return Ok(opened);
            }
            match self.flights.join(&id, deadline)? {
                Turn::Write(pilot) => {
                    // It may have landed between the look and the turn.
                    let result = match self.cache.open(&id) {
                        Some(opened) => Ok(self.used(&id, opened)),
                        None => self.write(file, &id, deadline),
                    };
                    pilot.land(result.as_ref().map(drop).map_err(Clone::clone));
                    return result;
                }
                Turn::Landed(Ok(())) => lost += 1,
                // Who wrote it had less time, which says nothing about the file.
                Turn::Landed(Err(ReadError::Deadline)) => {}
                Turn::Landed(Err(error)) => return Err(error),
            }
        }
        // There is no room for what all want at once.
        Err(ReadError::NoRoom { bytes: file.size })
    }

    fn write(&self, file: &FileSpec, id: &FileId, deadline: Option<Instant>) -> Result<OwnedFd, ReadError> {
        let cache = &*self.cache;
        cache.counters.misses.fetch_add(1, Ordering::Relaxed);
        if let Some(reason) = cache.health.reason(Instant::now()) {
            return Err(ReadError::Cache { reason });
        }
        let wanted = allocation(file);
        let result = match self.try_write(file, id, wanted, deadline) {
            // The disk is fuller than the cache: it gives back what it can, once.
            Err(Failure::Disk(error)) if is_full(&error) && cache.give_back(wanted) => {
                self.try_write(file, id, wanted, deadline)
            }
            // A process that begins to share the folder took the part for a leftover.
            Err(Failure::Disk(error)) if error.kind() == io::ErrorKind::NotFound => {
                self.try_write(file, id, wanted, deadline)
            }
            result => result,
        };
        match result {
            Ok(opened) => {
                cache.health.note_success();
                self.syncer.add(*id);
                Ok(opened)
            }
            Err(Failure::Disk(error)) => {
                let reason: Arc<str> = format!("{}: {error}", cache.folder.path().display()).into();
                cache.health.note_failure(&reason, Instant::now());
                Err(ReadError::Cache { reason })
            }
            Err(Failure::Read(error)) => Err(error),
        }
    }

    fn try_write(
        &self,
        file: &FileSpec,
        id: &FileId,
        wanted: u64,
        deadline: Option<Instant>,
    ) -> Result<OwnedFd, Failure> {
        let cache = &*self.cache;
        let Some(reservation) = cache.reserve(wanted) else {
            return Err(Failure::Read(ReadError::NoRoom { bytes: wanted }));
        };
        let part = cache.folder.begin().map_err(|errno| Failure::Disk(errno.into()))?;
        let limit = Limit { deadline, stopping: &self.stopping };
        let written =
            self.writer.write(&file.content, file.size, part.file.as_fd(), cache.folder.path(), &limit);
        match written {
            Ok(_) => {}
            Err(cairn_store::Error::Tree { source, .. }) => return Err(Failure::Disk(source)),
            Err(cairn_store::Error::Cancelled) => return Err(Failure::Read(limit.reason())),
            Err(error) => return Err(Failure::Read(ReadError::of_store(error))),
        }
        let opened = cache.publish(part, id, reservation).map_err(|errno| Failure::Disk(errno.into()))?;
        cache.counters.materialised.fetch_add(1, Ordering::Relaxed);
        cache.counters.materialised_bytes.fetch_add(file.size, Ordering::Relaxed);
        Ok(opened)
    }

    /// Reads from the whole file, if it is there; it has so many bytes.
    pub(crate) fn read(&self, id: &FileId, offset: u64, len: u32, reply: &mut Vec<u8>) -> bool {
        let Some(opened) = self.cache.open(id) else { return false };
        read_file(&self.used(id, opened), offset, len, ReadWriteFlags::empty(), reply)
    }

    /// The same, if its bytes are in memory.
    pub(crate) fn try_read(&self, id: &FileId, offset: u64, len: u32, reply: &mut Vec<u8>) -> bool {
        let Some(opened) = self.cache.try_open(id) else { return false };
        read_file(&self.used(id, opened), offset, len, ReadWriteFlags::NOWAIT, reply)
    }

    pub(crate) fn figures(&self) -> CacheFigures {
        let counters = &self.cache.counters;
        let entries = self.cache.entries();
        CacheFigures {
            bytes: entries.bytes(),
            bytes_max: entries.bytes_max(),
            files: entries.len() as u64,
            held: entries.held() as u64,
            hits: counters.hits.load(Ordering::Relaxed),
            misses: counters.misses.load(Ordering::Relaxed),
            materialised: counters.materialised.load(Ordering::Relaxed),
            materialised_bytes: counters.materialised_bytes.load(Ordering::Relaxed),
            evicted: counters.evicted.load(Ordering::Relaxed),
            unavailable: self.cache.health.last_reason(),
        }
    }
}

/// Why a file was not written.
enum Failure {
    /// The cache's disk did not take it.
    Disk(io::Error),
    /// It cannot be read, or there was no room or time.
    Read(ReadError),
}

/// When writing ends early.
struct Limit<'a> {
    deadline: Option<Instant>,
    stopping: &'a AtomicBool,
}

impl Limit<'_> {
    fn reason(&self) -> ReadError {
        if self.stopping.load(Ordering::Relaxed) { ReadError::Stopped } else { ReadError::Deadline }
    }
}

impl Progress for Limit<'_> {
    fn cancelled(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// Bytes on disk that a file takes at most.
fn allocation(file: &FileSpec) -> u64 {
    let bytes = match &file.content {
        Content::Chunks(list) => {
            list.iter().filter(|chunk| !chunk.is_hole()).map(|chunk| u64::from(chunk.len)).sum()
        }
        _ => file.size,
    };
    bytes.next_multiple_of(4096) + SLACK
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn free_bytes(folder: &Folder) -> io::Result<u64> {
    let stat = fstatvfs(folder.root())?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// What tells one run of the machine from the next; nothing where the system does not say, and then no file that was not
/// synced outlives its process.
fn boot_id() -> String {
    let read = || -> rustix::io::Result<String> {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let file = rustix::fs::open("/proc/sys/kernel/random/boot_id", flags, rustix::fs::Mode::empty())?;
        let mut bytes = [0; 64];
        let len = rustix::io::read(&file, &mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
    };
    read().unwrap_or_default()
}

/// Appends `len` bytes of a file that has so many, or nothing and no.
fn read_file(file: &OwnedFd, offset: u64, len: u32, flags: ReadWriteFlags, reply: &mut Vec<u8>) -> bool {
    let before = reply.len();
    reply.resize(before + len as usize, 0);
    let mut filled = before;
    while filled < reply.len() {
        let at = offset + (filled - before) as u64;
        match preadv2(file, &mut [io::IoSliceMut::new(&mut reply[filled..])], at, flags) {
            Ok(read) if read > 0 => filled += read,
            Err(Errno::INTR) => {}
            _ => {
                reply.truncate(before);
                return false;
            }
        }
    }
    true
}
