//! The table of inodes: what each number that the kernel knows stands for, and how many references it holds.
//!
//! A number is the hash of what the inode is (see [`identity`]), so that it is the same whenever and by whichever
//! process it is made, and an inode never changes what it is. Where two have one number, the second takes the next that
//! is free.
//!
//! An inode lives here from the first look-up until the kernel has forgotten all references. It is 40 bytes beside its
//! number: ids of directories and texts are kept once and referred to.

mod identity;
mod interned;
mod node_map;
mod saved;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_store::id::{ArtifactId, TreeId};

pub(crate) use identity::{Being, Identities, Identity};
use interned::{Ids, Texts};
use node_map::NodeMap;
pub use saved::{SavedInodes, SavedInodesError};

use crate::attr::Ino;

/// Shards of the table, so that threads seldom wait for each other.
const SHARD_BITS: u32 = 6;
/// Bits of an inode number. The 64th would be a sign to some programs.
pub(crate) const INO_BITS: u32 = 63;
/// A shard smaller than this is not worth shrinking.
const SHRINK_MIN: usize = 1024;

/// The hasher of what is a hash already.
#[derive(Default, Clone, Copy)]
pub(crate) struct IsHasher(u64);
pub(crate) type IsHash = BuildHasherDefault<IsHasher>;

impl Hasher for IsHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_u64(&mut self, value: u64) {
        // The high bits chose the shard; a map wants to see its own in them.
        self.0 = value.rotate_left(32);
    }

    fn write_u32(&mut self, value: u32) {
        // Small numbers are no hash: a multiplication by the golden ratio makes one.
        self.0 = u64::from(value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    // The length that comes before an array's bytes.
    fn write_usize(&mut self, _: usize) {}
}

/// Bytes that a map of the standard library takes: 8/7 slots per entry of its capacity, each with a control byte.
fn map_bytes<K, V>(capacity: usize) -> usize {
    if capacity == 0 {
        return 0;
    }
    let slots = if capacity < 8 { (capacity + 1).next_power_of_two() } else { capacity / 7 * 8 };
    slots * (size_of::<(K, V)>() + 1) + 16
}

/// What an inode is, by numbers of [`Ids`] and [`Texts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Generations,
    Generation(u64),
    Bin(u64),
    Package { name: u32 },
    Version { shown: u32, tree: u32, artifact: u32 },
    Dir { within: u32, index: u32, tree: u32 },
    Leaf { within: u32, index: u32 },
    Link { target: u32 },
}

#[derive(Debug, Clone, Copy)]
struct Node {
    check: u64,
    /// The directory that it was first found in.
    parent: u64,
    /// References that the kernel holds. At its highest it stays: the inode is then never forgotten.
    lookups: u32,
    body: Body,
}

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// The root.
    Root,
    /// `generations`.
    Generations,
    /// A generation.
    Generation(u64),
    /// A generation's `bin`.
    Bin(u64),
    /// A package's directory.
    Package { name: Arc<[u8]> },
    /// A version's directory.
    Version { shown: Arc<[u8]>, tree: TreeId, artifact: ArtifactId },
    /// A directory of an artifact: an entry of the tree `within`.
    Dir { within: TreeId, index: u32, tree: TreeId },
    /// Anything else of an artifact.
    Leaf { within: TreeId, index: u32 },
    /// A link of the mount's own.
    Link { target: Arc<[u8]> },
}

/// An inode of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inode {
    pub(crate) what: What,
    /// The directory that it was first found in.
    pub(crate) parent: Ino,
}

