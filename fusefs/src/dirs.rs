//! Decoded directories, kept up to a number of bytes.
//!
//! Directories are immutable and known by their content's id, so one that is kept serves all versions that share it.
//! What is kept is a matter of speed only: anything is decoded again when it is asked for. A directory is decoded
//! whole; the one used last is kept however long it is, and so is what somebody uses at the moment: its bytes would stay
//! where they are, and whoever asked for it next would get them a second time.

mod packed;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use cairn_store::id::TreeId;
use cairn_store::{Error, Store, tree};

pub(crate) use packed::{Owner, PORTABLE_MTIME_S, PackedDir};

use crate::device::trim_heap;
use crate::inode::Identities;

/// Bytes of what is kept beside each directory, about.
const KEPT_LEN: usize = 96;
/// After so many bytes of directories were dropped, the holes that they left are given back.
const HOLES_BYTES_MAX: usize = 8 << 20;

struct Kept {
    dir: Arc<PackedDir>,
    /// When it was last asked for, by the count of what was.
    used: AtomicU64,
}

#[derive(Default)]
struct Cache {
    dirs: HashMap<TreeId, Kept>,
    bytes: usize,
    /// Bytes of what was dropped since holes were last given back.
    holes: usize,
}

/// The directories of one mount.
pub(crate) struct Dirs {
    /// It fetches nothing: directories are asked for where nobody may wait for other machines.
    store: Store,
    identities: Identities,
    bytes_max: usize,
    /// Guards what is kept. A leaf lock: nothing is decoded under it.
    cache: RwLock<Cache>,
    clock: AtomicU64,
}

impl Dirs {
    pub(crate) fn new(store: Store, identities: Identities, bytes_max: usize) -> Self {
        Self { store, identities, bytes_max, cache: RwLock::default(), clock: AtomicU64::new(0) }
    }

    /// The directory of a tree.
    pub(crate) fn get(&self, tree: &TreeId) -> Result<Arc<PackedDir>, Error> {
        self.get_from(&self.store, tree)
    }

    /// The same, read from this store if it is not kept.
    pub(crate) fn get_from(&self, store: &Store, tree: &TreeId) -> Result<Arc<PackedDir>, Error> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        {
            let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(kept) = cache.dirs.get(tree) {
                kept.used.store(now, Ordering::Relaxed);
                return Ok(Arc::clone(&kept.dir));
            }
        }
        let dir = Arc::new(self.decode(store, tree)?);
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        let kept = Kept { dir: Arc::clone(&dir), used: AtomicU64::new(now) };
        cache.bytes += dir.bytes() + KEPT_LEN;
        if let Some(old) = cache.dirs.insert(*tree, kept) {
            cache.bytes -= old.dir.bytes() + KEPT_LEN;
        }
        if cache.bytes > self.bytes_max {
            cache.evict(self.bytes_max - self.bytes_max / 8, tree);
        }
        if cache.holes > HOLES_BYTES_MAX {
            cache.holes = 0;
            drop(cache);
            trim_heap();
        }
        Ok(dir)
    }

    /// Whether it is kept; it then stays for a while.
    pub(crate) fn has(&self, tree: &TreeId) -> bool {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        let kept = cache.dirs.get(tree);
        kept.inspect(|kept| kept.used.store(now, Ordering::Relaxed)).is_some()
    }

    fn decode(&self, store: &Store, tree: &TreeId) -> Result<PackedDir, Error> {
        // Of one thread's, again and again: growing a new one for each leaves holes of all sizes in the heap.
        thread_local! {
            static PACKER: RefCell<packed::Packer> = RefCell::default();
        }
        PACKER.with_borrow_mut(|packer| {
            packer.clear();
            for entry in tree::entries(tree, store) {
                packer.push(&entry?, &self.identities).map_err(|packed::TooLong| Error::Invalid {
                    what: "directory",
                    given: tree.to_string(),
                    reason: "its entries take more than 4 GiB".to_owned(),
                })?;
            }
            Ok(packer.finish())
        })
    }

    /// How many are kept, and the bytes that they take.
    pub(crate) fn kept(&self) -> (u64, u64) {
        let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        (cache.dirs.len() as u64, cache.bytes as u64)
    }
}

