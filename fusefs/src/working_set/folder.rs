//! The folder of records, `cache/working-set` in the store: a file for each package, by its name, written beside and renamed.
//! Nothing is synced: what a power cut damages is not believed.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_store::{Name, Store};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, fstat, mkdir, openat, renameat, statat, unlinkat};
use rustix::io::{Errno, Result, read, write};

use super::record::{RECORD_LEN_MAX, Record};

/// Files in it, at most. The one that was written the longest ago goes first.
const FILES_MAX: usize = 1024;

/// Where records are.
pub(super) struct Folder {
    path: PathBuf,
    number: AtomicU64,
}

impl Folder {
    pub(super) fn of(store: &Store) -> Self {
        Self { path: store.path().join("cache").join("working-set"), number: AtomicU64::new(0) }
    }

    /// What is known of a package, if anything is.
    pub(super) fn read(&self, package: &Name) -> Option<Record> {
        let bytes = self.read_file(package).ok()??;
        let record = Record::decode(&bytes);
        if record.is_none() {
            tracing::debug!(%package, "what is known of who reads it is not understood, and forgotten");
        }
        record
    }

    /// The bytes of a record; none if they are more than any record has.
    fn read_file(&self, package: &Name) -> Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(&self.open()?, package.as_str(), flags, Mode::empty())?;
        let len = usize::try_from(fstat(&file)?.st_size).unwrap_or(usize::MAX);
        if len > RECORD_LEN_MAX {
            return Ok(None);
        }
        let (mut bytes, mut filled) = (vec![0; len], 0);
        while filled < len {
            match read(&file, &mut bytes[filled..]) {
                Ok(0) => return Ok(None),
                Ok(more) => filled += more,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(Some(bytes))
    }

    /// Replaces what is known of a package.
    pub(super) fn write(&self, package: &Name, record: &Record) -> Result<()> {
        let bytes = record.encode();
        for folder in [self.path.parent().unwrap_or(&self.path), &self.path] {
            match mkdir(folder, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        let folder = self.open()?;
        // No name of a package begins like this.
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let part = format!(".part-{}-{number}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let written = openat(&folder, &part, flags, Mode::RUSR | Mode::WUSR)
            .and_then(|file| write_all(&file, &bytes))
            .and_then(|()| renameat(&folder, &part, &folder, package.as_str()));
        if written.is_err() {
            // Should it not go now, it goes with the oldest.
            let _ = unlinkat(&folder, &part, AtFlags::empty());
        }
        written.and_then(|()| remove_oldest(&folder))
    }

    fn open(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, &self.path, flags, Mode::empty())
    }
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match write(file, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn remove_oldest(folder: &OwnedFd) -> Result<()> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    if names.len() <= FILES_MAX {
        return Ok(());
    }
    let age = |name: std::ffi::CString| {
        let stat = statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some((stat.st_mtime, stat.st_mtime_nsec, name))
    };
    let mut by_age: Vec<_> = names.into_iter().filter_map(age).collect();
    by_age.sort_unstable();
    for (.., name) in by_age.iter().take(by_age.len().saturating_sub(FILES_MAX)) {
        unlinkat(folder, name, AtFlags::empty())?;
    }
    Ok(())
}
