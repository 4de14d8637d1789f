//! Where blocks that somebody else has are in a file that is here, at any offset, by their sums alone.
//!
//! A sum is the CRC-32 of a block (as zlib makes it), which can be rolled over the file byte by byte, and behind it the
//! first bytes of the block's SHA-256. Truncated as they are, they are a good guess and no proof: whoever uses what is found
//! compares the hash of the whole.

use std::io::{self, Read};

use crate::sha256::Sha256;

/// Bytes of the CRC in a sum.
pub(super) const CRC_BYTES: usize = 4;
/// Most bytes of a SHA-256 in a sum.
pub(super) const STRONG_BYTES_MAX: usize = 8;

/// Bytes of the file that are looked at together.
const WINDOW_BYTES: usize = 1 << 20;
/// Bits of the first, coarse filter, as a power of two. It stays in the processor's cache.
const FILTER_BITS: u32 = 22;
const POLYNOMIAL: u32 = 0xedb8_8320;
const TABLE: [u32; 256] = table();

/// The sum of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sum {
    crc: u32,
    strong: [u8; STRONG_BYTES_MAX],
}

impl Sum {
    /// Of bytes that are here.
    pub(super) fn of(block: &[u8], strong_bytes: usize) -> Self {
        Self { crc: !roll_in(!0, block), strong: strong(block, strong_bytes) }
    }

    /// As it travels: the CRC, little-endian, and some bytes of the SHA-256.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        let mut sum = Self { crc: 0, strong: [0; STRONG_BYTES_MAX] };
        let (crc, rest) = bytes.split_at(bytes.len().min(CRC_BYTES));
        for (shift, byte) in crc.iter().enumerate() {
            sum.crc |= u32::from(*byte) << (8 * shift);
        }
        for (to, byte) in sum.strong.iter_mut().zip(rest) {
            *to = *byte;
        }
        sum
    }
}

/// For each sum, where in `old` a block of that length has it, if any has.
///
/// # Errors
/// What reading returns.
pub(super) fn search(
    mut old: impl Read,
    block_bytes: usize,
    strong_bytes: usize,
    sums: &[Sum],
    mut is_wanted: impl FnMut() -> bool,
) -> io::Result<Vec<Option<u64>>> {
    let mut wanted = Wanted::new(block_bytes, strong_bytes, sums);
    let mut buffer = vec![0; block_bytes + WINDOW_BYTES];
    // The bytes of the buffer that are taken, and the offset in the file of the first of them.
    let (mut filled, mut base) = (0, 0);
    let mut rolling = None;
    while wanted.missing > 0 && is_wanted() {
        let read = old.read(&mut buffer[filled..])?;
        if read == 0 {
            break;
        }
        filled += read;
        if filled < block_bytes {
            continue;
        }
        // All windows that end in what is new; where the first of them begins, if none was before.
        let mut crc = match rolling {
            Some(crc) => crc,
            None => {
                let crc = roll_in(0, &buffer[..block_bytes]);
                wanted.visit(crc, &buffer[..block_bytes], base);
                crc
            }
        };
        let windows = filled - block_bytes;
        for start in 0..windows {
            let (out, into) = (buffer[start], buffer[start + block_bytes]);
            crc = (crc >> 8) ^ TABLE[usize::from(low_byte(crc) ^ into)] ^ wanted.leaving[usize::from(out)];
            if wanted.may_have(crc) {
                wanted.visit(crc, &buffer[start + 1..=start + block_bytes], base + start as u64 + 1);
            }
        }
        rolling = Some(crc);
        buffer.copy_within(windows..filled, 0);
        filled = block_bytes;
        base += windows as u64;
    }
    Ok(wanted.found)
}

/// The sums that are looked for, such that most windows are turned away by one look.
struct Wanted {
    /// What a byte that leaves the window has left in the register.
    leaving: [u32; 256],
    filter: Vec<u64>,
    /// By CRC as the register has it (begun with 0 and not inverted), then by the rest; with the place in the list.
    sums: Vec<(Sum, u32)>,
    strong_bytes: usize,
    found: Vec<Option<u64>>,
    missing: usize,
}

impl Wanted {
    fn new(block_bytes: usize, strong_bytes: usize, sums: &[Sum]) -> Self {
        let mut leaving = [0; 256];
        for (byte, left) in (0..=u8::MAX).zip(&mut leaving) {
            *left = roll_zeros(roll_in(0, &[byte]), block_bytes);
        }
        // A CRC begins with all ones and ends inverted; both add the same to that of every block of this length.
        let conditioning = !roll_zeros(!0, block_bytes);
        let mut filter = vec![0; 1 << (FILTER_BITS - 6)];
        let mut sorted: Vec<(Sum, u32)> = sums
            .iter()
            .zip(0..)
            .map(|(sum, at)| (Sum { crc: sum.crc ^ conditioning, strong: sum.strong }, at))
            .collect();
        sorted.sort_unstable();
        for (sum, _) in &sorted {
            let (word, bit) = filter_place(sum.crc);
            filter[word] |= bit;
        }
        let (found, missing) = (vec![None; sums.len()], sums.len());
        Self { leaving, filter, sums: sorted, strong_bytes, found, missing }
    }

