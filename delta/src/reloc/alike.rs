//! Whether two files are worth a look: how many of the short windows that their contents choose do they share? Builds of
//! one program share a good part of them though most addresses moved; other programs share little more than what compilers
//! always write.

use std::collections::HashSet;

use super::bytes::u64_at;

/// Bytes of a window.
const WINDOW: usize = 16;
/// Windows count whose hash has so many high bits clear.
const CHOSEN_BITS: u32 = 8;
/// Of a hundred chosen windows so many must be shared.
const PERCENT_MIN: usize = 4;

/// Hashes of the chosen windows, each once.
fn chosen(bytes: &[u8]) -> HashSet<u64> {
    let mut chosen = HashSet::new();
    for at in 0..bytes.len().saturating_sub(WINDOW) {
        let (Some(first), Some(second)) = (u64_at(bytes, at), u64_at(bytes, at + 8)) else { break };
        let hash = (first.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ second).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        if hash >> (64 - CHOSEN_BITS) == 0 {
            chosen.insert(hash);
        }
    }
    chosen
}

/// Looks at the bytes as they are.
pub(super) fn alike(old: &[u8], new: &[u8]) -> bool {
    let (old, new) = (chosen(old), chosen(new));
    let shared = new.iter().filter(|hash| old.contains(hash)).count();
    // Measured: 24 to 70 % of builds of one program, at most 1 % of others. The smallest files have too few places to tell.
    new.len() < 32 || shared * 100 >= new.len() * PERCENT_MIN
}
