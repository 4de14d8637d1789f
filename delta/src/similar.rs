//! Which old chunks look most like a block of new bytes: those that share most of its sampled 24-byte windows.
//!
//! Windows are sampled by their own bytes (a cyclic polynomial rolling hash, one in 32 on average), so the same window is
//! sampled wherever it lies; what was moved is found as well as what stayed. The idea is that of sampled shingles
//! (Manber, "Finding Similar Files in a Large File System", 1994). Nothing depends on the order of a map or on a seed:
//! the same chunks and block give the same vote everywhere.

/// Bytes of a window.
const WINDOW: usize = 24;
const WINDOW_BITS: u32 = 24;
/// One window in 2^5 is sampled, until there are too many.
const RARITY: u32 = 5;
/// Samples at which half of them are dropped, and only half as many are taken from then on: with 64 MiB of them, 128 MiB
/// of old bytes are sampled in full, and 4 GiB still once in a KiB.
const SAMPLES_MAX: usize = 4 << 20;
/// Chunks that are noted for one window. What more of them share tells little.
const SHARED_MAX: usize = 8;
/// Windows that a chunk has to have in common with a block, and no better one has, before it is worth being named.
const HITS_MIN: usize = 2;

/// Bits of a slot that hold a chunk's number, plus one; the others are the top of the window's hash.
const NUMBER_BITS: u32 = 28;

/// What each byte adds to a window's hash.
const TABLE: [u64; 256] = {
    // splitmix64: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
    let mut table = [0; 256];
    let mut state = 0x6361_6972_6e00_0001_u64;
    let mut at = 0;
    while at < 256 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[at] = mixed ^ (mixed >> 31);
        at += 1;
    }
    table
};

/// The part of a window's hash that a slot keeps.
const KEPT: u64 = !((1 << NUMBER_BITS) - 1);

/// Samples of old chunks, which the caller numbers.
pub struct Samples {
    /// A hash table with linear probing, at most half full: the kept part of a window's hash, and the chunk's number + 1;
    /// 0 where there is nothing.
    slots: Vec<u64>,
    used: usize,
    /// Windows are sampled whose hashes have none of these bits.
    mask: u64,
    /// Of each number that was added, how long the chunk is.
    lens: Vec<u32>,
}

impl std::fmt::Debug for Samples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Samples").field("used", &self.used).finish_non_exhaustive()
    }
}

impl Default for Samples {
    fn default() -> Self {
        Self { slots: vec![0; 1 << 10], used: 0, mask: (1 << RARITY) - 1, lens: Vec::new() }
    }
}

impl Samples {
    /// Without any chunk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a chunk. Numbers are counted up from 0, without large gaps; past 2^28 - 2 they are ignored.
    pub fn add(&mut self, number: u32, bytes: &[u8]) {
        let at = number as usize;
        if u64::from(number) + 1 >= 1 << NUMBER_BITS {
            return;
        }
        if self.lens.len() <= at {
            self.lens.resize(at + 1, 0);
        }
        self.lens[at] = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mask = self.mask;
        sample(bytes, mask, |hash| {
            if hash & self.mask == 0 {
                self.insert((hash & KEPT) | u64::from(number + 1));
            }
        });
    }

    fn insert(&mut self, slot: u64) {
        if (self.used + 1) * 2 > self.slots.len() {
            self.grow();
            if slot & KEPT & self.mask != 0 {
                return;
            }
        }
        let mut shared = 0;
        for at in probe(&self.slots, slot) {
            let there = self.slots[at];
            if there == 0 {
                self.slots[at] = slot;
                self.used += 1;
                return;
            }
            shared += usize::from(there & KEPT == slot & KEPT);
            if there == slot || shared == SHARED_MAX {
                return;
            }
        }
    }

