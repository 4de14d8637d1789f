//! The kept form of a [`Usage`]: magic `CUSE`, version u8, three zero bytes, journal sequence number u64, digest of
//! the artifacts (32 bytes), count u32, then (artifact id, bytes u64) ascending, then the BLAKE3 of all before it.

use super::Usage;
use crate::cursor::{Cursor, Defect};
use crate::id::{ArtifactId, ID_LEN};

const HEADER: [u8; 8] = *b"CUSE\x01\0\0\0";
/// More artifacts than this are not read back; the walk is taken anew.
const ENTRIES_MAX: u32 = 1 << 24;

/// What a measurement is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Basis {
    /// Where in the journal.
    pub(super) seq: u64,
    /// Digest of the artifacts that refs name there, ascending.
    pub(super) named: [u8; ID_LEN],
}

pub(super) fn encode(basis: Basis, usage: &Usage) -> Vec<u8> {
    let mut bytes = HEADER.to_vec();
    bytes.extend_from_slice(&basis.seq.to_le_bytes());
    bytes.extend_from_slice(&basis.named);
    bytes.extend_from_slice(&u32::try_from(usage.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (artifact, unique) in usage {
        bytes.extend_from_slice(&artifact.0);
        bytes.extend_from_slice(&unique.to_le_bytes());
    }
    let digest = blake3::hash(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes
}

/// The measurement in `bytes` if it is whole and of this `basis`.
pub(super) fn decode(bytes: &[u8], basis: Basis) -> Option<Usage> {
    let body_len = bytes.len().checked_sub(ID_LEN)?;
    let (body, digest) = bytes.split_at(body_len);
    if blake3::hash(body).as_bytes() != digest {
        return None;
    }
    read(body, basis).ok().flatten()
}

/// How many artifacts a measurement is of, whatever it is good for: for who feeds decoders with anything.
pub(crate) fn decode_any(bytes: &[u8]) -> Option<usize> {
    let field = |at: usize, len: usize| bytes.get(HEADER.len() + at..HEADER.len() + at + len);
    let basis = Basis {
        seq: u64::from_le_bytes(field(0, 8)?.try_into().ok()?),
        named: field(8, ID_LEN)?.try_into().ok()?,
    };
    decode(bytes, basis).map(|usage| usage.len())
}

fn read(body: &[u8], basis: Basis) -> Result<Option<Usage>, Defect> {
    let mut cursor = Cursor::new(body);
    if cursor.take(HEADER.len())? != HEADER || cursor.u64()? != basis.seq || cursor.id()?.0 != basis.named {
        return Ok(None);
    }
    let count = cursor.u32()?;
    if count > ENTRIES_MAX {
        return Ok(None);
    }
    let mut usage = Usage::new();
    for _ in 0..count {
        usage.insert(ArtifactId(cursor.id()?.0), cursor.u64()?);
    }
    cursor.end()?;
    Ok(Some(usage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_comes_back_only_whole_and_for_its_basis() {
        let usage: Usage = (0..3).map(|n| (ArtifactId([n; ID_LEN]), u64::from(n))).collect();
        let basis = Basis { seq: 7, named: [9; ID_LEN] };
        let bytes = encode(basis, &usage);
        assert_eq!(decode(&bytes, basis), Some(usage));
        assert_eq!(decode(&bytes, Basis { seq: 8, ..basis }), None);
        assert_eq!(decode(&bytes, Basis { named: [8; ID_LEN], ..basis }), None);
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut], basis), None);
        }
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(decode(&bad, basis), None, "byte {at}");
        }
    }
}
