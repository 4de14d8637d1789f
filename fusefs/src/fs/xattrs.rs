//! Extended attributes.
//!
//! `ls -l` asks for some of every file, and most mounts show none. Once the kernel is told that they are not supported
//! it stops asking, for as long as the mount lives. That is said when all that is shown is known to have none, which
//! takes reading every artifact; some are read at each question, so that none waits long. An artifact with attributes
//! that comes later shows none before the next mount.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use cairn_store::ArtifactId;

use super::Fs;
use crate::attr::Ino;
use crate::errno::Errno;
use crate::inode::What;

/// Artifacts that are read at one question.
const READ_MAX: usize = 16;

/// What is known about whether extended attributes are of use.
#[derive(Default)]
pub(super) struct Support {
    /// Whether the kernel was told not to ask.
    unsupported: AtomicBool,
    /// Whether an artifact with attributes was met.
    full: AtomicBool,
    /// Guards the artifacts that are known to have none. Comes before the locks of reading artifacts.
    without: Mutex<HashSet<ArtifactId>>,
}

impl Support {
    pub(super) fn is_unsupported(&self) -> bool {
        self.unsupported.load(Ordering::Relaxed)
    }

    pub(super) fn is_hiding(&self) -> bool {
        self.is_unsupported() && self.full.load(Ordering::Relaxed)
    }

    /// Takes note of an artifact that is looked up.
    pub(super) fn met(&self, full: bool) {
        if full && !self.full.swap(true, Ordering::Relaxed) && self.is_unsupported() {
            tracing::warn!("extended attributes of artifacts added since are hidden until the next mount");
        }
    }
}

/// An attribute's value, or names of attributes, for a caller with so much room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Xattr {
    /// What it takes: the caller asked for nothing but that.
    Size(u32),
    /// The bytes.
    Bytes(Vec<u8>),
}

/// What `getxattr` and `listxattr` answer who has room for `room` bytes; 0 asks how many it takes.
///
/// # Errors
/// ERANGE if there is too little.
pub fn fit(bytes: Vec<u8>, room: u32) -> Result<Xattr, Errno> {
    let len = u32::try_from(bytes.len()).map_err(|_| Errno::RANGE)?;
    match room {
        0 => Ok(Xattr::Size(len)),
        room if len > room => Err(Errno::RANGE),
        _ => Ok(Xattr::Bytes(bytes)),
    }
}

impl Fs {
    /// The value of an extended attribute.
    ///
    /// # Errors
    /// ENODATA without it; ENOSYS if nothing that is shown has any, as [`Fs::fetch_xattrs`] found: the kernel then asks no
    /// more. ESTALE, EIO.
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut found = None;
        self.each_xattr(ino, |there, value| {
            if there == name {
                found = Some(value.to_vec());
            }
        })?;
        found.ok_or(Errno::NODATA)
    }

    /// The names of the extended attributes, each followed by a NUL.
    ///
    /// # Errors
    /// As [`Fs::xattr`], without ENODATA.
    pub fn xattrs(&self, ino: Ino) -> Result<Vec<u8>, Errno> {
        let mut names = Vec::new();
        self.each_xattr(ino, |name, _| {
            names.extend_from_slice(name);
            names.push(0);
        })?;
        Ok(names)
    }

    fn each_xattr(&self, ino: Ino, mut take: impl FnMut(&[u8], &[u8])) -> Result<(), Errno> {
        if self.xattrs.is_unsupported() {
            return Err(Errno::NOSYS);
        }
        let inode = self.inode(ino)?;
        match &inode.what {
            What::Version { artifact, .. } if self.root_of(ino, artifact)?.full.is_some() => {
                let read = self.store.local().artifact(artifact);
                let read = read.map_err(|error| self.failed(artifact.0, &self.path_of(ino), &error))?;
                let xattrs = read.root_meta.full.map(|full| full.xattrs).unwrap_or_default();
                xattrs.iter().for_each(|(name, value)| take(name, value));
            }
            What::Dir { within, index, .. } | What::Leaf { within, index } => {
                let dir = self.dir(inode.parent, within)?;
                let record = dir.get(*index as usize).ok_or(Errno::IO)?;
                record.xattrs().for_each(|(name, value)| take(name, value));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether extended attributes are unsupported; reads some more artifacts to find out.
    pub(super) fn decide_xattrs(&self) -> bool {
        if self.xattrs.is_unsupported() {
            return true;
        }
        if self.xattrs.full.load(Ordering::Relaxed) {
            return false;
        }
        let shown = self.shown();
        let mut without = self.xattrs.without.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read = 0;
        for artifact in shown.artifacts() {
            if without.contains(&artifact) {
                continue;
            }
            if read == READ_MAX {
                return false;
            }
            read += 1;
            // What cannot be read has nothing to show.
            if self.roots.get(&artifact).is_ok_and(|root| root.full.is_some()) {
                self.xattrs.met(true);
                return false;
            }
            without.insert(artifact);
        }
        without.clear();
        self.xattrs.unsupported.store(true, Ordering::Relaxed);
        true
    }
}
