//! What of files is not here, or not sound: it is brought from other machines, just before it is read.
//!
//! A read that lacks chunks asks for them, and for what it is likely to want next, in one request ([`window`]). A program
//! that is started tells by its headers what its loader goes through ([`program`]). Damaged chunks are asked for like
//! others. What comes is verified and kept by the store, so afterwards the read is done as if it had always been here.
//!
//! All of this blocks for as long as other machines take: only threads that may wait for them come here. A failure is
//! logged once for each file until it can be read again, and is not remembered otherwise: the next read asks anew.

mod program;
mod window;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use cairn_store::{ChunkRef, Error, Kind, Store};

use self::window::Windows;
use crate::files::{FileId, FileSpec, ReadError};
use crate::read::Reader;

/// Files that were logged as out of reach and are remembered, so as not to be logged again.
const OUT_OF_REACH_MAX: usize = 1024;

/// Figures about what other machines were asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchStatus {
    /// Requests for chunks, each of one or many.
    pub requests: u64,
    /// Chunks that were asked for.
    pub chunks: u64,
    /// Plain bytes of these.
    pub bytes: u64,
    /// Requests that were not fulfilled.
    pub failures: u64,
    /// Damaged chunks that came sound from elsewhere.
    pub healed: u64,
    /// Answers that were due before anything came.
    pub late: u64,
}

/// Whether other machines may have what could not be read here: it is not here, not sound, or on a part of the disk that cannot
/// be read.
pub(crate) fn may_be_elsewhere(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()),
        error => matches!(error.kind(), Kind::Absent | Kind::Damaged | Kind::Unavailable),
    }
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    chunks: AtomicU64,
    bytes: AtomicU64,
    failures: AtomicU64,
    healed: AtomicU64,
    late: AtomicU64,
}

/// Brings bytes of files here.
pub(crate) struct Far {
    /// It fetches.
    store: Store,
    /// Guards what is known of who reads on; a leaf lock.
    windows: Mutex<Windows>,
    /// Guards which files are known to be out of reach; a leaf lock.
    out_of_reach: Mutex<HashSet<FileId>>,
    counters: Counters,
}

impl Far {
    pub(crate) fn new(store: Store) -> Self {
        let (windows, out_of_reach, counters) = Default::default();
        Self { store, windows, out_of_reach, counters }
    }

    /// The store that may fetch.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Whether there is anybody to ask.
    pub(crate) fn is_of_use(&self) -> bool {
        self.store.has_fetch()
    }

    /// Whether a file is not all here, and somebody may have the rest. Walks its list of chunks.
    pub(crate) fn is_partial(&self, file: &FileSpec) -> bool {
        self.is_of_use() && matches!(self.store.local().file_is_here(&file.content, file.size), Ok(false))
    }

    /// Brings what a read of a range lacks, with some of what follows, and sound copies of what is damaged in it. Says what
    /// was damaged and is healed.
    pub(crate) fn bring(
        &self,
        reader: &Reader,
        file: &FileSpec,
        id: &FileId,
        range: Range<u64>,
    ) -> Result<Vec<ReadError>, ReadError> {
        let mut healed = Vec::new();
        let listed = reader.chunks(&self.store.local(), file, id, range.clone());
        let mut wanted = match listed {
            Err(error) if may_be_elsewhere(&error) => {
                let wanted = reader.chunks(&self.store, file, id, range.clone());
                let wanted = wanted.map_err(|error| self.failed(error))?;
                healed.push(ReadError::of_store(error));
                wanted
            }
            listed => listed.map_err(ReadError::of_store)?,
        };
        let lacking = self.store.lacks(&wanted).map_err(ReadError::of_store)?;
        if !lacking.is_empty() {
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            let window = windows.note(*id, range.clone(), file.size);
            drop(windows);
            if window != range {
                wanted = reader.chunks(&self.store, file, id, window).map_err(|error| self.failed(error))?;
            }
            self.ensure(&wanted)?;
        }
        healed.extend(self.heal(reader, file, id, range)?);
        Ok(healed)
    }

