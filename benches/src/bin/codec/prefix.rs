//! Blocks against prefixes that a vote over the old file's pieces chose, as a store does with chunks.

use cairn_delta::Effort;
use cairn_delta::prefix::{Decoder, Encoder};
use cairn_delta::similar::Samples;

use super::{Encoded, Result};

/// About a chunk.
const PIECE_BYTES: usize = 16 << 10;
const BLOCK_BYTES: usize = 512 << 10;
const PREFIX_BYTES: usize = 1 << 20;

pub(super) struct Block {
    /// Numbers of pieces of the old file.
    bases: Vec<u32>,
    payload: Vec<u8>,
}

/// None where no block has anything in common with the old file.
pub(super) fn encode(old: &[u8], new: &[u8], effort: Effort) -> Result<Option<Encoded<Vec<Block>>>> {
    let mut samples = Samples::new();
    for (piece, number) in old.chunks(PIECE_BYTES).zip(0..) {
        samples.add(number, piece);
    }
    let mut encoder = Encoder::new(effort);
    let (mut blocks, mut bytes, mut prefix) = (Vec::new(), 0, Vec::new());
    for plain in new.chunks(BLOCK_BYTES) {
        let bases = samples.vote(plain, PREFIX_BYTES);
        gather(old, &bases, &mut prefix);
        let payload = encoder.encode(&prefix, plain);
        bytes += payload.len() as u64;
        blocks.push(Block { bases, payload });
    }
    let is_related = blocks.iter().any(|block| !block.bases.is_empty());
    Ok(is_related.then_some(Encoded { encoded: blocks, bytes }))
}

pub(super) fn decode(old: &[u8], new: &[u8], blocks: &[Block]) -> Result<()> {
    let (mut decoder, mut prefix, mut out) = (Decoder::new(), Vec::new(), Vec::new());
    for (block, plain) in blocks.iter().zip(new.chunks(BLOCK_BYTES)) {
        gather(old, &block.bases, &mut prefix);
        out = decoder.decode(&prefix, &block.payload, plain.len(), out)?;
        if out != plain {
            return Err("a block is not what it was".into());
        }
    }
    Ok(())
}

fn gather(old: &[u8], bases: &[u32], prefix: &mut Vec<u8>) {
    prefix.clear();
    for base in bases {
        prefix.extend(old.chunks(PIECE_BYTES).nth(*base as usize).unwrap_or_default());
    }
}
