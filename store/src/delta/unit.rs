//! How a block of a delta travels: a kind, what the block is told in terms of, and its payload. Units come in the order of
//! the chunks that lack; each has the next ones, so neither ids nor places are written.
//!
//! Numbers are LEB128, in as few bytes as they take.

use cairn_delta::DeltaError;

use crate::content::CHUNK_LEN_MAX;

/// Plain bytes of a unit, at most.
pub(super) const PLAIN_MAX: usize = 4 << 20;
/// Chunks of a unit, at most.
pub(super) const CHUNKS_MAX: usize = 1 << 14;
/// Base chunks of a unit, at most.
pub(super) const BASES_MAX: usize = 1 << 12;
/// Longest unit, in bytes: a map of a large pair of executables, or chunks that nothing compresses.
pub const UNIT_LEN_MAX: usize = 16 << 20;

const RAW: u8 = 0;
const PREFIX: u8 = 1;
const RELOC: u8 = 2;
const MAP: u8 = 3;
const OBJECTS: u8 = 4;
const GZIP: u8 = 5;
const BITCODE: u8 = 6;

/// A unit, with its payload where it lies.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unit<'a> {
    /// The chunks' bytes.
    Raw { chunks: usize, payload: &'a [u8] },
    /// Compressed behind a prefix: old chunks, one after the other, or none.
    Prefix { chunks: usize, bases: Vec<u32>, payload: &'a [u8] },
    /// A segment of the file that the last map is for.
    Reloc { chunks: usize, payload: &'a [u8] },
    /// A gzip file, taken apart, whose content is told in terms of that of an old one.
    Gzip { chunks: usize, old_file: usize, payload: &'a [u8] },
    /// A bitcode file, whose tokens are told in terms of those of an old one.
    Bitcode { chunks: usize, old_file: usize, payload: &'a [u8] },
    /// Objects of these lengths, compressed behind old objects.
    Objects { lens: Vec<u32>, bases: Vec<u32>, payload: &'a [u8] },
    /// How the file of the next chunk is predicted from an old file.
    Map { old_file: usize, payload: &'a [u8] },
}

impl<'a> Unit<'a> {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let payload = match self {
            Self::Raw { chunks, payload } => {
                bytes.push(RAW);
                put(&mut bytes, *chunks as u64);
                payload
            }
            Self::Prefix { chunks, bases, payload } => {
                bytes.push(PREFIX);
                put(&mut bytes, *chunks as u64);
                put_bases(&mut bytes, bases);
                payload
            }
            Self::Bitcode { chunks, old_file, payload } => {
                bytes.push(BITCODE);
                put(&mut bytes, *chunks as u64);
                put(&mut bytes, *old_file as u64);
                payload
            }
            Self::Gzip { chunks, old_file, payload } => {
                bytes.push(GZIP);
                put(&mut bytes, *chunks as u64);
                put(&mut bytes, *old_file as u64);
                payload
            }
            Self::Objects { lens, bases, payload } => {
                bytes.push(OBJECTS);
                put(&mut bytes, lens.len() as u64);
                lens.iter().for_each(|len| put(&mut bytes, u64::from(*len)));
                put_bases(&mut bytes, bases);
                payload
            }
            Self::Reloc { chunks, payload } => {
                bytes.push(RELOC);
                put(&mut bytes, *chunks as u64);
                payload
            }
            Self::Map { old_file, payload } => {
                bytes.push(MAP);
                put(&mut bytes, *old_file as u64);
                payload
            }
        };
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Reads a unit; numbers of chunks and files are for whoever knows how many there are.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, DeltaError> {
        if bytes.len() > UNIT_LEN_MAX {
            return Err(DeltaError::TooLarge("a unit"));
        }
        let (&kind, mut rest) = bytes.split_first().ok_or(DeltaError::Truncated)?;
        if kind == MAP {
            let old_file = take(&mut rest, usize::MAX)?;
            return Ok(Self::Map { old_file, payload: rest });
        }
        let chunks = take(&mut rest, CHUNKS_MAX)?;
        if chunks == 0 {
            return Err(DeltaError::Invalid("a unit without chunks"));
        }
        match kind {
            RAW => Ok(Self::Raw { chunks, payload: rest }),
            RELOC => Ok(Self::Reloc { chunks, payload: rest }),
            PREFIX => {
                let bases = take_bases(&mut rest)?;
                Ok(Self::Prefix { chunks, bases, payload: rest })
            }
            GZIP => {
                let old_file = take(&mut rest, usize::MAX)?;
                Ok(Self::Gzip { chunks, old_file, payload: rest })
            }
            BITCODE => {
                let old_file = take(&mut rest, usize::MAX)?;
                Ok(Self::Bitcode { chunks, old_file, payload: rest })
            }
            OBJECTS => {
                let mut lens = Vec::new();
                for _ in 0..chunks {
                    let len = take(&mut rest, CHUNK_LEN_MAX as usize)?;
                    let len = u32::try_from(len).ok().filter(|len| *len > 0);
                    lens.push(len.ok_or(DeltaError::Invalid("an object without bytes"))?);
                }
                let bases = take_bases(&mut rest)?;
                Ok(Self::Objects { lens, bases, payload: rest })
            }
            _ => Err(DeltaError::Invalid("a unit of unknown kind")),
        }
    }
}

fn put_bases(bytes: &mut Vec<u8>, bases: &[u32]) {
    put(bytes, bases.len() as u64);
    let mut next = 0i64;
    for base in bases {
        put(bytes, zigzag(i64::from(*base) - next));
        next = i64::from(*base) + 1;
    }
}

fn take_bases(bytes: &mut &[u8]) -> Result<Vec<u32>, DeltaError> {
    let count = take(bytes, BASES_MAX)?;
    let mut bases = Vec::with_capacity(count);
    let mut next = 0i64;
    for _ in 0..count {
        let by = unzigzag(number(bytes)?);
        let base = next.checked_add(by).and_then(|base| u32::try_from(base).ok());
        let base = base.ok_or(DeltaError::Invalid("a base out of bounds"))?;
        bases.push(base);
        next = i64::from(base) + 1;
    }
    Ok(bases)
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push((number & 0x7f) as u8);
}

fn number(bytes: &mut &[u8]) -> Result<u64, DeltaError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(DeltaError::Truncated)?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 || byte == 0 && shift > 0 {
            return Err(DeltaError::Invalid("a number that is not written as it should be"));
        }
        value |= part << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(DeltaError::Invalid("a number that is not written as it should be"))
}

fn take(bytes: &mut &[u8], max: usize) -> Result<usize, DeltaError> {
    let number = usize::try_from(number(bytes)?).ok().filter(|number| *number <= max);
    number.ok_or(DeltaError::TooLarge("a number of a unit"))
}

fn zigzag(number: i64) -> u64 {
    (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn units() -> impl Strategy<Value = (u8, usize, Vec<u32>, Vec<u8>)> {
        let bases = prop::collection::vec(any::<u32>(), 0..20);
        (0..7u8, 1..CHUNKS_MAX, bases, prop::collection::vec(any::<u8>(), 0..100))
    }

    fn unit((kind, chunks, bases, payload): &(u8, usize, Vec<u32>, Vec<u8>)) -> Unit<'_> {
        let (chunks, payload) = (*chunks, &payload[..]);
        match *kind {
            RAW => Unit::Raw { chunks, payload },
            PREFIX => Unit::Prefix { chunks, bases: bases.clone(), payload },
            RELOC => Unit::Reloc { chunks, payload },
            GZIP => Unit::Gzip { chunks, old_file: chunks, payload },
            BITCODE => Unit::Bitcode { chunks, old_file: chunks, payload },
            OBJECTS => {
                let lens = (1..=u32::try_from(chunks % 30 + 1).unwrap()).collect();
                Unit::Objects { lens, bases: bases.clone(), payload }
            }
            _ => Unit::Map { old_file: chunks, payload },
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(parts in units()) {
            let bytes = unit(&parts).to_bytes();
            prop_assert_eq!(Unit::decode(&bytes).unwrap(), unit(&parts));
        }

        #[test]
        fn what_is_read_is_written_alike(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(unit) = Unit::decode(&bytes) {
                prop_assert_eq!(unit.to_bytes(), bytes);
            }
        }
    }
}
