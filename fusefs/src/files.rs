//! The bytes of regular files, for all mounts of a process: whole files in a cache on disk, which the kernel can read by
//! itself, and any range of any file decoded from the store.
//!
//! Roles: `materialise` keeps the whole files, `read` decodes ranges, `prefetch` materialises in the background,
//! `damage` remembers what was found damaged. This module knows which of them answers.
//!
//! It knows content, not names: two names of equal content are one file here, and whoever asks says under which path
//! damage was met ([`Files::note_damage`]).

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use cairn_store::{ChunkId, Content, Store};

use crate::damage::{Damage, DamageLog};
use crate::materialise::{CacheFigures, Materialiser};
use crate::prefetch::Prefetcher;
use crate::read::Reader;

/// How files are cached.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// The folder of whole files; made if it is not there.
    pub dir: PathBuf,
    /// Bytes on disk that whole files may take; a fifth of the free space where nothing is said.
    pub bytes_max: Option<u64>,
    /// Bytes up to which a file is not worth a copy of its own.
    pub small_max: u64,
    /// Bytes up to which an open waits for the whole file; at most a quarter of `bytes_max` counts.
    pub materialise_max: u64,
    /// Bytes of decoded blocks in memory.
    pub chunk_cache_bytes: u64,
}

impl CacheOptions {
    /// The usual sizes, in this folder.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            bytes_max: None,
            small_max: 64 << 10,
            materialise_max: 1 << 30,
            chunk_cache_bytes: 64 << 20,
        }
    }
}

/// A regular file's bytes, as its directory entry names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// What it holds.
    pub content: Content,
    /// Its length in bytes.
    pub size: u64,
}

/// Names a [`FileSpec`]: the BLAKE3 hash of its content's list and its size.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub [u8; 32]);

impl FileId {
    /// The id of a file.
    #[must_use]
    pub fn of(file: &FileSpec) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("cairn 2026 file content by its list of chunks");
        hasher.update(&file.size.to_le_bytes());
        match &file.content {
            Content::Inline(bytes) => {
                hasher.update(&[0]).update(bytes);
            }
            Content::Chunks(list) => {
                hasher.update(&[1]);
                for chunk in list {
                    hasher.update(&chunk.id.0).update(&chunk.len.to_le_bytes());
                }
            }
            Content::Long { root, chunks } => {
                hasher.update(&[2]).update(&root.0).update(&chunks.to_le_bytes());
            }
        }
        Self(*hasher.finalize().as_bytes())
    }
}

impl std::fmt::Display for FileId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        ChunkId(self.0).fmt(f)
    }
}

impl std::fmt::Debug for FileId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileId({})", ChunkId(self.0).short())
    }
}

/// What there is of a file now, and so how it is best opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Its bytes are in its directory entry.
    Inline,
    /// Too short for a copy of its own: it is read by chunks.
    Small,
    /// Its whole file is there.
    Materialised,
    /// Its whole file is not there, and short enough to wait for.
    MustMaterialise,
    /// Nobody should wait for its whole file: it is long, or the cache takes nothing at present. It is read by chunks.
    Large,
}

/// Why bytes of a file are not to be had.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Stored bytes are not what their id says.
    #[error("the file is damaged in the store")]
    Damaged {
        /// The chunk, where one is named.
        chunk: Option<ChunkId>,
        /// What the store says.
        source: Arc<cairn_store::Error>,
    },
    /// The store has not got a part of it, or cannot be read.
    #[error("the file cannot be read from the store")]
    Store {
        /// What the store says.
        source: Arc<cairn_store::Error>,
    },
    /// The cache's disk is full, read-only or failing, or was a short time ago. Reading by chunks may work.
    #[error("the cache of whole files takes nothing: {reason}")]
    Cache {
        /// What the system said.
        reason: Arc<str>,
    },
    /// All that the cache holds is in use, and there is no room beside it. Reading by chunks may work.
    #[error("the cache of whole files has no room for {bytes} bytes")]
    NoRoom {
        /// What the file takes.
        bytes: u64,
    },
    /// It took too long.
    #[error("the file was not there in time")]
    Deadline,
    /// The process is about to end.
    #[error("stopped on request")]
    Stopped,
}

