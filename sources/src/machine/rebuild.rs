//! A file of a machine made here out of an older one, and of what that lacks.
//!
//! In rounds, from long blocks to short ones: the machine tells the sums of the blocks that are not known yet, and those that are
//! anywhere in the old file are taken from there. What remains then comes compressed. Sums are short, so a block may
//! be taken for another, about once in a hundred files; then the hash of the whole differs, and what is wrong is found by longer sums
//! of what is in its place, and comes again.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::ranges::Ranges;
use super::search::{self, Sum};
use super::talk::{Packing, Talk};
use crate::error::{Error, Result};
use crate::sha256::Sha256;
use crate::watch::Watch;

/// A round: how long its blocks are, and how many bytes of a SHA-256 their sums have.
#[derive(Debug, Clone, Copy)]
struct Round {
    block_bytes: u32,
    strong_bytes: u8,
}

const ROUNDS: [Round; 3] = [
    Round { block_bytes: 32 << 10, strong_bytes: 2 },
    Round { block_bytes: 2 << 10, strong_bytes: 2 },
    Round { block_bytes: 256, strong_bytes: 1 },
];
/// Of more blocks than this, one in so many is looked for first: where hardly any is found, their sums would be more than
/// they spare.
const SAMPLED_FROM: usize = 1 << 14;
const SAMPLE_EVERY: u8 = 32;
/// A round is left out if less than one in so many of its sample is found. A sum has 5 bytes, and 256 bytes of a program
/// have about 80 when they are compressed.
const SAMPLE_WORTH: usize = 24;
/// Files longer than this have longer blocks, so that there are never more of them.
const ROUNDS_FILE_BYTES: u64 = 128 << 20;
/// How what was made wrongly is found: what has to be right, and each round in what the one before found wrong.
const MENDING: [Round; 2] =
    [Round { block_bytes: 256 << 10, strong_bytes: 4 }, Round { block_bytes: 4 << 10, strong_bytes: 4 }];
/// Bytes that are compressed together: as long as the dictionary, of which each thread there needs a dozen. Shorter where it
/// is to be fast.
const SEGMENT_BYTES: u32 = 8 << 20;
const FAST_SEGMENT_BYTES: u32 = 4 << 20;
/// Most threads that compress a file there.
const THREADS_MAX: u8 = 4;
/// What the preset 6 of xz compresses in a second, on one processor.
const THOROUGH_BYTES: u64 = 1_500_000;
/// So much of a file should at least be done in a second.
const PACE_BYTES: u64 = 10_000_000;
/// Bytes that are copied at once.
const COPY_BYTES: usize = 256 << 10;

/// What a file is made of and where.
pub(super) struct Rebuilding<'a> {
    /// The newest that is here, if any is.
    pub(super) old: Option<&'a Path>,
    /// Empty; open for reading and writing.
    pub(super) new: &'a File,
    /// For messages.
    pub(super) new_path: &'a Path,
    /// As it should be.
    pub(super) sha256: Sha256,
    pub(super) watch: &'a dyn Watch,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rebuilt {
    /// It is the file, byte by byte.
    Right,
    /// What the machine has is not what it told before.
    Changed,
}

