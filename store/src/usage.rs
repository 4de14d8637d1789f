//! What each artifact holds that no other does: the bytes that removing it would free, before compression.
//!
//! One walk over everything that refs and generations name marks every chunk and metadata object with the artifact that holds it, or as
//! shared. A directory or a long file that two artifacts share is entered at most twice however many hold it, so the
//! time is that of reading the distinct metadata, not of all versions together. What frames stand on counts as held by
//! whoever holds what is in them: while they are there, removing its own artifact does not free it. The result is kept in `cache/` and is
//! good for as long as the journal says the same, and no such frames come or go; it is derived, and losing it costs one walk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::block::FrameHeader;
use crate::content::{Content, chunks};
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId, TreeId};
use crate::object::ObjectSource;
use crate::progress::Progress;
use crate::standing::Standing;
use crate::store::Store;
use crate::tree::{Node, entries};

pub(crate) use cache::decode_any as decode_usage;

mod cache;

/// Bytes that only this artifact holds, for each artifact.
pub type Usage = BTreeMap<ArtifactId, u64>;

impl Store {
    /// The bytes that only one artifact holds, for each artifact that a ref or a generation
    /// names. Kept in `cache/` and good until the
    /// next change; a cache that cannot be read or written costs the walk, and nothing else.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when `progress` says so; [`Error::Damaged`] and [`Error::Absent`] when metadata are.
    pub fn usage(&self, progress: &dyn Progress) -> Result<Usage> {
        let view = self.view()?;
        let named = view.artifacts();
        if named.is_empty() {
            return Ok(Usage::new());
        }
        let mut hasher = blake3::Hasher::new();
        for artifact in &named {
            hasher.update(&artifact.0);
        }
        let basis = cache::Basis { seq: view.seq, named: *hasher.finalize().as_bytes() };
        let path = self.usage_path();
        if let Some(usage) = self.io().read(&path).ok().and_then(|bytes| cache::decode(&bytes, basis)) {
            return Ok(usage);
        }
        let held = named.into_iter().map(|artifact| {
            let root = self.artifact(&artifact)?.root;
            Ok(Held { artifact, root })
        });
        let standing = self.standing()?;
        let usage = measure(&held.collect::<Result<Vec<_>>>()?, &standing, self, progress)?;
        if let Err(error) = self.io().write_atomic(&path, &cache::encode(basis, &usage)) {
            tracing::debug!(%error, path = %path.display(), "unique bytes are not kept");
        }
        Ok(usage)
    }

    fn usage_path(&self) -> PathBuf {
        self.path().join("cache").join("usage")
    }

    /// What is kept is not so any more: frames that stand on others came or went.
    pub(crate) fn forget_usage(&self) {
        let path = self.usage_path();
        if let Err(error) = self.io().remove(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!(%error, path = %path.display(), "unique bytes may be told as they were");
        }
    }
}

/// What the walk needs to know of an artifact.
#[derive(Debug, Clone, Copy)]
struct Held {
    artifact: ArtifactId,
    root: TreeId,
}

/// Walks all of `held`, each artifact once.
///
/// # Errors
/// [`Error::Cancelled`] when `progress` says so; whatever `source` returns.
fn measure(
    held: &[Held],
    standing: &[Standing],
    source: &dyn ObjectSource,
    progress: &dyn Progress,
) -> Result<Usage> {
    let frames = || standing.iter().flat_map(|pack| &pack.frames);
    let bases = frames().flat_map(|frame| &frame.bases).map(|base| (Key::of(base), None)).collect();
    let marks = Mutex::new(Marks { holders: HashMap::default(), unique: vec![0; held.len()], bases });
    for (index, artifact) in held.iter().enumerate() {
        let holder = Holder(u32::try_from(index).map_err(|_| too_many(held.len()))?);
        let marking = Marking { source, marks: &marks, holder };
        // The artifact's own bytes are one more object.
        marking.get(&artifact.artifact.into())?;
        marking.walk(&artifact.root, progress)?;
    }
    let mut marks = marks.into_inner().unwrap_or_else(PoisonError::into_inner);
    frames().for_each(|frame| marks.stand(frame));
    let unique = marks.unique;
    Ok(held.iter().map(|held| held.artifact).zip(unique).collect())
}

fn too_many(count: usize) -> Error {
    Error::Invalid {
        what: "number of artifacts",
        given: count.to_string(),
        reason: "it is above 2^32".into(),
    }
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
    /// Lengths of chunks on which others stand, where artifacts hold them.
    bases: HashMap<Key, Option<u64>, BuildHasherDefault<FirstBytes>>,
}

