//! What takes reading the store, apart from what does not: those who answer the kernel do the one at once, and leave the
//! other to somebody who may wait for a disk, and what the disk has not got, or not sound, to somebody who may wait for other
//! machines.

use cairn_store::{ArtifactId, Error, Store};

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
    ///
    /// # Errors
    /// Why some of it cannot be read.
    pub fn fetch(&self, ino: Ino, name: Option<&[u8]>) -> Result<(), Error> {
        self.read_with(&self.store.local(), ino, name)
    }

    /// Has other machines asked for what [`fetch`](Self::fetch) could not read, which failed like this, and reads it. It
    /// waits for them as long as they take.
    pub fn bring(&self, ino: Ino, name: Option<&[u8]>, failed: &Error) {
        let id = match self.source(ino, name) {
            Source::Dir(tree) => Some(tree.0),
            Source::Root(artifact) => Some(artifact.0),
            Source::Roots(_) | Source::Nothing => None,
        };
        if self.read_with(&self.store, ino, name).is_ok() {
            self.damaged.note_healed(id, failed, || self.path_of(ino));
        }
    }

    fn read_with(&self, store: &Store, ino: Ino, name: Option<&[u8]>) -> Result<(), Error> {
        match self.source(ino, name) {
            Source::Dir(tree) => self.dirs.get_from(store, &tree).map(drop),
            Source::Root(artifact) => self.roots.get_from(store, &artifact).map(drop),
            Source::Roots(all) => {
                let read = |artifact: &ArtifactId| self.roots.get_from(store, artifact).map(drop);
                // All are read, whichever fails.
                all.iter().map(read).fold(Ok(()), Result::and)
            }
            Source::Nothing => Ok(()),
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
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub fn fetch_xattrs(&self, ino: Ino) -> Result<(), Error> {
        if self.decide_xattrs() { Ok(()) } else { self.fetch(ino, None) }
    }
}