impl Cache {
    /// Drops what was not asked for the longest, until no more than so many bytes are left, but nothing that is in use,
    /// and never `keep`.
    fn evict(&mut self, bytes_max: usize, keep: &TreeId) {
        // Nobody can begin to use one meanwhile: that goes through here.
        let unused = self.dirs.iter().filter(|(_, kept)| Arc::strong_count(&kept.dir) == 1);
        let mut by_use: Vec<(u64, TreeId)> =
            unused.map(|(tree, kept)| (kept.used.load(Ordering::Relaxed), *tree)).collect();
        by_use.sort_unstable();
        for (_, tree) in by_use {
            if self.bytes <= bytes_max {
                break;
            }
            if tree != *keep
                && let Some(kept) = self.dirs.remove(&tree)
            {
                let bytes = kept.dir.bytes() + KEPT_LEN;
                self.bytes -= bytes;
                self.holes += bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_store::tree::Node;

    use super::*;
    use crate::testing::names::{Item, Scratch, file};

    /// All that a directory says: its names, and what is under each.
    fn said(dir: &PackedDir, identities: &Identities) -> Vec<(Vec<u8>, crate::attr::Attr)> {
        let owner = Owner { uid: 1, gid: 2 };
        let records = (0..).map_while(|index| dir.get(index));
        let parent = crate::attr::Ino(7);
        let attr = |record: packed::Record<'_>| {
            let ino = crate::attr::Ino(record.identity(parent, identities).home);
            (record.name.to_vec(), record.attr(ino, owner))
        };
        records.map(attr).collect()
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_was_dropped_is_listed_the_same_again() {
        let scratch = Scratch::new();
        let paths: Vec<String> =
            (0..40).flat_map(|dir| (0..50).map(move |name| format!("{dir:02}/file-{name}"))).collect();
        let items: Vec<(&str, Item)> = paths.iter().map(|path| (&**path, file(path))).collect();
        let artifact = scratch.artifact("many", "1", &items);
        let root = scratch.store().artifact(&artifact).unwrap().root;
        let trees: Vec<TreeId> = tree::entries(&root, scratch.store())
            .map(|entry| match entry.unwrap().node {
                Node::Dir { tree } => tree,
                node => panic!("{node:?}"),
            })
            .collect();
        let identities = Identities::new([3; 32]);
        let all = Dirs::new(scratch.store().clone(), identities.clone(), usize::MAX);
        let expected: Vec<_> = trees.iter().map(|tree| said(&all.get(tree).unwrap(), &identities)).collect();
        assert_eq!((all.kept().0, expected[0].len()), (40, 50));
        let bytes_max = usize::try_from(all.kept().1).unwrap() / 4;
        let some = Dirs::new(scratch.store().clone(), identities.clone(), bytes_max);
        // What somebody uses all the time is never decoded again.
        let held = some.get(&trees[7]).unwrap();
        for round in 0..3 {
            for (tree, expected) in trees.iter().zip(&expected) {
                let first = some.get(&trees[0]).unwrap();
                let dir = some.get(tree).unwrap();
                assert_eq!(said(&dir, &identities), *expected, "round {round}");
                // One that is asked for all the time stays too.
                drop(first);
                assert!(some.has(&trees[0]), "round {round}");
                assert!(some.kept().1 <= bytes_max as u64, "{:?} of {bytes_max}", some.kept());
            }
            assert!((2..=10).contains(&some.kept().0), "{:?}", some.kept());
            assert!(Arc::ptr_eq(&held, &some.get(&trees[7]).unwrap()), "round {round}");
        }
        // All that is in use stays, also where it is more than the bound; once it is not, it goes.
        let all_held: Vec<_> = trees.iter().map(|tree| some.get(tree).unwrap()).collect();
        assert_eq!(some.kept().0, 40);
        drop((all_held, held));
        let other =
            scratch.store().artifact(&scratch.artifact("other", "1", &[("one", file("one"))])).unwrap();
        some.get(&other.root).unwrap();
        assert!(some.kept().1 <= bytes_max as u64, "{:?} of {bytes_max}", some.kept());
        // One that is longer than the bound is kept alone.
        let least = Dirs::new(scratch.store().clone(), identities, 1);
        for tree in &trees {
            let dir = least.get(tree).unwrap();
            assert!(Arc::ptr_eq(&dir, &least.get(tree).unwrap()));
            assert_eq!(least.kept().0, 1);
        }
    }
}
