//! Fills files: what a worker does.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, fsync, ftruncate, openat};
use rustix::io::{pread, pwrite};

use super::meta::Meta;
use super::seed::{Seed, Seeds};
use crate::content::ChunkRef;
use crate::error::{Error, Result};
use crate::fetcher::Fetcher;
use crate::id::ChunkId;
use crate::pool::Tools;
use crate::store::Store;

/// What all workers of a restore share.
pub(super) struct Job {
    pub(super) store: Store,
    /// The folder that is being filled.
    pub(super) root: Arc<OwnedFd>,
    /// What it will be called, for messages.
    pub(super) shown: PathBuf,
    /// Whether each file is synced once it is whole.
    pub(super) sync_each: bool,
}

impl Job {
    /// What is done to a file that has all of its bytes.
    fn complete(&self, file: &OwnedFd, meta: &Meta, shown: &Path) -> Result<()> {
        meta.set(file).map_err(Error::tree("set the metadata of", shown))?;
        if self.sync_each {
            fsync(file).map_err(Error::tree("sync", shown))?;
        }
        Ok(())
    }

    pub(super) fn show(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() { self.shown.clone() } else { self.shown.join(OsStr::from_bytes(path)) }
    }

    fn create(&self, path: &[u8]) -> Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat(&self.root, path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(Error::tree("create", self.show(path)))
    }
}

/// What a job did.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) seeded_bytes: u64,
    pub(super) cloned_bytes: u64,
    pub(super) hole_bytes: u64,
}

/// What a file is to hold.
pub(super) enum Part {
    Inline(Vec<u8>),
    Chunks(Vec<(u64, ChunkRef)>),
}

/// A file that one job writes whole.
pub(super) struct SmallFile {
    pub(super) path: Vec<u8>,
    pub(super) meta: Meta,
    pub(super) size: u64,
    pub(super) part: Part,
}

/// A file that several jobs write. Its metadata is set when the last of them lets go.
pub(super) struct LongFile {
    target: Target,
    meta: Meta,
    shown: PathBuf,
}

impl LongFile {
    pub(super) fn create(job: &Job, seeds: &Seeds, path: Vec<u8>, meta: Meta, size: u64) -> Result<Self> {
        let target = Target::create(job, seeds, &path, size)?;
        // So that holes need no writing, at the end least of all.
        ftruncate(&target.file, size).map_err(Error::tree("set the length of", job.show(&path)))?;
        Ok(Self { target, meta, shown: job.show(&path) })
    }
}

/// A job's work.
pub(super) enum Piece {
    Small(Vec<SmallFile>),
    Long(Arc<LongFile>, Vec<(u64, ChunkRef)>),
}

impl Piece {
    pub(super) fn write(self, job: &Job, seeds: &Seeds, tools: &mut Tools) -> Result<Counts> {
        let mut counts = Counts::default();
        let mut fetcher = Fetcher::new(&job.store, tools);
        match self {
            Self::Small(files) => {
                bring(job, seeds, &files)?;
                for file in files {
                    write_small(job, seeds, &file, &mut fetcher, &mut counts)?;
                }
            }
            Self::Long(file, chunks) => {
                file.target.fill(&file.shown, &chunks, &mut fetcher, &mut counts)?;
                counts.bytes += chunks.iter().map(|(_, chunk)| u64::from(chunk.len)).sum::<u64>();
                if let Some(file) = Arc::into_inner(file) {
                    job.complete(&file.target.file, &file.meta, &file.shown)?;
                    counts.files += 1;
                }
            }
        }
        Ok(counts)
    }
}

/// Has what is not here fetched for many files in one call. Those that have a seed may not need it.
fn bring(job: &Job, seeds: &Seeds, files: &[SmallFile]) -> Result<()> {
    if !job.store.has_fetch() {
        return Ok(());
    }
    let unseeded = files.iter().filter(|file| seeds.find(&file.path, file.size).is_none());
    let chunks = unseeded.flat_map(|file| match &file.part {
        Part::Inline(_) => &[][..],
        Part::Chunks(chunks) => chunks,
    });
    job.store.bring(&chunks.copied().collect::<Vec<_>>())
}

