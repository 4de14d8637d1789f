//! Listings of directories.

use std::borrow::Cow;

use super::{Fs, Shows, package_name};
use crate::attr::{DirEntry, Ino, Kind};
use crate::dirs::PackedDir;
use crate::errno::Errno;
use crate::inode::{Inode, What};
use crate::names::{FIRST_COOKIE, Listing};

/// Takes an entry; true if it had no room for it.
type Add<'a> = &'a mut dyn FnMut(DirEntry<'_>) -> bool;

impl Fs {
    /// Lists a directory from behind a cookie on; 0 is its beginning. `add` takes one entry after the other, until it
    /// says that it had no room for one. With `plus` each of those that it took comes with attributes and counts as
    /// looked up.
    ///
    /// Listings need no state: a cookie stays good while names come and go, and each name that is there all the time is
    /// listed exactly once.
    ///
    /// # Errors
    /// ENOTDIR, ESTALE, EIO.
    pub fn readdir(
        &self,
        ino: Ino,
        from: u64,
        plus: bool,
        add: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        let inode = self.inode(ino)?;
        // What can fail comes before anything is added: half a listing with an error behind it is no listing.
        let tree = match &inode.what {
            What::Version { tree, .. } | What::Dir { tree, .. } => Some((*tree, self.dir(ino, tree)?)),
            What::Leaf { .. } | What::Link { .. } => return Err(Errno::NOTDIR),
            _ => None,
        };
        for (cookie, name, ino) in [(1, &b"."[..], ino), (2, b"..", inode.parent)] {
            let name = Cow::Borrowed(name);
            let dots = DirEntry { cookie, name, ino, kind: Kind::Dir, attr: None, cacheable: false };
            if from < cookie && add(dots) {
                return Ok(());
            }
        }
        match tree {
            Some((tree, dir)) => self.list_tree(ino, &tree, &dir, from, plus, add),
            None => self.list_made_up(ino, &inode, from, plus, add),
        }
        Ok(())
    }

    fn list_tree(
        &self,
        ino: Ino,
        tree: &cairn_store::TreeId,
        dir: &PackedDir,
        from: u64,
        plus: bool,
        add: Add<'_>,
    ) {
        for index in first_index(from)..dir.len() {
            let Some(record) = dir.get(index) else { return };
            let attr = if plus { self.enter_record(ino, tree, dir, index) } else { None };
            let entry = DirEntry {
                cookie: index as u64 + FIRST_COOKIE,
                name: Cow::Borrowed(record.name),
                ino: attr.map_or_else(
                    || self.inodes.peek(&record.identity(ino, &self.identities)),
                    |attr| attr.ino,
                ),
                kind: record.kind(),
                attr,
                cacheable: true,
            };
            if add(entry) {
                attr.iter().for_each(|attr| self.inodes.forget(attr.ino, 1));
                return;
            }
        }
    }

    fn list_made_up(&self, ino: Ino, inode: &Inode, from: u64, plus: bool, add: Add<'_>) {
        let shown = self.shown();
        let what = &inode.what;
        let mut give =
            |cookie: u64, name: &[u8], shows: &Shows| self.give(ino, what, (cookie, name, shows), plus, add);
        let first = first_index(from);
        let cookie = |index: usize| index as u64 + FIRST_COOKIE;
        match what {
            What::Generation(number) => {
                for (index, (name, shows)) in (first..).zip(shown.list_generation(*number, first)) {
                    if give(cookie(index), &name, &shows) {
                        return;
                    }
                }
            }
            What::Bin(number) => {
                let Some(links) = shown.bin(*number) else { return };
                for index in first.. {
                    let Some((name, target)) = links.get(index) else { return };
                    if give(cookie(index), name, &Shows::Link(target.to_vec())) {
                        return;
                    }
                }
            }
            _ => {
                let names = match what {
                    What::Generations => shown.list_generations(),
                    What::Package { name } => {
                        package_name(name).map_or_else(Vec::new, |name| shown.list_package(&name))
                    }
                    _ => shown.list_root(),
                };
                let listing = Listing::new(names, &self.identities, self.cookie_bits);
                for (cookie, name, shows) in listing.after(from) {
                    if give(cookie, &name, &shows) {
                        return;
                    }
                }
            }
        }
    }

    /// Gives one name that the mount makes up; true if there was no room for it.
    fn give(
        &self,
        parent: Ino,
        within: &What,
        (cookie, name, shows): (u64, &[u8], &Shows),
        plus: bool,
        add: Add<'_>,
    ) -> bool {
        let kind = if matches!(shows, Shows::Link(_)) { Kind::Symlink } else { Kind::Dir };
        // A version that was not met yet would have to be read, and may be damaged: the rest does not wait for it.
        let unread = matches!(shows, Shows::Version(artifact) if self.roots.known(artifact).is_none());
        let attr = if plus && !unread { self.enter(parent, within, name, shows).ok() } else { None };
        let ino =
            attr.map_or_else(|| self.inodes.peek(&self.identity_of(within, name, shows)), |attr| attr.ino);
        let cacheable = self.is_cacheable(within);
        let full = add(DirEntry { cookie, name: Cow::Borrowed(name), ino, kind, attr, cacheable });
        if full {
            attr.iter().for_each(|attr| self.inodes.forget(attr.ino, 1));
        }
        full
    }
}

/// The place of the first entry behind a cookie, in a directory whose names never change.
fn first_index(from: u64) -> usize {
    usize::try_from(from.saturating_sub(FIRST_COOKIE - 1)).unwrap_or(usize::MAX)
}
