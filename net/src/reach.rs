//! Metadata that comes from a peer: what of it belongs to the wanted artifact, and how much there can be.
//!
//! An object belongs to the artifact if another one names it that does. Frames are taken in the order in which they come;
//! one of which nothing was named before is a lie. A frame that is copied may bring a few objects of other artifacts: they
//! are let in up to a share. Everything is bounded: objects, bytes, and the memory that remembers them. Ids are remembered
//! by their first 8 bytes; who makes two objects with equal ones deceives this, and not the store: before anything is
//! published, all of it is walked strictly.

use std::collections::{HashMap, HashSet};

use cairn_store::{ArtifactId, ChunkId, VerifiedFrame, references};

/// Objects of one artifact, at most.
pub(crate) const OBJECTS_MAX: usize = 1 << 20;
/// Their plain bytes, at most.
const OBJECT_BYTES_MAX: u64 = 4 << 30;
/// Objects that nothing names yet, at most.
const LOOSE_MAX: usize = 65_536;
/// What they name, at most.
const LOOSE_NAMES_MAX: usize = 1 << 18;
/// Plain bytes that may turn out to belong to nothing, beside an eighth of all.
const LOOSE_BYTES_MIN: u64 = 2 << 20;

/// An id, remembered in less.
pub(crate) fn short(id: &ChunkId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = id.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// What came of an artifact's metadata so far.
#[derive(Debug)]
pub(crate) struct Reach {
    /// Named, and not come yet; those that the store has are among them.
    named: HashSet<u64>,
    /// Came, and belongs.
    come: HashSet<u64>,
    /// Came, and nothing names it yet: its length, and what it names.
    loose: HashMap<u64, (u64, Vec<u64>)>,
    loose_names: usize,
    loose_bytes: u64,
    objects: u64,
    bytes: u64,
}

impl Reach {
    pub(crate) fn new(wanted: &ArtifactId) -> Self {
        Self::of([ChunkId::from(*wanted)])
    }

    /// What is named by objects that are here already.
    pub(crate) fn of(named: impl IntoIterator<Item = ChunkId>) -> Self {
        Self {
            named: named.into_iter().map(|id| short(&id)).collect(),
            come: HashSet::new(),
            loose: HashMap::new(),
            loose_names: 0,
            loose_bytes: 0,
            objects: 0,
            bytes: 0,
        }
    }

    /// Objects that belong, and came.
    pub(crate) fn objects(&self) -> u64 {
        self.objects
    }

    /// Their plain bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes a frame in; the error says what is wrong with it, for people.
    pub(crate) fn accept(&mut self, frame: &VerifiedFrame) -> Result<(), String> {
        let before = self.objects;
        for (slot, (id, len)) in frame.chunks().iter().enumerate() {
            let (key, len) = (short(id), u64::from(*len));
            if self.come.contains(&key) || self.loose.contains_key(&key) {
                continue;
            }
            let names = references(id, frame.chunk(slot)).map_err(|error| error.to_string())?;
            let names: Vec<u64> = names.iter().map(short).collect();
            if self.named.remove(&key) {
                self.enter(key, len, names);
            } else {
                self.loose_names += names.len();
                self.loose_bytes += len;
                self.loose.insert(key, (len, names));
            }
            if self.named.len() + self.come.len() > OBJECTS_MAX || self.bytes > OBJECT_BYTES_MAX {
                return Err(format!(
                    "the artifact has more than {OBJECTS_MAX} metadata objects, or than 4 GiB of them"
                ));
            }
            if self.loose.len() > LOOSE_MAX || self.loose_names > LOOSE_NAMES_MAX {
                return Err("it sends metadata that does not belong to the artifact".to_owned());
            }
        }
        if self.objects == before {
            return Err("it sends metadata that was not asked for".to_owned());
        }
        Ok(())
    }

    /// Says that no more comes; the error as in [`Self::accept`].
    pub(crate) fn finish(&self) -> Result<(), String> {
        if self.loose_bytes > LOOSE_BYTES_MIN + self.bytes / 8 {
            return Err(format!("{} bytes of its metadata do not belong to the artifact", self.loose_bytes));
        }
        Ok(())
    }

    /// An object belongs, and with it all that it names and that came before it.
    fn enter(&mut self, key: u64, len: u64, names: Vec<u64>) {
        let mut next = vec![(key, len, names)];
        while let Some((key, len, names)) = next.pop() {
            self.come.insert(key);
            self.objects += 1;
            self.bytes += len;
            for name in names {
                if self.come.contains(&name) {
                    continue;
                }
                match self.loose.remove(&name) {
                    Some((len, names)) => {
                        self.loose_names -= names.len();
                        self.loose_bytes -= len;
                        next.push((name, len, names));
                    }
                    None => drop(self.named.insert(name)),
                }
            }
        }
    }
}
