//! What those who read a package touch of its files, so that the next version can be had here before it is used, and no more of
//! it than that (`use --require working-set`).
//!
//! Recorded for each package, by path and by place in the file ([`touched`]), while a mount is read; written down every few
//! seconds by a thread of its own ([`recorder`]), in a file for each package ([`record`]). Which chunks of another version that
//! comes to is found by path and relative place ([`WorkingSet::of`]): where a file has another length, places move in
//! proportion, and a little more is taken on both sides.
//!
//! Places are exact as far as the kernel tells: reads that go through this process, by the page cache's own read-ahead. A
//! file that the kernel reads by itself counts as a whole, unless exact places are known from before.
//!
//! All of it is derived: whoever deletes it loses time when the next version is used, and nothing else.

mod folder;
mod record;
mod recorder;
mod touched;

use std::collections::HashSet;
use std::ops::Range;

use cairn_store::content::chunks_from;
use cairn_store::{ArtifactId, ChunkRef, Content, Node, Store, tree};

pub(crate) use self::recorder::{Names, Origin, Recorder};
pub(crate) use self::touched::Touched;

use self::folder::Folder;
use self::record::{Entry, Trace};
use crate::files::{FileId, FileSpec};

/// What of an artifact readers will want, as far as is known from the versions before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkingSet {
    /// Its chunks, each once: file by file, in the order in which files were first touched.
    pub chunks: Vec<ChunkRef>,
    /// Plain bytes of these.
    pub bytes: u64,
    /// Files that they are of.
    pub files: u64,
}

impl WorkingSet {
    /// The working set of an artifact, of which all metadata is here: nothing where nobody has read this package so far.
    /// What was read in the last seconds may be left out; [`Files::working_set`](crate::Files::working_set) has it all.
    ///
    /// # Errors
    /// [`cairn_store::Error`] where the artifact cannot be read.
    pub fn of(store: &Store, artifact: &ArtifactId) -> cairn_store::Result<Option<Self>> {
        let artifact = store.artifact(artifact)?;
        let Some(record) = Folder::of(store).read(&artifact.name) else { return Ok(None) };
        let (mut set, mut seen) = (Self::default(), HashSet::new());
        for Entry { path, latest, before } in record.entries() {
            let Some(entry) = tree::lookup(&artifact.root, path, store)? else { continue };
            let Node::File { size, content } = entry.node else { continue };
            let file = FileSpec { content, size };
            let id = FileId::of(&file);
            let traces = match before {
                // Its own places are better than any that move.
                _ if latest.id() == id => vec![latest],
                Some(before) if before.id() == id => vec![before],
                Some(before) => vec![latest, before],
                None => vec![latest],
            };
            let taken = set.chunks.len();
            for range in traces.iter().flat_map(|trace| trace.ranges_in(&id, size)) {
                set.take(store, &file, range, &mut seen)?;
            }
            set.files += u64::from(set.chunks.len() > taken);
        }
        Ok(Some(set))
    }

    fn take(
        &mut self,
        store: &Store,
        file: &FileSpec,
        range: Range<u64>,
        seen: &mut HashSet<cairn_store::ChunkId>,
    ) -> cairn_store::Result<()> {
        if matches!(file.content, Content::Inline(_)) || range.is_empty() {
            return Ok(());
        }
        for chunk in chunks_from(&file.content, file.size, range.start, store) {
            let (start, chunk) = chunk?;
            if start >= range.end {
                break;
            }
            if !chunk.is_hole() && seen.insert(chunk.id) {
                self.bytes += u64::from(chunk.len);
                self.chunks.push(chunk);
            }
        }
        Ok(())
    }
}

impl Trace {
    /// Where in a file of `size` bytes the places lie that were touched in the one that this is of.
    fn ranges_in(&self, id: &FileId, size: u64) -> Vec<Range<u64>> {
        if self.is_whole() {
            return std::iter::once(0..size).collect();
        }
        let own = self.ranges();
        if self.id() == *id || self.size() == 0 {
            return own.map(|range| range.start.min(size)..range.end.min(size)).collect();
        }
        let moved = |at: u64| {
            let at = u128::from(at) * u128::from(size) / u128::from(self.size());
            u64::try_from(at).unwrap_or(size).min(size)
        };
        let margin = touched::granule(self.size());
        own.map(|range| {
            let start = moved(range.start).saturating_sub(margin);
            start..moved(range.end).saturating_add(margin).min(size)
        })
        .collect()
    }
}
