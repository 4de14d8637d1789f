//! Contexts that decode frames and encode others. A few are kept, however many transfers take turns with them: each has
//! some megabytes.

use std::sync::{Mutex, PoisonError};

use crate::block::{Block, BlockBuilder, Compressor, Decompressor};
use crate::error::Result;
use crate::pack::Pack;
use crate::store::Store;

/// Sets that are kept, at most.
const KEPT_MAX: usize = 4;

/// What re-encoding takes.
#[derive(Default)]
pub(super) struct Tools {
    compressor: Compressor,
    decompressor: Decompressor,
    buffer: Vec<u8>,
}

impl Tools {
    /// Decodes a frame of a pack.
    pub(super) fn decode(&mut self, store: &Store, pack: &Pack, number: u16, frame: &[u8]) -> Result<Block> {
        let buffer = std::mem::take(&mut self.buffer);
        store.decode_in(pack, number, frame, &mut self.decompressor, buffer)
    }

    /// Takes the memory of a block back.
    pub(super) fn give_back(&mut self, block: Block) {
        self.buffer = block.into_buffer();
    }

    pub(super) fn encode(&mut self, group: BlockBuilder) -> Vec<u8> {
        group.finish(&mut self.compressor).0.bytes
    }
}

/// The sets that nobody is using.
#[derive(Default)]
pub(crate) struct SendingTools(
    /// Guards the spare sets. A leaf lock.
    Mutex<Vec<Tools>>,
);

impl SendingTools {
    pub(super) fn take(&self) -> Tools {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_default()
    }

    pub(super) fn give(&self, tools: Tools) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < KEPT_MAX {
            spare.push(tools);
        }
    }
}