impl Marks {
    /// Marks `len` bytes as held by `holder`. Whether that is news, for this holder or for what lies below.
    fn mark(&mut self, id: &ChunkId, len: u64, holder: Holder) -> bool {
        if !self.bases.is_empty()
            && let Some(known) = self.bases.get_mut(&Key::of(id))
        {
            *known = Some(len);
        }
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

    /// Marks what a frame stands on as held by whoever holds what is in it.
    fn stand(&mut self, frame: &FrameHeader) {
        let holders: BTreeSet<u32> =
            frame.chunks.iter().filter_map(|(id, _)| Some(self.holders.get(&Key::of(id))?.0)).collect();
        for base in &frame.bases {
            let (Some(Some(len)), Some(known)) =
                (self.bases.get(&Key::of(base)).copied(), self.holders.get_mut(&Key::of(base)))
            else {
                continue;
            };
            if *known != Holder::SHARED && holders.iter().any(|holder| *holder != known.0) {
                self.unique[known.0 as usize] -= len;
                *known = Holder::SHARED;
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Codec, Frame};
    use crate::object::{MemoryObjects, ObjectSink};
    use crate::testing::{chunked, dir, file, tree};

    fn held(objects: &mut MemoryObjects, name: &str, root: TreeId) -> (Held, u64) {
        let bytes = name.as_bytes().to_vec();
        let len = bytes.len() as u64;
        (Held { artifact: ArtifactId(objects.put(bytes).unwrap().0), root }, len)
    }

    fn objects_of(objects: &MemoryObjects, ids: &[TreeId]) -> u64 {
        ids.iter().map(|id| objects.get(&(*id).into()).unwrap().len() as u64).sum()
    }

    #[test]
    fn what_one_artifact_alone_holds_is_its_own_once() {
        let mut objects = MemoryObjects::new();
        let common = chunked(&mut objects, [1, 2, 0, 2]);
        let common = tree(&mut objects, &[("common", common)]);
        let only_a = chunked(&mut objects, [2, 3, 3, 0]);
        let a = tree(&mut objects, &[("common", dir(common)), ("f", only_a.clone()), ("g", only_a)]);
        let only_b = chunked(&mut objects, [1, 4, 5]);
        let b = tree(&mut objects, &[("common", dir(common)), ("f", only_b), ("inline", file(b"b"))]);
        let ((a, a_len), (b, b_len)) = (held(&mut objects, "art a", a), held(&mut objects, "artifact b", b));

        let usage = measure(&[a, b], &[], &objects, &()).unwrap();
        assert_eq!(usage[&a.artifact], 1000 + a_len + objects_of(&objects, &[a.root]));
        assert_eq!(usage[&b.artifact], 2000 + b_len + objects_of(&objects, &[b.root]));
        let alone = measure(&[a], &[], &objects, &()).unwrap();
        assert_eq!(alone[&a.artifact], 3000 + a_len + objects_of(&objects, &[a.root, common]));
    }

    #[test]
    fn what_a_third_artifact_shares_with_the_first_is_nobodys() {
        let mut objects = MemoryObjects::new();
        let long = chunked(&mut objects, 1..200);
        let edited = chunked(&mut objects, (1..100).chain([777]).chain(101..200));
        let roots = [long.clone(), edited, long].map(|entry| tree(&mut objects, &[("f", entry)]));
        let other = tree(&mut objects, &[("sub", dir(roots[0]))]);
        let list: Vec<Held> = [("a", roots[0]), ("b", roots[1]), ("c", roots[2]), ("d", other)]
            .map(|(name, root)| held(&mut objects, name, root).0)
            .to_vec();
        let usage = measure(&list, &[], &objects, &()).unwrap();
        // `a` and `c` have one tree: all that is their own is the artifact's bytes.
        assert_eq!(usage[&list[0].artifact], 1);
        assert_eq!(usage[&list[2].artifact], 1);
        assert!((1000..1000 + 20_000).contains(&usage[&list[1].artifact]), "{usage:?}");
        assert_eq!(usage[&list[3].artifact], 1 + objects_of(&objects, &[other]));
    }

    #[test]
    fn shared_directories_are_read_twice_at_most() {
        let mut objects = MemoryObjects::new();
        let shared = tree(&mut objects, &[("x", file(b"x"))]);
        let list: Vec<Held> = (0..50u32)
            .map(|n| {
                let root = tree(&mut objects, &[("n", file(&n.to_le_bytes())), ("shared", dir(shared))]);
                held(&mut objects, &format!("artifact {n}"), root).0
            })
            .collect();
        objects.take_reads();
        measure(&list, &[], &objects, &()).unwrap();
        assert_eq!(objects.take_reads(), 50 + 50 + 2);
    }

    #[test]
    fn what_others_stand_on_is_shared_with_them() {
        let mut objects = MemoryObjects::new();
        let (older, newer) = (chunked(&mut objects, [1, 2]), chunked(&mut objects, [3, 4]));
        let roots = [tree(&mut objects, &[("f", older)]), tree(&mut objects, &[("f", newer)])];
        let ((a, _), (b, b_len)) = (held(&mut objects, "a", roots[0]), held(&mut objects, "b", roots[1]));
        let ids = |tree: &TreeId, objects: &MemoryObjects| -> Vec<ChunkId> {
            let entry = entries(tree, objects).next().unwrap().unwrap();
            let Node::File { size, content } = entry.node else { panic!("it is a file") };
            chunks(&content, size, objects).map(|chunk| chunk.unwrap().1.id).collect()
        };
        let (older, newer) = (ids(&a.root, &objects), ids(&b.root, &objects));
        let plain = measure(&[a, b], &[], &objects, &()).unwrap();
        assert_eq!(plain[&b.artifact], 2000 + b_len + objects_of(&objects, &[b.root]));
        // A chunk of the older one stands on one of the newer one, and both of that on one that nobody has.
        let frame = |chunks: &[ChunkId], base: ChunkId| {
            let chunks = chunks.iter().map(|id| (*id, 1000)).collect();
            Frame::of_delta(Codec::Prefix, chunks, vec![base], b"payload").unwrap().header
        };
        let frames = vec![frame(&older[..1], newer[0]), frame(&newer, ChunkId::of(b"nobody"))];
        let told = measure(&[a, b], &[Standing { frames }], &objects, &()).unwrap();
        assert_eq!(told[&a.artifact], plain[&a.artifact]);
        assert_eq!(told[&b.artifact], plain[&b.artifact] - 1000);
    }
}
