//! Old chunks that are like a block of new ones: found by the vote of sampled hashes, first near the same place of the
//! file that goes with it, else among old files that go with none.

use cairn_delta::prefix::PREFIX_MAX;
use cairn_delta::similar::Samples;

use super::gap::Gap;
use super::unit::BASES_MAX;
use crate::error::Result;
use crate::store::Store;

/// Bytes of an old file that are sampled at a time, and by how much the next such window lies further on: what moved by
/// more within a larger file is not found.
const WINDOW: u64 = 256 << 20;
const STEP: u64 = WINDOW / 2;
/// Bytes of old files without a new one that are sampled, at most.
const ELSEWHERE_MAX: u64 = 128 << 20;
/// A prefix may be so many times as long as the block behind it.
const PREFIX_FACTOR: usize = 2;

/// Finds bases.
pub(super) struct Bases<'a> {
    store: &'a Store,
    gap: &'a Gap,
    /// Old files that go with no new one.
    free: Vec<usize>,
    /// The file and window that were sampled last.
    near: Option<(usize, u64, Samples)>,
    elsewhere: Option<Samples>,
}

impl<'a> Bases<'a> {
    pub(super) fn new(store: &'a Store, gap: &'a Gap, pairs: &[Option<usize>]) -> Self {
        let mut is_free = vec![true; gap.old_files.len()];
        for old in pairs.iter().flatten() {
            is_free[*old] = false;
        }
        let free = (0..gap.old_files.len()).filter(|file| is_free[*file]).collect();
        Self { store, gap, free, near: None, elsewhere: None }
    }

    /// Numbers of old chunks like `plain`, which lies at `offset` of a file that goes with the old file `old`; the most
    /// useful last.
    pub(super) fn find(&mut self, old: Option<usize>, offset: u64, plain: &[u8]) -> Result<Vec<u32>> {
        let bytes_max = plain.len().saturating_mul(PREFIX_FACTOR).min(PREFIX_MAX);
        let mut found = Vec::new();
        if let Some(old) = old {
            found = self.near(old, offset)?.vote(plain, bytes_max);
        }
        if found.is_empty() && !self.free.is_empty() {
            found = self.elsewhere()?.vote(plain, bytes_max);
        }
        if found.len() > BASES_MAX {
            found.drain(..found.len() - BASES_MAX);
        }
        Ok(found)
    }

    fn near(&mut self, old: usize, offset: u64) -> Result<&Samples> {
        let file = &self.gap.old_files[old];
        let window = if file.size <= WINDOW { 0 } else { offset.min(file.size) / STEP };
        if !matches!(&self.near, Some((near, at, _)) if (*near, *at) == (old, window)) {
            let begin = (window * STEP).saturating_sub(STEP / 2);
            let end = begin + WINDOW;
            let mut samples = Samples::new();
            let list = self.gap.list(file);
            for (_, number) in list.iter().filter(|(offset, _)| (begin..end).contains(offset)) {
                let chunk = self.store.whole_chunk(self.gap.old_chunks[*number as usize])?;
                samples.add(*number, &chunk);
            }
            self.near = Some((old, window, samples));
        }
        Ok(&self.near.as_ref().expect("set above").2)
    }

    fn elsewhere(&mut self) -> Result<&Samples> {
        if self.elsewhere.is_none() {
            let mut samples = Samples::new();
            let mut left = ELSEWHERE_MAX;
            for file in self.free.iter().map(|file| &self.gap.old_files[*file]) {
                for (_, number) in self.gap.list(file) {
                    let chunk = self.gap.old_chunks[*number as usize];
                    if left < u64::from(chunk.len) {
                        break;
                    }
                    left -= u64::from(chunk.len);
                    samples.add(*number, &self.store.whole_chunk(chunk)?);
                }
            }
            self.elsewhere = Some(samples);
        }
        Ok(self.elsewhere.as_ref().expect("set above"))
    }
}
