//! Small files, read many at a time by one worker.

use std::ops::Range;
use std::sync::Arc;

use super::elf;
use super::reliance::Reliance;
use super::scan::{Cut, State, classify};
use super::source::{Folder, Item, Source};
use crate::chunker::{CdcBounds, Cutter, HEAD_LEN};
use crate::content::INLINE_BYTES_MAX;
use crate::error::Result;
use crate::pool::Buffers;

/// Files up to this length are small.
pub(super) const SMALL_MAX: u64 = 256 << 10;
/// Bytes in a batch, at most, beside its first file.
pub(super) const BATCH_BYTES: u64 = 1 << 20;
/// Files in a batch, at most.
pub(super) const BATCH_FILES: usize = 128;

/// One small file as read.
pub(super) struct Small {
    /// Its bytes in the batch's buffer.
    pub(super) bytes: Range<usize>,
    /// Its chunks in the batch's list; none where the bytes are kept inline.
    pub(super) cuts: Range<usize>,
    pub(super) machine: u16,
}

/// Files as read, in the order given.
pub(super) struct Batch {
    pub(super) buffer: Vec<u8>,
    pub(super) cuts: Vec<Cut>,
    pub(super) files: Vec<Option<Result<Small>>>,
}

/// Reads, cuts and hashes.
pub(super) fn read(
    files: &[(Arc<Folder>, Item)],
    bounds: CdcBounds,
    buffers: &Buffers,
    held: &Reliance,
) -> Batch {
    let room = files.iter().map(|(_, item)| usize::try_from(item.stamp.size).unwrap_or(0)).sum();
    let mut buffer = buffers.take();
    if buffer.len() < room {
        buffer.resize(room, 0);
    }
    let mut batch =
        Batch { buffer, cuts: Vec::with_capacity(files.len()), files: Vec::with_capacity(files.len()) };
    let mut start = 0;
    for (folder, item) in files {
        let end = start + usize::try_from(item.stamp.size).unwrap_or(0);
        let small = read_one(folder, item, &mut batch, start..end, bounds);
        batch.files.push(Some(small));
        start = end;
    }
    let mut at = 0;
    let mut chunks = Vec::with_capacity(batch.cuts.len());
    for small in batch.files.iter().flatten().flatten() {
        at = at.max(small.bytes.start);
        for cut in &batch.cuts[small.cuts.clone()] {
            chunks.push(&batch.buffer[at..at + cut.len as usize]);
            at += cut.len as usize;
        }
    }
    let states = classify(&chunks, held);
    // A file that cannot be read has no cuts, so these are all of them, in order.
    batch.cuts.iter_mut().zip(states).for_each(|(cut, state)| cut.state = state);
    batch
}

fn read_one(
    folder: &Folder,
    item: &Item,
    batch: &mut Batch,
    bytes: Range<usize>,
    bounds: CdcBounds,
) -> Result<Small> {
    let source = Source::open(folder, item)?;
    source.read_at(&mut batch.buffer[bytes.clone()], 0)?;
    source.check_unchanged()?;
    let mut rest = &batch.buffer[bytes.clone()];
    let machine = elf::machine(rest);
    let first = batch.cuts.len();
    if rest.len() > INLINE_BYTES_MAX {
        let cutter = Cutter::for_file(bounds, &rest[..rest.len().min(HEAD_LEN)], rest.len() as u64);
        while !rest.is_empty() {
            let len = cutter.cut(rest);
            batch.cuts.push(Cut { len: u32::try_from(len).expect("a short chunk"), state: State::Hole });
            rest = &rest[len..];
        }
    }
    Ok(Small { bytes, cuts: first..batch.cuts.len(), machine })
}
