//! Runs of the new file that are like runs of the old one, by the scan of bsdiff (Percival, "Naive differences of executable
//! code", 2003) over a suffix array (libsais, Grebnov, after Nong, Zhang & Chan 2011) of masked bytes.

use super::bytes::u64_at;
use super::shifts::Run;
use super::wire::RUN_MIN;

/// A match has to be so much longer than what the run at hand would give.
const BETTER: usize = 8;
/// Shorter runs do not pay for being told.
const WORTH: u32 = 14;
/// So many equal bytes in a row on the run at hand are followed without a search.
const FOLLOWED: usize = 24;
/// An extension ends where it would not pay for so many bytes.
const PATIENCE: usize = 4096;
/// Matches of one length that are looked at on either side for the nearest one.
const NEAREST_TRIES: usize = 64;
/// Positions of the new file between two looks at `cancelled`.
const CANCEL_BYTES: usize = 1 << 16;

/// The suffixes of the old bytes, in order, found through their first bits.
struct Index<'a> {
    text: &'a [u8],
    suffixes: Vec<i32>,
    /// For each value of the first bits: the first suffix that has it.
    starts: Vec<u32>,
    bits: u32,
}

fn head(text: &[u8], at: usize) -> u32 {
    let byte = |at: usize| u32::from(text.get(at).copied().unwrap_or(0));
    byte(at) << 16 | byte(at + 1) << 8 | byte(at + 2)
}

