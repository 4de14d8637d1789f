//! Bitcode files: their tokens behind those of an old one.
//!
//! The payload: length of the tokens u32, the tokens as by codec 2.

use cairn_delta::prefix::{self, Decoder};
use cairn_delta::{DeltaError, bitcode};

/// Longest file that is taken apart, in bytes, old or new.
pub(super) const FILE_MAX: u64 = bitcode::FILE_MAX as u64;
/// The first bytes of one.
pub(super) const MAGIC: &[u8] = bitcode::MAGIC;

const HEAD_LEN: usize = 4;

/// The payload for a file; nothing where one of the two does not come apart.
pub(super) fn encode(old: &[u8], new: &[u8], compressor: &mut prefix::Encoder) -> Option<Vec<u8>> {
    let (old, new) = (bitcode::tokens(old)?, bitcode::unpack(new)?);
    let mut payload = u32::try_from(new.len()).ok()?.to_le_bytes().to_vec();
    payload.extend_from_slice(&compressor.encode(&old, &new));
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
    let (head, payload) = payload.split_first_chunk::<HEAD_LEN>().ok_or(DeltaError::Truncated)?;
    let tokens_len = u32::from_le_bytes(*head) as usize;
    if tokens_len > bitcode::TOKENS_MAX {
        return Err(DeltaError::TooLarge("tokens"));
    }
    let old = bitcode::tokens(old).ok_or(DeltaError::Base)?;
    let tokens = decoder.decode(&old, payload, tokens_len, Vec::new())?;
    let file = bitcode::pack(&tokens, len, out)?;
    if file.len() == len { Ok(file) } else { Err(DeltaError::Invalid("a bitcode file of another length")) }
}
