//! Frames, read, decoded and hashed.

use super::Damage;
use crate::block::{Block, FrameError};
use crate::error::Error;
use crate::id::ChunkId;
use crate::pack::Pack;
use crate::pool::Tools;
use crate::store::Store;

/// Stored bytes that one job reads, about.
const JOB_BYTES: u64 = 2 << 20;

/// What a job found.
#[derive(Default)]
pub(crate) struct Checked {
    pub(crate) frames: u64,
    pub(crate) chunks: u64,
    pub(crate) plain_bytes: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) damage: Vec<Damage>,
}

/// Groups of frames in a row, of about [`JOB_BYTES`] each.
pub(super) fn split(frames: &[(u16, u64)]) -> Vec<Vec<u16>> {
    let mut groups = vec![Vec::new()];
    let mut bytes = 0;
    for (number, len) in frames {
        if bytes >= JOB_BYTES {
            groups.push(Vec::new());
            bytes = 0;
        }
        bytes += len;
        groups.last_mut().expect("there is one at the start").push(*number);
    }
    groups
}

/// Reads, decodes and hashes frames of a pack.
pub(crate) fn check(store: &Store, pack: &Pack, frames: &[u16], tools: &mut Tools) -> Checked {
    let mut checked = Checked::default();
    for &number in frames {
        let Some(row) = pack.row(number) else { continue };
        checked.frames += 1;
        checked.stored_bytes += u64::from(row.len);
        let buffer = tools.buffers.take();
        match store.block_in(pack, number, &mut tools.decompressor, buffer) {
            Ok(block) => {
                check_block(pack, number, &block, &mut checked);
                tools.buffers.give(block.into_buffer());
            }
            Err(error) => {
                let lost = lost_of(pack, number, None);
                let detail = match error {
                    Error::Damaged { detail, .. } => detail,
                    error => error.to_string(),
                };
                checked.damage.push(damage(pack, number, lost, &detail));
            }
        }
    }
    checked
}

fn check_block(pack: &Pack, number: u16, block: &Block, checked: &mut Checked) {
    let chunks = &block.header().chunks;
    let mut bad = Vec::new();
    let mut at = 0;
    while at < chunks.len() {
        let whole = block.verify_run(at..chunks.len());
        checked.chunks += whole as u64;
        checked.plain_bytes += chunks[at..at + whole].iter().map(|(_, len)| u64::from(*len)).sum::<u64>();
        at += whole;
        if at < chunks.len() {
            bad.push(at);
            at += 1;
        }
    }
    if let Some(error) = block.damage() {
        let lost = lost_of(pack, number, Some((block, &bad)));
        let sound = chunks.len() - bad.len();
        let detail = format!("{error}; {sound} of its {} chunks can be read all the same", chunks.len());
        checked.damage.push(damage(pack, number, lost, &detail));
        return;
    }
    for slot in bad {
        let id = chunks[slot].0;
        checked.damage.push(damage(pack, number, vec![id], &FrameError::Chunk(id).to_string()));
    }
}

/// The chunks that the pack's table has in a frame, but those that are sound in a block of which these slots are bad.
fn lost_of(pack: &Pack, number: u16, read: Option<(&Block, &[usize])>) -> Vec<ChunkId> {
    let is_sound = |slot: u16, id: &ChunkId| {
        let slot = usize::from(slot);
        read.is_some_and(|(block, bad)| {
            block.header().chunks.get(slot).is_some_and(|(there, _)| there == id) && !bad.contains(&slot)
        })
    };
    let rows = pack.footer().chunks.iter().filter(|row| row.frame == number);
    rows.filter(|row| !is_sound(row.slot, &row.id)).map(|row| row.id).collect()
}

fn damage(pack: &Pack, frame: u16, chunks: Vec<ChunkId>, detail: &str) -> Damage {
    Damage {
        file: pack.path().to_owned(),
        pack: Some(pack.id()),
        offset: pack.row(frame).map(|row| row.offset),
        chunks,
        detail: detail.to_owned(),
    }
}
