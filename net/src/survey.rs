//! What of an artifact is not here: the strict walk over what is. Every directory and every list is read once, however
//! often it is named, and everything is bounded, so that a tree that a hostile peer made costs no more than an honest one.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use cairn_store::content::chunks;
use cairn_store::tree::entries;
use cairn_store::{Artifact, ArtifactId, ChunkId, ChunkRef, Content, Node, ObjectSource, Store, TreeId};

use crate::error::{Error, Result};
use crate::reach::{OBJECTS_MAX, short};

/// Entries of an artifact that is taken from a peer, at most.
pub(crate) const ENTRIES_MAX: u64 = 1 << 25;
/// Objects that are found absent at a time, at most.
const ABSENT_MAX: usize = 65_536;
/// Chunks that are told apart when they are counted, at most; past it, repeats count again.
const DISTINCT_MAX: usize = 1 << 20;
/// Chunks that the store is asked for in one question.
const QUESTION: usize = 4096;
/// Names of directories in directories, at most.
const EDGES_MAX: usize = 1 << 21;
/// Directories inside directories, at most: as many as fit into the longest path.
const DEPTH_MAX: usize = 2048;

/// What is not here.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Objects that are named and not here, at most some thousands of them. What lies below is not known.
    pub(crate) absent: Vec<ChunkId>,
    /// The first chunks of files that are not here, each once, in about the order of the files.
    pub(crate) lacking: Vec<ChunkRef>,
    /// How many chunks are not here, and their plain bytes.
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
}

/// Looks for what of an artifact is not here; of its chunks, at most `lacking_max` are listed.
pub(crate) fn survey(
    store: &Store,
    id: &ArtifactId,
    lacking_max: usize,
    cancelled: &dyn Fn() -> bool,
) -> Result<Survey> {
    let local = Local { store, absent: Mutex::default() };
    let mut walk = Walk {
        store,
        lacking_max,
        cancelled,
        found: Survey::default(),
        seen: HashSet::new(),
        counted: HashSet::new(),
        question: Vec::new(),
        entries: 0,
        directories: HashMap::new(),
        own: Vec::new(),
        edges: Vec::new(),
    };
    if let Some(artifact) = present(Artifact::get(id, &local))? {
        walk.check(&artifact)?;
        walk.go(&artifact, &local)?;
    }
    walk.ask()?;
    let mut found = walk.found;
    found.absent = local.absent.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(found)
}

/// Nothing where an object is absent, which the source has noted.
fn present<T>(result: cairn_store::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(cairn_store::Error::Absent { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The objects that are here; nothing is fetched.
struct Local<'a> {
    store: &'a Store,
    /// Locked for single entries; the walk has one thread, the lock is for `ObjectSource: Sync`.
    absent: Mutex<Vec<ChunkId>>,
}

impl ObjectSource for Local<'_> {
    fn get(&self, id: &ChunkId) -> cairn_store::Result<Arc<[u8]>> {
        if self.store.have(&[*id])?.first() == Some(&true) {
            return self.store.get(id);
        }
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        if absent.len() < ABSENT_MAX && !absent.contains(id) {
            absent.push(*id);
        }
        Err(cairn_store::Error::Absent { what: format!("object {id}") })
    }
}

struct Walk<'a> {
    store: &'a Store,
    lacking_max: usize,
    cancelled: &'a dyn Fn() -> bool,
    found: Survey,
    /// Nodes of lists that were read, by the first bytes of their ids.
    seen: HashSet<u64>,
    /// Directories by the first bytes of their ids, each with its number.
    directories: HashMap<u64, u32>,
    /// How many entries each has by itself.
    own: Vec<u32>,
    /// Which directory names which.
    edges: Vec<(u32, u32)>,
    /// Chunks that were counted, likewise.
    counted: HashSet<u64>,
    question: Vec<ChunkRef>,
    entries: u64,
}

