//! One file, written whole by workers that stay from file to file: for whoever needs single files at once, as a mount
//! does.
//!
//! A restore goes through files in order, and files share the workers. Here the workers share the file: its chunks are
//! taken in the order in which they lie in packs, so that each block is read and decoded once and by one worker, and
//! each run of chunks is written where it belongs. Every chunk is verified before its bytes are written.
//!
//! It does not create, name, sync or remove the file; after an error the file holds some of its bytes.

use std::collections::VecDeque;
use std::num::NonZero;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, fallocate, ftruncate};
use rustix::io::Errno;

use super::write::write_at;
use crate::content::{ChunkRef, Content, chunks};
use crate::error::{Error, Result};
use crate::fetcher::Fetcher;
use crate::index::Place;
use crate::pool::{Pending, Pool, Rank};
use crate::progress::Progress;
use crate::store::Store;

/// Chunks that are put in order together: 64 MiB or more in chunks of 16 KiB. A block whose chunks are further apart
/// than that in the file is decoded again.
const ORDERED_MAX: usize = 4096;
/// Plain bytes of the blocks that one job decodes, about: two blocks, so that short files are divided too.
const JOB_BYTES: u64 = 1 << 20;
/// Jobs of one file that wait or run, for each worker.
const JOBS_PER_WORKER: usize = 4;
/// Bytes from which on room is asked for in one piece.
const ALLOCATED_MIN: u64 = 128 << 10;

/// Writes single files. Cheap to use, not to make: it has a thread for each core.
pub struct FileWriter {
    store: Store,
    pool: Pool,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes that were written.
    pub bytes: u64,
    /// Zero bytes that were left as holes.
    pub hole_bytes: u64,
}

impl FileWriter {
    /// A writer of files of `store` with so many workers, or one for each core.
    #[must_use]
    pub fn new(store: Store, threads: Option<NonZero<usize>>) -> Self {
        Self { store, pool: Pool::new(threads) }
    }

    /// Fills `file`, which is open for writing and empty, with `size` bytes of `content`. `shown` names it in errors.
    ///
    /// # Errors
    /// [`Error::Tree`] when the file cannot be written, [`Error::Damaged`], [`Error::Absent`] and [`Error::Io`] for
    /// what cannot be read, [`Error::Cancelled`].
    pub fn write(
        &self,
        content: &Content,
        size: u64,
        file: BorrowedFd<'_>,
        shown: &Path,
        progress: &dyn Progress,
    ) -> Result<Written> {
        if let Content::Inline(bytes) = content {
            write_at(file, bytes, 0, || shown.to_owned())?;
            return Ok(Written { bytes: bytes.len() as u64, hole_bytes: 0 });
        }
        // So that holes need no writing, at the end least of all, and the length never changes again.
        ftruncate(file, size).map_err(Error::tree("set the length of", shown))?;
        let file = file.try_clone_to_owned();
        let file = file.map_err(|source| Error::Tree { action: "open", path: shown.to_owned(), source })?;
        let target = Arc::new(Target {
            store: self.store.clone(),
            file,
            shown: shown.to_owned(),
            may_allocate: AtomicBool::new(true),
            stopped: AtomicBool::new(false),
        });
        let mut run =
            Run { pool: &self.pool, target, progress, pending: VecDeque::new(), done: Written::default() };
        let result = run.write(content, size);
        if result.is_err() {
            run.target.stopped.store(true, Ordering::Relaxed);
        }
        // Nobody writes to the file once this returns.
        for job in run.pending.drain(..) {
            let _ = job.wait();
        }
        result.map(|()| run.done)
    }
}

/// What the jobs of a file share.
struct Target {
    store: Store,
    file: OwnedFd,
    shown: PathBuf,
    /// Cleared at the first refusal.
    may_allocate: AtomicBool,
    /// Set when the jobs that are left need not do anything any more.
    stopped: AtomicBool,
}

