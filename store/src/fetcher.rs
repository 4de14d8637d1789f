//! Gives a worker the bytes of many chunks in a row: each frame is decoded once, each chunk verified once, and chunks
//! that lie together are given out together.

use std::collections::VecDeque;

use crate::block::Block;
use crate::content::ChunkRef;
use crate::error::Result;
use crate::id::ChunkId;
use crate::index::Place;
use crate::pool::Tools;
use crate::store::Store;

/// Blocks that a run keeps, since neighbouring files share them.
const KEPT_MAX: usize = 4;

/// Reads chunks for one job of a worker.
pub(crate) struct Fetcher<'a> {
    store: &'a Store,
    tools: &'a mut Tools,
    /// Oldest first.
    kept: VecDeque<(Place, Block)>,
}

impl<'a> Fetcher<'a> {
    pub(crate) fn new(store: &'a Store, tools: &'a mut Tools) -> Self {
        Self { store, tools, kept: VecDeque::new() }
    }

    /// Gives `take` the verified bytes of the chunks in order, several at a time where they lie together in the file
    /// and in a block, with the offset of the first. Holes are passed over.
    pub(crate) fn runs(
        &mut self,
        chunks: &[(u64, ChunkRef)],
        mut take: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.store.bring(chunks)?;
        let mut rest = chunks;
        while let Some((&(offset, chunk), after)) = rest.split_first() {
            if chunk.is_hole() {
                rest = after;
                continue;
            }
            let place = self.store.held_place(chunk)?;
            let block = match self.block(place) {
                Ok(block)
                    if block.header().chunks.get(usize::from(place.slot)).map(|c| c.0) == Some(chunk.id) =>
                {
                    block
                }
                // Damaged, or not where the index says: the slow way tries again, or says exactly what is wrong.
                _ => {
                    take(offset, &self.store.whole_chunk(chunk)?)?;
                    rest = after;
                    continue;
                }
            };
            let first = usize::from(place.slot);
            let there = block.header().chunks[first..].iter();
            let mut end = offset;
            let follows = |((at, wanted), (id, len)): &(&(u64, ChunkRef), &(ChunkId, u32))| {
                let follows = *at == end && wanted.id == *id && wanted.len == *len;
                end += u64::from(*len);
                follows
            };
            let alike = rest.iter().zip(there).take_while(follows).count();
            let count = block.verify_run(first..first + alike);
            if count == 0 {
                take(offset, &self.store.whole_chunk(chunk)?)?;
                rest = after;
                continue;
            }
            take(offset, block.verified_run(first..first + count))?;
            rest = &rest[count..];
        }
        Ok(())
    }

    fn block(&mut self, place: Place) -> Result<&Block> {
        let is_it = |kept: &(Place, Block)| kept.0.pack == place.pack && kept.0.frame == place.frame;
        if let Some(at) = self.kept.iter().position(is_it) {
            return Ok(&self.kept[at].1);
        }
        let oldest = if self.kept.len() >= KEPT_MAX { self.kept.pop_front() } else { None };
        let buffer = oldest.map_or_else(|| self.tools.buffers.take(), |(_, block)| block.into_buffer());
        let pack = self.store.pack(place.pack)?;
        let block = self.store.block_in(&pack, place.frame, &mut self.tools.decompressor, buffer)?;
        self.kept.push_back((place, block));
        Ok(&self.kept[self.kept.len() - 1].1)
    }
}

impl Drop for Fetcher<'_> {
    fn drop(&mut self) {
        for (_, block) in self.kept.drain(..) {
            self.tools.buffers.give(block.into_buffer());
        }
    }
}
