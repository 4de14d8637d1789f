//! What one process measures of itself.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use cairn_store::index::Index;
use cairn_store::io::{Io, Os};

use super::Result;
use super::synthetic::{id, mix};

/// Look-ups of each kind, so that the whole index is in memory afterwards, whatever way it was opened.
const LOOKUPS: u32 = 8_000_000;

/// Figures by their names.
pub(crate) type Figures = BTreeMap<String, f64>;

/// Opens the index, looks up ids that it holds and ids that it does not, in random order and on one thread.
pub(crate) fn open(store: &Path, chunks: u64) -> Result<Figures> {
    let io: Arc<dyn Io> = Arc::new(Os);
    let before = Memory::now()?;
    let started = Instant::now();
    let index = Index::open(&io, store)?;
    let open_s = started.elapsed().as_secs_f64();
    let opened = Memory::now()?;
    let present = lookups_per_s(&index, 0..chunks, true)?;
    let absent = lookups_per_s(&index, chunks..2 * chunks, false)?;
    let after = Memory::now()?;
    let per_chunk = |bytes: f64| bytes / to_f64(chunks);
    Ok(Figures::from(
        [
            ("open_s", open_s),
            // The slower of the two.
            ("lookups_per_s", present.min(absent)),
            ("lookups_present_per_s", present),
            ("lookups_absent_per_s", absent),
            ("resident_bytes_per_chunk", per_chunk(after.resident - before.resident)),
            ("anonymous_bytes_per_chunk", per_chunk(after.anonymous - before.anonymous)),
            ("mapped_bytes_per_chunk", per_chunk(after.mapped - before.mapped)),
            ("runs", to_f64(index.summary().runs as u64)),
            ("open_peak_bytes_per_chunk", per_chunk(opened.peak - before.resident)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    ))
}

/// Writes the run of an index that was opened from footers alone.
pub(crate) fn persist(store: &Path, chunks: u64) -> Result<Figures> {
    let io: Arc<dyn Io> = Arc::new(Os);
    let before = Memory::now()?;
    let index = Index::open(&io, store)?;
    let started = Instant::now();
    index.persist(&*io, store, true)?;
    let seconds = started.elapsed().as_secs_f64();
    let peak = (Memory::now()?.peak - before.resident) / to_f64(chunks);
    Ok(Figures::from([("persist_s".to_owned(), seconds), ("persist_peak_bytes_per_chunk".to_owned(), peak)]))
}

fn lookups_per_s(index: &Index, numbers: std::ops::Range<u64>, held: bool) -> Result<f64> {
    let span = u128::from(numbers.end - numbers.start);
    let started = Instant::now();
    let mut found = 0;
    for turn in 0..LOOKUPS {
        let place = (u128::from(mix(u64::from(turn) ^ numbers.start)) * span) >> 64;
        let number = numbers.start + u64::try_from(place)?;
        found += u32::from(black_box(index.lookup(&id(number))).is_some());
    }
    let seconds = started.elapsed().as_secs_f64();
    if found != if held { LOOKUPS } else { 0 } {
        return Err(format!("{found} of {LOOKUPS} found, held: {held}").into());
    }
    Ok(f64::from(LOOKUPS) / seconds)
}

/// This process's memory, in bytes.
struct Memory {
    resident: f64,
    anonymous: f64,
    /// Pages of files, on disk or on a tmpfs.
    mapped: f64,
    peak: f64,
}

impl Memory {
    fn now() -> Result<Memory> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
            kib.map(|kib| kib * 1024.0).ok_or_else(|| format!("no {name} in /proc/self/status"))
        };
        Ok(Memory {
            resident: field("VmRSS")?,
            anonymous: field("RssAnon")?,
            mapped: field("RssFile")? + field("RssShmem")?,
            peak: field("VmHWM")?,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count of chunks, far below 2^53")]
fn to_f64(count: u64) -> f64 {
    count as f64
}
