//! A frame from elsewhere, decoded and hashed: verified bytes have a type of their own.

use crate::block::{Block, BlockBuilder, Compressor, Frame, FrameError};
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

    /// Encodes chunks that came in another form, and hashes them.
    ///
    /// # Errors
    /// [`FrameError::Chunk`] when one is not what its id says.
    pub(crate) fn of(builder: BlockBuilder, compressor: &mut Compressor) -> Result<Self, FrameError> {
        let (frame, plain) = builder.finish(compressor);
        let block = Block::of(frame.header.clone(), plain);
        let chunks = &block.header().chunks;
        let good = block.verify_run(0..chunks.len());
        match chunks.get(good) {
            Some((id, _)) => Err(FrameError::Chunk(*id)),
            None => Ok(Self { frame, block }),
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block::{BlockBuilder, Codec, Compressor, FrameHeader};

    fn encoded(chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut builder = BlockBuilder::default();
        chunks.iter().for_each(|bytes| builder.push(ChunkId::of(bytes), bytes));
        builder.finish(&mut Compressor::default()).0.bytes
    }

    /// A frame of what its sender likes, with checksums that hold.
    fn forged(codec: Codec, chunks: Vec<(ChunkId, u32)>, plain_len: u32, payload: &[u8]) -> Vec<u8> {
        let stored_len = u32::try_from(payload.len()).unwrap();
        let payload_crc = crc32c::crc32c(payload);
        let header = FrameHeader { codec, chunks, bases: Vec::new(), plain_len, stored_len, payload_crc };
        [&header.encode()[..], payload].concat()
    }

    fn verify(bytes: Vec<u8>) -> Result<VerifiedFrame, FrameError> {
        VerifiedFrame::verify(bytes, &mut Decoder::default())
    }

    fn chunks() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let noise = prop::collection::vec(any::<u8>(), 1..300);
        let runs = (any::<u8>(), 1..3000usize).prop_map(|(byte, len)| vec![byte; len]);
        prop::collection::vec(prop_oneof![noise, runs], 1..12)
    }

    /// A frame may be changed where nothing of it is left over: then it says the same.
    fn holds_what_it_says(bytes: Vec<u8>) {
        if let Ok(frame) = verify(bytes) {
            for (slot, (id, len)) in frame.chunks().iter().enumerate() {
                assert_eq!((ChunkId::of(frame.chunk(slot)), frame.chunk(slot).len()), (*id, *len as usize));
            }
        }
    }

    proptest! {
        #[test]
        fn what_a_writer_makes_holds(chunks in chunks()) {
            let bytes = encoded(&chunks);
            let frame = verify(bytes.clone()).unwrap();
            prop_assert_eq!(frame.stored_len(), bytes.len());
            prop_assert_eq!(frame.chunks().len(), chunks.len());
            for (slot, chunk) in chunks.iter().enumerate() {
                prop_assert_eq!(frame.chunk(slot), &chunk[..]);
            }
        }

        #[test]
        fn a_changed_byte_is_refused(chunks in chunks(), at in any::<prop::sample::Index>(), by in 1..=255u8) {
            let mut bytes = encoded(&chunks);
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            prop_assert!(verify(bytes).is_err());
        }

        #[test]
        fn a_frame_that_is_cut_short_or_goes_on_is_refused(
            chunks in chunks(), at in any::<prop::sample::Index>(), more in prop::collection::vec(any::<u8>(), 1..40)
        ) {
            let bytes = encoded(&chunks);
            prop_assert!(verify(bytes[..at.index(bytes.len())].to_vec()).is_err());
            prop_assert!(verify([bytes, more].concat()).is_err());
        }

        #[test]
        fn other_bytes_under_checksums_that_hold_are_refused(
            chunks in chunks(), liar in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), raw in any::<bool>()
        ) {
            let table: Vec<_> =
                chunks.iter().map(|chunk| (ChunkId::of(chunk), u32::try_from(chunk.len()).unwrap())).collect();
            let mut plain = chunks.concat();
            let start: usize = chunks[..liar.index(chunks.len())].iter().map(Vec::len).sum();
            let within = start + at.index(chunks[liar.index(chunks.len())].len());
            plain[within] ^= 1;
            let plain_len = u32::try_from(plain.len()).unwrap();
            let packed = zstd::bulk::compress(&plain, 1).unwrap();
            let bytes = if raw || packed.len() >= plain.len() {
                forged(Codec::Raw, table, plain_len, &plain)
            } else {
                forged(Codec::Zstd, table, plain_len, &packed)
            };
            let lie = table_of(&chunks)[liar.index(chunks.len())];
            prop_assert_eq!(verify(bytes).unwrap_err(), FrameError::Chunk(lie));
        }

        #[test]
        fn lengths_that_lie_are_refused(chunks in chunks(), liar in any::<prop::sample::Index>(), by in -5..5i64) {
            let mut table: Vec<_> =
                chunks.iter().map(|chunk| (ChunkId::of(chunk), u32::try_from(chunk.len()).unwrap())).collect();
            let plain = chunks.concat();
            let lie = &mut table[liar.index(chunks.len())].1;
            *lie = u32::try_from(i64::from(*lie) + by).unwrap_or(0);
            for plain_len in [table.iter().map(|(_, len)| len).sum(), u32::try_from(plain.len()).unwrap()] {
                let refused = verify(forged(Codec::Raw, table.clone(), plain_len, &plain)).is_err();
                prop_assert_eq!(refused, by != 0);
            }
        }

        #[test]
        fn whatever_is_received_is_what_it_says_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..400), valid in chunks(), at in any::<prop::sample::Index>()
        ) {
            holds_what_it_says(bytes.clone());
            let mut spliced = encoded(&valid);
            let at = at.index(spliced.len());
            spliced.splice(at.., bytes);
            holds_what_it_says(spliced);
        }
    }

    fn table_of(chunks: &[Vec<u8>]) -> Vec<ChunkId> {
        chunks.iter().map(|chunk| ChunkId::of(chunk)).collect()
    }

    #[test]
    fn a_frame_that_would_decompress_to_more_than_it_says_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
        for plain_len in [100_000, 1 << 20] {
            let chunk = vec![0; plain_len as usize];
            let table = vec![(ChunkId::of(&chunk), plain_len)];
            assert!(verify(forged(Codec::Zstd, table, plain_len, &bomb)).is_err());
        }
        let plain_len = u32::MAX;
        let table = vec![(ChunkId::of(b""), plain_len)];
        assert_eq!(verify(forged(Codec::Zstd, table, plain_len, &bomb)).unwrap_err(), FrameError::Lengths);
    }
}