    fn may_have(&self, crc: u32) -> bool {
        let (word, bit) = filter_place(crc);
        self.filter[word] & bit != 0
    }

    fn visit(&mut self, crc: u32, window: &[u8], offset: u64) {
        let first = self.sums.partition_point(|(sum, _)| sum.crc < crc);
        let alike = &self.sums[first..];
        let alike = &alike[..alike.iter().take_while(|(sum, _)| sum.crc == crc).count()];
        if alike.iter().all(|(_, at)| self.found[*at as usize].is_some()) {
            return;
        }
        let strong = strong(window, self.strong_bytes);
        for (_, at) in alike.iter().filter(|(sum, _)| sum.strong == strong) {
            let found = &mut self.found[*at as usize];
            if found.is_none() {
                *found = Some(offset);
                self.missing -= 1;
            }
        }
    }
}

fn filter_place(crc: u32) -> (usize, u64) {
    let bit = crc >> (32 - FILTER_BITS);
    ((bit >> 6) as usize, 1 << (bit & 63))
}

fn low_byte(register: u32) -> u8 {
    register.to_le_bytes()[0]
}

fn strong(block: &[u8], bytes: usize) -> [u8; STRONG_BYTES_MAX] {
    let mut strong = [0; STRONG_BYTES_MAX];
    let bytes = bytes.min(STRONG_BYTES_MAX);
    if bytes > 0 {
        strong[..bytes].copy_from_slice(&Sha256::of(block).0[..bytes]);
    }
    strong
}

fn roll_in(register: u32, bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(register, |register, byte| (register >> 8) ^ TABLE[usize::from(low_byte(register) ^ byte)])
}

fn roll_zeros(register: u32, count: usize) -> u32 {
    (0..count).fold(register, |register, _| (register >> 8) ^ TABLE[usize::from(low_byte(register))])
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let (mut at, mut byte) = (0, 0_u32);
    while at < table.len() {
        let (mut register, mut bit) = (byte, 0);
        while bit < 8 {
            register = if register & 1 == 1 { (register >> 1) ^ POLYNOMIAL } else { register >> 1 };
            bit += 1;
        }
        table[at] = register;
        at += 1;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn places(old: &[u8], block: usize, blocks: &[&[u8]]) -> Vec<Option<u64>> {
        let sums: Vec<_> = blocks.iter().map(|block| Sum::of(block, 3)).collect();
        search(old, block, 3, &sums, || true).unwrap()
    }

    #[test]
    fn the_crc_is_that_of_zlib() {
        let mut crc = flate2::Crc::new();
        crc.update(b"cairn, and some more");
        assert_eq!(Sum::of(b"cairn, and some more", 0).crc, crc.sum());
        let sum = Sum::of(b"cairn", 2);
        let bytes = [&sum.crc.to_le_bytes()[..], &sum.strong[..2]].concat();
        assert_eq!(Sum::decode(&bytes), sum);
    }

    #[test]
    fn blocks_are_found_behind_several_windows() {
        let mut old = vec![0; 3 * WINDOW_BYTES + 77];
        old[2 * WINDOW_BYTES + 13..][..4].copy_from_slice(b"abcd");
        let at = 2 * WINDOW_BYTES as u64 + 13;
        assert_eq!(places(&old, 4, &[b"abcd", b"abce", b"\0\0\0\0"]), [Some(at), None, Some(0)]);
        assert_eq!(places(b"abc", 4, &[b"abcd"]), [None]);
        assert_eq!(places(b"", 4, &[b"abcd"]), [None]);
    }

    proptest! {
        /// Against a search that compares bytes.
        #[test]
        fn what_is_there_is_found(
            old in proptest::collection::vec(0_u8..4, 0..600),
            block in 1_usize..40,
            picks in proptest::collection::vec(any::<proptest::sample::Index>(), 1..20),
            other in proptest::collection::vec(0_u8..5, 40),
        ) {
            let other = &other[..block];
            let mut blocks: Vec<&[u8]> = vec![other];
            if old.len() >= block {
                blocks.extend(picks.iter().map(|pick| &old[pick.index(old.len() - block + 1)..][..block]));
            }
            let expected: Vec<_> = blocks
                .iter()
                .map(|wanted| old.windows(block).position(|window| window == *wanted).map(|at| at as u64))
                .collect();
            prop_assert_eq!(places(&old, block, &blocks), expected);
        }
    }
}
