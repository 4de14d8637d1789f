//! The folder and what is known of it, kept in step.
//!
//! Two locks, in this order. `naming` is held while a name on disk and what is known of it change together, so that no
//! file of the same id is written and named in between and loses its name to whoever removes the one before. `entries`
//! guards what is known, and nothing is done under it that can wait: the thread that reads the kernel's requests asks
//! there.

use std::os::fd::OwnedFd;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustix::io::{Errno, Result};

use super::entries::{Entries, Victim};
use super::folder::{Folder, Part};
use super::health::Health;
use crate::files::FileId;
use crate::sync::{Mutex, MutexGuard};

/// A file's use is noted on disk no more often than this, in seconds.
const NOTE_EVERY: u64 = 3600;

#[derive(Default)]
pub(super) struct Counters {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) materialised: AtomicU64,
    pub(super) materialised_bytes: AtomicU64,
    pub(super) evicted: AtomicU64,
}

/// The folder and what is known of it.
pub(super) struct Cache {
    pub(super) folder: Folder,
    /// Guards that names and entries change together. Before `entries`, and never taken by who reads requests.
    naming: Mutex<()>,
    /// Guards what is known of the files. A leaf lock: the disk is not touched under it.
    entries: Mutex<Entries>,
    pub(super) health: Health,
    pub(super) counters: Counters,
    began: Instant,
}

/// How a file of the cache was opened.
pub(super) struct Opened {
    pub(super) file: OwnedFd,
    /// Whether its use is to be noted on disk ([`Cache::mark_used`]).
    pub(super) is_to_be_noted: bool,
}

impl Cache {
    pub(super) fn new(folder: Folder, bytes_max: u64) -> Self {
        Self {
            folder,
            naming: Mutex::new(()),
            entries: Mutex::new(Entries::new(bytes_max)),
            health: Health::default(),
            counters: Counters::default(),
            began: Instant::now(),
        }
    }

    pub(super) fn entries(&self) -> MutexGuard<'_, Entries> {
        // Each of its methods leaves it whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn naming(&self) -> MutexGuard<'_, ()> {
        self.naming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seconds(&self) -> u64 {
        self.began.elapsed().as_secs()
    }

    /// Opens a file that is there; waits for the disk where that is needed.
    pub(super) fn open(&self, id: &FileId) -> Option<Opened> {
        self.open_by(id, Folder::open_file)
    }

    /// The same, if what it takes is in memory: it waits for nothing.
    pub(super) fn try_open(&self, id: &FileId) -> Option<Opened> {
        self.open_by(id, Folder::try_open_file)
    }

    pub(super) fn open_by(
        &self,
        id: &FileId,
        open: impl FnOnce(&Folder, &FileId, bool) -> Result<OwnedFd>,
    ) -> Option<Opened> {
        let touch = self.entries().touch(id)?;
        match open(&self.folder, id, touch.synced) {
            Ok(file) => {
                let is_to_be_noted = self.entries().is_to_be_noted(id, self.seconds(), NOTE_EVERY);
                Some(Opened { file, is_to_be_noted })
            }
            // It was evicted, and may have been made again by now.
            Err(Errno::NOENT) => {
                self.entries().remove_as_of(id, touch);
                None
            }
            // It would have had to wait.
            Err(Errno::AGAIN) => None,
            Err(errno) => {
                tracing::warn!(%id, %errno, "a file of the cache cannot be opened");
                None
            }
        }
    }

    /// Notes on disk that a file is in use.
    pub(super) fn mark_used(&self, id: &FileId) {
        let touch = self.entries().touch(id);
        if let Some(touch) = touch {
            self.folder.mark_used(id, touch.synced);
        }
    }

    /// Gives a file that was written its name; gives it open for reading. For it so many bytes were set aside.
    pub(super) fn publish(
        &self,
        part: Part<'_>,
        id: &FileId,
        reservation: Reservation<'_>,
    ) -> Result<OwnedFd> {
        let naming = self.naming();
        // One that was evicted while it was given its lasting name may still have it: nobody would look for it there.
        let before = self.folder.detach(id, true);
        let published = part.publish(id).map(|(opened, bytes)| {
            reservation.commit(*id, bytes);
            opened
        });
        drop(naming);
        if let Some(name) = before {
            self.folder.discard(&name);
        }
        published
    }

    /// Removes files that are not in the table any more.
    pub(super) fn remove(&self, victims: &[Victim]) {
        let mut names = Vec::with_capacity(victims.len());
        for victim in victims {
            let _naming = self.naming();
            // It may have been written again since.
            if !self.entries().contains(&victim.id) {
                names.extend(self.folder.detach(&victim.id, victim.synced));
            }
        }
        for name in &names {
            self.folder.discard(name);
        }
        self.counters.evicted.fetch_add(victims.len() as u64, Ordering::Relaxed);
    }

    /// Frees so many bytes, if there is anything to free.
    pub(super) fn give_back(&self, bytes: u64) -> bool {
        let victims = self.entries().give_up(bytes);
        self.remove(&victims);
        !victims.is_empty()
    }

    /// Sets so many bytes aside; what has to go for that is gone then. None if there is no room.
    pub(super) fn reserve(&self, bytes: u64) -> Option<Reservation<'_>> {
        let victims = self.entries().reserve(bytes).ok()?;
        let reservation = Reservation { cache: self, bytes };
        self.remove(&victims);
        Some(reservation)
    }

    /// Syncs a file and gives it its lasting name.
    pub(super) fn sync(&self, id: &FileId) {
        if !self.entries().contains(id) {
            return;
        }
        match self.folder.sync(id) {
            Ok(()) => {}
            Err(Errno::NOENT) => return,
            Err(errno) => {
                // It is not known what of it is on disk: it goes now, for its pages may be clean and wrong.
                tracing::warn!(%id, %errno, "a file of the cache cannot be synced; it is made again");
                let naming = self.naming();
                self.entries().remove(id);
                let name = self.folder.detach(id, false);
                drop(naming);
                if let Some(name) = name {
                    self.folder.discard(&name);
                }
                return;
            }
        }
        let _naming = self.naming();
        let is_there = self.entries().contains(id);
        if is_there && self.folder.mark_synced(id).is_ok() {
            self.entries().set_synced(id);
        }
    }
}

/// Bytes that are set aside, until this goes.
pub(super) struct Reservation<'a> {
    cache: &'a Cache,
    bytes: u64,
}

impl Reservation<'_> {
    /// The file is there, and takes so many bytes.
    fn commit(mut self, id: FileId, bytes: u64) {
        let reserved = std::mem::take(&mut self.bytes);
        self.cache.entries().commit(id, reserved, bytes, self.cache.seconds());
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.cache.entries().unreserve(self.bytes);
    }
}