impl ReadError {
    /// Whether the file may well be read by chunks although its whole file is not to be had.
    #[must_use]
    pub fn is_of_cache(&self) -> bool {
        matches!(self, Self::Cache { .. } | Self::NoRoom { .. } | Self::Deadline)
    }

    pub(crate) fn of_store(error: cairn_store::Error) -> Self {
        match error {
            cairn_store::Error::Damaged { chunk, .. } => Self::Damaged { chunk, source: Arc::new(error) },
            error => Self::Store { source: Arc::new(error) },
        }
    }
}

/// Figures about the files of all mounts.
#[derive(Debug, Clone, Default)]
pub struct CacheStatus {
    /// Bytes on disk that whole files take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub bytes_max: u64,
    /// Whole files.
    pub files: u64,
    /// Whole files that are in use.
    pub held: u64,
    /// Opens that found the whole file.
    pub hits: u64,
    /// Opens that did not.
    pub misses: u64,
    /// Files that were written to the cache.
    pub materialised: u64,
    /// Bytes of these.
    pub materialised_bytes: u64,
    /// Files that made room for others.
    pub evicted: u64,
    /// Why the cache takes nothing at present.
    pub unavailable: Option<String>,
    /// Bytes of decoded blocks in memory.
    pub block_bytes: u64,
    /// Reads that found their block decoded.
    pub block_hits: u64,
    /// Reads that had to decode one.
    pub block_misses: u64,
    /// What was found damaged, oldest first.
    pub damage: Vec<Damage>,
    /// How much damage was found, also what is not listed.
    pub damage_count: u64,
}

/// The files of a store, shared by all mounts of a process.
pub struct Files {
    materialiser: Arc<Materialiser>,
    reader: Reader,
    prefetcher: Prefetcher,
    damage: DamageLog,
    options: CacheOptions,
}

impl Files {
    /// Opens the cache: what a crash left is removed, what is over the bound too.
    ///
    /// # Errors
    /// When the cache's folder can neither be made nor listed.
    pub fn open(store: Store, options: CacheOptions) -> std::io::Result<Arc<Self>> {
        let materialiser = Arc::new(Materialiser::open(store.clone(), &options.dir, options.bytes_max)?);
        let reader = Reader::new(store, options.chunk_cache_bytes)?;
        let prefetcher = Prefetcher::new(Arc::clone(&materialiser))?;
        Ok(Arc::new(Self { materialiser, reader, prefetcher, damage: DamageLog::default(), options }))
    }

    /// The folder of whole files.
    pub(crate) fn dir(&self) -> &std::path::Path {
        &self.options.dir
    }

    /// What is there of a file now. Never slow.
    #[must_use]
    pub fn ready(&self, file: &FileSpec) -> Ready {
        match &file.content {
            Content::Inline(_) => Ready::Inline,
            _ if file.size <= self.options.small_max => Ready::Small,
            _ if self.materialiser.has(&FileId::of(file)) => Ready::Materialised,
            _ if file.size <= self.wait_max() && self.materialiser.is_well() => Ready::MustMaterialise,
            _ => Ready::Large,
        }
    }

    fn wait_max(&self) -> u64 {
        self.options.materialise_max.min(self.materialiser.bytes_max() / 4)
    }

    /// Makes the whole file, unless it is there, and opens it for reading. One thread writes it; others that want the
    /// same one wait, no longer than until `deadline`. Hold it first ([`Files::hold`]) if it is to stay.
    ///
    /// # Errors
    /// [`ReadError`]; where [`ReadError::is_of_cache`], reading by chunks may work.
    pub fn materialise(&self, file: &FileSpec, deadline: Option<Instant>) -> Result<OwnedFd, ReadError> {
        self.materialiser.materialise(file, deadline)
    }

    /// Opens a whole file that is there, for reading.
    #[must_use]
    pub fn open_materialised(&self, id: &FileId) -> Option<OwnedFd> {
        self.materialiser.open_file(id)
    }

    /// The same, if that takes no disk.
    pub(crate) fn try_open_materialised(&self, id: &FileId) -> Option<OwnedFd> {
        self.materialiser.try_open_file(id)
    }