/// What a new inode is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum New<'a> {
    Generations,
    Generation(u64),
    Bin(u64),
    Package { name: &'a [u8] },
    Version { shown: &'a [u8], tree: &'a TreeId, artifact: &'a ArtifactId },
    Dir { within: &'a TreeId, index: u32, tree: &'a TreeId },
    Leaf { within: &'a TreeId, index: u32 },
    Link { target: &'a [u8] },
}

#[derive(Default)]
struct Shard {
    nodes: NodeMap,
    /// Inodes that are not where their hash says. Nearly always empty.
    moved: HashMap<Identity, u64>,
    /// Numbers of what changed since the table was last copied, if it was.
    changed: Option<HashSet<u64, IsHash>>,
}

/// The table.
pub(crate) struct Inodes {
    /// Bits of a number.
    bits: u32,
    /// Each guards a part of the numbers. No two are held at once; [`Ids`] and [`Texts`] are locked under them.
    shards: Box<[Mutex<Shard>]>,
    ids: Ids,
    texts: Texts,
}

impl Inodes {
    /// A table whose numbers have so many bits.
    pub(crate) fn new(bits: u32) -> Self {
        let shards = if bits > 2 * SHARD_BITS { 1 << SHARD_BITS } else { 1 };
        let shards = (0..shards).map(|_| Mutex::default()).collect();
        Self { bits, shards, ids: Ids::default(), texts: Texts::default() }
    }

    fn shard(&self, ino: u64) -> MutexGuard<'_, Shard> {
        let shard = if self.shards.len() == 1 { 0 } else { ino >> (self.bits - SHARD_BITS) };
        let shard = usize::try_from(shard).unwrap_or(0) % self.shards.len();
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn home(&self, identity: &Identity) -> u64 {
        identity.home & ((1 << self.bits) - 1)
    }

    /// The number after one, in the same shard.
    fn next(&self, ino: u64) -> u64 {
        let low = if self.shards.len() == 1 { self.bits } else { self.bits - SHARD_BITS };
        let mask = (1 << low) - 1;
        (ino & !mask) | (ino.wrapping_add(1) & mask)
    }

    /// The number that an identity has, or would get, and whether it has it.
    fn place(&self, shard: &Shard, identity: &Identity) -> (u64, bool) {
        let home = self.home(identity);
        if !shard.moved.is_empty()
            && let Some(ino) = shard.moved.get(identity)
        {
            return (*ino, true);
        }
        let mut ino = home;
        loop {
            match shard.nodes.get(ino) {
                Some(node) if node.check == identity.check && ino == home => return (ino, true),
                // 0 is no inode, and 1 is the root.
                None if ino > Ino::ROOT.0 => return (ino, false),
                _ => ino = self.next(ino),
            }
        }
    }

    /// The number of an identity as it is now, without keeping anything.
    pub(crate) fn peek(&self, identity: &Identity) -> Ino {
        Ino(self.place(&self.shard(self.home(identity)), identity).0)
    }

    /// Counts a reference to an inode, which is made if it is not there.
    pub(crate) fn remember(&self, identity: &Identity, parent: Ino, new: &New<'_>) -> Ino {
        let home = self.home(identity);
        let mut shard = self.shard(home);
        let (ino, there) = self.place(&shard, identity);
        if let Some(changed) = &mut shard.changed {
            changed.insert(ino);
        }
        if there {
            if let Some(node) = shard.nodes.get_mut(ino) {
                node.lookups = node.lookups.saturating_add(1);
            }
            return Ino(ino);
        }
        let node = Node { check: identity.check, parent: parent.0, lookups: 1, body: self.body(new) };
        shard.nodes.insert(ino, node);
        if ino != home {
            shard.moved.insert(*identity, ino);
        }
        Ino(ino)
    }

    /// Takes `count` references off an inode, which goes with the last of them.
    pub(crate) fn forget(&self, ino: Ino, count: u64) {
        let mut shard = self.shard(ino.0);
        let Some(node) = shard.nodes.get_mut(ino.0) else { return };
        if node.lookups == u32::MAX {
            return;
        }
        node.lookups = u32::try_from(u64::from(node.lookups).saturating_sub(count)).unwrap_or(0);
        let (left, body) = (node.lookups, node.body);
        if let Some(changed) = &mut shard.changed {
            changed.insert(ino.0);
        }
        if left > 0 {
            return;
        }
        shard.nodes.remove(ino.0);
        if !shard.moved.is_empty() {
            shard.moved.retain(|_, moved| *moved != ino.0);
        }
        let (len, capacity) = (shard.nodes.len(), shard.nodes.capacity());
        if capacity > SHRINK_MIN && len < capacity / 4 {
            shard.nodes.shrink_to(len * 2);
        }
        self.release(body);
    }

    /// What an inode is.
    pub(crate) fn get(&self, ino: Ino) -> Option<Inode> {
        if ino == Ino::ROOT {
            return Some(Inode { what: What::Root, parent: Ino::ROOT });
        }
        let shard = self.shard(ino.0);
        let node = shard.nodes.get(ino.0)?;
        Some(Inode { what: self.what(&node.body), parent: Ino(node.parent) })
    }

    /// Inodes in the table.
    pub(crate) fn len(&self) -> u64 {
        let len = |shard: &Mutex<Shard>| shard.lock().unwrap_or_else(PoisonError::into_inner).nodes.len();
        self.shards.iter().map(|shard| len(shard) as u64).sum()
    }

    /// Bytes that the table takes, by the capacity of its parts.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.nodes.bytes()
                + map_bytes::<Identity, u64>(shard.moved.capacity())
                + shard.changed.as_ref().map_or(0, |changed| map_bytes::<u64, ()>(changed.capacity()))
                + size_of::<Mutex<Shard>>()
        };
        let shards: usize = self.shards.iter().map(bytes).sum();
        (shards + self.ids.bytes() + self.texts.bytes()) as u64
    }

    fn body(&self, new: &New<'_>) -> Body {
        match *new {
            New::Generations => Body::Generations,
            New::Generation(number) => Body::Generation(number),
            New::Bin(number) => Body::Bin(number),
            New::Package { name } => Body::Package { name: self.texts.add(name) },
            New::Version { shown, tree, artifact } => Body::Version {
                shown: self.texts.add(shown),
                tree: self.ids.take(&tree.0),
                artifact: self.ids.take(&artifact.0),
            },
            New::Dir { within, index, tree } => {
                Body::Dir { within: self.ids.take(&within.0), index, tree: self.ids.take(&tree.0) }
            }
            New::Leaf { within, index } => Body::Leaf { within: self.ids.take(&within.0), index },
            New::Link { target } => Body::Link { target: self.texts.add(target) },
        }
    }

    fn what(&self, body: &Body) -> What {
        match *body {
            Body::Generations => What::Generations,
            Body::Generation(number) => What::Generation(number),
            Body::Bin(number) => What::Bin(number),
            Body::Package { name } => What::Package { name: self.texts.get(name) },
            Body::Version { shown, tree, artifact } => What::Version {
                shown: self.texts.get(shown),
                tree: TreeId(self.ids.get(tree)),
                artifact: ArtifactId(self.ids.get(artifact)),
            },
            Body::Dir { within, index, tree } => {
                What::Dir { within: TreeId(self.ids.get(within)), index, tree: TreeId(self.ids.get(tree)) }
            }
            Body::Leaf { within, index } => What::Leaf { within: TreeId(self.ids.get(within)), index },
            Body::Link { target } => What::Link { target: self.texts.get(target) },
        }
    }

    fn release(&self, body: Body) {
        match body {
            Body::Generations | Body::Generation(_) | Body::Bin(_) => {}
            Body::Package { name: text } | Body::Link { target: text } => self.texts.remove(text),
            Body::Version { shown, tree, artifact } => {
                self.texts.remove(shown);
                self.ids.release(tree);
                self.ids.release(artifact);
            }
            Body::Dir { within, tree, .. } => {
                self.ids.release(within);
                self.ids.release(tree);
            }
            Body::Leaf { within, .. } => self.ids.release(within),
        }
    }
}