impl Rebuilding<'_> {
    /// Makes the file.
    pub(super) fn run(&self, talk: &mut Talk<'_>) -> Result<Rebuilt> {
        let size = talk.size;
        self.new.set_len(size).map_err(Error::io("write", self.new_path))?;
        let mut rest = Ranges::whole(size);
        if let Some(path) = self.old {
            let old = open(path).map_err(Error::io("read", path))?;
            for round in ROUNDS {
                rest = self.round(talk, &rest, (&old, path), scaled(round, size))?;
            }
        }
        self.fetch(talk, &rest)?;
        if self.is_right()? {
            return Ok(Rebuilt::Right);
        }
        if talk.hash()? != self.sha256 {
            return Ok(Rebuilt::Changed);
        }
        tracing::info!(path = %self.new_path.display(), "sums were alike of blocks that are not");
        self.mend(talk, size)?;
        if self.is_right()? { Ok(Rebuilt::Right) } else { Ok(Rebuilt::Changed) }
    }

    /// Takes from the old file what is in it, and says what is left.
    fn round(&self, talk: &mut Talk<'_>, rest: &Ranges, old: (&File, &Path), round: Round) -> Result<Ranges> {
        let block_bytes = u64::from(round.block_bytes);
        let count = self.count(rest, round)?;
        if count > SAMPLED_FROM {
            let found = self.search(talk, old, round, count, SAMPLE_EVERY)?;
            if found.iter().flatten().count() < found.len() / SAMPLE_WORTH {
                return Ok(rest.clone());
            }
        }
        if count == 0 {
            return Ok(rest.clone());
        }
        let found = self.search(talk, old, round, count, 1)?;
        let mut run = Run::default();
        for (to, from) in rest.blocks(block_bytes).zip(&found) {
            let Some(from) = *from else { continue };
            if !run.extend(from, to, block_bytes) {
                self.copy(old, run)?;
                run = Run { from, to, bytes: block_bytes };
            }
        }
        self.copy(old, run)?;
        self.narrow(talk, rest, round, found.iter().map(Option::is_none).collect())
    }

    /// Where in the old file the blocks are, or one in `every` of them.
    fn search(
        &self,
        talk: &mut Talk<'_>,
        (old, old_path): (&File, &Path),
        round: Round,
        count: usize,
        every: u8,
    ) -> Result<Vec<Option<u64>>> {
        let sums =
            talk.sums(round.block_bytes, round.strong_bytes, every, count.div_ceil(usize::from(every)))?;
        (&mut &*old).seek(SeekFrom::Start(0)).map_err(Error::io("read", old_path))?;
        let is_wanted = || !self.watch.cancelled();
        let (block, strong) = (round.block_bytes as usize, usize::from(round.strong_bytes));
        let found =
            search::search(old, block, strong, &sums, is_wanted).map_err(Error::io("read", old_path))?;
        if self.watch.cancelled() { Err(Error::Cancelled) } else { Ok(found) }
    }

    /// Finds what differs from what the machine has, and fetches that.
    fn mend(&self, talk: &mut Talk<'_>, size: u64) -> Result<()> {
        talk.restart()?;
        let mut rest = Ranges::whole(size);
        for round in MENDING {
            let round = scaled(round, size);
            let sums = talk.sums(round.block_bytes, round.strong_bytes, 1, self.count(&rest, round)?)?;
            let mut block = vec![0; round.block_bytes as usize];
            let mut stays = Vec::with_capacity(sums.len());
            for (start, sum) in rest.blocks(u64::from(round.block_bytes)).zip(&sums) {
                self.new.read_exact_at(&mut block, start).map_err(Error::io("read", self.new_path))?;
                stays.push(Sum::of(&block, usize::from(round.strong_bytes)) != *sum);
            }
            rest = self.narrow(talk, &rest, round, stays)?;
        }
        self.fetch(talk, &rest)
    }

    /// Of the blocks only those stay in the list, here and there.
    fn narrow(&self, talk: &mut Talk<'_>, rest: &Ranges, round: Round, stays: Vec<bool>) -> Result<Ranges> {
        talk.keep(round.block_bytes, &stays)?;
        let mut stays = stays.into_iter();
        Ok(rest.keep(u64::from(round.block_bytes), || stays.next().unwrap_or(true)))
    }

    /// Brings what the list has.
    fn fetch(&self, talk: &mut Talk<'_>, rest: &Ranges) -> Result<()> {
        let bytes = rest.bytes();
        if bytes == 0 {
            return Ok(());
        }
        self.watch.expect(bytes);
        let mut parts = rest.iter().cloned();
        let mut part = 0..0;
        let mut came = 0;
        talk.data(packing(talk, bytes), bytes, |mut data| {
            came += data.len() as u64;
            self.watch.came(data.len().try_into().unwrap_or(i64::MAX));
            while !data.is_empty() {
                if part.is_empty() {
                    // More than there are parts for never comes: `data` looks after that.
                    part = parts.next().unwrap_or(0..0);
                }
                let room = usize::try_from(part.end - part.start).unwrap_or(usize::MAX).min(data.len());
                let (now, later) = data.split_at(room.max(1).min(data.len()));
                self.new.write_all_at(now, part.start).map_err(Error::io("write", self.new_path))?;
                part.start += now.len() as u64;
                data = later;
            }
            Ok(())
        })?;
        if came < bytes { Err(talk.broken("it sent less than it has")) } else { Ok(()) }
    }

    fn is_right(&self) -> Result<bool> {
        let hashed = Sha256::of_file(self.new_path).map_err(Error::io("read", self.new_path))?;
        Ok(hashed.0 == self.sha256)
    }

    fn count(&self, rest: &Ranges, round: Round) -> Result<usize> {
        let count = rest.block_count(u64::from(round.block_bytes));
        usize::try_from(count)
            .map_err(|_| Error::io("write", self.new_path)(io::ErrorKind::FileTooLarge.into()))
    }

    fn copy(&self, (old, old_path): (&File, &Path), run: Run) -> Result<()> {
        let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(run.bytes).unwrap_or(COPY_BYTES))];
        let mut done = 0;
        while done < run.bytes {
            if self.watch.cancelled() {
                return Err(Error::Cancelled);
            }
            let now = usize::try_from(run.bytes - done).unwrap_or(COPY_BYTES).min(buffer.len());
            let part = &mut buffer[..now];
            old.read_exact_at(part, run.from + done).map_err(Error::io("read", old_path))?;
            self.new.write_all_at(part, run.to + done).map_err(Error::io("write", self.new_path))?;
            done += now as u64;
        }
        Ok(())
    }
}

/// Bytes of the old file that are bytes of the new one.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    from: u64,
    to: u64,
    bytes: u64,
}

impl Run {
    /// Takes a block in that is right behind, in both.
    fn extend(&mut self, from: u64, to: u64, bytes: u64) -> bool {
        let is_behind = self.from + self.bytes == from && self.to + self.bytes == to;
        if is_behind {
            self.bytes += bytes;
        }
        is_behind
    }
}

fn scaled(round: Round, size: u64) -> Round {
    let factor = size.div_ceil(ROUNDS_FILE_BYTES).max(1).next_power_of_two();
    let block_bytes = u64::from(round.block_bytes).saturating_mul(factor).min(1 << 30);
    Round { block_bytes: u32::try_from(block_bytes).unwrap_or(1 << 30), ..round }
}

/// How so many bytes of a file are best compressed there: with the most thorough preset that does not make it slower than
/// [`PACE_BYTES`], else with one that is about five times as fast and a tenth worse.
fn packing(talk: &Talk<'_>, bytes: u64) -> Packing {
    let threads = talk.processors.min(THREADS_MAX);
    let segments = bytes.div_ceil(u64::from(SEGMENT_BYTES)).max(1);
    let thorough_seconds = bytes / THOROUGH_BYTES / segments.min(threads.into());
    let is_thorough = thorough_seconds <= talk.size / PACE_BYTES;
    let (preset, segment_bytes) =
        if is_thorough || !talk.has_xz { (6, SEGMENT_BYTES) } else { (1, FAST_SEGMENT_BYTES) };
    let filter = talk.filter.unwrap_or(0);
    Packing { is_xz: talk.has_xz, preset, filter, segment_bytes, threads }
}

fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?.into())
}