    fn ensure(&self, wanted: &[ChunkRef]) -> Result<(), ReadError> {
        let lacking = self.store.lacks(wanted).map_err(ReadError::of_store)?;
        if lacking.is_empty() {
            return Ok(());
        }
        self.count(&lacking);
        self.store.ensure(&lacking).map_err(|error| self.failed(error))
    }

    /// Has sound copies brought of what is damaged in a range, of all in one request.
    fn heal(
        &self,
        reader: &Reader,
        file: &FileSpec,
        id: &FileId,
        range: Range<u64>,
    ) -> Result<Vec<ReadError>, ReadError> {
        let bad = reader.bad_chunks(file, id, range).map_err(ReadError::of_store)?;
        let chunks: Vec<ChunkRef> = bad.iter().map(|(chunk, _)| *chunk).collect();
        if chunks.is_empty() {
            return Ok(Vec::new());
        }
        self.count(&chunks);
        self.store.heal(&chunks).map_err(|error| self.failed(error))?;
        let mut healed = Vec::new();
        for (chunk, error) in bad {
            self.store.whole_chunk(chunk).map_err(|error| self.failed(error))?;
            healed.push(ReadError::of_chunk(chunk.id, error));
        }
        Ok(healed)
    }

    /// Brings what the loader of a program will go through, if the file is one and its beginning is here.
    pub(crate) fn bring_program(&self, reader: &Reader, file: &FileSpec, id: &FileId) {
        let read = |range: Range<u64>| {
            let mut bytes = Vec::new();
            let len = u32::try_from(range.end.min(file.size).checked_sub(range.start)?).ok()?;
            reader.read(file, range.start, len, &mut bytes).ok()?;
            Some(bytes)
        };
        program::stages(file.size, read, |ranges| {
            let mut wanted = Vec::new();
            for range in ranges {
                wanted.extend(reader.chunks(&self.store, file, id, range.clone()).ok()?);
            }
            self.ensure(&wanted).ok()
        });
    }

    fn count(&self, chunks: &[ChunkRef]) {
        let counters = &self.counters;
        counters.requests.fetch_add(1, Ordering::Relaxed);
        counters.chunks.fetch_add(chunks.len() as u64, Ordering::Relaxed);
        counters.bytes.fetch_add(chunks.iter().map(|chunk| u64::from(chunk.len)).sum(), Ordering::Relaxed);
    }

    fn failed(&self, error: Error) -> ReadError {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        ReadError::of_store(error)
    }

    /// A sound copy came of what was damaged.
    pub(crate) fn note_healed(&self) {
        self.counters.healed.fetch_add(1, Ordering::Relaxed);
    }

    /// An answer was due before anything came.
    pub(crate) fn note_late(&self) {
        self.counters.late.fetch_add(1, Ordering::Relaxed);
    }

    /// Logs why a file cannot be read now, the first time.
    pub(crate) fn note_out_of_reach(&self, id: &FileId, reason: &str, path: impl FnOnce() -> Vec<u8>) {
        {
            let mut known = self.out_of_reach.lock().unwrap_or_else(PoisonError::into_inner);
            if known.contains(id) {
                return;
            }
            if known.len() >= OUT_OF_REACH_MAX {
                known.clear();
            }
            known.insert(*id);
        }
        let path = String::from_utf8_lossy(&path()).into_owned();
        tracing::warn!(%id, path, reason, "a file is not here, and nobody brings it: reads of it fail until somebody does");
    }

    /// A file can be read again.
    pub(crate) fn note_reached(&self, id: &FileId) {
        let was_out = self.out_of_reach.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        if was_out {
            tracing::info!(%id, "a file that was out of reach can be read again");
        }
    }

    pub(crate) fn figures(&self) -> FetchStatus {
        let counters = &self.counters;
        FetchStatus {
            requests: counters.requests.load(Ordering::Relaxed),
            chunks: counters.chunks.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            failures: counters.failures.load(Ordering::Relaxed),
            healed: counters.healed.load(Ordering::Relaxed),
            late: counters.late.load(Ordering::Relaxed),
        }
    }
}
