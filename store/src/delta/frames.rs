//! What lacks, as frames for packs of deltas: blocks of chunks behind a prefix of chunks that the other artifact has, or as
//! what is left of an executable after it was predicted from another.
//!
//! Here the artifact that lacks is the newer one: what the older one alone has is told in terms of it.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use cairn_delta::reloc::{Coder, Map};
use cairn_delta::{Effort, prefix};

use super::bases::Bases;
use super::files::{self, ELF, MAPPED_MIN};
use super::gap::{Gap, NewChunk, OldFile};
use super::pairs::pairs;
use crate::block::{
    BASE_BYTES_MAX, BASES_MAX, BLOCK_TARGET, Based, BlockBuilder, Codec, Compressor, Frame, MAP_BYTES_MAX,
    Parts, Placed, ranges,
};
use crate::content::ChunkRef;
use crate::error::Result;
use crate::id::{ChunkId, PackId};
use crate::store::Store;

/// Chunks of a block, at most.
const CHUNKS_MAX: usize = 1024;
/// Frames that hold what a frame stands on, at most: all of them are decoded before it is, each with what it stands on in
/// turn. What is like a block lies mostly together. Measured with five releases of a Rust program of 37 MB, all but the newest
/// told, in unoptimised builds: with no bound they come to 11.5 % and take 136 s to read, with 4 to 12.6 % and 3 s.
const BASE_FRAMES_MAX: usize = 4;
/// The same of a block of a file that is predicted, which cannot do without any of them.
const PREDICTED_FRAMES_MAX: usize = 64;
/// A block that comes to less than one in so many bytes is not tried in other forms.
const WELL_TOLD: usize = 6;
/// A map and what stands on it have to come to less than one in so many bytes.
const PAYS: usize = 3;

/// Which frame: the pack that it is in, and its number there.
pub(crate) type FrameOf = (PackId, u16);

/// What may stand on what.
pub(crate) trait Rules {
    /// The frame that a base lies in, where something may stand on that base.
    fn frame_of(&self, base: &ChunkId) -> Option<FrameOf>;
}

/// Makes frames of what lacks, in the order of the files.
pub(crate) struct FrameMaker<'a> {
    store: &'a Store,
    gap: &'a Gap,
    pairs: Vec<Option<usize>>,
    bases: Bases<'a>,
    encoder: prefix::Encoder,
    compressor: Compressor,
    effort: Effort,
    file_max: u64,
    next: usize,
}

/// Chunks that lack and are told together: a block, or all of a file that may be predicted.
pub(crate) struct Told<'a> {
    chunks: Vec<&'a NewChunk>,
    old: Option<&'a OldFile>,
}

impl Told<'_> {
    /// Plain bytes of them.
    pub(crate) fn plain_bytes(&self) -> u64 {
        self.chunks.iter().map(|new| u64::from(new.chunk.len)).sum()
    }
}

/// What was made of chunks.
#[derive(Default)]
pub(crate) struct Made {
    /// Maps, which those of `frames` stand on that are predicted.
    pub(crate) maps: Vec<Frame>,
    /// Frames of the chunks; of those that nothing is like there are none.
    pub(crate) frames: Vec<Frame>,
}

impl<'a> FrameMaker<'a> {
    /// `file_max` is the longest file in bytes that is predicted; that takes about 12 times as much memory.
    pub(crate) fn new(store: &'a Store, gap: &'a Gap, effort: Effort, file_max: u64) -> Self {
        let pairs = pairs(gap);
        let bases = Bases::new(store, gap, &pairs);
        let (encoder, compressor) = (prefix::Encoder::new(effort), Compressor::default());
        Self { store, gap, pairs, bases, encoder, compressor, effort, file_max, next: 0 }
    }

