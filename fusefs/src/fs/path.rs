//! Paths of inodes, for messages: names are not kept, but found again on the way up.

use super::{Fs, package_name};
use crate::attr::Ino;
use crate::inode::What;
use crate::working_set::Origin;

/// Directories that are gone through, at most.
const DEPTH_MAX: usize = 4096;

impl Fs {
    /// A path of an inode below the mount, as far as it can be told. A file that several directories share has the one
    /// by which it was found first.
    #[must_use]
    pub fn path_of(&self, ino: Ino) -> Vec<u8> {
        let (mut parts, mut at) = (Vec::new(), ino);
        for _ in 0..DEPTH_MAX {
            let Some(inode) = self.inodes.get(at) else {
                parts.push(b"?".to_vec());
                break;
            };
            match &inode.what {
                What::Root => break,
                What::Generations => parts.push(b"generations".to_vec()),
                What::Generation(number) => parts.push(number.to_string().into_bytes()),
                What::Bin(_) => parts.push(b"bin".to_vec()),
                What::Package { name } => parts.push(name.to_vec()),
                What::Version { shown, .. } => parts.push(shown.to_vec()),
                What::Link { target } => parts.push([b"link to ", &target[..]].concat()),
                What::Dir { within, index, .. } | What::Leaf { within, index } => {
                    // Not through `dir`, which logs failures with a path.
                    let dir = self.dirs.get(within).ok();
                    let record = dir.as_ref().and_then(|dir| dir.get(*index as usize));
                    parts.push(record.map_or_else(|| b"?".to_vec(), |record| record.name.to_vec()));
                }
            }
            at = inode.parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }
    /// Which package a file is of and its path in there, as far as it can be told. Like
    /// [`path_of`](Self::path_of) it may take reading.
    pub(crate) fn origin(&self, ino: Ino) -> Option<Origin> {
        let (mut parts, mut at) = (Vec::new(), ino);
        for _ in 0..DEPTH_MAX {
            let inode = self.inodes.get(at)?;
            match &inode.what {
                What::Version { .. } => {
                    let What::Package { name } = self.inodes.get(inode.parent)?.what else { return None };
                    parts.reverse();
                    return Some(Origin { package: package_name(&name)?, path: parts.join(&b'/') });
                }
                What::Dir { within, index, .. } | What::Leaf { within, index } => {
                    let dir = self.dirs.get(within).ok()?;
                    parts.push(dir.get(*index as usize)?.name.to_vec());
                }
                _ => return None,
            }
            at = inode.parent;
        }
        None
    }
}
