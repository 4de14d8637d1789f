//! What a node that has one artifact lacks of another: which chunks, of which files, and what they come to in packs.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::diff;
use crate::content::{Content, chunks};
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId, TreeId};
use crate::object::ObjectSource;
use crate::progress::Progress;
use crate::store::Store;
use crate::tree::{Node, walk};

/// What moving to an artifact transfers of one of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTransfer {
    /// Names joined by `/`.
    pub path: Vec<u8>,
    /// Chunks that are transferred for it. One that several files hold counts for the first of them.
    pub chunks: u64,
    /// Their plain bytes.
    pub plain_bytes: u64,
    /// Their part of the blocks that they lie in: the bytes that travel.
    pub stored_bytes: u64,
}

/// What moving from one artifact to another transfers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Files of which something is transferred, most stored bytes first.
    pub files: Vec<FileTransfer>,
    /// Chunks of all files.
    pub chunks: u64,
    /// Plain bytes of all files.
    pub plain_bytes: u64,
    /// Stored bytes of all files.
    pub stored_bytes: u64,
    /// Tree nodes, chunk lists and the artifact itself.
    pub metadata_objects: u64,
    /// Their stored bytes.
    pub metadata_bytes: u64,
}

impl Store {
    /// What a node that holds `from` lacks of `to`. A chunk's stored bytes are its part of the block that it lies in.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when `progress` says so; [`Error::Absent`] and [`Error::Damaged`] when metadata are.
    pub fn transfer(&self, from: &ArtifactId, to: &ArtifactId, progress: &dyn Progress) -> Result<Transfer> {
        let end = |id: &ArtifactId| {
            let artifact = self.artifact(id)?;
            Ok(End { artifact: *id, root: artifact.root, entries: artifact.entries })
        };
        let stored = |id: &ChunkId, len: u64| {
            let placed = self.place(id)?.ok_or_else(|| self.lost(id, None))?;
            let (stored, plain) = (u64::from(placed.frame_stored), u64::from(placed.frame_plain));
            Ok((len * stored).div_ceil(plain.max(1)))
        };
        measure(end(from)?, end(to)?, self, &stored, progress)
    }
}

/// One side.
#[derive(Debug, Clone, Copy)]
struct End {
    artifact: ArtifactId,
    root: TreeId,
    /// More than so many entries are damage.
    entries: u64,
}

/// The stored bytes of a chunk of so many plain bytes.
type StoredBytes<'a> = dyn Fn(&ChunkId, u64) -> Result<u64> + 'a;

/// Compares all chunks and objects of `from` with those of `to` that lie on the way to what changed.
///
/// # Errors
/// [`Error::Cancelled`] when `progress` says so; whatever `source` and `stored` return.
fn measure(
    from: End,
    to: End,
    source: &dyn ObjectSource,
    stored: &StoredBytes<'_>,
    progress: &dyn Progress,
) -> Result<Transfer> {
    if from.artifact == to.artifact {
        return Ok(Transfer::default());
    }
    let wanted = Recording::new(source);
    wanted.get(&to.artifact.into())?;
    let (changed, mut lacking) = changed_files(&from.root, &to.root, &wanted, progress)?;
    let mut objects = wanted.into_read();
    strike_held(&from, source, &mut lacking, &mut objects, progress)?;

    let mut transfer = Transfer::default();
    for (id, len) in &objects {
        transfer.metadata_objects += 1;
        transfer.metadata_bytes += stored(id, *len)?;
    }
    for (path, size, content) in changed {
        let mut file = FileTransfer { path, chunks: 0, plain_bytes: 0, stored_bytes: 0 };
        for chunk in chunks(&content, size, source) {
            let (_, chunk) = chunk?;
            // Counted where it is met first.
            if lacking.remove(&chunk.id) {
                file.chunks += 1;
                file.plain_bytes += u64::from(chunk.len);
                file.stored_bytes += stored(&chunk.id, chunk.len.into())?;
            }
        }
        if file.chunks > 0 {
            transfer.chunks += file.chunks;
            transfer.plain_bytes += file.plain_bytes;
            transfer.stored_bytes += file.stored_bytes;
            transfer.files.push(file);
        }
    }
    transfer.files.sort_by(|a, b| b.stored_bytes.cmp(&a.stored_bytes).then_with(|| a.path.cmp(&b.path)));
    Ok(transfer)
}

type ChangedFile = (Vec<u8>, u64, Content);

/// The files that `to` has and `from` has not as they are, and all their chunks.
fn changed_files(
    from: &TreeId,
    to: &TreeId,
    source: &dyn ObjectSource,
    progress: &dyn Progress,
) -> Result<(Vec<ChangedFile>, HashSet<ChunkId>)> {
    let (mut files, mut ids) = (Vec::new(), HashSet::new());
    for difference in diff(from, to, source) {
        stop_if_asked(progress)?;
        let difference = difference?;
        if !difference.is_content() {
            continue;
        }
        let Some(Node::File { size, content }) = difference.after.map(|entry| entry.node) else { continue };
        for chunk in chunks(&content, size, source) {
            let (_, chunk) = chunk?;
            if !chunk.is_hole() {
                ids.insert(chunk.id);
            }
        }
        if !matches!(content, Content::Inline(_)) {
            files.push((difference.path, size, content));
        }
    }
    Ok((files, ids))
}

