//! Deltas as files: the BLAKE3 of the body, then the body as it is sent. A file is looked at whole before it is sent for
//! the first time, so that a disk that rots makes no liar of this server.

#![expect(
    clippy::disallowed_methods,
    reason = "what is kept here can be made again at any time, and nothing durable rests on it"
)]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::Pair;
use crate::enumerations::Part;

/// Where the body begins.
pub(crate) const BODY_AT: u64 = 32;
/// Of this version of deltas, within the store.
const FOLDER: &str = "cache/deltas-1";
const ENDINGS: [(Part, &str); 2] = [(Part::Objects, "objects"), (Part::Chunks, "chunks")];
/// Of what is not all written.
const UNFINISHED: &str = "part";

/// The files of a store.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    bytes_max: u64,
    /// Guards what is known of them. A leaf lock.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    is_listed: bool,
    entries: HashMap<Pair, Entry>,
    tick: u64,
}

#[derive(Debug)]
struct Entry {
    /// Bytes of the file.
    bytes: u64,
    used: u64,
    is_sound: bool,
}

/// A delta that is being written.
pub(super) struct Written {
    path: PathBuf,
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    len: u64,
}

impl Files {
    pub(super) fn new(store: &Path, bytes_max: u64) -> Self {
        Self { folder: store.join(FOLDER), bytes_max, known: Mutex::default() }
    }

    /// A delta and the bytes of its body, if it is here.
    pub(super) fn open(&self, pair: Pair) -> Option<(Arc<File>, u64)> {
        let mut known = self.lock();
        self.list(&mut known);
        known.tick += 1;
        let used = known.tick;
        let entry = known.entries.get_mut(&pair)?;
        entry.used = used;
        let path = self.path(pair);
        let opened = File::open(&path).ok().filter(|file| {
            entry.is_sound = entry.is_sound || is_sound(file).unwrap_or(false);
            entry.is_sound
        });
        let bytes = entry.bytes;
        if opened.is_none() {
            tracing::warn!(path = %path.display(), "a delta that was kept does not hold, and is made anew");
            known.entries.remove(&pair);
            remove(&path);
        }
        opened.map(|file| (Arc::new(file), bytes - BODY_AT))
    }

    /// Whether a delta is here, as far as is known.
    pub(super) fn has(&self, pair: Pair) -> bool {
        let mut known = self.lock();
        self.list(&mut known);
        known.entries.contains_key(&pair)
    }

    /// The deltas that are here, as far as is known, and the bytes of each one's body.
    pub(super) fn kept(&self) -> Vec<(Pair, u64)> {
        let mut known = self.lock();
        self.list(&mut known);
        known.entries.iter().map(|(pair, entry)| (*pair, entry.bytes.saturating_sub(BODY_AT))).collect()
    }

    pub(super) fn create(&self, pair: Pair) -> io::Result<Written> {
        fs::create_dir_all(&self.folder)?;
        let path = self.path(pair).with_extension(UNFINISHED);
        let mut file = BufWriter::new(File::create(&path)?);
        file.write_all(&[0; 32])?;
        Ok(Written { path, file, hasher: blake3::Hasher::new(), len: 0 })
    }

    /// Keeps a delta that is all written.
    pub(super) fn keep(&self, pair: Pair, written: Written) -> io::Result<()> {
        let path = self.path(pair);
        let len = written.finish(&path)?;
        let mut known = self.lock();
        self.list(&mut known);
        known.tick += 1;
        let entry = Entry { bytes: len + BODY_AT, used: known.tick, is_sound: true };
        known.entries.insert(pair, entry);
        while known.entries.values().map(|entry| entry.bytes).sum::<u64>() > self.bytes_max {
            let oldest = known.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(pair, _)| *pair);
            let Some(oldest) = oldest else { break };
            known.entries.remove(&oldest);
            remove(&self.path(oldest));
        }
        Ok(())
    }

    /// Finds out what an earlier process left.
    fn list(&self, known: &mut Known) {
        if std::mem::replace(&mut known.is_listed, true) {
            return;
        }
        let Ok(folder) = fs::read_dir(&self.folder) else { return };
        let mut found: Vec<(SystemTime, Pair, u64)> = Vec::new();
        for entry in folder.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            match (pair_of(&name), entry.metadata()) {
                (Some(pair), Ok(data)) if data.len() > BODY_AT => {
                    found.push((data.modified().unwrap_or(SystemTime::UNIX_EPOCH), pair, data.len()));
                }
                // Of another version, or of a process that ended.
                _ => remove(&entry.path()),
            }
        }
        found.sort_unstable_by_key(|(time, ..)| *time);
        for (_, pair, bytes) in found {
            known.tick += 1;
            known.entries.insert(pair, Entry { bytes, used: known.tick, is_sound: false });
        }
    }

    fn path(&self, pair: Pair) -> PathBuf {
        let ending = ENDINGS.iter().find(|(part, _)| *part == pair.part).map_or("", |(_, ending)| ending);
        self.folder.join(format!("{}-{}.{ending}", pair.have, pair.want))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Each change is one insertion or removal: a panic elsewhere leaves it sound.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Written {
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn finish(self, path: &Path) -> io::Result<u64> {
        let Self { path: part, file, hasher, len } = self;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.write_all_at(hasher.finalize().as_bytes(), 0)?;
        file.sync_data()?;
        fs::rename(part, path)?;
        Ok(len)
    }

    /// Removes what was written.
    pub(super) fn discard(self) {
        remove(&self.path);
    }
}

fn is_sound(mut file: &File) -> io::Result<bool> {
    let mut said = [0; 32];
    file.read_exact(&mut said)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().as_bytes() == &said),
            read => hasher.update(&buffer[..read]),
        };
    }
}

fn pair_of(name: &str) -> Option<Pair> {
    let (ids, ending) = name.split_once('.')?;
    let (have, want) = ids.split_once('-')?;
    let (part, _) = ENDINGS.iter().find(|(_, known)| *known == ending)?;
    Some(Pair { have: have.parse().ok()?, want: want.parse().ok()?, part: *part })
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a delta cannot be removed");
    }
}