    /// The next chunks that are to be told together; nothing when there are no more.
    ///
    /// # Errors
    /// As [`FrameMaker::frames`].
    pub(crate) fn next(&mut self, is_wanted: &mut dyn FnMut(&ChunkRef) -> bool) -> Result<Option<Told<'a>>> {
        let mut told = Told { chunks: Vec::new(), old: None };
        let (mut file, mut bytes) = (None, 0);
        while let Some(new) = self.gap.new_chunks.get(self.next) {
            if !is_wanted(&new.chunk) {
                self.next += 1;
                continue;
            }
            let len = new.chunk.len as usize;
            if file != Some(new.file) {
                let old = if told.old.is_none() { self.predicted_from(new.file)? } else { None };
                if file.is_some() && (told.old.is_some() || old.is_some()) {
                    break;
                }
                (file, told.old) = (Some(new.file), old);
            }
            let is_full = bytes + len > BLOCK_TARGET || told.chunks.len() == CHUNKS_MAX;
            if told.old.is_none() && is_full && !told.chunks.is_empty() {
                break;
            }
            told.chunks.push(new);
            bytes += len;
            self.next += 1;
        }
        Ok((!told.chunks.is_empty()).then_some(told))
    }

    /// The old file that a new one may be predicted from.
    fn predicted_from(&self, file: usize) -> Result<Option<&'a OldFile>> {
        let new = &self.gap.new_files[file];
        let Some(old) = self.pairs[file].map(|old| &self.gap.old_files[old]) else { return Ok(None) };
        let sizes = MAPPED_MIN..=self.file_max;
        let may_be = self.effort != Effort::Fast && sizes.contains(&new.size) && sizes.contains(&old.size);
        Ok(if may_be && files::magic(self.store, new)? == *ELF { Some(old) } else { None })
    }

    /// Frames of these chunks that stand on what they may stand on. `stop` says whether a file is not to be compared further:
    /// then it is told without a map.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] when something of it, or of what it would stand on, cannot be read; [`crate::Error::Io`].
    pub(crate) fn frames(
        &mut self,
        told: &Told<'_>,
        rules: &dyn Rules,
        stop: &dyn Fn() -> bool,
    ) -> Result<Made> {
        if let Some(old) = told.old {
            let files = (old, &self.gap.new_files[told.chunks[0].file]);
            let map = files::map(self.store, self.gap, files, self.effort, self.file_max, stop)?;
            if let Some(map) = map
                && let Some(made) = self.by_map(&told.chunks, old, &map, rules)?
            {
                return Ok(made);
            }
        }
        let mut made = Made::default();
        for block in blocks(&told.chunks) {
            made.frames.extend(self.behind_prefix(block, rules)?);
        }
        Ok(made)
    }

    /// The frames of a file by its map; nothing where that does not pay.
    fn by_map(
        &mut self,
        chunks: &[&NewChunk],
        old: &OldFile,
        map: &Map,
        rules: &dyn Rules,
    ) -> Result<Option<Made>> {
        let bytes = map.to_bytes();
        if bytes.len() > MAP_BYTES_MAX {
            return Ok(None);
        }
        let ids: Vec<ChunkId> = bytes.chunks(BLOCK_TARGET).map(ChunkId::of).collect();
        let (mut coder, mut made) = (Coder::new(map), Made::default());
        let (mut plain, mut told) = (0, bytes.len());
        for block in blocks(chunks) {
            let predicted = self.predicted(block, old, (map, &ids), &mut coder, rules)?;
            let len: usize = block.iter().map(|new| new.chunk.len as usize).sum();
            let is_well_told = predicted.as_ref().is_some_and(|frame| payload_len(frame) < len / WELL_TOLD);
            let behind = if is_well_told { None } else { self.behind_prefix(block, rules)? };
            let is_smaller = |predicted: &Frame| {
                behind.as_ref().is_none_or(|behind| predicted.bytes.len() < behind.bytes.len())
            };
            match predicted.filter(is_smaller) {
                Some(predicted) => {
                    (plain, told) = (plain + len, told + payload_len(&predicted));
                    made.frames.push(predicted);
                }
                None => made.frames.extend(behind),
            }
        }
        if told * PAYS >= plain {
            return Ok(None);
        }
        for (id, piece) in ids.iter().zip(bytes.chunks(BLOCK_TARGET)) {
            let mut builder = BlockBuilder::default();
            builder.push(*id, piece);
            made.maps.push(builder.finish(&mut self.compressor).0);
        }
        Ok(Some(made))
    }

    /// A block of a file, told as what is left after it was predicted; nothing where that cannot be.
    fn predicted(
        &self,
        block: &[&NewChunk],
        old: &OldFile,
        (map, map_ids): (&Map, &[ChunkId]),
        coder: &mut Coder<'_>,
        rules: &dyn Rules,
    ) -> Result<Option<Frame>> {
        let lens = || block.iter().map(|new| u64::from(new.chunk.len));
        let chunks = Placed::runs(block.iter().map(|new| (new.offset, new.chunk.len)));
        let Some(wanted) = ranges(&chunks, lens()) else { return Ok(None) };
        let Some(needed) = under(self.gap.list(old), &self.gap.old_chunks, &map.reads(&wanted)) else {
            return Ok(None);
        };
        let frames: Option<BTreeSet<FrameOf>> =
            needed.iter().map(|(_, base)| rules.frame_of(&base.id)).collect();
        let bytes: u64 = needed.iter().map(|(_, base)| u64::from(base.len)).sum();
        let is_bounded =
            needed.len() + map_ids.len() <= BASES_MAX && bytes <= BASE_BYTES_MAX as u64 && !needed.is_empty();
        if !is_bounded || frames.is_none_or(|frames| frames.len() > PREDICTED_FRAMES_MAX) {
            return Ok(None);
        }
        let mut based = Based::default();
        for (_, base) in &needed {
            based.push(&self.store.whole_chunk(*base)?);
        }
        let bases = Placed::runs(needed.iter().map(|(offset, base)| (*offset, base.len)));
        let Some(parts) = ranges(&bases, based.lens()).and_then(|ranges| Parts::new(ranges, &based.bytes))
        else {
            return Ok(None);
        };
        let plain = self.plain(block)?;
        let Ok(residual) = coder.encode(&parts, &wanted, &plain, self.effort) else { return Ok(None) };
        let map_chunks = u16::try_from(map_ids.len()).expect("bounded by BASES_MAX");
        let payload = Placed { map_chunks, chunks, bases }.payload(&residual);
        let ids = map_ids.iter().copied().chain(needed.iter().map(|(_, base)| base.id)).collect();
        Ok(Frame::of_delta(Codec::Relocation, table(block), ids, &payload))
    }

    /// A block behind a prefix; nothing where nothing is like it, or where what is must not be stood on.
    fn behind_prefix(&mut self, block: &[&NewChunk], rules: &dyn Rules) -> Result<Option<Frame>> {
        let plain = self.plain(block)?;
        let (mut bases, mut rest): (Vec<u32>, &[u8]) = (Vec::new(), &plain);
        for of_file in block.chunk_by(|a, b| a.file == b.file) {
            let (part, after) = rest.split_at(of_file.iter().map(|new| new.chunk.len as usize).sum());
            rest = after;
            let found = self.bases.find(self.pairs[of_file[0].file], of_file[0].offset, part)?;
            bases.retain(|base| !found.contains(base));
            bases.extend(found);
        }
        let base = |number: &u32| self.gap.old_chunks[*number as usize];
        let frame_of = |number: &u32| rules.frame_of(&base(number).id);
        let mut bytes: HashMap<FrameOf, u64> = HashMap::new();
        for number in &bases {
            if let Some(frame) = frame_of(number) {
                *bytes.entry(frame).or_default() += u64::from(base(number).len);
            }
        }
        let mut frames: Vec<(u64, FrameOf)> =
            bytes.into_iter().map(|(frame, bytes)| (bytes, frame)).collect();
        frames.sort_unstable();
        let frames = &frames[frames.len().saturating_sub(BASE_FRAMES_MAX)..];
        bases.retain(|number| {
            frame_of(number).is_some_and(|frame| frames.iter().any(|(_, chosen)| *chosen == frame))
        });
        let mut prefix = Vec::new();
        let mut ids = Vec::with_capacity(bases.len().min(BASES_MAX));
        for number in bases.iter().take(BASES_MAX) {
            let base = base(number);
            if prefix.len() + base.len as usize > prefix::PREFIX_MAX {
                break;
            }
            prefix.extend_from_slice(&self.store.whole_chunk(base)?);
            ids.push(base.id);
        }
        if ids.is_empty() {
            return Ok(None);
        }
        let payload = self.encoder.encode(&prefix, &plain);
        Ok(Frame::of_delta(Codec::Prefix, table(block), ids, &payload))
    }

    fn plain(&self, block: &[&NewChunk]) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        for new in block {
            plain.extend_from_slice(&self.store.whole_chunk(new.chunk)?);
        }
        Ok(plain)
    }
}

