//! From an artifact to a tree of files: written beside the destination, complete and verified, then renamed into place.
//!
//! Roles: this module walks the artifact, makes directories and links, and hands files to the workers; `write` fills
//! them; `place` swaps the finished tree in; `meta` sets owners, times and the rest.

mod check;
mod file;
mod meta;
mod place;
mod seed;
mod write;

use std::collections::{HashMap, VecDeque};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dev, FileType, Mode, OFlags, fsync, linkat, mkdirat, mknodat, openat, symlinkat};

pub use self::check::Checked;
pub use self::file::{FileWriter, Written};
use self::meta::Meta;
use self::place::Staging;
use self::seed::Seeds;
use self::write::{Counts, Job, LongFile, Part, Piece, SmallFile};
use crate::artifact::Artifact;
use crate::content::{ChunkRef, Content, chunks};
use crate::error::{Error, Result};
use crate::id::ArtifactId;
use crate::pool::{Pending, Pool, Rank};
use crate::progress::Progress;
use crate::store::Store;
use crate::tree::{Entry, Node};

/// Bytes of small files that one job writes, about; a longer file is a job of its own.
const PIECE_MIN: u64 = 4 << 20;
/// Bytes that one job writes, at most.
const PIECE_MAX: u64 = 64 << 20;
/// Files that one job writes, at most.
const PIECE_FILES: usize = 256;
/// Files up to which each is synced by itself. More are left to one sync of the whole file system, which costs less
/// than thousands of small ones, but waits for whatever else is being written there.
const SYNC_EACH_MAX: u64 = 256;

/// How an artifact is restored.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// Whether a destination that is there and not empty is replaced.
    pub force: bool,
    /// Folders that may have some of the files already; the destination is one, if it is replaced.
    pub seeds: Vec<PathBuf>,
    /// Whether to leave it to the system when the files reach the disk, as `cp` does.
    pub no_sync: bool,
    /// Worker threads; one for each core where none are given.
    pub threads: Option<NonZero<usize>>,
}

/// What was restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Regular files.
    pub files: u64,
    /// Directories, the root among them.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes that came from seeds.
    pub seeded_bytes: u64,
    /// Bytes among these that share their blocks on disk with the seed.
    pub cloned_bytes: u64,
    /// Zero bytes that were left as holes.
    pub hole_bytes: u64,
}

impl Store {
    /// Restores an artifact as the folder `dest`.
    ///
    /// # Errors
    /// [`Error::Conflict`] when `dest` is there and not empty and is not to be replaced, [`Error::Tree`] when a file
    /// cannot be written, [`Error::Damaged`], [`Error::Absent`], [`Error::Cancelled`], [`Error::Io`]. Then `dest` is as
    /// it was.
    pub fn restore(
        &self,
        artifact: &ArtifactId,
        dest: &Path,
        options: &RestoreOptions,
        progress: &dyn Progress,
    ) -> Result<Restored> {
        let artifact = self.artifact(artifact)?;
        let staging = Staging::make(dest, options.force)?;
        let mut seeds = options.seeds.clone();
        seeds.extend(staging.replaces().then(|| dest.to_owned()));
        progress.expect(artifact.bytes, artifact.files);
        let pool = Pool::new(options.threads);
        let sync_each = !options.no_sync && artifact.files <= SYNC_EACH_MAX;
        let share = artifact.bytes / (pool.threads() as u64 * 8);
        let mut run = Run {
            job: Arc::new(Job {
                store: self.clone(),
                root: staging.root(),
                shown: dest.to_owned(),
                sync_each,
            }),
            seeds: Arc::new(Seeds::new(seeds)),
            progress,
            pool: &pool,
            piece_bytes: share.clamp(PIECE_MIN, PIECE_MAX),
            divide_bytes: (share * 4).clamp(PIECE_MIN, PIECE_MAX),
            small: Vec::new(),
            small_bytes: 0,
            pending: VecDeque::new(),
            links: HashMap::new(),
            later_links: Vec::new(),
            folders: Vec::new(),
            done: Restored { directories: 1, ..Restored::default() },
        };
        run.walk(&artifact)?;
        run.finish(&artifact)?;
        let done = run.done;
        drop(pool);
        staging.commit(!options.no_sync && !sync_each)?;
        Ok(done)
    }
}

struct Run<'a> {
    job: Arc<Job>,
    seeds: Arc<Seeds>,
    progress: &'a dyn Progress,
    pool: &'a Pool,
    piece_bytes: u64,
    /// Files longer than this are divided among workers, which then wait for each other at the file's lock.
    divide_bytes: u64,
    small: Vec<SmallFile>,
    small_bytes: u64,
    pending: VecDeque<Pending<Result<Counts>>>,
    /// The first path of each hard-link group.
    links: HashMap<u32, Vec<u8>>,
    /// (existing path, new path) once all files are there.
    later_links: Vec<(Vec<u8>, Vec<u8>)>,
    /// Directories in walk order, whose times and modes are set last.
    folders: Vec<(Vec<u8>, Meta)>,
    done: Restored,
}

