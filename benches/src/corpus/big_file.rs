//! One file that is far larger than the memory an ingest may take.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::random::Random;
use crate::error::{Error, Result};

const SPAN_BYTES: usize = 1 << 20;

/// Writes `bytes` (rounded up to a MiB): MiB by MiB in turn noise, records that compress, and noise again; nothing
/// repeats, so that all of it is new to a store, and nothing is zeroes.
pub(super) fn make(path: &Path, bytes: u64) -> Result<()> {
    let fail = || Error::io("write", path);
    let mut random = Random::new(6);
    let mut file = BufWriter::with_capacity(SPAN_BYTES, File::create(path).map_err(fail())?);
    let mut span = vec![0; SPAN_BYTES];
    for turn in 0..bytes.div_ceil(SPAN_BYTES as u64) {
        if turn % 3 == 1 {
            for record in span.chunks_mut(64) {
                record.fill(0x20);
                random.fill(&mut record[..16]);
            }
        } else {
            random.fill(&mut span);
        }
        file.write_all(&span).map_err(fail())?;
    }
    file.flush().map_err(fail())
}
