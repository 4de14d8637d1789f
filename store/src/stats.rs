//! What a store holds and what it takes: figures from the journal, the packs' footers and the index. Nothing is walked.

use crate::error::Result;
use crate::index::IndexSummary;
use crate::store::{PackSummary, Store};

/// Figures of packs of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackStats {
    /// Files.
    pub packs: u64,
    /// Bytes of the files: frames and footers.
    pub file_bytes: u64,
    /// Frames in them.
    pub frames: u64,
    /// Chunks in them, or metadata objects.
    pub chunks: u64,
    /// Plain bytes of these.
    pub plain_bytes: u64,
    /// Bytes of the frames that hold them.
    pub stored_bytes: u64,
}

impl PackStats {
    fn add(&mut self, pack: &PackSummary) {
        self.packs += 1;
        self.file_bytes += pack.file_bytes;
        self.frames += pack.frames;
        self.chunks += pack.chunks;
        self.plain_bytes += pack.plain_bytes;
        self.stored_bytes += pack.stored_bytes;
    }
}

/// What a store holds and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Sequence number of the last change.
    pub seq: u64,
    /// Versions, each platform by itself.
    pub refs: u64,
    /// Channels.
    pub channels: u64,
    /// Different artifacts that refs and generations name.
    pub artifacts: u64,
    /// Files of all refs.
    pub files: u64,
    /// Bytes of these files: what all versions would take as plain files.
    pub logical_bytes: u64,
    /// Packs of files' bytes. Their plain bytes are the unique bytes: each chunk is there once.
    pub data: PackStats,
    /// Packs of trees, chunk lists and artifacts.
    pub metadata: PackStats,
    /// The index.
    pub index: IndexSummary,
}

impl Store {
    /// Figures about the whole store, what no ref names any more included.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) when the journal or a pack's footer is,
    /// [`Error::Io`](crate::Error::Io).
    pub fn stats(&self) -> Result<Stats> {
        let view = self.view()?;
        let (mut data, mut metadata) = (PackStats::default(), PackStats::default());
        for pack in self.packs()? {
            if pack.metadata { metadata.add(&pack) } else { data.add(&pack) }
        }
        Ok(Stats {
            seq: view.seq,
            refs: view.refs.len() as u64,
            channels: view.channels.len() as u64,
            artifacts: view.artifacts().len() as u64,
            files: view.refs.values().map(|record| record.files).sum(),
            logical_bytes: view.refs.values().map(|record| record.bytes).sum(),
            data,
            metadata,
            index: self.index_summary()?,
        })
    }
}