    /// Twice the room, or half the samples.
    fn grow(&mut self) {
        let mut len = self.slots.len();
        if self.used >= SAMPLES_MAX {
            // The lowest of the kept bits that does not yet decide.
            let next = ((self.mask & KEPT) >> NUMBER_BITS).trailing_ones();
            self.mask |= 1 << (NUMBER_BITS + next).min(63);
        } else {
            len *= 2;
        }
        let slots = std::mem::replace(&mut self.slots, vec![0; len]);
        self.used = 0;
        for slot in slots {
            if slot != 0 && slot & KEPT & self.mask == 0 {
                let free = probe(&self.slots, slot).find(|at| self.slots[*at] == 0);
                self.slots[free.expect("at most half of it is used")] = slot;
                self.used += 1;
            }
        }
    }

    /// The chunks that tell most of `plain`, of at most `bytes_max` bytes together, ascending by number: what lay together
    /// stays together, so that matches go on from one into the next. Empty if nothing is similar.
    #[must_use]
    pub fn vote(&self, plain: &[u8], bytes_max: usize) -> Vec<u32> {
        let mut windows = Vec::new();
        sample(plain, self.mask, |hash| windows.push(hash & KEPT));
        windows.sort_unstable();
        windows.dedup();
        // Which chunk has which window.
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        for (window, number) in windows.iter().zip(0..) {
            let found = probe(&self.slots, *window).map(|at| self.slots[at]).take_while(|slot| *slot != 0);
            let found = found.filter(|slot| slot & KEPT == *window);
            pairs.extend(found.map(|slot| (u32::try_from(slot & !KEPT).expect("28 bits") - 1, number)));
        }
        pairs.sort_unstable();
        let mut candidates: Vec<&[(u32, u32)]> = pairs.chunk_by(|a, b| a.0 == b.0).collect();
        candidates.sort_by_key(|hits| (std::cmp::Reverse(hits.len()), hits[0].0));
        // The best first; of what follows, what a better one has too does not count.
        let (mut told, mut chosen, mut room) = (vec![false; windows.len()], Vec::new(), bytes_max);
        for hits in candidates {
            if hits.len() < HITS_MIN {
                break;
            }
            let number = hits[0].0;
            let len = self.lens[number as usize] as usize;
            let new = hits.iter().filter(|(_, window)| !told[*window as usize]).count();
            if new < HITS_MIN || len > room {
                continue;
            }
            room -= len;
            chosen.push(number);
            hits.iter().for_each(|(_, window)| told[*window as usize] = true);
        }
        chosen.sort_unstable();
        chosen
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u64>() + self.lens.capacity() * size_of::<u32>()
    }
}

/// Where a slot may lie, from the likeliest place on.
fn probe(slots: &[u64], slot: u64) -> impl Iterator<Item = usize> + use<> {
    let len = slots.len();
    let first = slot >> (u64::BITS - len.ilog2());
    let first = usize::try_from(first).expect("it is below the number of slots");
    (first..len).chain(0..first)
}

