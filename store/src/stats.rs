//! What a store holds and what it takes: figures from the journal, the packs' footers and the index. Nothing is walked.

use crate::block::{Codec, FrameHeader};
use crate::error::Result;
use crate::index::IndexSummary;
use crate::pack::PackKind;
use crate::store::{PackSummary, Store, is_damage};

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

/// What is encoded in one way, in all packs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CodecStats {
    /// Frames.
    pub frames: u64,
    /// Chunks in them, or metadata objects.
    pub chunks: u64,
    /// Plain bytes of these.
    pub plain_bytes: u64,
    /// Bytes of the frames.
    pub stored_bytes: u64,
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

    /// What the packs hold, by how it is encoded. Reads their footers, and of packs of deltas the frames' headers; of the
    /// others a frame's length tells. Frames whose headers are damaged are left out.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn stats_by_codec(&self) -> Result<Vec<(Codec, CodecStats)>> {
        let mut found = [Codec::Raw, Codec::Zstd, Codec::Prefix, Codec::Relocation]
            .map(|codec| (codec, CodecStats::default()));
        for id in self.packs()?.into_iter().map(|pack| pack.id) {
            let pack = match self.pack(id) {
                Ok(pack) => pack,
                Err(_) if self.is_gone(id) => continue,
                Err(error) => return Err(error),
            };
            let footer = pack.footer();
            let mut counts = vec![0u16; footer.frames.len()];
            for row in &footer.chunks {
                if let Some(count) = counts.get_mut(usize::from(row.frame)) {
                    *count = (*count).max(row.slot.saturating_add(1));
                }
            }
            for (number, (row, count)) in (0u16..).zip(footer.frames.iter().zip(counts)) {
                let raw_len = FrameHeader::encoded_len(count.into(), 0) + row.plain_len as usize;
                let codec = match footer.kind {
                    PackKind::Delta => match pack.header(number) {
                        Ok(header) => header.codec,
                        Err(error) if is_damage(&error) => continue,
                        Err(error) => return Err(error),
                    },
                    PackKind::Data | PackKind::Metadata if row.len as usize >= raw_len => Codec::Raw,
                    PackKind::Data | PackKind::Metadata => Codec::Zstd,
                };
                let Some((_, stats)) = found.iter_mut().find(|(it, _)| *it == codec) else { continue };
                stats.frames += 1;
                stats.chunks += u64::from(count);
                stats.plain_bytes += u64::from(row.plain_len);
                stats.stored_bytes += u64::from(row.len);
            }
        }
        Ok(found.to_vec())
    }
}