fn same(a: &[u8], b: &[u8]) -> usize {
    let len = a.len().min(b.len());
    let mut at = 0;
    while let (Some(x), Some(y)) = (u64_at(&a[..len], at), u64_at(&b[..len], at)) {
        if x != y {
            return at + ((x ^ y).trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + a[at..len].iter().zip(&b[at..len]).take_while(|(x, y)| x == y).count()
}

impl<'a> Index<'a> {
    fn new(text: &'a [u8]) -> Option<Self> {
        let suffixes =
            libsais::SuffixArrayConstruction::for_text(text).in_owned_buffer32().single_threaded().run();
        let suffixes = suffixes.ok()?.into_vec();
        let bits = text.len().ilog2().saturating_sub(2).clamp(8, 22);
        let mut starts = vec![0u32; (1 << bits) + 1];
        for at in 0..text.len() {
            starts[(head(text, at) >> (24 - bits)) as usize + 1] += 1;
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        Some(Self { text, suffixes, starts, bits })
    }

    /// The longest match of a pattern's beginning, and the place of one such suffix in their order.
    fn longest(&self, pattern: &[u8]) -> (usize, usize) {
        if pattern.len() < 4 {
            return (0, 0);
        }
        let bucket = (head(pattern, 0) >> (24 - self.bits)) as usize;
        let (mut low, mut high) = (self.starts[bucket] as usize, self.starts[bucket + 1] as usize);
        let (mut best, mut place) = (0, 0);
        let (mut low_same, mut high_same) = (0usize, 0usize);
        while low < high {
            let middle = low + (high - low) / 2;
            let at = usize::try_from(self.suffixes[middle]).unwrap_or(0);
            let known = low_same.min(high_same);
            let len = known + same(&self.text[at + known..], &pattern[known..]);
            if len > best {
                (best, place) = (len, middle);
            }
            if len == pattern.len() {
                break;
            }
            if self.text.get(at + len).is_none_or(|byte| *byte < pattern[len]) {
                low = middle + 1;
                low_same = len;
            } else {
                high = middle;
                high_same = len;
            }
        }
        (best, place)
    }
}

impl Index<'_> {
    /// Of the matches of the pattern, as long as that of the suffix at `place` in the order, the one nearest to `wanted`.
    fn nearest(&self, pattern: &[u8], place: usize, wanted: usize) -> usize {
        let at = |place: usize| self.suffixes.get(place).and_then(|at| usize::try_from(*at).ok());
        let matches = |place: &usize| at(*place).is_some_and(|at| self.text[at..].starts_with(pattern));
        let behind = (place..place + NEAREST_TRIES).take_while(matches);
        let before = (place.saturating_sub(NEAREST_TRIES)..place).rev().take_while(matches);
        behind.chain(before).filter_map(at).min_by_key(|at| at.abs_diff(wanted)).unwrap_or(0)
    }
}

/// Where the scan is and what it has to tell yet: the run that begins at `new` in the new file and `old` in the old one.
#[derive(Default)]
struct Scan {
    runs: Vec<Run>,
    new: usize,
    old: usize,
}

/// None if cancelled. Both masked.
pub(super) fn align(old: &[u8], new: &[u8], cancelled: &dyn Fn() -> bool) -> Option<Vec<Run>> {
    let index = Index::new(old)?;
    if cancelled() {
        return None;
    }
    let mut scan = Scan::default();
    let (mut at, mut len, mut place) = (0, 0, 0);
    // The run at hand: old offset less new offset.
    let mut offset = 0isize;
    let mut look = CANCEL_BYTES;
    let on_run =
        |at: usize, offset: isize| at.checked_add_signed(offset).filter(|old_at| *old_at < old.len());
    while at < new.len() {
        at += len;
        let (mut counted, mut score) = (at, 0usize);
        while at < new.len() {
            if at > look {
                look = at + CANCEL_BYTES;
                if cancelled() {
                    return None;
                }
            }
            let followed = on_run(at, offset).map_or(0, |old_at| same(&old[old_at..], &new[at..]));
            if followed >= FOLLOWED {
                (len, place, score) = (followed, at.saturating_add_signed(offset), followed);
                break;
            }
            (len, place) = index.longest(&new[at..]);
            while counted < at + len {
                score +=
                    usize::from(on_run(counted, offset).is_some_and(|old_at| old[old_at] == new[counted]));
                counted += 1;
            }
            if (len == score && len != 0) || len > score + BETTER {
                place = index.nearest(&new[at..at + len], place, at.saturating_add_signed(offset));
                break;
            }
            score -=
                usize::from(score > 0 && on_run(at, offset).is_some_and(|old_at| old[old_at] == new[at]));
            at += 1;
        }
        if len != score || at >= new.len() {
            scan.emit(old, new, at.min(new.len()), place);
            offset = place.wrapping_sub(at).cast_signed();
        }
    }
    scan.runs.retain(|run| run.len >= WORTH);
    Some(scan.runs)
}

impl Scan {
    /// Ends the run at hand; the next one matches at `at` and `place`.
    fn emit(&mut self, old: &[u8], new: &[u8], at: usize, place: usize) {
        let mut forward =
            extent(at - self.new, |step| old.get(self.old + step).map(|byte| *byte == new[self.new + step]));
        let mut backward = 0;
        if at < new.len() {
            backward =
                extent((at - self.new).min(place), |step| Some(old[place - step - 1] == new[at - step - 1]));
        }
        if self.new + forward > at - backward {
            let overlap = self.new + forward - (at - backward);
            let (mut score, mut best, mut keep) = (0i64, 0i64, 0);
            for step in 0..overlap {
                let first = forward - overlap + step;
                score += i64::from(new[self.new + first] == old[self.old + first]);
                score -= i64::from(new[at - backward + step] == old[place - backward + step]);
                if score > best {
                    (best, keep) = (score, step + 1);
                }
            }
            forward = forward - overlap + keep;
            backward -= keep;
        }
        push(&mut self.runs, self.new, self.old, forward);
        (self.new, self.old) = (at - backward, place - backward);
    }
}

fn push(runs: &mut Vec<Run>, new: usize, old: usize, len: usize) {
    let all = (u32::try_from(new), u32::try_from(old), u32::try_from(len));
    if let (Ok(new), Ok(old), Ok(len @ 1..)) = all {
        runs.push(Run { new, old, len });
    }
}

/// How far an extension of at most `max` bytes pays: where twice the equal bytes less all bytes is greatest.
fn extent(max: usize, equal: impl Fn(usize) -> Option<bool>) -> usize {
    let (mut score, mut best, mut len) = (0i64, 0i64, 0);
    for step in 0..max {
        let Some(equal) = equal(step) else { break };
        score += if equal { 1 } else { -1 };
        if score > best {
            (best, len) = (score, step + 1);
        }
        if step > len + PATIENCE {
            break;
        }
    }
    len
}

/// Extends runs into the gaps between them, over bytes without operands; where both sides meet, the split is where most
/// bytes are equal. Then cuts them where a load segment begins or ends, and leaves out what is too short.
pub(super) fn finish(mut runs: Vec<Run>, old: &[u8], new: &[u8], edges: [Vec<u64>; 2]) -> Vec<Run> {
    const STEP: usize = 256;
    for number in 0..runs.len() {
        let start = runs[number].new as usize + runs[number].len as usize;
        let next = runs.get(number + 1).copied();
        let end = next.map_or(new.len(), |next| next.new as usize);
        let gap = end.saturating_sub(start);
        let old_start = runs[number].old as usize + runs[number].len as usize;
        let mut forward =
            near_extent(gap, STEP, |step| Some(*old.get(old_start + step)? == new[start + step]));
        if let Some(next) = next {
            let old_end = next.old as usize;
            let back = |step: usize| Some(*old.get(old_end.checked_sub(step + 1)?)? == new[end - step - 1]);
            let mut backward = near_extent(gap, STEP, back);
            if forward + backward > gap {
                let (mut score, mut best, mut split) = (0i64, i64::MIN, gap - backward);
                for len in gap - backward..=forward {
                    if len > gap - backward {
                        score += i64::from(old[old_start + len - 1] == new[start + len - 1]);
                        score -= i64::from(old[old_end - (gap - len) - 1] == new[start + len - 1]);
                    }
                    if score > best {
                        (best, split) = (score, len);
                    }
                }
                (forward, backward) = (split, gap - split);
            }
            let next = &mut runs[number + 1];
            let back = u32::try_from(backward).unwrap_or(0);
            *next = Run { new: next.new - back, old: next.old - back, len: next.len + back };
        }
        runs[number].len += u32::try_from(forward).unwrap_or(0);
    }
    cut(runs, edges)
}

/// As `extent`, but ends `step` bytes behind where it paid last.
fn near_extent(max: usize, step: usize, equal: impl Fn(usize) -> Option<bool>) -> usize {
    let (mut score, mut best, mut len, mut at) = (0i64, 0i64, 0, 0);
    while at < max && at < len + step {
        let Some(equal) = equal(at) else { break };
        score += if equal { 1 } else { -1 };
        at += 1;
        if score > best {
            (best, len) = (score, at);
        }
    }
    len
}

fn cut(runs: Vec<Run>, [old_edges, new_edges]: [Vec<u64>; 2]) -> Vec<Run> {
    let mut pieces = Vec::with_capacity(runs.len());
    for mut run in runs {
        loop {
            let first = |edges: &[u64], start: u32, end: u64| {
                let next = edges.partition_point(|edge| *edge <= u64::from(start));
                edges.get(next).filter(|edge| **edge < end).map(|edge| edge - u64::from(start))
            };
            let old_cut = first(&old_edges, run.old, run.old_end());
            let new_cut = first(&new_edges, run.new, run.new_end());
            let Some(cut) = old_cut.into_iter().chain(new_cut).min() else { break };
            let cut = u32::try_from(cut).unwrap_or(0);
            pieces.push(Run { len: cut, ..run });
            run = Run { new: run.new + cut, old: run.old + cut, len: run.len - cut };
        }
        pieces.push(run);
    }
    pieces.retain(|run| run.len >= RUN_MIN);
    pieces
}