/// Takes out of `lacking` and `objects` whatever `from` holds.
fn strike_held(
    from: &End,
    source: &dyn ObjectSource,
    lacking: &mut HashSet<ChunkId>,
    objects: &mut HashMap<ChunkId, u64>,
    progress: &dyn Progress,
) -> Result<()> {
    let held = Recording::new(source);
    held.get(&from.artifact.into())?;
    for entry in walk(&from.root, &held).with_limit(from.entries) {
        stop_if_asked(progress)?;
        let Node::File { size, content } = entry?.1.node else { continue };
        for chunk in chunks(&content, size, &held) {
            lacking.remove(&chunk?.1.id);
        }
    }
    for id in held.into_read().keys() {
        objects.remove(id);
    }
    Ok(())
}

fn stop_if_asked(progress: &dyn Progress) -> Result<()> {
    if progress.cancelled() { Err(Error::Cancelled) } else { Ok(()) }
}

/// A source that remembers what was read through it, and how long each object is.
struct Recording<'a> {
    source: &'a dyn ObjectSource,
    /// Locked for single insertions; the walks have one thread, the lock is for `ObjectSource: Sync`.
    read: Mutex<HashMap<ChunkId, u64>>,
}

impl<'a> Recording<'a> {
    fn new(source: &'a dyn ObjectSource) -> Self {
        Self { source, read: Mutex::default() }
    }

    fn into_read(self) -> HashMap<ChunkId, u64> {
        self.read.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObjectSource for Recording<'_> {
    fn get(&self, id: &ChunkId) -> Result<Arc<[u8]>> {
        let bytes = self.source.get(id)?;
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, bytes.len() as u64);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{MemoryObjects, ObjectSink};
    use crate::testing::{chunked, dir, file, tree};

    fn end(objects: &mut MemoryObjects, name: &str, root: TreeId) -> End {
        End { artifact: ArtifactId(objects.put(name.into()).unwrap().0), root, entries: 100 }
    }

    /// Everything compresses to half.
    fn halved(_: &ChunkId, len: u64) -> Result<u64> {
        Ok(len / 2)
    }

    #[test]
    fn only_what_is_lacking_travels_and_counts_for_its_first_file() {
        let mut objects = MemoryObjects::new();
        let same = chunked(&mut objects, [1, 2]);
        let same = tree(&mut objects, &[("s", same)]);
        let elsewhere = chunked(&mut objects, [9, 10]);
        let a = tree(&mut objects, &[("old", elsewhere), ("same", dir(same))]);
        let first = chunked(&mut objects, [9, 20, 0, 20, 2]);
        let second = chunked(&mut objects, [20, 21, 22]);
        let moved = chunked(&mut objects, [9, 10]);
        let b = tree(
            &mut objects,
            &[
                ("first", first),
                ("inline", file(b"tiny")),
                ("moved", moved),
                ("same", dir(same)),
                ("second", second),
            ],
        );
        let (a, b) = (end(&mut objects, "a", a), end(&mut objects, "bb", b));

        let transfer = measure(a, b, &objects, &halved, &()).unwrap();
        let file = |path: &str, chunks: u64| FileTransfer {
            path: path.into(),
            chunks,
            plain_bytes: chunks * 1000,
            stored_bytes: chunks * 500,
        };
        assert_eq!(transfer.files, [file("second", 2), file("first", 1)]);
        assert_eq!((transfer.chunks, transfer.plain_bytes, transfer.stored_bytes), (3, 3000, 1500));
        // The root and the artifact; the shared directory is held.
        let root_len = objects.get(&b.root.into()).unwrap().len() as u64;
        assert_eq!((transfer.metadata_objects, transfer.metadata_bytes), (2, root_len / 2 + 1));
        assert_eq!(measure(b, b, &objects, &halved, &()).unwrap(), Transfer::default());
    }

    #[test]
    fn an_edit_of_a_long_file_moves_one_chunk_and_the_nodes_above_it() {
        let mut objects = MemoryObjects::new();
        let long = chunked(&mut objects, 1..20_000);
        let edited = chunked(&mut objects, (1..9_000).chain([77_777]).chain(9_001..20_000));
        let a = tree(&mut objects, &[("db", long)]);
        let b = tree(&mut objects, &[("db", edited)]);
        let (a, b) = (end(&mut objects, "a", a), end(&mut objects, "b", b));
        let transfer = measure(a, b, &objects, &|_, len| Ok(len), &()).unwrap();
        assert_eq!(transfer.stored_bytes, 1000);
        assert!(transfer.metadata_objects <= 5, "{transfer:?}");
    }
}
