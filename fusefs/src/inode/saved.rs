//! The table as another process takes it over: all of it first, while it is still in use, and then what changed.
//!
//! Ids and texts are listed once and referred to by their place in the list. What is taken over comes from a process of
//! the same user and is still checked, since it may be of another version.

use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};

use super::{Body, Identity, Inodes, IsHash, Node, Shard};
use crate::attr::Ino;

/// What this code writes and reads.
const FORMAT: u8 = 1;

/// A table of inodes, or what changed in one. Goes through `serde`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedInodes {
    format: u8,
    /// Whether this is all of the table, not what changed.
    whole: bool,
    /// Bits of a number.
    bits: u32,
    ids: Vec<[u8; 32]>,
    texts: Vec<Vec<u8>>,
    nodes: Vec<SavedNode>,
    /// Numbers of what is there no more.
    gone: Vec<u64>,
    /// Inodes that are not where their hash says: both halves of the hash, and the number. Always all of them.
    moved: Vec<(u64, u64, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct SavedNode {
    ino: u64,
    check: u64,
    parent: u64,
    lookups: u32,
    body: SavedBody,
}

/// As [`Body`], by places in the lists of ids and texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum SavedBody {
    Generations,
    Generation(u64),
    Bin(u64),
    Package { name: u32 },
    Version { shown: u32, tree: u32, artifact: u32 },
    Dir { within: u32, index: u32, tree: u32 },
    Leaf { within: u32, index: u32 },
    Link { target: u32 },
}

/// What was saved is not what this code saves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a table of inodes that cannot be taken over: {0}")]
pub struct SavedInodesError(String);

impl SavedInodes {
    fn new(bits: u32, whole: bool) -> Self {
        let (ids, texts, nodes) = (Vec::new(), Vec::new(), Vec::new());
        Self { format: FORMAT, whole, bits, ids, texts, nodes, gone: Vec::new(), moved: Vec::new() }
    }

    /// Inodes in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.gone.is_empty()
    }

    fn id(&self, place: u32) -> Result<&[u8; 32], SavedInodesError> {
        self.ids.get(place as usize).ok_or_else(|| SavedInodesError(format!("there is no id {place}")))
    }

    fn text(&self, place: u32) -> Result<&[u8], SavedInodesError> {
        let text = self.texts.get(place as usize).map(|text| &text[..]);
        text.ok_or_else(|| SavedInodesError(format!("there is no text {place}")))
    }
}

/// A table that is being written down.
struct Saving<'a> {
    inodes: &'a Inodes,
    saved: SavedInodes,
    /// Places of ids in the list, by their number.
    places: HashMap<u32, u32, IsHash>,
}

fn place(len: usize) -> u32 {
    u32::try_from(len - 1).expect("numbers of ids and texts have 32 bits")
}

impl Saving<'_> {
    fn id(&mut self, number: u32) -> u32 {
        *self.places.entry(number).or_insert_with(|| {
            self.saved.ids.push(self.inodes.ids.get(number));
            place(self.saved.ids.len())
        })
    }

    fn text(&mut self, number: u32) -> u32 {
        self.saved.texts.push(self.inodes.texts.get(number).to_vec());
        place(self.saved.texts.len())
    }

    fn put(&mut self, ino: u64, node: &Node) {
        let body = match node.body {
            Body::Generations => SavedBody::Generations,
            Body::Generation(number) => SavedBody::Generation(number),
            Body::Bin(number) => SavedBody::Bin(number),
            Body::Package { name } => SavedBody::Package { name: self.text(name) },
            Body::Version { shown, tree, artifact } => SavedBody::Version {
                shown: self.text(shown),
                tree: self.id(tree),
                artifact: self.id(artifact),
            },
            Body::Dir { within, index, tree } => {
                SavedBody::Dir { within: self.id(within), index, tree: self.id(tree) }
            }
            Body::Leaf { within, index } => SavedBody::Leaf { within: self.id(within), index },
            Body::Link { target } => SavedBody::Link { target: self.text(target) },
        };
        let Node { check, parent, lookups, .. } = *node;
        self.saved.nodes.push(SavedNode { ino, check, parent, lookups, body });
    }

    fn put_moved(&mut self, shard: &Shard) {
        let moved = shard.moved.iter().map(|(identity, ino)| (identity.home, identity.check, *ino));
        self.saved.moved.extend(moved);
    }
}

