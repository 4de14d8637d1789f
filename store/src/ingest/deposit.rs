//! Puts new chunks and metadata objects into packs, each once.
//!
//! Order of durability: a metadata pack is sealed only after the data packs that hold what its objects name, so that an
//! object in a sealed pack implies everything below it. Blocks are compressed by the pool and appended in order.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::block::{BlockBuilder, Frame};
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId};
use crate::index::Index;
use crate::io::{Io, WriteFile};
use crate::object::ObjectSink;
use crate::pack::{PackKind, PackWriter, SEALED};
use crate::pool::{Buffers, Pending, Pool, Rank};

/// Bytes appended after which a pack is synced in the background, so that sealing it has little left to wait for.
const SYNC_STRIDE: u64 = 16 << 20;

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
    index: Arc<Index>,
    pool: Arc<Pool>,
    /// Chunks and objects taken that the index does not have.
    seen: HashSet<ChunkId>,
    data: Stream,
    metadata: Stream,
    taken: Deposited,
}

impl Deposit {
    pub(super) fn new(io: &Arc<dyn Io>, packs: &Path, index: Arc<Index>, pool: Arc<Pool>) -> Self {
        let stream = |kind| Stream::new(Arc::clone(io), packs.to_owned(), kind);
        let (data, metadata) = (stream(PackKind::Data), stream(PackKind::Metadata));
        Self { index, pool, seen: HashSet::new(), data, metadata, taken: Deposited::default() }
    }

    /// Takes a chunk that the index does not have.
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

    /// Removes all that was written, where a full disk stopped it: nothing names it, and the room is wanted back.
    /// After any other failure it stays, for the next attempt to find.
    pub(super) fn discard(&mut self) {
        for stream in [&mut self.metadata, &mut self.data] {
            stream.discard();
        }
    }
}

impl ObjectSink for Deposit {
    fn put(&mut self, bytes: Vec<u8>) -> Result<ChunkId> {
        let id = ChunkId::of(&bytes);
        if self.index.lookup(&id).is_none() && self.seen.insert(id) {
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
    writer: Option<PackWriter>,
    syncer: Option<Syncer>,
    synced: u64,
    stored: u64,
    /// Packs that were not there before.
    sealed: Vec<PackId>,
}

impl Stream {
    fn new(io: Arc<dyn Io>, dir: PathBuf, kind: PackKind) -> Self {
        let (builder, pending) = (BlockBuilder::default(), VecDeque::new());
        Self {
            io,
            dir,
            kind,
            builder,
            blocks: Buffers::default(),
            pending,
            writer: None,
            syncer: None,
            synced: 0,
            stored: 0,
            sealed: Vec::new(),
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
        self.writer.as_ref().is_some_and(PackWriter::is_full)
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
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                self.synced = 0;
                self.writer.insert(PackWriter::create(Arc::clone(&self.io), &self.dir, self.kind)?)
            }
        };
        writer.append(&frame)?;
        self.stored += frame.bytes.len() as u64;
        if writer.len() - self.synced > SYNC_STRIDE {
            self.synced = writer.len();
            self.syncer.get_or_insert_with(Syncer::start).request(writer.file());
        }
        Ok(())
    }

    fn seal(&mut self, pool: &Pool) -> Result<()> {
        self.close_block(pool);
        while !self.pending.is_empty() {
            self.append_oldest()?;
        }
        if let Some(writer) = self.writer.take() {
            if let Some(syncer) = self.syncer.take() {
                syncer.finish().map_err(Error::io("sync a pack in", &self.dir))?;
            }
            // Kept until it is sealed, so that it can be discarded if that fails.
            let writer = self.writer.insert(writer);
            let id = writer.seal()?;
            if !writer.replaced() {
                self.sealed.push(id);
            }
            self.writer = None;
        }
        Ok(())
    }

    fn discard(&mut self) {
        self.pending.clear();
        let sealed = self.sealed.drain(..).map(|id| self.dir.join(format!("{id}.{SEALED}")));
        let open = self.writer.take().map(|writer| writer.path().to_owned());
        for path in sealed.chain(open) {
            if let Err(error) = self.io.remove(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove an unfinished pack");
            }
        }
    }
}

/// Syncs a pack while more is appended to it. A failure is kept until the pack is sealed, and fails it.
struct Syncer {
    requests: SyncSender<Arc<dyn WriteFile>>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Syncer {
    fn start() -> Self {
        let (requests, files) = sync_channel::<Arc<dyn WriteFile>>(1);
        let thread = thread::spawn(move || files.iter().try_for_each(|file| file.sync()));
        Self { requests, thread }
    }

    fn request(&self, file: Arc<dyn WriteFile>) {
        // While one sync runs and one waits, sealing will do the rest.
        let _ = self.requests.try_send(file);
    }

    fn finish(self) -> std::io::Result<()> {
        drop(self.requests);
        self.thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the syncing thread panicked")))
    }
}
