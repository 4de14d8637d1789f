//! The bytes of regular files, for all mounts of a process: whole files in a cache on disk, which the kernel can read by
//! itself, and any range of any file decoded from the store.
//!
//! Roles: `materialise` keeps the whole files, `read` decodes ranges, `prefetch` materialises in the background, `far` brings
//! what is not here from other machines, `damage` remembers what was found damaged. This module knows which of them answers.
//!
//! Nothing here waits for other machines but [`Files::bring`] and [`Files::bring_program`].
//!
//! It knows content, not names: two names of equal content are one file here, and whoever asks says under which path
//! damage was met ([`Files::note_damage`]).

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use cairn_store::{ArtifactId, ChunkId, Content, Kind, Store};

use crate::attr::Ino;
use crate::damage::{Damage, DamageLog};
use crate::far::{Far, FetchStatus, may_be_elsewhere};
use crate::handle::OpenFile;
use crate::materialise::{CacheFigures, Materialiser};
use crate::prefetch::Prefetcher;
use crate::read::Reader;
use crate::working_set::{Names, Recorder, WorkingSet};

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
    /// How long a request of the kernel may wait for other machines; then it is EIO.
    pub fetch_max: Duration,
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
            fetch_max: Duration::from_secs(30),
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
    /// A part of it is not here, and nobody brings it.
    #[error("the file is not all here")]
    Unavailable {
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

    /// Whether another machine may have what is not here or not sound.
    #[must_use]
    pub fn is_of_store(&self) -> bool {
        match self {
            Self::Damaged { source, .. } | Self::Unavailable { source } | Self::Store { source } => {
                may_be_elsewhere(source)
            }
            _ => false,
        }
    }

    pub(crate) fn of_store(error: cairn_store::Error) -> Self {
        match error {
            cairn_store::Error::Damaged { chunk, .. } => Self::Damaged { chunk, source: Arc::new(error) },
            error if matches!(error.kind(), Kind::Absent | Kind::Unavailable) => {
                Self::Unavailable { source: Arc::new(error) }
            }
            error => Self::Store { source: Arc::new(error) },
        }
    }

    /// Whether both are about the same damaged chunk.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let (Self::Damaged { chunk: Some(own), .. }, Self::Damaged { chunk: Some(other), .. }) =
            (self, other)
        else {
            return false;
        };
        own == other
    }

    /// What it comes to that a chunk cannot be read; of damage the error need not name it.
    pub(crate) fn of_chunk(chunk: ChunkId, error: cairn_store::Error) -> Self {
        match error {
            error @ cairn_store::Error::Damaged { .. } => {
                Self::Damaged { chunk: Some(chunk), source: Arc::new(error) }
            }
            error => Self::of_store(error),
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
    /// What other machines were asked for.
    pub fetch: FetchStatus,
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
    far: Far,
    recorder: Recorder,
    damage: DamageLog,
    options: CacheOptions,
}

impl Files {
    /// Opens the cache: what a crash left is removed, what is over the bound too.
    ///
    /// # Errors
    /// When the cache's folder can neither be made nor listed.
    pub fn open(store: Store, options: CacheOptions) -> std::io::Result<Arc<Self>> {
        let materialiser = Arc::new(Materialiser::open(store.local(), &options.dir, options.bytes_max)?);
        let reader = Reader::new(&store, options.chunk_cache_bytes)?;
        let prefetcher = Prefetcher::new(Arc::clone(&materialiser), store.local())?;
        let recorder = Recorder::new(store.local())?;
        let far = Far::new(store);
        let damage = DamageLog::default();
        Ok(Arc::new(Self { materialiser, reader, prefetcher, far, recorder, damage, options }))
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

    /// Whether other machines can be asked for what is not here.
    #[must_use]
    pub fn can_fetch(&self) -> bool {
        self.far.is_of_use()
    }

    /// How long a request of the kernel may wait for other machines.
    #[must_use]
    pub fn fetch_max(&self) -> Duration {
        self.options.fetch_max
    }

    /// Whether a part of a file is not here, and other machines may have it. It takes looking at each of its chunks.
    #[must_use]
    pub fn is_partial(&self, file: &FileSpec) -> bool {
        self.is_cacheable(file) && self.far.is_partial(file)
    }

    /// Brings what a read lacks, with what it may lack next, and sound copies of what is damaged; says which chunks were.
    /// It waits for other machines, as long as they take.
    ///
    /// # Errors
    /// [`ReadError`]: nobody brought it.
    pub fn bring(&self, file: &FileSpec, offset: u64, len: u32) -> Result<Vec<ReadError>, ReadError> {
        let end = offset.saturating_add(len_within(file, offset, len).into());
        if offset >= end || matches!(file.content, Content::Inline(_)) {
            return Ok(Vec::new());
        }
        let id = FileId::of(file);
        let brought = self.far.bring(&self.reader, file, &id, offset..end);
        if brought.is_ok() {
            self.far.note_reached(&id);
        }
        brought
    }

    /// Brings what whoever starts a file will need of it, if it is a program. It waits for other machines, as long as they
    /// take.
    pub fn bring_program(&self, file: &FileSpec) {
        if self.is_cacheable(file) {
            self.far.bring_program(&self.reader, file, &FileId::of(file));
        }
    }

    /// Takes note of a read that failed because nobody brought what it lacks: said once, until it can be read again.
    pub fn note_out_of_reach(&self, file: &FileSpec, error: &ReadError, path: impl FnOnce() -> Vec<u8>) {
        let reason = match error {
            ReadError::Unavailable { source } => source.to_string(),
            error => {
                self.far.note_late();
                error.to_string()
            }
        };
        self.far.note_out_of_reach(&FileId::of(file), &reason, path);
    }

    /// Makes the whole file in the background, when there is time and room, and all of it is here.
    pub fn prefetch(&self, file: &FileSpec) {
        if self.is_cacheable(file) {
            self.prefetcher.add(file);
        }
    }

    /// Whether a copy of its own may be made of it.
    fn is_cacheable(&self, file: &FileSpec) -> bool {
        !matches!(file.content, Content::Inline(_)) && file.size > self.options.small_max
    }

    /// A file of a mount is open. `is_opaque` says that nobody can tell what is read of it.
    pub(crate) fn note_opened(
        &self,
        names: &Weak<dyn Names>,
        ino: Ino,
        file: &Arc<OpenFile>,
        is_opaque: bool,
    ) {
        // Of what is no longer than a few chunks, any read is as good as all.
        let is_whole = is_opaque || file.spec.size <= self.options.small_max;
        self.recorder.opened(names, ino, file, is_whole);
    }

    /// What readers of an artifact will want of it, as far as those of the versions before it tell; nothing where nobody
    /// has read any.
    ///
    /// # Errors
    /// [`cairn_store::Error`] where the artifact's metadata cannot be read.
    pub fn working_set(&self, artifact: &ArtifactId) -> cairn_store::Result<Option<WorkingSet>> {
        self.recorder.flush();
        WorkingSet::of(self.far.store(), artifact)
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

    /// Remembers damage that was met and is healed.
    pub fn note_healed(&self, error: &ReadError, path: impl FnOnce() -> Vec<u8>) {
        if matches!(error, ReadError::Damaged { .. }) {
            self.far.note_healed();
            self.damage.note(error, path);
            self.damage.note_healed(error);
        }
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
            fetch: self.far.figures(),
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