impl Inodes {
    /// Writes the whole table down. From now on it is noted what changes.
    pub(crate) fn save(&self) -> SavedInodes {
        self.saving(true, |saving, shard| {
            shard.changed = Some(HashSet::default());
            for (ino, node) in shard.nodes.iter() {
                saving.put(ino, node);
            }
        })
    }

    /// Writes down what changed since the table was last saved. It is no longer noted.
    pub(crate) fn changes(&self) -> SavedInodes {
        self.saving(false, |saving, shard| {
            for ino in shard.changed.take().into_iter().flatten() {
                match shard.nodes.get(ino) {
                    Some(node) => saving.put(ino, node),
                    None => saving.saved.gone.push(ino),
                }
            }
        })
    }

    /// Stops noting what changes: nobody takes the table over after all.
    pub(crate) fn end_saving(&self) {
        for shard in &self.shards {
            shard.lock().unwrap_or_else(PoisonError::into_inner).changed = None;
        }
    }

    fn saving(&self, whole: bool, mut put: impl FnMut(&mut Saving<'_>, &mut Shard)) -> SavedInodes {
        let saved = SavedInodes::new(self.bits, whole);
        let mut saving = Saving { inodes: self, saved, places: HashMap::default() };
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            put(&mut saving, &mut shard);
            saving.put_moved(&shard);
        }
        saving.saved
    }

    /// Makes the table what was saved, or brings it up to date with what changed since.
    pub(crate) fn restore(&self, saved: &SavedInodes) -> Result<(), SavedInodesError> {
        if saved.format != FORMAT || saved.bits != self.bits {
            let (format, bits) = (saved.format, saved.bits);
            return Err(SavedInodesError(format!("it has format {format} and numbers of {bits} bits")));
        }
        if saved.whole {
            self.clear();
        }
        for ino in &saved.gone {
            self.remove(*ino);
        }
        for node in &saved.nodes {
            if node.ino <= Ino::ROOT.0 || node.ino >> self.bits != 0 {
                return Err(SavedInodesError(format!("there is no inode {}", node.ino)));
            }
            let body = self.restored(saved, &node.body)?;
            self.remove(node.ino);
            let SavedNode { ino, check, parent, lookups, .. } = *node;
            self.shard(ino).nodes.insert(ino, Node { check, parent, lookups, body });
        }
        for shard in &self.shards {
            shard.lock().unwrap_or_else(PoisonError::into_inner).moved.clear();
        }
        for (home, check, ino) in &saved.moved {
            self.shard(*ino).moved.insert(Identity { home: *home, check: *check }, *ino);
        }
        Ok(())
    }

    fn clear(&self) {
        for shard in &self.shards {
            let nodes = std::mem::take(&mut shard.lock().unwrap_or_else(PoisonError::into_inner).nodes);
            nodes.into_nodes().for_each(|node| self.release(node.body));
        }
    }

    fn remove(&self, ino: u64) {
        let removed = self.shard(ino).nodes.remove(ino);
        removed.iter().for_each(|node| self.release(node.body));
    }

    fn restored(&self, saved: &SavedInodes, body: &SavedBody) -> Result<Body, SavedInodesError> {
        let text = |place: u32| saved.text(place).map(|text| self.texts.add(text));
        let id = |place: u32| saved.id(place).map(|id| self.ids.take(id));
        Ok(match *body {
            SavedBody::Generations => Body::Generations,
            SavedBody::Generation(number) => Body::Generation(number),
            SavedBody::Bin(number) => Body::Bin(number),
            SavedBody::Package { name } => Body::Package { name: text(name)? },
            SavedBody::Version { shown, tree, artifact } => {
                Body::Version { shown: text(shown)?, tree: id(tree)?, artifact: id(artifact)? }
            }
            SavedBody::Dir { within, index, tree } => {
                Body::Dir { within: id(within)?, index, tree: id(tree)? }
            }
            SavedBody::Leaf { within, index } => Body::Leaf { within: id(within)?, index },
            SavedBody::Link { target } => Body::Link { target: text(target)? },
        })
    }
}
