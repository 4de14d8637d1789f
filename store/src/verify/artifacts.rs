//! Walks an artifact and notes what cannot be read of it. A directory that is lost does not hide its neighbours.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Affected, Damage, PATHS_MAX};
use crate::artifact::{Artifact, MetadataPolicy};
use crate::content::{ChunkRef, Content, chunks};
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId, TreeId};
use crate::pack::SEALED;
use crate::presence::Missing;
use crate::progress::Progress;
use crate::refs::RefKey;
use crate::store::Store;
use crate::tree::{Entry, Node, PATH_LEN_MAX, entries};

/// Chunks that are looked for together.
const WINDOW_MAX: usize = 1024;

/// What is wrong with an artifact.
#[derive(Default)]
pub(super) struct Found {
    paths: Vec<Vec<u8>>,
    path_count: u64,
    missing: BTreeSet<ChunkId>,
    /// Chunks of files that are not here yet, with their lengths.
    not_here: BTreeMap<ChunkId, u32>,
    /// What the artifact says of itself that is not so, though all of its bytes are there.
    pub(super) contradictions: Vec<Damage>,
}

/// What the artifact says of its tree, counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    entries: u64,
    files: u64,
    bytes: u64,
    chunks: u64,
}

/// Checks one artifact. `bad` are chunks that are there and cannot be read. What is absent of a partial artifact's files
/// is only counted.
pub(super) fn check(
    store: &Store,
    id: &ArtifactId,
    is_partial: bool,
    bad: &HashSet<ChunkId>,
    progress: &dyn Progress,
) -> Result<Found> {
    let mut found = Found::default();
    let artifact = match store.artifact(id) {
        Ok(artifact) => artifact,
        Err(error) => {
            found.note_error(b"", (*id).into(), error)?;
            return Ok(found);
        }
    };
    let mut counted = Counted::default();
    let looking = Looking { store, is_partial, bad };
    let mut open: Vec<(Vec<u8>, TreeId)> = vec![(Vec::new(), artifact.root)];
    while let Some((folder, tree)) = open.pop() {
        for entry in entries(&tree, store) {
            if progress.cancelled() {
                return Err(Error::Cancelled);
            }
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    found.note_error(&folder, tree.into(), error)?;
                    break;
                }
            };
            let path = if folder.is_empty() {
                entry.name.clone()
            } else {
                [&folder[..], b"/", &entry.name].concat()
            };
            counted.entries += 1;
            if path.len() > PATH_LEN_MAX || counted.entries > artifact.entries {
                found.contradict(
                    store,
                    id,
                    "its tree is larger than it says, or deeper than a path can be",
                )?;
                return Ok(found);
            }
            if entry.full.is_some() != (artifact.policy == MetadataPolicy::Full) {
                found.contradict(store, id, "an entry has other metadata than its policy says")?;
            }
            match &entry.node {
                Node::Dir { tree } => open.push((path, *tree)),
                Node::File { .. } => looking.check_file(&path, &entry, &mut counted, &mut found)?,
                _ => {}
            }
        }
    }
    let said = claims(&artifact);
    if found.path_count == 0 && counted != said {
        found.contradict(store, id, &format!("it says {said:?} and has {counted:?}"))?;
    }
    Ok(found)
}

fn claims(artifact: &Artifact) -> Counted {
    let Artifact { entries, files, bytes, chunks, .. } = *artifact;
    Counted { entries, files, bytes, chunks }
}

/// What it takes to tell whether a chunk is lost.
struct Looking<'a> {
    store: &'a Store,
    is_partial: bool,
    bad: &'a HashSet<ChunkId>,
}

impl Looking<'_> {
    fn check_file(&self, path: &[u8], entry: &Entry, counted: &mut Counted, found: &mut Found) -> Result<()> {
        let Node::File { size, content } = &entry.node else { return Ok(()) };
        counted.files += 1;
        counted.bytes = counted.bytes.saturating_add(*size);
        counted.chunks = counted.chunks.saturating_add(content.chunk_count());
        let (mut missing, mut window) = (Vec::new(), Vec::new());
        for chunk in chunks(content, *size, self.store) {
            match chunk {
                Ok((_, chunk)) if chunk.is_hole() => {}
                Ok((_, chunk)) if self.bad.contains(&chunk.id) => missing.push(chunk.id),
                Ok((_, chunk)) => {
                    window.push(chunk);
                    if window.len() == WINDOW_MAX {
                        self.look(&mut window, &mut missing, found)?;
                    }
                }
                Err(error) => {
                    let root = match content {
                        Content::Long { root, .. } => (*root).into(),
                        _ => ChunkId([0; 32]),
                    };
                    found.note_error(path, root, error)?;
                    return Ok(());
                }
            }
        }
        self.look(&mut window, &mut missing, found)?;
        if !missing.is_empty() {
            found.note(path, missing);
        }
        Ok(())
    }

    /// Takes the chunks out of a window and notes those that are not here.
    fn look(&self, window: &mut Vec<ChunkRef>, missing: &mut Vec<ChunkId>, found: &mut Found) -> Result<()> {
        let ids: Vec<ChunkId> = window.iter().map(|chunk| chunk.id).collect();
        let here = self.store.have(&ids)?;
        for (chunk, _) in window.drain(..).zip(here).filter(|(_, here)| !here) {
            if self.is_partial {
                found.not_here.insert(chunk.id, chunk.len);
            } else {
                missing.push(chunk.id);
            }
        }
        Ok(())
    }
}

impl Found {
    fn note(&mut self, path: &[u8], missing: Vec<ChunkId>) {
        self.path_count += 1;
        if self.paths.len() < PATHS_MAX {
            self.paths.push(path.to_vec());
        }
        self.missing.extend(missing);
    }

    /// Notes that reading `object` failed because something is damaged or absent; passes other failures on.
    fn note_error(&mut self, path: &[u8], object: ChunkId, error: Error) -> Result<()> {
        match error {
            Error::Damaged { chunk, .. } => self.note(path, vec![chunk.unwrap_or(object)]),
            Error::Absent { .. } => self.note(path, vec![object]),
            error => return Err(error),
        }
        Ok(())
    }

    fn contradict(&mut self, store: &Store, id: &ArtifactId, detail: &str) -> Result<()> {
        let chunk = ChunkId::from(*id);
        let placed = store.place(&chunk)?;
        let pack = placed.map(|placed| placed.pack);
        self.contradictions.push(Damage {
            file: pack
                .map_or_else(|| store.packs_dir(), |pack| store.packs_dir().join(format!("{pack}.{SEALED}"))),
            pack,
            offset: placed.map(|placed| placed.frame_offset),
            chunks: vec![chunk],
            detail: format!("artifact {id}: {detail}"),
        });
        if self.path_count == 0 {
            self.note(b"", vec![chunk]);
        }
        Ok(())
    }

    /// What of a partial artifact's files is not here yet.
    pub(super) fn not_here(&self) -> Missing {
        let bytes = self.not_here.values().map(|len| u64::from(*len)).sum();
        Missing { objects: 0, chunks: self.not_here.len() as u64, bytes }
    }

    /// The artifact as affected, if it is.
    pub(super) fn affects(&self, artifact: ArtifactId, refs: Vec<RefKey>) -> Option<Affected> {
        let mut paths = self.paths.clone();
        paths.sort_unstable();
        let (path_count, missing) = (self.path_count, self.missing.iter().copied().collect());
        (path_count > 0).then_some(Affected { artifact, refs, paths, path_count, missing })
    }
}