    /// Appends up to `len` bytes from `offset` on to `reply`: fewer only where the file ends.
    ///
    /// # Errors
    /// [`ReadError`]. Then `reply` has what could be read before the bytes that could not, all of it verified.
    pub fn read(&self, file: &FileSpec, offset: u64, len: u32, reply: &mut Vec<u8>) -> Result<(), ReadError> {
        let len = len_within(file, offset, len);
        if self.is_cacheable(file) && self.materialiser.read(&FileId::of(file), offset, len, reply) {
            return Ok(());
        }
        self.reader.read(file, offset, len, reply)
    }

    /// Like [`Files::read`], if it takes neither decoding nor waiting for a disk. Else `reply` stays as it was, and the
    /// answer is no.
    #[must_use]
    pub fn try_read(&self, file: &FileSpec, offset: u64, len: u32, reply: &mut Vec<u8>) -> bool {
        let len = len_within(file, offset, len);
        if self.is_cacheable(file) && self.materialiser.try_read(&FileId::of(file), offset, len, reply) {
            return true;
        }
        self.reader.try_read(file, offset, len, reply)
    }

    /// Makes the whole file in the background, when there is time and room.
    pub fn prefetch(&self, file: &FileSpec) {
        if self.is_cacheable(file) {
            self.prefetcher.add(file);
        }
    }

    /// Whether a copy of its own may be made of it.
    fn is_cacheable(&self, file: &FileSpec) -> bool {
        !matches!(file.content, Content::Inline(_)) && file.size > self.options.small_max
    }

    /// A file is in use once more: until it is released as often, its whole file is not removed, be it there already or
    /// not.
    pub fn hold(&self, id: &FileId) {
        self.materialiser.hold(id);
    }

    /// A file is in use once less.
    pub fn release(&self, id: &FileId) {
        self.materialiser.release(id);
    }

    /// Remembers damage that was met under a path, which is asked for only if that is news.
    pub fn note_damage(&self, error: &ReadError, path: impl FnOnce() -> Vec<u8>) {
        self.damage.note(error, path);
    }

    /// Figures.
    #[must_use]
    pub fn status(&self) -> CacheStatus {
        let CacheFigures {
            bytes,
            bytes_max,
            files,
            held,
            hits,
            misses,
            materialised,
            materialised_bytes,
            evicted,
            unavailable,
        } = self.materialiser.figures();
        let (block_bytes, block_hits, block_misses) = self.reader.figures();
        let (damage, damage_count) = self.damage.list();
        CacheStatus {
            bytes,
            bytes_max,
            files,
            held,
            hits,
            misses,
            materialised,
            materialised_bytes,
            evicted,
            unavailable,
            block_bytes,
            block_hits,
            block_misses,
            damage,
            damage_count,
        }
    }
}

/// How many of `len` bytes from `offset` on the file has.
fn len_within(file: &FileSpec, offset: u64, len: u32) -> u32 {
    u32::try_from(file.size.saturating_sub(offset)).map_or(len, |left| left.min(len))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::testing::{Scratch, noise};

    fn whole(file: OwnedFd) -> Vec<u8> {
        let mut bytes = Vec::new();
        std::fs::File::from(file).read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn each_size_is_opened_as_it_should_and_reads_the_same_either_way() {
        let mut sparse = vec![0; 3 << 20];
        sparse[1 << 20..(1 << 20) + 100].fill(7);
        let plain =
            [Vec::new(), noise(1, 100), noise(2, 60 << 10), noise(3, 1 << 20), noise(4, 17 << 20), sparse];
        let (scratch, specs) = Scratch::with(&plain);
        let files = Files::open(scratch.store.clone(), scratch.options()).unwrap();
        use Ready::{Inline, Large, MustMaterialise, Small};
        let expected = [Inline, Inline, Small, MustMaterialise, Large, MustMaterialise];
        assert_eq!(specs.iter().map(|spec| files.ready(spec)).collect::<Vec<_>>(), expected);
        for (spec, plain) in specs.iter().zip(&plain) {
            let mut reply = Vec::new();
            files.read(spec, 0, u32::MAX, &mut reply).unwrap();
            assert!(reply == *plain);
            if expected[0] != files.ready(spec) {
                assert!(whole(files.materialise(spec, None).unwrap()) == *plain);
                assert!(whole(files.open_materialised(&FileId::of(spec)).unwrap()) == *plain);
            }
        }
        assert_eq!(files.ready(&specs[3]), Ready::Materialised);
        assert_eq!(files.status().materialised, 4);
        // A hole takes no room.
        assert!(files.status().bytes < 20 << 20);
    }
}
