//! Decoded blocks, shared by all readers of all files: a bounded number of bytes, in shards that are locked one by one. A
//! block that many want at once is decoded once.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use cairn_store::{BlockBuffers, BlockId, Decoder, Error, KeptBlock, Store};

/// Bytes of a shard, at least: some blocks of the largest size.
const SHARD_BYTES_MIN: u64 = 4 << 20;
const SHARDS_MAX: u64 = 16;
/// Decoders that are kept while nobody decodes.
const DECODERS_MAX: usize = 8;

/// A block, or why there is none; for all who waited for it.
type Decoded = Result<Arc<KeptBlock>, Arc<Error>>;

/// A block that is being decoded.
#[derive(Default)]
struct Decoding {
    /// Guards the outcome; a leaf lock.
    outcome: Mutex<Option<Decoded>>,
    done: Condvar,
}

enum Slot {
    Kept {
        block: Arc<KeptBlock>,
        bytes: u64,
        /// Whether it was asked for since it was last passed over.
        used: bool,
    },
    Decoding(Arc<Decoding>),
}

#[derive(Default)]
struct Shard {
    slots: HashMap<BlockId, Slot>,
    /// The blocks that are kept, in the order in which they are looked at when room is needed.
    clock: VecDeque<BlockId>,
    bytes: u64,
}

/// The blocks that are kept.
pub(super) struct Blocks {
    store: Store,
    /// Each guards its part of the blocks. No other lock is taken under it.
    shards: Box<[Mutex<Shard>]>,
    shard_bytes_max: u64,
    hasher: RandomState,
    /// Guards the decoders that nobody uses; a leaf lock.
    decoders: Mutex<Vec<Decoder>>,
    buffers: BlockBuffers,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Blocks {
    pub(super) fn new(store: Store, bytes_max: u64) -> Self {
        let shards = (bytes_max / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        Self {
            store,
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            shard_bytes_max: bytes_max / shards,
            hasher: RandomState::new(),
            decoders: Mutex::default(),
            buffers: BlockBuffers::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    fn shard(&self, id: BlockId) -> &Mutex<Shard> {
        let number = self.hasher.hash_one(id) % self.shards.len() as u64;
        &self.shards[usize::try_from(number).expect("there are few")]
    }

    /// A block, if it is kept.
    pub(super) fn kept(&self, id: BlockId) -> Option<Arc<KeptBlock>> {
        let block = lock(self.shard(id)).kept(id);
        if block.is_some() {
            self.hits.fetch_add(1, Ordering::Relaxed);
        }
        block
    }

    /// A block, decoded now if it is not kept.
    pub(super) fn get(&self, id: BlockId) -> Decoded {
        let shard = self.shard(id);
        let decoding = {
            let mut shard = lock(shard);
            if let Some(block) = shard.kept(id) {
                self.hits.fetch_add(1, Ordering::Relaxed);
                return Ok(block);
            }
            if let Some(Slot::Decoding(decoding)) = shard.slots.get(&id) {
                let decoding = Arc::clone(decoding);
                drop(shard);
                return decoding.wait();
            }
            let decoding = Arc::new(Decoding::default());
            shard.slots.insert(id, Slot::Decoding(Arc::clone(&decoding)));
            decoding
        };
        self.misses.fetch_add(1, Ordering::Relaxed);
        let duty = Duty { blocks: self, id, decoding };
        let decoded = self.decode(id);
        duty.end(&decoded);
        decoded
    }

    fn decode(&self, id: BlockId) -> Decoded {
        let mut decoder = lock(&self.decoders).pop().unwrap_or_default();
        let decoded = self.store.decode_block(id, &mut decoder, &self.buffers);
        let mut decoders = lock(&self.decoders);
        if decoders.len() < DECODERS_MAX {
            decoders.push(decoder);
        }
        drop(decoders);
        decoded.map(Arc::new).map_err(Arc::new)
    }

    /// Puts a block where it is found from now on, or nothing.
    fn put(&self, id: BlockId, block: Option<Arc<KeptBlock>>) {
        let mut shard = lock(self.shard(id));
        shard.slots.remove(&id);
        let Some(block) = block else { return };
        let bytes = block.memory_bytes() as u64;
        let gone = shard.make_room(bytes, self.shard_bytes_max);
        if shard.bytes + bytes <= self.shard_bytes_max {
            shard.bytes += bytes;
            shard.clock.push_back(id);
            shard.slots.insert(id, Slot::Kept { block, bytes, used: false });
        }
        drop(shard);
        for block in gone.into_iter().filter_map(Arc::into_inner) {
            self.buffers.give(block);
        }
    }

    /// Bytes in memory, and how often a block was there and was not.
    pub(super) fn figures(&self) -> (u64, u64, u64) {
        let bytes = self.shards.iter().map(|shard| lock(shard).bytes).sum();
        (bytes, self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }
}

impl Shard {
    fn kept(&mut self, id: BlockId) -> Option<Arc<KeptBlock>> {
        match self.slots.get_mut(&id) {
            Some(Slot::Kept { block, used, .. }) => {
                *used = true;
                Some(Arc::clone(block))
            }
            _ => None,
        }
    }

    /// Takes blocks out until there is room; those that were asked for again are passed over once.
    fn make_room(&mut self, bytes: u64, bytes_max: u64) -> Vec<Arc<KeptBlock>> {
        let mut gone = Vec::new();
        while self.bytes + bytes > bytes_max
            && let Some(id) = self.clock.pop_front()
        {
            match self.slots.get_mut(&id) {
                Some(Slot::Kept { used, .. }) if *used => {
                    *used = false;
                    self.clock.push_back(id);
                }
                _ => {
                    if let Some(Slot::Kept { block, bytes, .. }) = self.slots.remove(&id) {
                        self.bytes -= bytes;
                        gone.push(block);
                    }
                }
            }
        }
        gone
    }
}

impl Decoding {
    fn wait(&self) -> Decoded {
        let mut outcome = lock(&self.outcome);
        loop {
            if let Some(decoded) = &*outcome {
                return decoded.clone();
            }
            outcome = self.done.wait(outcome).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The duty to decode a block: those who wait are told how it ended, even by a panic.
struct Duty<'a> {
    blocks: &'a Blocks,
    id: BlockId,
    decoding: Arc<Decoding>,
}

impl Duty<'_> {
    fn end(self, decoded: &Decoded) {
        self.blocks.put(self.id, decoded.as_ref().ok().map(Arc::clone));
        *lock(&self.decoding.outcome) = Some(decoded.clone());
    }
}

impl Drop for Duty<'_> {
    fn drop(&mut self) {
        let mut outcome = lock(&self.decoding.outcome);
        if outcome.is_none() {
            *outcome = Some(Err(Arc::new(Error::Cancelled)));
            drop(outcome);
            self.blocks.put(self.id, None);
        } else {
            drop(outcome);
        }
        self.decoding.done.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
