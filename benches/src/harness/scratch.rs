//! The work folder: everything measured is read from it and written to it, and it is gone afterwards.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::command::Line;
use super::machine::{file_system, free_bytes};
use crate::error::{Error, Result};

const SHARED_MEMORY: &str = "/dev/shm";
const MIB: u64 = 1 << 20;

pub(crate) struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// A fresh folder inside `parent`; by default on a tmpfs where there is one, since a disk's writeback, and what
    /// ext4 does with inodes that were just deleted, is not what the bars are about.
    pub(crate) fn new(parent: Option<&Path>) -> Result<Scratch> {
        let parent = match parent {
            Some(parent) => parent.to_owned(),
            None if file_system(Path::new(SHARED_MEMORY)) == "tmpfs" => PathBuf::from(SHARED_MEMORY),
            None => std::env::temp_dir(),
        };
        let folder = tempfile::Builder::new().prefix("cairn-bars-").tempdir_in(&parent);
        Ok(Scratch { folder: folder.map_err(Error::io("make a folder in", &parent))? })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn need(&self, what: &'static str, bytes: u64) -> Result<()> {
        let free = free_bytes(self.path());
        if free < bytes {
            return Err(Error::NoRoom { what, need_mib: bytes / MIB, free_mib: free / MIB });
        }
        Ok(())
    }
}

/// Makes `folder` anew, with nothing in it.
pub(crate) fn empty_folder(folder: &Path) -> Result<()> {
    remove(folder)?;
    fs::create_dir_all(folder).map_err(Error::io("make the folder", folder))
}

/// Removes a tree; it is fine if there is none.
pub(crate) fn remove(tree: &Path) -> Result<()> {
    match fs::remove_dir_all(tree) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", tree)(error)),
        _ => Ok(()),
    }
}

/// Copies a tree with its times; `to` must not exist.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    Line::new("cp").arg("-a").arg(from).arg(to).run().map(drop)
}

/// The bytes of all files of a tree: their lengths, not the blocks that they take.
pub(crate) fn tree_bytes(tree: &Path) -> Result<u64> {
    let mut bytes = 0;
    walk(tree, &mut |_, metadata| {
        bytes += metadata.len();
        Ok(())
    })?;
    Ok(bytes)
}

/// Calls `visit` for each regular file, in no particular order. Symlinks are neither followed nor visited.
pub(crate) fn walk(tree: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata) -> Result<()>) -> Result<()> {
    let mut folders = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            let path = entry.map_err(Error::io("list", &folder))?.path();
            let metadata = fs::symlink_metadata(&path).map_err(Error::io("look at", &path))?;
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_file() {
                visit(&path, &metadata)?;
            }
        }
    }
    Ok(())
}

/// Reads a file to its end, so that the page cache holds it.
pub(crate) fn warm(path: &Path, buffer: &mut [u8]) -> Result<()> {
    let mut file = fs::File::open(path).map_err(Error::io("open", path))?;
    while file.read(buffer).map_err(Error::io("read", path))? > 0 {}
    Ok(())
}
