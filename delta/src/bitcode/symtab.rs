//! The table of symbols: words, most of which follow from others.
//!
//! A head of 17 words; the 7th and 8th say where symbols are and how many: 6 words each, which are offset and length of a
//! name, the same of the name in the module, a group or none, and flags.

use super::forms;
use super::model::Model;
use crate::DeltaError;

const SYMBOLS: usize = 7;
const SYMBOL_WORDS: usize = 6;
const WORD: usize = 4;

pub(super) fn put(blob: &[u8], model: &Model, out: &mut Vec<u8>) {
    let (words, rest) = blob.as_chunks::<WORD>();
    let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    for (at, word) in words.iter().enumerate() {
        let by = word.wrapping_sub(expected(&words[..at], model));
        forms::number(out, u64::from(by << 1 ^ (by.cast_signed() >> 31).cast_unsigned()));
    }
    out.extend_from_slice(rest);
}

pub(super) fn take(len: usize, model: &Model, bytes: &mut &[u8]) -> Result<Vec<u8>, DeltaError> {
    // Each word takes a byte or more.
    if len / WORD > bytes.len() {
        return Err(DeltaError::Truncated);
    }
    let (mut words, mut blob) = (Vec::with_capacity(len / WORD), Vec::with_capacity(len));
    for _ in 0..len / WORD {
        let by = u32::try_from(forms::take_number(bytes)?)
            .map_err(|_| DeltaError::Invalid("a word that is too long"))?;
        let by = by >> 1 ^ (by & 1).wrapping_neg();
        let word = by.wrapping_add(expected(&words, model));
        words.push(word);
        blob.extend_from_slice(&word.to_le_bytes());
    }
    let (rest, after) = bytes.split_at_checked(len % WORD).ok_or(DeltaError::Truncated)?;
    *bytes = after;
    blob.extend_from_slice(rest);
    Ok(blob)
}

/// What the next word should be.
fn expected(words: &[u32], model: &Model) -> u32 {
    let Some(&[from, count]) = words.get(SYMBOLS..SYMBOLS + 2) else { return 0 };
    let Some(place) = words.len().checked_sub(from as usize / WORD) else { return 0 };
    if place / SYMBOL_WORDS >= count as usize {
        return 0;
    }
    let back = |by: usize| words.len().checked_sub(by).map_or(0, |at| words[at]);
    match place % SYMBOL_WORDS {
        0 if place > 0 => back(4).wrapping_add(back(3)),
        1 => model.lens.get(&u64::from(back(1))).map_or(0, |len| (len & 0xffff_ffff) as u32),
        2 | 3 => back(2),
        4 => u32::MAX,
        _ => 0,
    }
}
