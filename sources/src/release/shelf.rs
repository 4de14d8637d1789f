//! The folder of downloads: finished ones by their hash, unfinished ones, and what is known of where they came from.
//!
//! - `HASH` is a finished download. Its name is no proof: whoever uses it hashes it, with a shared lock on it.
//! - `KEY.part` is an unfinished one, written by whoever has its lock and nobody else. It is given its name under that lock, so that
//!   a lock that was waited for is looked at again: it may be that of the finished file.
//! - `KEY.note` says of what the part is the beginning (JSON). It is believed in no more than that: what comes together is hashed.
//!
//! `KEY` is the hash that the file has to have, or, where nobody says it, `at-` and the hash of the address.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::disk::{self, Shared};
use crate::error::{Error, Result};
use crate::sha256::{Hasher, Sha256};
use crate::watch::Watch;

/// Bytes that are hashed at once.
const BUFFER_BYTES: usize = 256 << 10;
/// How often somebody else's lock is tried.
const PAUSE: Duration = Duration::from_millis(50);
/// How long somebody else may have a download without that more of it comes.
const STUCK: Duration = Duration::from_secs(600);
/// Longest note, in bytes.
const NOTE_LEN_MAX: u64 = 16 << 10;

/// A folder of downloads.
#[derive(Clone, Copy)]
pub(super) struct Shelf<'a> {
    folder: &'a Path,
    watch: &'a dyn Watch,
}

/// A finished download, verified. It stays as long as this is kept.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) path: PathBuf,
    pub(super) sha256: Sha256,
    pub(super) size: u64,
    /// Locked.
    pub(super) file: File,
}

/// An unfinished download that nobody else writes.
pub(super) struct Part {
    path: PathBuf,
    note_path: PathBuf,
    /// Locked.
    file: File,
    hasher: Hasher,
    pub(super) size: u64,
    pub(super) note: Note,
}

/// What is known of a download.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// What the server calls these bytes: an `ETag` or a `Last-Modified`.
    #[serde(default)]
    pub(super) validator: Option<String>,
    /// What it hashed to once it was finished, where nobody says it.
    #[serde(default)]
    pub(super) sha256: Option<Sha256>,
}

impl<'a> Shelf<'a> {
    /// The folder, which is made if it is not there.
    pub(super) fn open(folder: &'a Path, watch: &'a dyn Watch) -> Result<Self> {
        disk::make_folder(folder)?;
        Ok(Self { folder, watch })
    }

    /// A finished download of this hash, if it is here. One that hashes to something else is removed.
    pub(super) fn finished(&self, sha256: &Sha256) -> Result<Option<Finished>> {
        let path = self.folder.join(sha256.to_string());
        let Some(file) = disk::open(&path, OFlags::RDONLY)? else { return Ok(None) };
        // Only whoever removes it has it to himself, and not for long.
        if !self.lock(&file, &path, Shared::Yes)? || !disk::is_at(&file, &path)? {
            return Ok(None);
        }
        let mut hasher = Hasher::default();
        self.hash(&file, &path, &mut hasher)?;
        let (found, size) = hasher.finish();
        if found != *sha256 {
            self.watch.warn(&format!("{} was damaged and is downloaded again", path.display()));
            disk::remove(&path)?;
            return Ok(None);
        }
        disk::touch(&file);
        Ok(Some(Finished { path, sha256: found, size, file }))
    }

    /// The unfinished download of a key, locked; nothing where somebody else has just finished it. What is there is hashed.
    pub(super) fn part(&self, key: &str) -> Result<Option<Part>> {
        let path = self.folder.join(format!("{key}.part"));
        let Some(file) = disk::open(&path, OFlags::RDWR | OFlags::CREATE)? else { return Ok(None) };
        if !self.lock(&file, &path, Shared::No)? || !disk::is_at(&file, &path)? {
            return Ok(None);
        }
        let mut hasher = Hasher::default();
        let size = self.hash(&file, &path, &mut hasher)?;
        let note_path = self.folder.join(format!("{key}.note"));
        let note = self.note(key)?;
        Ok(Some(Part { path, note_path, file, hasher, size, note }))
    }