impl Run<'_> {
    fn walk(&mut self, artifact: &Artifact) -> Result<()> {
        let store = self.job.store.clone();
        for step in artifact.walk(&store) {
            if self.progress.cancelled() {
                return Err(Error::Cancelled);
            }
            let (path, entry) = step?;
            self.make(path, entry)?;
        }
        self.submit_small();
        Ok(())
    }

    fn make(&mut self, path: Vec<u8>, entry: Entry) -> Result<()> {
        let root: &OwnedFd = &self.job.root;
        let meta = Meta::of(&entry);
        let failed = |action| Error::tree(action, self.job.show(&path));
        match entry.node {
            Node::Dir { .. } => {
                mkdirat(root, &path[..], Mode::RWXU).map_err(failed("create"))?;
                self.done.directories += 1;
                self.folders.push((path, meta));
                Ok(())
            }
            Node::Symlink { target } => {
                symlinkat(&target[..], root, &path[..]).map_err(failed("create the link"))?;
                self.done.symlinks += 1;
                meta.set_by_path(root, &path, false).map_err(failed("set the metadata of"))
            }
            Node::Fifo => self.make_special(&path, &meta, FileType::Fifo, 0, 0),
            Node::Char { major, minor } => {
                self.make_special(&path, &meta, FileType::CharacterDevice, major, minor)
            }
            Node::Block { major, minor } => {
                self.make_special(&path, &meta, FileType::BlockDevice, major, minor)
            }
            Node::File { size, content } => self.make_file(path, meta, size, content),
        }
    }

    fn make_special(&self, path: &[u8], meta: &Meta, kind: FileType, major: u32, minor: u32) -> Result<()> {
        let device: Dev = rustix::fs::makedev(major, minor);
        let failed = |action| Error::tree(action, self.job.show(path));
        mknodat(&self.job.root, path, kind, Mode::from_raw_mode(u32::from(meta.mode())), device)
            .map_err(failed("create the device or pipe"))?;
        meta.set_by_path(&self.job.root, path, true).map_err(failed("set the metadata of"))
    }

    fn make_file(&mut self, path: Vec<u8>, meta: Meta, size: u64, content: Content) -> Result<()> {
        self.done.files += 1;
        self.done.bytes += size;
        if let Some(group) = meta.link_group() {
            match self.links.get(&group) {
                Some(first) => {
                    self.later_links.push((first.clone(), path));
                    self.progress.advance(size, 1);
                    return Ok(());
                }
                None => drop(self.links.insert(group, path.clone())),
            }
        }
        if size > self.divide_bytes {
            return self.make_long(path, meta, size, &content);
        }
        let store = self.job.store.clone();
        let part = match content {
            Content::Inline(bytes) => Part::Inline(bytes),
            content => Part::Chunks(chunks(&content, size, &store).collect::<Result<_>>()?),
        };
        self.small.push(SmallFile { path, meta, size, part });
        self.small_bytes += size;
        if self.small_bytes >= self.piece_bytes || self.small.len() >= PIECE_FILES {
            self.submit_small();
        }
        self.drain(self.pool.threads() * 4)
    }

    fn submit_small(&mut self) {
        let files = std::mem::take(&mut self.small);
        self.small_bytes = 0;
        if !files.is_empty() {
            self.submit(Piece::Small(files));
        }
    }

    fn make_long(&mut self, path: Vec<u8>, meta: Meta, size: u64, content: &Content) -> Result<()> {
        self.submit_small();
        let file = Arc::new(LongFile::create(&self.job, &self.seeds, path, meta, size)?);
        let store = self.job.store.clone();
        let (mut part, mut bytes) = (Vec::<(u64, ChunkRef)>::new(), 0);
        for chunk in chunks(content, size, &store) {
            let (offset, chunk) = chunk?;
            part.push((offset, chunk));
            bytes += u64::from(chunk.len);
            if bytes >= self.piece_bytes {
                self.submit(Piece::Long(Arc::clone(&file), std::mem::take(&mut part)));
                bytes = 0;
                self.drain(self.pool.threads() * 4)?;
            }
        }
        self.submit(Piece::Long(file, part));
        Ok(())
    }

    fn submit(&mut self, piece: Piece) {
        let (job, seeds) = (Arc::clone(&self.job), Arc::clone(&self.seeds));
        let pending = self.pool.submit(Rank::Beginning, move |tools| piece.write(&job, &seeds, tools));
        self.pending.push_back(pending);
    }

    /// Waits until at most `most` jobs are under way.
    fn drain(&mut self, most: usize) -> Result<()> {
        while self.pending.len() > most {
            if self.progress.cancelled() {
                return Err(Error::Cancelled);
            }
            let Some(pending) = self.pending.pop_front() else { break };
            let counts = pending.wait()?;
            self.progress.advance(counts.bytes, counts.files);
            self.done.seeded_bytes += counts.seeded_bytes;
            self.done.cloned_bytes += counts.cloned_bytes;
            self.done.hole_bytes += counts.hole_bytes;
        }
        Ok(())
    }

    /// What has to wait for all files: hard links, then directories from the deepest up.
    fn finish(&mut self, artifact: &Artifact) -> Result<()> {
        self.drain(0)?;
        let root: &OwnedFd = &self.job.root;
        for (from, to) in &self.later_links {
            linkat(root, &from[..], root, &to[..], AtFlags::empty())
                .map_err(Error::tree("link", self.job.show(to)))?;
        }
        for (path, meta) in self.folders.iter().rev() {
            meta.set_by_path(root, path, true)
                .map_err(Error::tree("set the metadata of", self.job.show(path)))?;
        }
        let meta = Meta::of_root(artifact);
        meta.set(root).map_err(Error::tree("set the metadata of", self.job.show(b"")))?;
        self.sync_folder(b".")
    }

    /// Makes a finished folder's names durable, where files are synced one by one.
    fn sync_folder(&self, path: &[u8]) -> Result<()> {
        if !self.job.sync_each {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(&self.job.root, path, flags, Mode::empty()) {
            Ok(folder) => fsync(folder).map_err(Error::tree("sync", self.job.show(path))),
            // A folder whose mode forbids its owner to read it can be made, and not be synced.
            Err(rustix::io::Errno::ACCESS) => Ok(()),
            Err(errno) => Err(Error::tree("open", self.job.show(path))(errno)),
        }
    }
}
