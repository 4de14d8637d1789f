//! Numbers and compressed streams, as maps and segments carry them.

use zstd::zstd_safe::{self, CCtx, CParameter, DCtx};

use crate::DeltaError;

/// A dense stream is at most so many times as long as it is stored, so that this bounds what a decoder allocates.
const RATIO_MAX: usize = 256;

/// Appends `value` in groups of 7 bits, the least significant first, bit 7 set in all bytes but the last.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends a signed number: n >= 0 as 2n, n < 0 as -2n - 1.
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends a stream: its length, the length that it is stored in, and it, compressed by zstd behind `prefix` or (with equal
/// lengths) raw.
pub(super) fn put_stream(out: &mut Vec<u8>, plain: &[u8], prefix: &[u8], level: i32) {
    put_varint(out, plain.len() as u64);
    if plain.is_empty() {
        return;
    }
    let packed = compress(plain, prefix, level).filter(|packed| packed.len() < plain.len());
    let stored = packed.as_deref().unwrap_or(plain);
    put_varint(out, stored.len() as u64);
    out.extend_from_slice(stored);
}

/// As `put_stream`, for a reader that does not know how long the stream may be: at most [`RATIO_MAX`] times what is stored.
pub(super) fn put_dense_stream(out: &mut Vec<u8>, plain: &[u8], level: i32) {
    let before = out.len();
    put_stream(out, plain, &[], level);
    if plain.len() / (out.len() - before) > RATIO_MAX / 2 {
        out.truncate(before);
        put_varint(out, plain.len() as u64);
        put_varint(out, plain.len() as u64);
        out.extend_from_slice(plain);
    }
}

fn compress(plain: &[u8], prefix: &[u8], level: i32) -> Option<Vec<u8>> {
    let mut context = CCtx::create();
    context.set_parameter(CParameter::CompressionLevel(level)).ok()?;
    context.set_parameter(CParameter::ContentSizeFlag(false)).ok()?;
    context.ref_prefix(prefix).ok()?;
    let mut out = Vec::with_capacity(zstd_safe::compress_bound(plain.len()));
    context.compress2(&mut out, plain).ok()?;
    Some(out)
}

fn decompress(stored: &[u8], prefix: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut context = DCtx::create();
    context.ref_prefix(prefix).ok()?;
    let mut out = Vec::with_capacity(len);
    context.decompress(&mut out, stored).ok()?;
    (out.len() == len).then_some(out)
}

/// Reads what the functions above wrote. Every read is checked.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn finish(&self) -> Result<(), DeltaError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DeltaError::Invalid("bytes behind the end")) }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], DeltaError> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(DeltaError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, DeltaError> {
        let (first, rest) = self.bytes.split_first().ok_or(DeltaError::Truncated)?;
        self.bytes = rest;
        Ok(*first)
    }

    pub(super) fn varint(&mut self) -> Result<u64, DeltaError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DeltaError::Invalid("a number of more than 64 bits"))
    }

    pub(super) fn signed(&mut self) -> Result<i64, DeltaError> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// A number that is at most `max`.
    pub(super) fn up_to(&mut self, max: u64, what: &'static str) -> Result<u64, DeltaError> {
        let value = self.varint()?;
        if value > max { Err(DeltaError::TooLarge(what)) } else { Ok(value) }
    }

    /// A stream of at most `max` bytes, compressed behind `prefix`.
    pub(super) fn stream(&mut self, max: usize, prefix: &[u8]) -> Result<Vec<u8>, DeltaError> {
        let (len, stored) = self.stored(max)?;
        if stored.len() == len {
            return Ok(stored.to_vec());
        }
        decompress(stored, prefix, len).ok_or(DeltaError::Decompress)
    }

    /// A stream of at most `max` bytes. Allocates no more than 256 times what is left of the input.
    pub(super) fn dense_stream(&mut self, max: usize) -> Result<Vec<u8>, DeltaError> {
        let (len, stored) = self.stored(max)?;
        if len > stored.len().saturating_mul(RATIO_MAX) {
            return Err(DeltaError::TooLarge("a stream's ratio"));
        }
        if stored.len() == len {
            return Ok(stored.to_vec());
        }
        decompress(stored, &[], len).ok_or(DeltaError::Decompress)
    }

    /// The length of a stream, and what is stored of it.
    fn stored(&mut self, max: usize) -> Result<(usize, &'a [u8]), DeltaError> {
        let len = usize::try_from(self.varint()?).ok().filter(|len| *len <= max);
        let len = len.ok_or(DeltaError::TooLarge("a stream"))?;
        if len == 0 {
            return Ok((0, &[]));
        }
        let stored = usize::try_from(self.varint()?).map_err(|_| DeltaError::Truncated)?;
        Ok((len, self.take(stored)?))
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

/// The 32-bit value at a place as a signed distance, spread to 64 bits for wrapping sums.
pub(super) fn distance_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(i64::from(u32_at(bytes, at)?.cast_signed()).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_long_ones_are_refused() {
        let numbers = [0, 1, 127, 128, 1 << 35, u64::MAX];
        let signed = [0, -1, 1, i64::MIN, i64::MAX];
        let mut bytes = Vec::new();
        numbers.iter().for_each(|number| put_varint(&mut bytes, *number));
        signed.iter().for_each(|number| put_signed(&mut bytes, *number));
        let mut reader = Reader::new(&bytes);
        for number in numbers {
            assert_eq!(reader.varint(), Ok(number));
        }
        for number in signed {
            assert_eq!(reader.signed(), Ok(number));
        }
        assert_eq!(reader.finish(), Ok(()));
        assert_eq!(reader.varint(), Err(DeltaError::Truncated));
        let mut long = vec![0xff; 9];
        long.push(2);
        assert!(matches!(Reader::new(&long).varint(), Err(DeltaError::Invalid(_))));
    }

    #[test]
    fn streams_come_back_within_their_limits() {
        for plain in [Vec::new(), vec![7], (0..=255).collect(), vec![0; 1000], vec![0; 1 << 20]] {
            for prefix in [&[][..], b"\x01\x02\x03\x04\x05\x06\x07\x08\x09"] {
                let mut bytes = Vec::new();
                put_stream(&mut bytes, &plain, prefix, 3);
                assert!(bytes.len() <= plain.len() + 6);
                assert_eq!(Reader::new(&bytes).stream(plain.len(), prefix).as_ref(), Ok(&plain));
                if let Some(less) = plain.len().checked_sub(1) {
                    let over = Reader::new(&bytes).stream(less, prefix);
                    assert_eq!(over, Err(DeltaError::TooLarge("a stream")));
                    let cut = Reader::new(&bytes[..bytes.len() - 1]).stream(plain.len(), prefix);
                    assert_eq!(cut, Err(DeltaError::Truncated));
                }
            }
            let mut bytes = Vec::new();
            put_dense_stream(&mut bytes, &plain, 3);
            assert_eq!(Reader::new(&bytes).dense_stream(plain.len()).as_ref(), Ok(&plain));
        }
    }

    #[test]
    fn a_stream_that_explodes_is_refused() {
        let mut bytes = Vec::new();
        put_stream(&mut bytes, &vec![0; 8 << 20], &[], 19);
        assert_eq!(Reader::new(&bytes).dense_stream(1 << 30), Err(DeltaError::TooLarge("a stream's ratio")));
    }
}
