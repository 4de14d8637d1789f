//! Paths of inodes, for messages: names are not kept, but found again on the way up.

use super::Fs;
use crate::attr::Ino;
use crate::inode::What;

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
}
