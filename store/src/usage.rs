//! What each artifact holds that no other does: the bytes that removing it would free, before compression.
//!
//! One walk over everything that refs name marks every chunk and metadata object with the artifact that holds it, or as
//! shared. A directory or a long file that two artifacts share is entered at most twice however many hold it, so the
//! time is that of reading the distinct metadata, not of all versions together. The result is kept in `cache/` and is
//! good for as long as the journal says the same; it is derived, and losing it costs one walk.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use crate::content::{Content, chunks};
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId, TreeId};
use crate::object::ObjectSource;
use crate::progress::Progress;
use crate::tree::{Node, entries};

mod cache;

pub(crate) use cache::{decode, encode};

/// Bytes that only this artifact holds, for each artifact.
pub type Usage = BTreeMap<ArtifactId, u64>;

/// What the walk needs to know of an artifact.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) artifact: ArtifactId,
    pub(crate) root: TreeId,
}

/// Walks all of `held`, each artifact once.
///
/// # Errors
/// [`Error::Cancelled`] when `progress` says so; whatever `source` returns.
pub(crate) fn measure(held: &[Held], source: &dyn ObjectSource, progress: &dyn Progress) -> Result<Usage> {
    let marks = Mutex::new(Marks { holders: HashMap::default(), unique: vec![0; held.len()] });
    for (index, artifact) in held.iter().enumerate() {
        let holder = Holder(u32::try_from(index).map_err(|_| too_many(held.len()))?);
        let marking = Marking { source, marks: &marks, holder };
        // The artifact's own bytes are one more object.
        marking.get(&artifact.artifact.into())?;
        marking.walk(&artifact.root, progress)?;
    }
    let unique = marks.into_inner().unwrap_or_else(PoisonError::into_inner).unique;
    Ok(held.iter().map(|held| held.artifact).zip(unique).collect())
}

fn too_many(count: usize) -> Error {
    Error::Invalid { what: "number of artifacts", given: count.to_string(), reason: "it is above 2^32".into() }
}

/// Index of an artifact in the list being measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holder(u32);

impl Holder {
    /// More than one artifact. No index reaches it: the list would have 2^32 entries.
    const SHARED: Self = Self(u32::MAX);
}

/// The first 12 bytes of an id. Two of 2^32 ids agree in them once in 2^33 stores; then a few bytes are counted as
/// shared that are not. With the holder that makes 16 bytes an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key([u8; 12]);

impl Key {
    fn of(id: &ChunkId) -> Self {
        let mut key = [0; 12];
        key.copy_from_slice(&id.0[..12]);
        Self(key)
    }
}

impl std::hash::Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

/// Keys are hashes already.
#[derive(Debug, Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        let mut first = [0; 8];
        for (to, from) in first.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.0 = u64::from_le_bytes(first);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Who holds what.
#[derive(Debug)]
struct Marks {
    holders: HashMap<Key, Holder, BuildHasherDefault<FirstBytes>>,
    /// Bytes that only this artifact holds, by index.
    unique: Vec<u64>,
}

impl Marks {
    /// Marks `len` bytes as held by `holder`. Whether that is news, for this holder or for what lies below.
    fn mark(&mut self, id: &ChunkId, len: u64, holder: Holder) -> bool {
        let known = self.holders.entry(Key::of(id)).or_insert_with(|| {
            self.unique[holder.0 as usize] += len;
            holder
        });
        if *known == holder || *known == Holder::SHARED {
            return false;
        }
        self.unique[known.0 as usize] -= len;
        *known = Holder::SHARED;
        true
    }

    /// Whether walking below `id` for `holder` would mark anything anew.
    fn is_news(&self, id: &ChunkId, holder: Holder) -> bool {
        self.holders.get(&Key::of(id)).is_none_or(|known| *known != holder && *known != Holder::SHARED)
    }
}

/// A source that marks every object that is read through it as held by one artifact.
struct Marking<'a> {
    source: &'a dyn ObjectSource,
    /// Locked for single look-ups only; the walk has one thread, the lock is for `ObjectSource: Sync`.
    marks: &'a Mutex<Marks>,
    holder: Holder,
}

impl Marking<'_> {
    fn with_marks<T>(&self, work: impl FnOnce(&mut Marks) -> T) -> T {
        work(&mut self.marks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_news(&self, id: &ChunkId) -> bool {
        self.with_marks(|marks| marks.is_news(id, self.holder))
    }

    fn walk(&self, root: &TreeId, progress: &dyn Progress) -> Result<()> {
        let mut open = vec![*root];
        while let Some(tree) = open.pop() {
            if progress.cancelled() {
                return Err(Error::Cancelled);
            }
            if !self.is_news(&tree.into()) {
                continue;
            }
            for entry in entries(&tree, self) {
                match entry?.node {
                    Node::Dir { tree } => open.push(tree),
                    Node::File { size, content } => self.file(size, &content)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn file(&self, size: u64, content: &Content) -> Result<()> {
        if let Content::Long { root, .. } = content
            && !self.is_news(&(*root).into())
        {
            return Ok(());
        }
        for chunk in chunks(content, size, self) {
            let (_, chunk) = chunk?;
            if !chunk.is_hole() {
                self.with_marks(|marks| marks.mark(&chunk.id, chunk.len.into(), self.holder));
            }
        }
        Ok(())
    }
}

impl ObjectSource for Marking<'_> {
    fn get(&self, id: &ChunkId) -> Result<Arc<[u8]>> {
        let bytes = self.source.get(id)?;
        self.with_marks(|marks| marks.mark(id, bytes.len() as u64, self.holder));
        Ok(bytes)
    }
}
