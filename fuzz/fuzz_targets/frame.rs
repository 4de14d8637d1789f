//! Frames from a peer: what is accepted has only chunks that hash to their ids, within the bounds of a block.
#![no_main]

use cairn_fuzz::mend_frame;
use cairn_store::block::{BLOCK_MAX, Block, FrameError};
use cairn_store::{ChunkId, Decoder, VerifiedFrame};
use libfuzzer_sys::fuzz_target;

fn check(data: Vec<u8>) {
    let Ok(frame) = VerifiedFrame::verify(data, &mut Decoder::default()) else { return };
    let mut bytes = 0;
    for (slot, (id, len)) in frame.chunks().iter().enumerate() {
        let chunk = frame.chunk(slot);
        assert_eq!((ChunkId::of(chunk), chunk.len()), (*id, *len as usize));
        bytes += chunk.len();
    }
    assert!(bytes <= BLOCK_MAX);
}

/// What is decoded of a damaged frame gives out only what hashes to its id.
fn salvage(data: &[u8]) {
    let Ok(block) = Block::salvage(data, FrameError::Truncated, Vec::new()) else { return };
    for (slot, (id, _)) in block.header().chunks.iter().enumerate() {
        assert!(block.chunk(slot).map_or(true, |bytes| ChunkId::of(bytes) == *id));
    }
}

fuzz_target!(|data: &[u8]| {
    check(data.to_vec());
    salvage(data);
    let mut mended = data.to_vec();
    mend_frame(&mut mended);
    check(mended);
});