impl Target {
    /// Asks for the room of an extent in one piece: that is half of what writing costs on ext4 otherwise, and a disk that
    /// is full says so before anything is decoded.
    fn allocate(&self, extent: &Extent) -> Result<()> {
        if extent.end - extent.start < ALLOCATED_MIN || !self.may_allocate.load(Ordering::Relaxed) {
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::empty(), extent.start, extent.end - extent.start) {
            Ok(()) => Ok(()),
            Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => Err(Error::tree("write to", &self.shown)(errno)),
            // Not on every file system. What is really wrong shows when the bytes are written.
            Err(_) => {
                self.may_allocate.store(false, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

/// A range of a file without holes.
#[derive(Debug, Default)]
struct Extent {
    start: u64,
    end: u64,
}

impl Extent {
    /// Adds a range that does not begin before the end of this one; where there is a gap, it becomes the new extent and
    /// gives the one before.
    fn add(&mut self, start: u64, end: u64) -> Option<Self> {
        if start == self.end {
            self.end = end;
            return None;
        }
        Some(std::mem::replace(self, Self { start, end }))
    }
}

/// A chunk that is wanted at an offset.
type Wanted = (u64, ChunkRef);

struct Run<'a> {
    pool: &'a Pool,
    target: Arc<Target>,
    progress: &'a dyn Progress,
    pending: VecDeque<Pending<Result<u64>>>,
    done: Written,
}

impl Run<'_> {
    fn write(&mut self, content: &Content, size: u64) -> Result<()> {
        let store = self.target.store.clone();
        let mut chunks = chunks(content, size, &store).peekable();
        let mut end = 0;
        while chunks.peek().is_some() {
            let mut placed = Vec::with_capacity(ORDERED_MAX);
            let mut data = Extent::default();
            let batch = chunks.by_ref().take(ORDERED_MAX).collect::<Result<Vec<_>>>()?;
            store.bring(&batch)?;
            for (offset, chunk) in batch {
                end = offset.saturating_add(chunk.len.into());
                if chunk.is_hole() {
                    self.done.hole_bytes += u64::from(chunk.len);
                    continue;
                }
                if let Some(before) = data.add(offset, end) {
                    self.target.allocate(&before)?;
                }
                placed.push((store.held_place(chunk)?, offset, chunk));
            }
            self.target.allocate(&data)?;
            self.submit_all(placed)?;
        }
        if end != size {
            return Err(Error::damaged("a file's list of chunks", format!("it has {end} of {size} bytes")));
        }
        while let Some(job) = self.pending.pop_front() {
            self.take(job)?;
        }
        Ok(())
    }

    /// Submits jobs of whole blocks, in the order of packs.
    fn submit_all(&mut self, mut placed: Vec<(Place, u64, ChunkRef)>) -> Result<()> {
        placed.sort_unstable_by_key(|(place, offset, _)| (*place, *offset));
        let (mut job, mut bytes) = (Vec::new(), 0);
        for same_block in placed.chunk_by(|(a, ..), (b, ..)| (a.pack, a.frame) == (b.pack, b.frame)) {
            let wanted = same_block.iter().map(|(_, offset, chunk)| (*offset, *chunk));
            bytes += wanted.clone().map(|(_, chunk)| u64::from(chunk.len)).sum::<u64>();
            job.extend(wanted);
            if bytes >= JOB_BYTES {
                self.submit(std::mem::take(&mut job))?;
                bytes = 0;
            }
        }
        if job.is_empty() { Ok(()) } else { self.submit(job) }
    }

    fn submit(&mut self, wanted: Vec<Wanted>) -> Result<()> {
        if self.progress.cancelled() {
            return Err(Error::Cancelled);
        }
        while self.pending.len() >= self.pool.threads() * JOBS_PER_WORKER
            && let Some(job) = self.pending.pop_front()
        {
            self.take(job)?;
        }
        let target = Arc::clone(&self.target);
        self.pending.push_back(self.pool.submit(Rank::Beginning, move |tools| {
            if target.stopped.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let mut bytes = 0;
            Fetcher::new(&target.store, tools).runs(&wanted, |offset, run| {
                bytes += run.len() as u64;
                write_at(target.file.as_fd(), run, offset, || target.shown.clone())
            })?;
            Ok(bytes)
        }));
        Ok(())
    }

    fn take(&mut self, job: Pending<Result<u64>>) -> Result<()> {
        let bytes = job.wait()?;
        self.progress.advance(bytes, 0);
        self.done.bytes += bytes;
        if self.progress.cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}
