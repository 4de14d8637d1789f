//! What takes reading the store, apart from what does not: those who answer the kernel do the one at once, and leave the
//! other to somebody who may wait for a disk.

use super::{Fs, Shows, package_name};
use crate::attr::Ino;
use crate::inode::What;

/// What an answer is made from, and may have to be read.
enum Source {
    /// The entries of a tree.
    Dir(cairn_store::TreeId),
    /// The root of an artifact.
    Root(cairn_store::ArtifactId),
    /// The roots of all versions of a package.
    Roots(Vec<cairn_store::ArtifactId>),
    /// What is in memory anyway.
    Nothing,
}

impl Fs {
    /// Whether an answer takes no reading of the store. Without a name it is about the inode itself, with one about that
    /// name in it, with an empty one about all names in it. An inode that nobody knows is answered at once.
    #[must_use]
    pub fn is_at_hand(&self, ino: Ino, name: Option<&[u8]>) -> bool {
        match self.source(ino, name) {
            Source::Dir(tree) => self.dirs.has(&tree),
            Source::Root(artifact) => self.roots.known(&artifact).is_some(),
            Source::Roots(all) => all.iter().all(|artifact| self.roots.known(artifact).is_some()),
            Source::Nothing => true,
        }
    }

    /// Reads what [`is_at_hand`](Self::is_at_hand) misses. What cannot be read fails again when it is asked for, and says
    /// so then.
    pub fn fetch(&self, ino: Ino, name: Option<&[u8]>) {
        match self.source(ino, name) {
            Source::Dir(tree) => drop(self.dirs.get(&tree)),
            Source::Root(artifact) => drop(self.roots.get(&artifact)),
            Source::Roots(all) => all.iter().for_each(|artifact| drop(self.roots.get(artifact))),
            Source::Nothing => {}
        }
    }

    fn source(&self, ino: Ino, name: Option<&[u8]>) -> Source {
        let Some(inode) = self.inodes.get(ino) else { return Source::Nothing };
        match (&inode.what, name) {
            (What::Version { tree, .. } | What::Dir { tree, .. }, Some(_)) => Source::Dir(*tree),
            (What::Version { artifact, .. }, None) => Source::Root(*artifact),
            (What::Dir { within, .. } | What::Leaf { within, .. }, None) => Source::Dir(*within),
            (What::Package { name: package }, Some(b"")) => {
                let listed = package_name(package).map(|package| self.shown().list_package(&package));
                let versions = listed.into_iter().flatten().filter_map(|(_, shows)| match shows {
                    Shows::Version(artifact) => Some(artifact),
                    _ => None,
                });
                Source::Roots(versions.collect())
            }
            (What::Package { name: package }, Some(name)) => {
                let shown = package_name(package).and_then(|package| self.shown().in_package(&package, name));
                match shown {
                    Some(Shows::Version(artifact)) => Source::Root(artifact),
                    _ => Source::Nothing,
                }
            }
            _ => Source::Nothing,
        }
    }

    /// Whether the kernel was told, or can be told at once, that there are no extended attributes.
    #[must_use]
    pub fn has_no_xattrs(&self) -> bool {
        self.xattrs.is_unsupported()
    }

    /// Reads what an answer about the extended attributes of an inode is made from, and some of what decides whether there
    /// are any at all.
    pub fn fetch_xattrs(&self, ino: Ino) {
        if !self.decide_xattrs() {
            self.fetch(ino, None);
        }
    }
}