impl Walk<'_> {
    fn check(&self, artifact: &Artifact) -> Result<()> {
        if artifact.entries <= ENTRIES_MAX {
            return Ok(());
        }
        Err(malformed(
            artifact,
            format!("it has {} entries, and at most {ENTRIES_MAX} are taken", artifact.entries),
        ))
    }

    fn go(&mut self, artifact: &Artifact, local: &Local<'_>) -> Result<()> {
        self.number(&artifact.root);
        let mut open: Vec<(TreeId, usize)> = vec![(artifact.root, 1)];
        while let Some((tree, depth)) = open.pop() {
            if depth > DEPTH_MAX {
                return Err(malformed(artifact, "its directories are nested too deeply".to_owned()));
            }
            if (self.cancelled)() {
                return Err(Error::Cancelled);
            }
            let (number, below) = (self.number(&tree).0, open.len());
            for entry in entries(&tree, local) {
                let Some(entry) = present(entry)? else { break };
                self.entries += 1;
                self.own[number as usize] += 1;
                if self.entries > artifact.entries {
                    return Err(has_more(artifact));
                }
                match entry.node {
                    Node::Dir { tree } => {
                        let (named, is_new) = self.number(&tree);
                        self.edges.push((number, named));
                        if is_new {
                            open.push((tree, depth + 1));
                        }
                    }
                    Node::File { size, content } => self.file(size, &content, local)?,
                    _ => {}
                }
            }
            if self.own.len() > OBJECTS_MAX || self.edges.len() > EDGES_MAX {
                return Err(malformed(artifact, "it has too many directories".to_owned()));
            }
            // The first of them is looked at first.
            open[below..].reverse();
        }
        if self.counted_as_named() > artifact.entries {
            return Err(has_more(artifact));
        }
        Ok(())
    }

    /// A directory's number, and whether it was met for the first time.
    fn number(&mut self, tree: &TreeId) -> (u32, bool) {
        let next = u32::try_from(self.own.len()).unwrap_or(u32::MAX);
        let number = *self.directories.entry(short(&(*tree).into())).or_insert(next);
        if number == next {
            self.own.push(0);
        }
        (number, number == next)
    }

    /// Entries, those of a directory counted as often as it is named: what whoever goes through all of them meets.
    fn counted_as_named(&mut self) -> u64 {
        // Each but the root is named at least once; where that is all, there is nothing to be multiplied.
        if self.edges.len() < self.own.len() {
            return self.entries;
        }
        self.edges.sort_unstable();
        let mut unsettled = vec![0u32; self.own.len()];
        for (_, named) in &self.edges {
            unsettled[*named as usize] += 1;
        }
        let mut times = vec![0u64; self.own.len()];
        times[0] = 1;
        // An id is a hash of what it names, so there are no cycles, and this meets every directory.
        let (mut settled, mut total) = (vec![0u32], 0u64);
        while let Some(number) = settled.pop() {
            let often = times[number as usize];
            total = total.saturating_add(often.saturating_mul(u64::from(self.own[number as usize])));
            let first = self.edges.partition_point(|(names, _)| *names < number);
            for (_, named) in self.edges[first..].iter().take_while(|(names, _)| *names == number) {
                let named = *named as usize;
                times[named] = times[named].saturating_add(often);
                unsettled[named] -= 1;
                if unsettled[named] == 0 {
                    settled.push(u32::try_from(named).unwrap_or(u32::MAX));
                }
            }
        }
        total
    }

    fn file(&mut self, size: u64, content: &Content, local: &Local<'_>) -> Result<()> {
        let root = match content {
            Content::Inline(_) => return Ok(()),
            Content::Chunks(_) => None,
            Content::Long { root, .. } => Some(short(&(*root).into())),
        };
        if root.is_some_and(|root| !self.seen.insert(root)) {
            return Ok(());
        }
        let seen = Mutex::new(std::mem::take(&mut self.seen));
        let pass_over = |id: &ChunkId| !seen.lock().unwrap_or_else(PoisonError::into_inner).insert(short(id));
        let mut walked = Ok(());
        for chunk in chunks(content, size, local).passing_over(&pass_over) {
            match present(chunk) {
                Ok(Some((_, chunk))) if chunk.is_hole() => {}
                Ok(Some((_, chunk))) => walked = self.chunk(chunk),
                Ok(None) => break,
                Err(error) => walked = Err(error),
            }
            if walked.is_err() {
                break;
            }
        }
        self.seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        walked
    }

    fn chunk(&mut self, chunk: ChunkRef) -> Result<()> {
        self.question.push(chunk);
        if self.question.len() < QUESTION {
            return Ok(());
        }
        if (self.cancelled)() {
            return Err(Error::Cancelled);
        }
        self.ask()
    }

    fn ask(&mut self) -> Result<()> {
        let question = std::mem::take(&mut self.question);
        for chunk in self.store.lacks(&question)? {
            if self.counted.contains(&short(&chunk.id)) {
                continue;
            }
            if self.counted.len() < DISTINCT_MAX {
                self.counted.insert(short(&chunk.id));
            }
            self.found.chunks += 1;
            self.found.bytes += u64::from(chunk.len);
            if self.found.lacking.len() < self.lacking_max {
                self.found.lacking.push(chunk);
            }
        }
        self.question = question;
        self.question.clear();
        Ok(())
    }
}

fn has_more(artifact: &Artifact) -> Error {
    malformed(artifact, format!("it says that it has {} entries, and has more", artifact.entries))
}

fn malformed(artifact: &Artifact, detail: String) -> Error {
    Error::Store(cairn_store::Error::Damaged {
        what: format!("artifact {}@{}", artifact.name, artifact.version),
        chunk: None,
        pack: None,
        offset: None,
        detail,
    })
}