    /// What is known of a key: nothing where there is no note, or it is damaged.
    pub(super) fn note(&self, key: &str) -> Result<Note> {
        let path = self.folder.join(format!("{key}.note"));
        let Some(file) = disk::open(&path, OFlags::RDONLY)? else { return Ok(Note::default()) };
        let mut bytes = Vec::new();
        file.take(NOTE_LEN_MAX).read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Waits for a lock; says whether it was taken before the file had another name.
    fn lock(&self, file: &File, path: &Path, shared: Shared) -> Result<bool> {
        let (mut size, mut since) = (None, Instant::now());
        while !disk::try_lock(file, path, shared)? {
            if self.watch.cancelled() {
                return Err(Error::Cancelled);
            }
            let now = Some(length(file, path)?);
            if now != size {
                (size, since) = (now, Instant::now());
            }
            if since.elapsed() > STUCK {
                return Err(Error::Unavailable {
                    what: path.display().to_string(),
                    reason: "another process downloads it, and no more of it comes".to_owned(),
                    hint: "end that process, or try again later".to_owned(),
                });
            }
            std::thread::sleep(PAUSE);
        }
        Ok(true)
    }

    /// Hashes a file from where it stands to its end; says how many bytes that are.
    fn hash(&self, mut file: &File, path: &Path, hasher: &mut Hasher) -> Result<u64> {
        let (mut buffer, mut size) = (vec![0; BUFFER_BYTES], 0);
        loop {
            if self.watch.cancelled() {
                return Err(Error::Cancelled);
            }
            match file.read(&mut buffer).map_err(Error::io("read", path))? {
                0 => return Ok(size),
                read => {
                    hasher.update(&buffer[..read]);
                    size += read as u64;
                }
            }
        }
    }
}

impl Part {
    /// Writes what comes next.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        (&self.file).write_all(bytes).map_err(Error::io("write", &self.path))?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Begins again; says how many bytes were given up.
    pub(super) fn restart(&mut self) -> Result<u64> {
        rustix::fs::ftruncate(&self.file, 0)
            .map_err(|errno| Error::io("shorten", &self.path)(errno.into()))?;
        rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Start(0))
            .map_err(|errno| Error::io("rewind", &self.path)(errno.into()))?;
        self.hasher = Hasher::default();
        self.note = Note::default();
        Ok(std::mem::take(&mut self.size))
    }

    /// Notes what the server calls the bytes that begin to come.
    pub(super) fn begin(&mut self, validator: Option<String>) -> Result<()> {
        self.note = Note { validator, sha256: None };
        self.write_note()
    }

    fn write_note(&self) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let text = serde_json::to_vec(&self.note)
            .map_err(|error| Error::io("write", &self.note_path)(error.into()))?;
        match disk::open(&self.note_path, flags)? {
            Some(mut file) => file.write_all(&text).map_err(Error::io("write", &self.note_path)),
            None => Ok(()),
        }
    }

    /// What has come so far hashes to.
    pub(super) fn hash(&self) -> Sha256 {
        self.hasher.clone().finish().0
    }

    /// Gives it the name of its hash, to which it has been compared by the caller if there is something to compare. The
    /// note stays where the hash is known by it alone.
    ///
    /// Nothing is returned where somebody removed it at once.
    pub(super) fn finish(mut self, keeps_note: bool) -> Result<Option<Finished>> {
        let sha256 = self.hash();
        let path = self.path.with_file_name(sha256.to_string());
        if keeps_note && self.note.validator.is_some() {
            self.note.sha256 = Some(sha256);
            self.write_note()?;
        } else {
            disk::remove(&self.note_path)?;
        }
        disk::rename(&self.path, &path)?;
        // Readers share it from here on; between the two locks somebody may prune.
        rustix::fs::flock(&self.file, rustix::fs::FlockOperation::LockShared)
            .map_err(|errno| Error::io("lock", &path)(errno.into()))?;
        let is_there = disk::is_at(&self.file, &path)?;
        Ok(is_there.then_some(Finished { path, sha256, size: self.size, file: self.file }))
    }

    /// Removes it.
    pub(super) fn discard(self) -> Result<()> {
        disk::remove(&self.note_path)?;
        disk::remove(&self.path)
    }
}

fn length(file: &File, path: &Path) -> Result<u64> {
    Ok(file.metadata().map_err(Error::io("look at", path))?.len())
}

/// Whether a name is one that this file gives, with the key before its ending.
fn is_ours(name: &str) -> bool {
    let key = name.strip_suffix(".part").or_else(|| name.strip_suffix(".note")).unwrap_or(name);
    key.strip_prefix("at-").unwrap_or(key).parse::<Sha256>().is_ok()
}

pub(super) fn prune(folder: &Path, bytes_max: u64) -> Result<()> {
    let fail = |errno: rustix::io::Errno| Error::io("read the folder", folder)(errno.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(folder, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        opened => opened.map_err(fail)?,
    };
    let (mut files, mut bytes) = (Vec::new(), 0_u64);
    for entry in rustix::fs::Dir::read_from(&opened).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let Some(name) = entry.file_name().to_str().ok().filter(|name| is_ours(name)) else { continue };
        // Another process may have removed it.
        let Ok(stat) = rustix::fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        bytes = bytes.saturating_add(size);
        files.push((stat.st_mtime, stat.st_mtime_nsec, size, name.to_owned()));
    }
    files.sort_unstable();
    for (_, _, size, name) in files {
        if bytes <= bytes_max {
            break;
        }
        let path = folder.join(name);
        let Ok(Some(file)) = disk::open(&path, OFlags::RDONLY) else { continue };
        if disk::try_lock(&file, &path, Shared::No)? && disk::is_at(&file, &path)? {
            disk::remove(&path)?;
            bytes = bytes.saturating_sub(size);
        }
    }
    Ok(())
}
