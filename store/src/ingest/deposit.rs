//! Puts new chunks and metadata objects into packs, each once.
//!
//! Order of durability: a metadata pack is sealed only after the data packs that hold what its objects name, so that an
//! object in a sealed pack implies everything below it. Blocks are compressed by the pool and appended in order.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::reliance::Reliance;
use crate::block::{BlockBuilder, Frame};
use crate::error::{Error, Result};
use crate::holds::Stake;
use crate::id::{ChunkId, PackId};
use crate::io::Io;
use crate::object::ObjectSink;
use crate::pack::{Filling, PackKind};
use crate::pool::{Buffers, Pending, Pool, Rank};

/// What a deposit has taken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Deposited {
    pub(super) new_chunks: u64,
    pub(super) new_bytes: u64,
    pub(super) stored_bytes: u64,
    pub(super) metadata_bytes: u64,
}

/// The packs that an ingest writes.
pub(super) struct Deposit {
    held: Arc<Reliance>,
    pool: Arc<Pool>,
    /// Chunks and objects taken that are not held.
    seen: HashSet<ChunkId>,
    data: Stream,
    metadata: Stream,
    taken: Deposited,
}

impl Deposit {
    pub(super) fn new(io: &Arc<dyn Io>, packs: &Path, held: Arc<Reliance>, pool: Arc<Pool>) -> Self {
        let stake = held.stake().clone();
        let stream = |kind| Stream::new(Arc::clone(io), packs.to_owned(), kind, stake.clone());
        let (data, metadata) = (stream(PackKind::Data), stream(PackKind::Metadata));
        Self { held, pool, seen: HashSet::new(), data, metadata, taken: Deposited::default() }
    }

    /// Takes a chunk that is not held.
    pub(super) fn put_new_chunk(&mut self, id: ChunkId, bytes: &[u8]) -> Result<()> {
        if !self.seen.insert(id) {
            return Ok(());
        }
        self.taken.new_chunks += 1;
        self.taken.new_bytes += bytes.len() as u64;
        self.data.push(&self.pool, id, bytes)
    }

    /// Seals what is open: data, then metadata, then the directory. Everything deposited is durable after it.
    pub(super) fn finish(&mut self) -> Result<Deposited> {
        self.data.seal(&self.pool)?;
        self.metadata.seal(&self.pool)?;
        self.data.io.sync_dir(&self.data.dir).map_err(Error::io("sync", &self.data.dir))?;
        self.taken.stored_bytes = self.data.stored;
        self.taken.metadata_bytes = self.metadata.stored;
        Ok(self.taken)
    }

    /// Removes what is not sealed yet.
    pub(super) fn discard_open(&mut self) {
        for stream in [&mut self.metadata, &mut self.data] {
            stream.discard_open();
        }
    }

    pub(super) fn stake(&self) -> &Stake {
        self.held.stake()
    }

    /// All packs that were sealed, also those that were there before.
    pub(super) fn written(&self) -> impl Iterator<Item = PackId> {
        [&self.metadata, &self.data].into_iter().flat_map(|stream| stream.written.iter().copied())
    }

    /// The packs that were sealed and were not there before.
    pub(super) fn sealed(&self) -> Vec<PackId> {
        [&self.metadata, &self.data].into_iter().flat_map(|stream| stream.sealed.iter().copied()).collect()
    }
}

impl ObjectSink for Deposit {
    fn put(&mut self, bytes: Vec<u8>) -> Result<ChunkId> {
        let id = ChunkId::of(&bytes);
        if !self.held.has(&id) && self.seen.insert(id) {
            self.metadata.push(&self.pool, id, &bytes)?;
            if self.metadata.is_full() {
                self.data.seal(&self.pool)?;
                self.metadata.seal(&self.pool)?;
            }
        }
        Ok(id)
    }
}

/// Packs of one kind, one after another.
struct Stream {
    io: Arc<dyn Io>,
    dir: PathBuf,
    kind: PackKind,
    builder: BlockBuilder,
    /// Buffers of blocks that were compressed.
    blocks: Buffers,
    pending: VecDeque<Pending<Frame>>,
    filling: Option<Filling>,
    stored: u64,
    /// Packs that were not there before.
    sealed: Vec<PackId>,
    /// All that were sealed.
    written: Vec<PackId>,
    stake: Stake,
}

impl Stream {
    fn new(io: Arc<dyn Io>, dir: PathBuf, kind: PackKind, stake: Stake) -> Self {
        let (builder, pending) = (BlockBuilder::default(), VecDeque::new());
        Self {
            io,
            dir,
            kind,
            builder,
            blocks: Buffers::default(),
            pending,
            filling: None,
            stored: 0,
            sealed: Vec::new(),
            written: Vec::new(),
            stake,
        }
    }

    fn push(&mut self, pool: &Pool, id: ChunkId, bytes: &[u8]) -> Result<()> {
        if self.builder.is_full_for(bytes.len()) {
            self.close_block(pool);
            while self.pending.len() > pool.threads() * 4 {
                self.append_oldest()?;
            }
            // A metadata pack is sealed by the deposit, after the data that it names.
            if self.kind == PackKind::Data && self.is_full() {
                self.seal(pool)?;
            }
        }
        self.builder.push(id, bytes);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.filling.as_ref().is_some_and(Filling::is_full)
    }

    fn close_block(&mut self, pool: &Pool) {
        if !self.builder.is_empty() {
            let next = BlockBuilder::with_buffer(self.blocks.take());
            let (block, buffers) = (std::mem::replace(&mut self.builder, next), self.blocks.clone());
            self.pending.push_back(pool.submit(Rank::Finishing, move |tools| {
                let (frame, buffer) = block.finish(&mut tools.compressor);
                buffers.give(buffer);
                frame
            }));
        }
    }

    fn append_oldest(&mut self) -> Result<()> {
        let Some(pending) = self.pending.pop_front() else { return Ok(()) };
        let frame = pending.wait();
        let filling = match &mut self.filling {
            Some(filling) => filling,
            None => self.filling.insert(Filling::create(Arc::clone(&self.io), &self.dir, self.kind)?),
        };
        filling.append(&frame)?;
        self.stored += frame.bytes.len() as u64;
        Ok(())
    }

    fn seal(&mut self, pool: &Pool) -> Result<()> {
        self.close_block(pool);
        while !self.pending.is_empty() {
            self.append_oldest()?;
        }
        // Kept until it is sealed, so that it can be discarded if that fails.
        if let Some(filling) = &mut self.filling {
            let id = filling.seal(&|id| self.stake.claim(id))?;
            self.written.push(id);
            if !filling.replaced() {
                self.sealed.push(id);
            }
            self.filling = None;
        }
        Ok(())
    }

    fn discard_open(&mut self) {
        self.pending.clear();
        if let Some(filling) = self.filling.take() {
            self.remove(filling.path());
        }
    }

    fn remove(&self, path: &Path) {
        if let Err(error) = self.io.remove(path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove an unfinished pack");
        }
    }
}
