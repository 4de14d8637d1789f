//! The receiver's side: units become verified frames. Units are taken in order, which is cheap; what each comes to is
//! found by any thread.

use std::ops::Range;
use std::sync::Arc;

use cairn_delta::DeltaError;
use cairn_delta::prefix::Decoder;
use cairn_delta::reloc::{Coder, Map};

use super::bitcode;
use super::gap::Gap;
use super::gzip;
use super::objects::prefix_of;
use super::old::{OldRanges, is_allowed, read_into};
use super::unit::{PLAIN_MAX, Unit};
use crate::block::{BlockBuilder, Compressor};
use crate::error::{Error, Result};
use crate::intake::VerifiedFrame;
use crate::store::Store;

/// Why a unit comes to nothing.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// It is not what it should be: whoever sent it is to blame.
    #[error("a delta that does not hold: {0}")]
    Lied(#[from] DeltaError),
    /// What it builds on cannot be read here.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Takes the units of one delta, in their order.
pub struct DeltaReader {
    gap: Arc<Gap>,
    next: usize,
    map: Option<Arc<Predicted>>,
}

/// How a new file is predicted.
struct Predicted {
    new_file: usize,
    old_file: usize,
    map: Map,
}

/// Makes a file of so many bytes of an old one and a payload.
type MakeFile = fn(&[u8], &[u8], usize, &mut Decoder, Vec<u8>) -> Result<Vec<u8>, DeltaError>;

/// A unit that is to be decoded.
pub struct UnitJob {
    gap: Arc<Gap>,
    chunks: Range<usize>,
    plain_len: usize,
    unit: Vec<u8>,
    map: Option<Arc<Predicted>>,
}

/// What one thread decodes units with.
#[derive(Default)]
pub struct UnitTools {
    pub(super) decoder: Decoder,
    compressor: Compressor,
    plain: Vec<u8>,
    block: Vec<u8>,
}

impl DeltaReader {
    /// A reader of the delta between the artifacts of `gap`.
    #[must_use]
    pub fn new(gap: Arc<Gap>) -> Self {
        Self { gap, next: 0, map: None }
    }

    /// Takes the next unit; nothing is to be done for some.
    ///
    /// # Errors
    /// [`DeltaError`] when it is not what comes next.
    pub fn take(&mut self, unit: Vec<u8>) -> Result<Option<UnitJob>, DeltaError> {
        let chunks = match Unit::decode(&unit)? {
            Unit::Map { old_file, payload } => {
                self.map = Some(Arc::new(self.predicted(old_file, payload)?));
                return Ok(None);
            }
            Unit::Objects { .. } => return Err(DeltaError::Invalid("metadata among chunks")),
            Unit::Raw { chunks, .. }
            | Unit::Prefix { chunks, .. }
            | Unit::Reloc { chunks, .. }
            | Unit::Gzip { chunks, .. }
            | Unit::Bitcode { chunks, .. } => chunks,
        };
        let end = self.next + chunks;
        let lacking = self.gap.new_chunks.get(self.next..end);
        let lacking = lacking.ok_or(DeltaError::Invalid("more chunks than lack"))?;
        let plain_len: usize = lacking.iter().map(|new| new.chunk.len as usize).sum();
        if plain_len > PLAIN_MAX {
            return Err(DeltaError::TooLarge("a unit's plain bytes"));
        }
        let chunks = self.next..end;
        self.next = end;
        Ok(Some(UnitJob { gap: Arc::clone(&self.gap), chunks, plain_len, unit, map: self.map.clone() }))
    }

    /// Says that no more come.
    ///
    /// # Errors
    /// [`DeltaError::Truncated`] when chunks lack.
    pub fn finish(&self) -> Result<(), DeltaError> {
        if self.next == self.gap.new_chunks.len() { Ok(()) } else { Err(DeltaError::Truncated) }
    }

    fn predicted(&self, old_file: usize, payload: &[u8]) -> Result<Predicted, DeltaError> {
        let next = self.gap.new_chunks.get(self.next).ok_or(DeltaError::Invalid("a map for no chunk"))?;
        let old = self.gap.old_files.get(old_file).ok_or(DeltaError::Invalid("an old file that is none"))?;
        let map = Map::from_bytes(payload)?;
        if (map.old_len(), map.new_len()) != (old.size, self.gap.new_files[next.file].size) {
            return Err(DeltaError::Invalid("a map for files of other lengths"));
        }
        Ok(Predicted { new_file: next.file, old_file, map })
    }
}

impl UnitJob {
    /// Numbers of the chunks that it has.
    #[must_use]
    pub fn chunks(&self) -> Range<usize> {
        self.chunks.clone()
    }

    /// Plain bytes of these.
    #[must_use]
    pub fn plain_len(&self) -> usize {
        self.plain_len
    }

    /// What it is encoded with.
    #[must_use]
    pub fn codec(&self) -> &'static str {
        match Unit::decode(&self.unit) {
            Ok(Unit::Reloc { .. }) => "relocation",
            Ok(Unit::Gzip { .. }) => "gzip",
            Ok(Unit::Bitcode { .. }) => "bitcode",
            Ok(Unit::Prefix { bases, .. }) if bases.is_empty() => "zstd",
            Ok(Unit::Prefix { .. }) => "prefix",
            _ => "raw",
        }
    }

    /// Decodes it: frames of its chunks, each hashed.
    ///
    /// # Errors
    /// [`UnitError`].
    pub fn run(&self, store: &Store, tools: &mut UnitTools) -> Result<Vec<VerifiedFrame>, UnitError> {
        let plain = self.plain(store, tools)?;
        if plain.len() != self.plain_len {
            return Err(DeltaError::Invalid("a unit of another length").into());
        }
        let frames = self.frames(&plain, tools);
        tools.plain = plain;
        frames
    }

    fn plain(&self, store: &Store, tools: &mut UnitTools) -> Result<Vec<u8>, UnitError> {
        let mut out = std::mem::take(&mut tools.plain);
        out.clear();
        match Unit::decode(&self.unit)? {
            Unit::Raw { payload, .. } => {
                out.extend_from_slice(payload.get(..self.plain_len).unwrap_or(payload))
            }
            Unit::Prefix { bases, payload, .. } => {
                let prefix = prefix_of(store, &self.gap.old_chunks, &bases)?;
                out = tools.decoder.decode(&prefix, payload, self.plain_len, out)?;
            }
            Unit::Reloc { payload, .. } => {
                let predicted = self.map.as_ref().ok_or(DeltaError::Invalid("a segment without a map"))?;
                let ranges = self.gap.ranges(self.chunks.clone(), predicted.new_file);
                let ranges = ranges.ok_or(DeltaError::Invalid("a segment of another file than its map's"))?;
                let reads = predicted.map.reads(&ranges);
                if !is_allowed(&reads) {
                    return Err(DeltaError::TooLarge("what a segment reads").into());
                }
                let file = &self.gap.old_files[predicted.old_file];
                let old = OldRanges::read(store, &self.gap, file, &reads)?;
                out = Coder::new(&predicted.map).decode(&old, &ranges, payload, out)?;
            }
            Unit::Gzip { old_file, payload, .. } => {
                out = self.of_file(store, tools, old_file, payload, (gzip::FILE_MAX, gzip::decode), out)?;
            }
            Unit::Bitcode { old_file, payload, .. } => {
                let how = (bitcode::FILE_MAX, bitcode::decode as MakeFile);
                out = self.of_file(store, tools, old_file, payload, how, out)?;
            }
            Unit::Map { .. } | Unit::Objects { .. } => {
                return Err(DeltaError::Invalid("something else than a block").into());
            }
        }
        Ok(out)
    }

    /// The chunks of a file that was taken apart.
    fn of_file(
        &self,
        store: &Store,
        tools: &mut UnitTools,
        old_file: usize,
        payload: &[u8],
        (file_max, make): (u64, MakeFile),
        mut out: Vec<u8>,
    ) -> Result<Vec<u8>, UnitError> {
        let gap = &self.gap;
        let old = gap.old_files.get(old_file).ok_or(DeltaError::Invalid("an old file that is none"))?;
        let file = gap.new_chunks[self.chunks.start].file;
        let size = gap.new_files[file].size;
        if size.max(old.size) > file_max {
            return Err(DeltaError::TooLarge("a file that is taken apart").into());
        }
        let [mut old_bytes, room] = [old.size, size].map(|size| vec![0; usize::try_from(size).unwrap_or(0)]);
        read_into(store, gap, old, 0, &mut old_bytes)?;
        let new = make(&old_bytes, payload, room.len(), &mut tools.decoder, room)?;
        let ranges = gap.ranges(self.chunks.clone(), file);
        for range in ranges.ok_or(DeltaError::Invalid("a file and chunks of another"))? {
            let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
            out.extend_from_slice(new.get(start..end).ok_or(DeltaError::Truncated)?);
        }
        Ok(out)
    }

    fn frames(&self, plain: &[u8], tools: &mut UnitTools) -> Result<Vec<VerifiedFrame>, UnitError> {
        let mut frames = Vec::new();
        let mut builder = BlockBuilder::with_buffer(std::mem::take(&mut tools.block));
        let mut rest = plain;
        for new in &self.gap.new_chunks[self.chunks.clone()] {
            let (bytes, after) = rest.split_at(new.chunk.len as usize);
            rest = after;
            if builder.is_full_for(bytes.len()) {
                frames.push(verified(builder, tools)?);
                builder = BlockBuilder::with_buffer(std::mem::take(&mut tools.block));
            }
            builder.push(new.chunk.id, bytes);
        }
        frames.push(verified(builder, tools)?);
        Ok(frames)
    }
}

pub(super) fn verified(builder: BlockBuilder, tools: &mut UnitTools) -> Result<VerifiedFrame, UnitError> {
    let frame = VerifiedFrame::of(builder, &mut tools.compressor);
    frame.map_err(|_| DeltaError::Invalid("a chunk's bytes are not what its id says").into())
}