fn write_small(
    job: &Job,
    seeds: &Seeds,
    small: &SmallFile,
    fetcher: &mut Fetcher<'_>,
    counts: &mut Counts,
) -> Result<()> {
    let file = match &small.part {
        Part::Inline(bytes) => {
            let file = job.create(&small.path)?;
            write_at(&file, bytes, 0, || job.show(&small.path))?;
            file
        }
        Part::Chunks(chunks) => {
            let target = Target::create(job, seeds, &small.path, small.size)?;
            if chunks.last().is_some_and(|(_, chunk)| chunk.is_hole()) {
                ftruncate(&target.file, small.size)
                    .map_err(Error::tree("set the length of", job.show(&small.path)))?;
            }
            target.fill(&job.show(&small.path), chunks, fetcher, counts)?;
            target.file
        }
    };
    job.complete(&file, &small.meta, &job.show(&small.path))?;
    counts.files += 1;
    counts.bytes += small.size;
    Ok(())
}

/// A file under construction.
struct Target {
    file: OwnedFd,
    seed: Option<Seed>,
    /// Whether it shares the seed's blocks already, yet unverified.
    cloned: bool,
}

impl Target {
    fn create(job: &Job, seeds: &Seeds, path: &[u8], size: u64) -> Result<Self> {
        let file = job.create(path)?;
        let seed = seeds.find(path, size);
        let cloned = seed.as_ref().is_some_and(|seed| seed.len == size && seeds.clone_into(seed, &file));
        Ok(Self { file, seed, cloned })
    }

    /// Writes the chunks that no seed has.
    fn fill(
        &self,
        shown: &Path,
        chunks: &[(u64, ChunkRef)],
        fetcher: &mut Fetcher<'_>,
        counts: &mut Counts,
    ) -> Result<()> {
        let holes: u64 = chunks.iter().filter(|(_, c)| c.is_hole()).map(|(_, c)| u64::from(c.len)).sum();
        counts.hole_bytes += holes;
        let missing;
        let chunks = match &self.seed {
            None => chunks,
            Some(seed) => {
                missing = self.take_seeded(seed, shown, chunks, counts)?;
                &missing
            }
        };
        fetcher.runs(chunks, |offset, bytes| write_at(&self.file, bytes, offset, || shown.to_owned()))
    }

    /// Takes what the seed has; gives what it does not have.
    fn take_seeded(
        &self,
        seed: &Seed,
        shown: &Path,
        chunks: &[(u64, ChunkRef)],
        counts: &mut Counts,
    ) -> Result<Vec<(u64, ChunkRef)>> {
        let mut missing = Vec::new();
        let mut buffer = Vec::new();
        for &(offset, chunk) in chunks {
            if chunk.is_hole() {
                // A clone may have data there.
                if self.cloned {
                    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                    fallocate(&self.file, flags, offset, chunk.len.into())
                        .map_err(Error::tree("make a hole in", shown))?;
                }
                continue;
            }
            buffer.resize(chunk.len as usize, 0);
            let from = if self.cloned { &self.file } else { &seed.file };
            if !read_at(from, &mut buffer, offset) || ChunkId::of(&buffer) != chunk.id {
                missing.push((offset, chunk));
                continue;
            }
            counts.seeded_bytes += u64::from(chunk.len);
            if self.cloned {
                counts.cloned_bytes += u64::from(chunk.len);
            } else {
                write_at(&self.file, &buffer, offset, || shown.to_owned())?;
            }
        }
        Ok(missing)
    }
}

/// Whether the file has all these bytes.
fn read_at(file: &OwnedFd, mut buffer: &mut [u8], mut offset: u64) -> bool {
    while !buffer.is_empty() {
        match pread(file, &mut *buffer, offset) {
            Ok(0) => return false,
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

pub(super) fn write_at(
    file: impl AsFd + Copy,
    mut bytes: &[u8],
    mut offset: u64,
    shown: impl Fn() -> PathBuf,
) -> Result<()> {
    while !bytes.is_empty() {
        match pwrite(file, bytes, offset) {
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::tree("write to", shown())(errno)),
        }
    }
    Ok(())
}
