//! Gzip files: their content behind that of an old one, and what it takes to make the file of it again.
//!
//! The payload: length of the recipe u32, length of the content u32, the recipe, the content as by codec 2.

use cairn_delta::prefix::{self, Decoder};
use cairn_delta::{DeltaError, deflate};

/// Longest gzip file that is taken apart, in bytes, old or new.
pub(super) const FILE_MAX: u64 = 2 << 20;
/// The first bytes of one.
pub(super) const MAGIC: &[u8] = &[0x1f, 0x8b];

const HEAD_LEN: usize = 8;

/// The payload for a file; nothing where one of the two does not come apart.
pub(super) fn encode(old: &[u8], new: &[u8], compressor: &mut prefix::Encoder) -> Option<Vec<u8>> {
    let unpacked = deflate::unpack(new).filter(|unpacked| unpacked.plain.len() <= prefix::PLAIN_MAX)?;
    let old = deflate::content(old)?;
    let mut payload = Vec::new();
    for len in [unpacked.recipe.len(), unpacked.plain.len()] {
        payload.extend_from_slice(&u32::try_from(len).ok()?.to_le_bytes());
    }
    payload.extend_from_slice(&unpacked.recipe);
    payload.extend_from_slice(&compressor.encode(&old, &unpacked.plain));
    Some(payload)
}

/// The file of `len` bytes that a payload stands for.
pub(super) fn decode(
    old: &[u8],
    payload: &[u8],
    len: usize,
    decoder: &mut Decoder,
    out: Vec<u8>,
) -> Result<Vec<u8>, DeltaError> {
    let (head, rest) = payload.split_at_checked(HEAD_LEN).ok_or(DeltaError::Truncated)?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    let (recipe, content) = rest.split_at_checked(word(0)).ok_or(DeltaError::Truncated)?;
    let old = deflate::content(old).ok_or(DeltaError::Base)?;
    let plain = decoder.decode(&old, content, word(4), Vec::new())?;
    let file = deflate::repack(&plain, recipe, len, out)?;
    if file.len() == len { Ok(file) } else { Err(DeltaError::Invalid("a gzip file of another length")) }
}
