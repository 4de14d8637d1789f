//! Lists of ids, and the bitmap that answers one.

use cairn_store::ChunkId;

use super::{ID_LEN, IDS_MAX, WireError};

/// A list of ids as it travels: 32 bytes each, one after the other.
#[must_use]
pub fn ids_to_bytes(ids: &[ChunkId]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.0).collect()
}

/// The ids of a list, in its order.
///
/// # Errors
/// [`WireError::List`] when the bytes are no whole number of ids, or more than [`IDS_MAX`].
pub fn ids_from_bytes(bytes: &[u8]) -> Result<Vec<ChunkId>, WireError> {
    let (ids, rest) = bytes.as_chunks::<ID_LEN>();
    if !rest.is_empty() {
        return Err(WireError::List("a list of ids whose length is no multiple of 32"));
    }
    if ids.len() > IDS_MAX {
        return Err(WireError::List("a list of more than 262,144 ids"));
    }
    Ok(ids.iter().map(|id| ChunkId(*id)).collect())
}

/// The answer to a list of ids: one bit for each, from the lowest bit of the first byte on; unused bits are 0.
#[must_use]
pub fn bitmap_to_bytes(bits: &[bool]) -> Vec<u8> {
    let byte = |bits: &[bool]| (0..).zip(bits).map(|(at, bit)| u8::from(*bit) << at).sum();
    bits.chunks(8).map(byte).collect()
}

/// The bits of an answer to `count` ids.
///
/// # Errors
/// [`WireError::List`] when the bytes are not as many as that takes, or unused bits are set.
pub fn bitmap_from_bytes(bytes: &[u8], count: usize) -> Result<Vec<bool>, WireError> {
    if bytes.len() != count.div_ceil(8) {
        return Err(WireError::List("a bitmap of another length than the list it answers"));
    }
    let bit = |at: usize| bytes[at / 8] >> (at % 8) & 1 == 1;
    if (count..bytes.len() * 8).any(bit) {
        return Err(WireError::List("a bitmap with bits past its end"));
    }
    Ok((0..count).map(bit).collect())
}
