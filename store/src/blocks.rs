//! Blocks for readers that keep decoded blocks themselves and share them among threads: which block a chunk lies in, the
//! block, and the chunks in it, each verified once for as long as the block is kept.
//!
//! It has no cache: [`Store::chunk`] keeps a few blocks for whoever reads a few chunks, and who reads many knows better
//! what is worth keeping.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::block::{Block, Decompressor};
use crate::content::ChunkRef;
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId};
use crate::index::Place;
use crate::pool::Buffers;
use crate::store::{Chunk, Store};

/// Bytes that a chunk takes in a kept block beside its own.
const CHUNK_OVERHEAD: usize = 40;

/// Names a block of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId {
    pack: PackId,
    frame: u16,
}

/// What one thread decodes blocks with.
#[derive(Default)]
pub struct Decoder {
    decompressor: Decompressor,
}

impl Decoder {
    pub(crate) fn decompressor(&mut self) -> &mut Decompressor {
        &mut self.decompressor
    }
}

/// Buffers of blocks that are kept no longer, for the next ones: fresh memory costs a page fault every 4 KiB. Clones
/// share what is spare.
#[derive(Default, Clone)]
pub struct BlockBuffers(Buffers);

impl BlockBuffers {
    /// A buffer that is not far larger than it has to be, since it is kept.
    fn take(&self, len: usize) -> Vec<u8> {
        let buffer = self.0.take();
        if buffer.capacity() / 2 <= len {
            return buffer;
        }
        self.0.give(buffer);
        Vec::new()
    }

    /// Takes a block's memory, if nobody else has the block any more.
    pub fn give(&self, block: KeptBlock) {
        self.0.give(block.block.into_buffer());
    }
}

/// A decoded block that remembers which of its chunks hold what their ids say.
#[derive(Debug)]
pub struct KeptBlock {
    block: Block,
    /// A bit for each chunk.
    verified: Box<[AtomicU64]>,
}

impl Store {
    /// The block that a chunk lies in, and its number there; nothing where it is not here.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn block_of(&self, chunk: &ChunkId) -> Result<Option<(BlockId, u16)>> {
        let place = self.locate(chunk)?;
        Ok(place.map(|Place { pack, frame, slot }| (BlockId { pack, frame }, slot)))
    }

    /// Like [`Store::block_of`], if that takes no waiting and no reading but of the index as it is known: nothing where it
    /// is not known, which does not say that it is not here.
    #[must_use]
    pub fn block_if_known(&self, chunk: &ChunkId) -> Option<(BlockId, u16)> {
        let Place { pack, frame, slot } = self.place_if_known(chunk)?;
        Some((BlockId { pack, frame }, slot))
    }

    /// A chunk's verified bytes, as many as a file's list says. Slower than blocks that are kept, and what to do where
    /// they fail: it looks again where the chunk is, and says exactly what is wrong.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn whole_chunk(&self, wanted: ChunkRef) -> Result<Chunk> {
        let chunk = self.held(wanted)?;
        if chunk.len() == wanted.len as usize {
            return Ok(chunk);
        }
        Err(Error::Damaged {
            what: "a file's list of chunks".to_owned(),
            chunk: Some(wanted.id),
            pack: None,
            offset: None,
            detail: format!("it gives the chunk {} bytes, and it has {}", wanted.len, chunk.len()),
        })
    }

    /// Reads and decodes a block. Nothing of it is verified yet.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it does not decode, [`Error::Io`].
    pub fn decode_block(
        &self,
        id: BlockId,
        decoder: &mut Decoder,
        buffers: &BlockBuffers,
    ) -> Result<KeptBlock> {
        let pack = self.pack(id.pack)?;
        let plain = pack.row(id.frame).map_or(0, |row| row.plain_len as usize);
        let block = self.block_in(&pack, id.frame, &mut decoder.decompressor, buffers.take(plain))?;
        let words = block.header().chunks.len().div_ceil(64);
        Ok(KeptBlock { block, verified: (0..words).map(|_| AtomicU64::new(0)).collect() })
    }
}

impl KeptBlock {
    /// Bytes of memory that it takes, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.block.capacity() + self.block.header().chunks.len() * CHUNK_OVERHEAD
    }

    /// How many of `wanted`, which follow each other in a file, lie here one after the other from number `slot` on and
    /// hold what their ids say, and the bytes of these. None, where the first of them is not here or is damaged:
    /// [`Store::whole_chunk`] tells which.
    #[must_use]
    pub fn run(&self, slot: u16, wanted: &[(u64, ChunkRef)]) -> (usize, &[u8]) {
        let first = usize::from(slot);
        let there = self.block.header().chunks.get(first..).unwrap_or_default();
        let is_same = |((_, wanted), (id, len)): &(&(u64, ChunkRef), &(ChunkId, u32))| {
            wanted.id == *id && wanted.len == *len
        };
        let alike = wanted.iter().zip(there).take_while(is_same).count();
        let count = self.verify(first..first + alike);
        (count, self.block.verified_run(first..first + count))
    }

    /// How many from the first on hold, hashing only those of which it is not known.
    fn verify(&self, slots: std::ops::Range<usize>) -> usize {
        let mut at = slots.start;
        while at < slots.end {
            if self.is_verified(at) {
                at += 1;
                continue;
            }
            let unknown = (at..slots.end).take_while(|slot| !self.is_verified(*slot)).count();
            let good = self.block.verify_run(at..at + unknown);
            (at..at + good).for_each(|slot| self.set_verified(slot));
            at += good;
            if good < unknown {
                break;
            }
        }
        at - slots.start
    }

    fn is_verified(&self, slot: usize) -> bool {
        self.verified[slot / 64].load(Ordering::Relaxed) >> (slot % 64) & 1 == 1
    }

    fn set_verified(&self, slot: usize) {
        // The bytes never change, so all that another thread learns from the bit is that they need no hashing.
        self.verified[slot / 64].fetch_or(1 << (slot % 64), Ordering::Relaxed);
    }
}
