//! A frame from elsewhere, decoded and hashed: verified bytes have a type of their own.

use crate::block::{Block, Frame, FrameError};
use crate::blocks::Decoder;
use crate::id::ChunkId;

/// A frame whose every chunk was hashed and is what its id says. The only way to make one is [`VerifiedFrame::verify`].
#[derive(Debug)]
pub struct VerifiedFrame {
    frame: Frame,
    block: Block,
}

impl VerifiedFrame {
    /// Decodes a whole frame and hashes its chunks: CPU work for any thread, in memory of at most
    /// [`crate::block::BLOCK_MAX`] beside the frame's own.
    ///
    /// # Errors
    /// [`FrameError`] when anything does not hold: a length, a checksum, the compressed data, or one chunk's id.
    pub fn verify(bytes: Vec<u8>, decoder: &mut Decoder) -> Result<Self, FrameError> {
        let block = Block::decode(&bytes, decoder.decompressor(), Vec::new())?;
        let chunks = &block.header().chunks;
        let good = block.verify_run(0..chunks.len());
        if let Some((id, _)) = chunks.get(good) {
            return Err(FrameError::Chunk(*id));
        }
        let frame = Frame { header: block.header().clone(), bytes };
        Ok(Self { frame, block })
    }

    /// Ids and lengths of its chunks, in their order.
    #[must_use]
    pub fn chunks(&self) -> &[(ChunkId, u32)] {
        &self.frame.header.chunks
    }

    /// A chunk's bytes.
    ///
    /// # Panics
    /// When there is no such slot.
    #[must_use]
    pub fn chunk(&self, slot: usize) -> &[u8] {
        assert!(slot < self.chunks().len(), "the frame has no slot {slot}");
        self.block.verified_run(slot..slot + 1)
    }

    /// Bytes of the frame as it came.
    #[must_use]
    pub fn stored_len(&self) -> usize {
        self.frame.bytes.len()
    }

    pub(super) fn frame(&self) -> &Frame {
        &self.frame
    }
}
