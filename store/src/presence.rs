//! Whether all of an artifact is here: each of its objects and chunks is in the footer of a sealed pack that is there;
//! what lies in a pack that is still filled might be lost yet. No file's bytes are read; that they are sound is for
//! [`Store::verify`] to find out. Nothing is fetched.
//!
//! The answer for an artifact is kept as long as the packs are the same. Asking again costs a listing of them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::content::{Content, chunks};
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId, PackId, TreeId};
use crate::object::ObjectSource;
use crate::progress::Progress;
use crate::store::Store;
use crate::tree::{Node, entries};

/// Artifacts whose answer is kept, at most.
const KNOWN_MAX: usize = 4096;

/// What of an artifact is not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Missing {
    /// Tree nodes and chunk lists. What lies below them is not known and not counted.
    pub objects: u64,
    /// Chunks of files, each counted once.
    pub chunks: u64,
    /// Plain bytes of these chunks.
    pub bytes: u64,
}

impl Missing {
    /// Whether everything is here.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        let Self { objects, chunks, bytes } = *self;
        write!(f, "{chunks} chunk{} with {bytes} byte{}", plural(chunks), plural(bytes))?;
        if objects > 0 {
            write!(f, ", and {objects} list{} of files or chunks,", plural(objects))?;
        }
        write!(f, " {}", if chunks == 1 && objects == 0 { "is" } else { "are" })
    }
}

/// The answers that hold for one set of packs.
#[derive(Default)]
pub(crate) struct Known {
    packs: HashSet<PackId>,
    missing: HashMap<ArtifactId, Missing>,
}

impl Store {
    /// What of an artifact is not here.
    ///
    /// # Errors
    /// [`Error::Absent`] when nothing of it is, [`Error::Damaged`] when what leads to its files is, [`Error::Cancelled`],
    /// [`Error::Io`].
    pub fn missing(&self, id: &ArtifactId, progress: &dyn Progress) -> Result<Missing> {
        let (_, packs) = self.index_now()?;
        {
            let known = self.presence();
            if let Some(missing) = known.missing.get(id).filter(|_| known.packs == packs) {
                return Ok(*missing);
            }
        }
        let store = self.local();
        let root = store.artifact(id)?.root;
        let search = Search { store, found: Mutex::default(), progress };
        if !search.is_here(&(*id).into())? {
            search.lacks_object(&(*id).into());
        }
        search.walk(&root)?;
        let missing = search.found.into_inner().unwrap_or_else(PoisonError::into_inner).missing;
        let mut known = self.presence();
        if known.packs != packs || known.missing.len() >= KNOWN_MAX {
            *known = Known { packs, missing: HashMap::new() };
        }
        known.missing.insert(*id, missing);
        Ok(missing)
    }
}

/// Looks for what is missing; the source of the objects that it reads on its way.
struct Search<'a> {
    /// Asks nobody else.
    store: Store,
    /// Locked for single look-ups; the walk has one thread, the lock is for `ObjectSource: Sync`.
    found: Mutex<Found>,
    progress: &'a dyn Progress,
}

#[derive(Default)]
struct Found {
    missing: Missing,
    /// What is counted there.
    ids: HashSet<ChunkId>,
    /// Directories and chunk lists that were entered: a hostile tree may name one many times.
    entered: HashSet<ChunkId>,
}

impl Search<'_> {
    fn with_found<T>(&self, work: impl FnOnce(&mut Found) -> T) -> T {
        work(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn lacks_object(&self, id: &ChunkId) {
        self.with_found(|found| {
            if found.ids.insert(*id) {
                found.missing.objects += 1;
            }
        });
    }

    fn is_new(&self, id: &ChunkId) -> bool {
        self.with_found(|found| found.entered.insert(*id))
    }

    fn walk(&self, root: &TreeId) -> Result<()> {
        let mut open = vec![*root];
        while let Some(tree) = open.pop() {
            if self.progress.cancelled() {
                return Err(Error::Cancelled);
            }
            if !self.is_new(&tree.into()) {
                continue;
            }
            for entry in entries(&tree, self) {
                match entry.map(|entry| entry.node) {
                    Ok(Node::Dir { tree }) => open.push(tree),
                    Ok(Node::File { size, content }) => self.file(size, &content)?,
                    Ok(_) => {}
                    // Counted by `get`.
                    Err(Error::Absent { .. }) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn file(&self, size: u64, content: &Content) -> Result<()> {
        if let Content::Long { root, .. } = content
            && !self.is_new(&(*root).into())
        {
            return Ok(());
        }
        for chunk in chunks(content, size, self) {
            match chunk {
                Ok((_, chunk)) if chunk.is_hole() || self.is_here(&chunk.id)? => {}
                Ok((_, chunk)) => self.with_found(|found| {
                    if found.ids.insert(chunk.id) {
                        found.missing.chunks += 1;
                        found.missing.bytes += u64::from(chunk.len);
                    }
                }),
                Err(Error::Absent { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Looks in the index, and thoroughly for the first chunks that are not there: a run of it may be damaged.
    fn is_here(&self, id: &ChunkId) -> Result<bool> {
        const THOROUGH_MAX: usize = 16;
        if self.store.is_sealed(id)? {
            return Ok(true);
        }
        if self.with_found(|found| found.ids.len()) >= THOROUGH_MAX {
            return Ok(false);
        }
        self.store.locate(id)?;
        self.store.is_sealed(id)
    }
}

impl ObjectSource for Search<'_> {
    fn get(&self, id: &ChunkId) -> Result<Arc<[u8]>> {
        if self.is_here(id)? {
            return self.store.get(id);
        }
        self.lacks_object(id);
        Err(Error::Absent { what: format!("object {id}") })
    }
}