fn payload_len(frame: &Frame) -> usize {
    frame.header.stored_len as usize
}

fn table(block: &[&NewChunk]) -> Vec<(ChunkId, u32)> {
    block.iter().map(|new| (new.chunk.id, new.chunk.len)).collect()
}

/// Chunks cut into blocks.
fn blocks<'b, 'a>(chunks: &'b [&'a NewChunk]) -> impl Iterator<Item = &'b [&'a NewChunk]> {
    let mut rest = chunks;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |new: &&&NewChunk| {
            bytes += new.chunk.len as usize;
            bytes <= BLOCK_TARGET
        };
        let len = rest.iter().take(CHUNKS_MAX).take_while(fits).count().max(1).min(rest.len());
        let (block, after) = rest.split_at(len);
        rest = after;
        (!block.is_empty()).then_some(block)
    })
}

/// The chunks of a file, each with its offset, in which ranges of it lie; nothing where one of these is not all in chunks.
fn under(list: &[(u64, u32)], chunks: &[ChunkRef], reads: &[Range<u64>]) -> Option<Vec<(u64, ChunkRef)>> {
    let mut found: Vec<(u64, ChunkRef)> = Vec::new();
    for range in reads {
        let first = list.partition_point(|(offset, _)| *offset <= range.start).checked_sub(1)?;
        let mut at = range.start;
        for (offset, number) in &list[first..] {
            if at >= range.end {
                break;
            }
            let chunk = chunks[*number as usize];
            let end = offset + u64::from(chunk.len);
            if *offset > at || end <= at {
                return None;
            }
            if found.last().is_none_or(|(last, _)| last < offset) {
                found.push((*offset, chunk));
            }
            at = end;
        }
        if at < range.end {
            return None;
        }
    }
    Some(found)
}
