//! What lies between two artifacts. Whoever has the metadata of both finds the same, and so numbers stand for chunks and
//! files: of the old artifact all, of the new one the chunks that it alone has.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::content::{ChunkRef, Content};
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId};
use crate::progress::Progress;
use crate::sending::lacking::{Seen, visit_all, visit_new};
use crate::store::Store;

/// Chunks of either artifact, at most: some 60 MB of memory. Between larger ones there are no deltas.
pub(super) const CHUNKS_MAX: usize = 1 << 19;

/// A file of the old artifact.
#[derive(Debug)]
pub(super) struct OldFile {
    pub(super) path: Vec<u8>,
    pub(super) size: u64,
    /// Where its list begins in [`Gap::old_list`], and where it ends.
    first: usize,
    end: usize,
}

/// A file of the new artifact that has chunks which the old one lacks.
#[derive(Debug)]
pub(super) struct NewFile {
    pub(super) path: Vec<u8>,
    pub(super) size: u64,
    pub(super) content: Content,
}

/// A chunk that lacks.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewChunk {
    pub(super) chunk: ChunkRef,
    /// The file in which it comes first, and where.
    pub(super) file: usize,
    pub(super) offset: u64,
}

/// What lies between two artifacts: see the module.
#[derive(Debug)]
pub struct Gap {
    pub(super) old_files: Vec<OldFile>,
    /// Chunks of old files: the offset of each and its number, file after file. What lies between them is holes.
    old_list: Vec<(u64, u32)>,
    /// Distinct chunks of the old artifact, in the order in which they come first.
    pub(super) old_chunks: Vec<ChunkRef>,
    pub(super) new_files: Vec<NewFile>,
    pub(super) new_chunks: Vec<NewChunk>,
}

impl Gap {
    /// Reads all metadata of both. Nothing where one is too large for deltas.
    ///
    /// # Errors
    /// [`Error::Absent`] when metadata of one is not here, [`Error::Damaged`], [`Error::Cancelled`], [`Error::Io`].
    pub fn between(
        store: &Store,
        have: &ArtifactId,
        want: &ArtifactId,
        progress: &dyn Progress,
    ) -> Result<Option<Self>> {
        let store = store.local();
        let mut gap = Self {
            old_files: Vec::new(),
            old_list: Vec::new(),
            old_chunks: Vec::new(),
            new_files: Vec::new(),
            new_chunks: Vec::new(),
        };
        let mut numbers: HashMap<ChunkId, u32> = HashMap::new();
        let enough = Enough(progress);
        let mut is_too_large = false;
        visit_all(&store, have, &enough, &mut |seen| is_too_large |= !gap.take_old(&seen, &mut numbers))?;
        if is_too_large {
            return Ok(None);
        }
        let mut known: HashSet<ChunkId> = HashSet::new();
        visit_new(&store, Some(have), want, &enough, &mut |seen| {
            if !seen.chunk.is_hole() && !numbers.contains_key(&seen.chunk.id) && known.insert(seen.chunk.id) {
                is_too_large |= !gap.take_new(&seen);
            }
        })?;
        Ok((!is_too_large).then_some(gap))
    }

    /// Chunks that lack.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.new_chunks.len()
    }

    /// A chunk that lacks.
    ///
    /// # Panics
    /// When there are not so many.
    #[must_use]
    pub fn chunk(&self, number: usize) -> ChunkRef {
        self.new_chunks[number].chunk
    }

    /// Their plain bytes.
    #[must_use]
    pub fn plain_bytes(&self) -> u64 {
        self.new_chunks.iter().map(|new| u64::from(new.chunk.len)).sum()
    }

    /// Where chunks that lack lie in a file; those that follow each other are one range. Nothing if one is not of that
    /// file.
    pub(super) fn ranges(&self, chunks: Range<usize>, file: usize) -> Option<Vec<Range<u64>>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for new in self.new_chunks.get(chunks)? {
            let range = new.offset..new.offset.checked_add(new.chunk.len.into())?;
            match ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => ranges.push(range),
            }
            if new.file != file {
                return None;
            }
        }
        Some(ranges)
    }

    /// The chunks of an old file: the offset of each, and its number.
    pub(super) fn list(&self, file: &OldFile) -> &[(u64, u32)] {
        &self.old_list[file.first..file.end]
    }

    fn take_old(&mut self, seen: &Seen<'_>, numbers: &mut HashMap<ChunkId, u32>) -> bool {
        if self.old_list.len() >= CHUNKS_MAX {
            return false;
        }
        let is_same = |file: &OldFile| file.path == seen.path;
        if !self.old_files.last().is_some_and(is_same) {
            let first = self.old_list.len();
            self.old_files.push(OldFile { path: seen.path.to_vec(), size: seen.size, first, end: first });
        }
        if seen.chunk.is_hole() {
            return true;
        }
        let next = u32::try_from(self.old_chunks.len()).expect("bounded by CHUNKS_MAX");
        let number = *numbers.entry(seen.chunk.id).or_insert_with(|| {
            self.old_chunks.push(seen.chunk);
            next
        });
        self.old_list.push((seen.offset, number));
        if let Some(file) = self.old_files.last_mut() {
            file.end = self.old_list.len();
        }
        true
    }

    fn take_new(&mut self, seen: &Seen<'_>) -> bool {
        if self.new_chunks.len() >= CHUNKS_MAX {
            return false;
        }
        let is_same = |file: &NewFile| file.path == seen.path;
        if !self.new_files.last().is_some_and(is_same) {
            let (path, content) = (seen.path.to_vec(), seen.content.clone());
            self.new_files.push(NewFile { path, size: seen.size, content });
        }
        let file = self.new_files.len() - 1;
        self.new_chunks.push(NewChunk { chunk: seen.chunk, file, offset: seen.offset });
        true
    }
}

/// Whether it is to stop.
struct Enough<'a>(&'a dyn Progress);

impl Progress for Enough<'_> {
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

impl Store {
    /// What lies between two artifacts, if all metadata of both can be read here.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Io`].
    pub fn gap(&self, have: &ArtifactId, want: &ArtifactId, progress: &dyn Progress) -> Result<Option<Gap>> {
        match Gap::between(self, have, want, progress) {
            Err(Error::Absent { .. } | Error::Damaged { .. }) => Ok(None),
            gap => gap,
        }
    }
}