/// Calls `sampled` with the hash of each window that has none of the bits of `mask`, except of windows of one byte all
/// over: runs of it say nothing.
fn sample(bytes: &[u8], mask: u64, mut sampled: impl FnMut(u64)) {
    let Some(first) = bytes.first_chunk::<WINDOW>() else { return };
    let mut hash = first.iter().fold(0_u64, |hash, byte| hash.rotate_left(1) ^ TABLE[usize::from(*byte)]);
    let mut last = None;
    let mut at = 0;
    loop {
        if hash & mask == 0 && last != Some(hash) {
            let window = &bytes[at..at + WINDOW];
            if window.iter().any(|byte| *byte != window[0]) {
                sampled(hash);
            }
            last = Some(hash);
        }
        let Some(next) = bytes.get(at + WINDOW) else { return };
        // The byte that leaves the window was turned once by each that came after it.
        let left = TABLE[usize::from(bytes[at])].rotate_left(WINDOW_BITS);
        hash = hash.rotate_left(1) ^ left ^ TABLE[usize::from(*next)];
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(len)
        .collect()
    }

    #[test]
    fn rolling_is_hashing_anew() {
        let bytes = noise(2000, 1);
        let mut rolled = Vec::new();
        sample(&bytes, 0, |hash| rolled.push(hash));
        let anew: Vec<u64> = bytes
            .windows(WINDOW)
            .map(|window| {
                window.iter().fold(0_u64, |hash, byte| hash.rotate_left(1) ^ TABLE[usize::from(*byte)])
            })
            .collect();
        assert_eq!(rolled, anew);
    }

    #[test]
    fn about_one_window_in_32_is_sampled() {
        let mut count = 0;
        sample(&noise(1 << 20, 5), 31, |_| count += 1);
        assert!((30_000..36_000).contains(&count), "{count}");
        for dull in [vec![0; 1 << 16], vec![7; 1 << 16]] {
            sample(&dull, 0, |_| panic!("a run is no sample"));
        }
    }

    #[test]
    fn a_moved_chunk_is_found_among_many() {
        let chunks: Vec<Vec<u8>> = (0..6000).map(|seed| noise(4096, seed)).collect();
        let mut samples = Samples::new();
        for (number, chunk) in (0..).zip(&chunks) {
            samples.add(number, chunk);
        }
        for number in [0, 1, 77, 3210, 5999] {
            // Moved by some bytes, between other things, with a byte changed here and there.
            let mut plain = noise(3001, 1 << 40);
            plain.extend(&chunks[number]);
            for at in (3100..plain.len()).step_by(200) {
                plain[at] ^= 1;
            }
            assert_eq!(samples.vote(&plain, 1 << 20), [u32::try_from(number).unwrap()]);
        }
        assert!(samples.vote(&noise(100_000, 1 << 41), 1 << 20).is_empty());
        assert!(samples.vote(&[], 1 << 20).is_empty());
        assert!(samples.vote(&chunks[5], 4095).is_empty(), "there is no room for it");
        assert!(samples.memory_bytes() <= 17 << 20);
    }

    #[test]
    fn the_best_come_first_and_what_they_tell_does_not_count_twice() {
        let (a, b, c) = (noise(8000, 1), noise(8000, 2), noise(8000, 3));
        let mut samples = Samples::new();
        samples.add(0, &c);
        samples.add(1, &[&b[..4000], &c[..4000]].concat());
        samples.add(2, &a);
        samples.add(3, &a);
        samples.add(4, &b);
        let plain = [&a[..], &b].concat();
        assert_eq!(samples.vote(&plain, 1 << 20), [2, 4]);
        assert_eq!(samples.vote(&plain, 16_000), [2, 4]);
        assert_eq!(samples.vote(&plain, 9000).len(), 1);
    }

    #[test]
    fn past_the_bound_samples_get_rarer_and_chunks_are_found_all_the_same() {
        let mut samples = Samples::new();
        let chunk = |number: u32| noise(64 << 10, number.into());
        // As if so much had been sampled already.
        let mut fill = 0_u64;
        while samples.used < SAMPLES_MAX - 3000 {
            fill = fill.wrapping_add(0x9e37_79b9_7f4a_7c15);
            samples.insert((fill & KEPT) | 1);
        }
        samples.lens.push(1 << 20);
        for number in 1..10 {
            samples.add(number, &chunk(number));
        }
        assert!(samples.mask > 31 && samples.used < SAMPLES_MAX * 2 / 3, "{} {}", samples.mask, samples.used);
        assert!(samples.memory_bytes() <= 65 << 20);
        for number in 1..10 {
            assert_eq!(samples.vote(&chunk(number), 1 << 20), [number]);
        }
    }

    #[test]
    fn what_all_chunks_share_costs_a_bounded_time() {
        let mut samples = Samples::new();
        let same = noise(2000, 1);
        for number in 0..20_000 {
            samples.add(number, &same);
        }
        assert!(samples.used <= 2000 / 16 * SHARED_MAX);
        assert_eq!(samples.vote(&same, 10_000), [0]);
    }
}
