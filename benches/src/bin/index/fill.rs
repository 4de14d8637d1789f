//! Stores of very many chunks, made through the library.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use cairn_store::chunker::CdcBounds;
use cairn_store::{IngestOptions, Input, PublishOptions, Writer, WriterOptions};

use super::Result;
use super::synthetic::mix;

/// Cut so small that a million chunks are some hundred megabytes.
const BOUNDS: CdcBounds = CdcBounds { min: 256, avg: 512, max: 2048 };
/// What `BOUNDS` come to on random bytes, about.
const CHUNK_BYTES: u64 = 680;
/// Blocks of all artifacts together, of one, and from where one begins to where the next does.
const BLOCKS: u64 = 101;
const BLOCKS_OF_ONE: u64 = 10;
const BLOCKS_APART: u64 = 7;

/// Fills a store with about so many chunks, in artifacts that overlap; every other one is then removed.
pub(crate) fn fill(store: &Path, chunks: u64) -> Result<()> {
    let options = WriterOptions {
        wait: Duration::from_secs(10),
        command: "bench".to_owned(),
        who: "bench@bench".to_owned(),
    };
    let writer = Writer::open(store, &options, &())?;
    let block_bytes = chunks * CHUNK_BYTES / BLOCKS;
    let mut keys = Vec::new();
    for (number, first) in (0..=BLOCKS - BLOCKS_OF_ONE).step_by(usize::try_from(BLOCKS_APART)?).enumerate() {
        let mut package = IngestOptions::package("filler".parse()?, number.to_string().parse()?);
        package.bounds = BOUNDS;
        let reader = Box::new(Noise::new(first, first + BLOCKS_OF_ONE, block_bytes));
        let input = Input::Reader { name: "noise".to_owned(), executable: false, reader };
        let ingested = writer.ingest(input, &package, &())?;
        writer.publish(&ingested, &PublishOptions::default())?;
        keys.push(ingested.key.clone());
    }
    for key in keys.iter().skip(1).step_by(2) {
        writer.remove_ref(key, false)?;
    }
    Ok(())
}

/// Blocks of random bytes, each the same wherever it is read.
struct Noise {
    block: u64,
    end: u64,
    block_bytes: u64,
    /// Within the block.
    at: u64,
}

impl Noise {
    fn new(first: u64, end: u64, block_bytes: u64) -> Self {
        Self { block: first, end, block_bytes: block_bytes.next_multiple_of(8), at: 0 }
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut filled = 0;
        while self.block < self.end && filled < buffer.len() {
            let word = mix((self.block << 32) + self.at / 8).to_le_bytes();
            let rest = &word[usize::try_from(self.at % 8).unwrap_or(0)..];
            let len = rest.len().min(buffer.len() - filled);
            buffer[filled..filled + len].copy_from_slice(&rest[..len]);
            filled += len;
            self.at += len as u64;
            if self.at == self.block_bytes {
                (self.block, self.at) = (self.block + 1, 0);
            }
        }
        Ok(filled)
    }
}
