//! The byte layout of a frame's header (docs/format.md, "Block frame").
//!
//! ```text
//! magic "CBF1" | codec u8 | flags u8 = 0 | chunks u16 | plain length u32 | stored length u32 | bases u16 | zero u16
//! payload CRC32C u32 | chunks x (id 32, length u32) | bases x id 32 | CRC32C u32 of all before it | payload
//! ```

use super::{BASES_MAX, BLOCK_MAX, Codec};
use crate::id::{ChunkId, ID_LEN};

/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"CBF1";
/// Bytes before the chunk table.
pub const FIXED_LEN: usize = 24;
const ROW_LEN: usize = ID_LEN + 4;
const CRC_LEN: usize = 4;

/// Why bytes are not a frame, or not the chunk they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes end too early or go on too long.
    #[error("the frame is cut short")]
    Truncated,
    /// Not the magic of a frame.
    #[error("no frame begins here")]
    Magic,
    /// Header and tables do not have the checksum they carry.
    #[error("the frame header's checksum does not hold")]
    HeaderChecksum,
    /// The payload does not have the checksum in the header.
    #[error("the frame payload's checksum does not hold")]
    PayloadChecksum,
    /// A codec or flag that this version does not know, or that has no place there.
    #[error("codec {0} is not known to this version")]
    Codec(u8),
    /// What it is encoded against cannot be read.
    #[error("chunk {0}, which it is told in terms of, cannot be read")]
    Base(ChunkId),
    /// It is told in terms of what is told in terms of others, too many times.
    #[error("too much has to be read before it can be decoded")]
    Depth,
    /// Lengths that contradict each other or pass the limits.
    #[error("the frame's lengths contradict each other")]
    Lengths,
    /// The compressed payload does not decode.
    #[error("the payload does not decompress")]
    Decompress,
    /// A chunk's bytes do not hash to its id.
    #[error("chunk {0} does not hash to its id")]
    Chunk(ChunkId),
    /// No such slot.
    #[error("the block has no such slot")]
    Slot,
}

/// What a frame says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameHeader {
    /// How the payload is encoded.
    pub codec: Codec,
    /// The chunks, in the order of their bytes, with their lengths.
    pub chunks: Vec<(ChunkId, u32)>,
    /// Chunks that the payload is encoded against: none, but for codecs that have them.
    pub bases: Vec<ChunkId>,
    /// Sum of the chunks' lengths.
    pub plain_len: u32,
    /// Bytes of payload.
    pub stored_len: u32,
    /// CRC32C of the payload.
    pub payload_crc: u32,
}

impl FrameHeader {
    pub(super) fn new(
        codec: Codec,
        chunks: Vec<(ChunkId, u32)>,
        bases: Vec<ChunkId>,
        payload: &[u8],
    ) -> Self {
        let plain_len = chunks.iter().map(|(_, len)| len).sum();
        let stored_len = u32::try_from(payload.len()).expect("a payload is at most as long as its block");
        Self { codec, chunks, bases, plain_len, stored_len, payload_crc: crc32c::crc32c(payload) }
    }

    /// Length of header and tables for so many chunks and bases.
    #[must_use]
    pub fn encoded_len(chunks: usize, bases: usize) -> usize {
        FIXED_LEN + chunks * ROW_LEN + bases * ID_LEN + CRC_LEN
    }

    /// Length of the whole frame.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        Self::encoded_len(self.chunks.len(), self.bases.len()) + self.stored_len as usize
    }

    /// Header and tables as bytes; the payload follows them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let count = |n: usize| u16::try_from(n).expect("bounded by BLOCK_CHUNKS_MAX");
        let mut bytes = Vec::with_capacity(self.frame_len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[self.codec as u8, 0]);
        bytes.extend_from_slice(&count(self.chunks.len()).to_le_bytes());
        bytes.extend_from_slice(&self.plain_len.to_le_bytes());
        bytes.extend_from_slice(&self.stored_len.to_le_bytes());
        bytes.extend_from_slice(&count(self.bases.len()).to_le_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&self.payload_crc.to_le_bytes());
        for (id, len) in &self.chunks {
            bytes.extend_from_slice(&id.0);
            bytes.extend_from_slice(&len.to_le_bytes());
        }
        for id in &self.bases {
            bytes.extend_from_slice(&id.0);
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Length of header and tables, from the first [`FIXED_LEN`] bytes of a frame.
    ///
    /// # Errors
    /// [`FrameError`] when no frame begins here.
    pub fn encoded_len_of(bytes: &[u8]) -> Result<usize, FrameError> {
        let fixed = Fixed::decode(bytes)?;
        Ok(Self::encoded_len(usize::from(fixed.chunks), usize::from(fixed.bases)))
    }

    /// Reads header and tables; gives also their length, at which the payload begins. Frames that take others to decode
    /// are refused: they do not travel.
    ///
    /// # Errors
    /// [`FrameError`] when anything does not hold.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), FrameError> {
        let (header, len) = Self::decode_with(bytes, true)?;
        if header.codec.has_bases() { Err(FrameError::Codec(header.codec as u8)) } else { Ok((header, len)) }
    }

    /// The same of a frame that lies in a pack of deltas: its codec may be any.
    ///
    /// # Errors
    /// [`FrameError`] when anything does not hold.
    pub fn decode_delta(bytes: &[u8]) -> Result<(Self, usize), FrameError> {
        Self::decode_with(bytes, true)
    }

    /// The same of a header whose checksum does not hold, as long as its lengths do: whether the bytes of a chunk are right
    /// is told by its id.
    pub(super) fn decode_damaged(bytes: &[u8]) -> Result<(Self, usize), FrameError> {
        Self::decode_with(bytes, false)
    }

    fn decode_with(bytes: &[u8], checksum_counts: bool) -> Result<(Self, usize), FrameError> {
        let fixed = Fixed::decode(bytes)?;
        let header_len = Self::encoded_len(usize::from(fixed.chunks), usize::from(fixed.bases));
        let header = bytes.get(..header_len).ok_or(FrameError::Truncated)?;
        let (checked, crc) = header.split_at(header_len - CRC_LEN);
        if checksum_counts && crc32c::crc32c(checked).to_le_bytes() != crc {
            return Err(FrameError::HeaderChecksum);
        }
        let codec = Codec::from_byte(fixed.codec).ok_or(FrameError::Codec(fixed.codec))?;
        let (table, base_ids) = checked[FIXED_LEN..].split_at(usize::from(fixed.chunks) * ROW_LEN);
        let mut chunks = Vec::with_capacity(usize::from(fixed.chunks));
        let mut plain_len = 0u32;
        for row in table.chunks_exact(ROW_LEN) {
            let (id, len) = row.split_at(ID_LEN);
            let len = u32_at(len, 0);
            plain_len = plain_len.checked_add(len).filter(|_| len > 0).ok_or(FrameError::Lengths)?;
            chunks.push((id_at(id), len));
        }
        let compressed = codec != Codec::Raw;
        let lengths_hold = plain_len == fixed.plain_len
            && plain_len as usize <= BLOCK_MAX
            && !chunks.is_empty()
            && if compressed { fixed.stored_len < plain_len } else { fixed.stored_len == plain_len };
        if !lengths_hold {
            return Err(FrameError::Lengths);
        }
        // Flags and reserved bytes of this version are zero, and each codec has bases or none.
        let bases: Vec<ChunkId> = base_ids.chunks_exact(ID_LEN).map(id_at).collect();
        let has_its_bases = codec.has_bases() != bases.is_empty() && bases.len() <= BASES_MAX;
        if fixed.flags != 0 || fixed.reserved != 0 || !has_its_bases {
            return Err(FrameError::Codec(fixed.codec));
        }
        let header = Self {
            codec,
            chunks,
            bases,
            plain_len,
            stored_len: fixed.stored_len,
            payload_crc: fixed.payload_crc,
        };
        Ok((header, header_len))
    }
}

struct Fixed {
    codec: u8,
    flags: u8,
    chunks: u16,
    plain_len: u32,
    stored_len: u32,
    bases: u16,
    reserved: u16,
    payload_crc: u32,
}

impl Fixed {
    fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let bytes = bytes.get(..FIXED_LEN).ok_or(FrameError::Truncated)?;
        if bytes[..4] != MAGIC {
            return Err(FrameError::Magic);
        }
        Ok(Self {
            codec: bytes[4],
            flags: bytes[5],
            chunks: u16_at(bytes, 6),
            plain_len: u32_at(bytes, 8),
            stored_len: u32_at(bytes, 12),
            bases: u16_at(bytes, 16),
            reserved: u16_at(bytes, 18),
            payload_crc: u32_at(bytes, 20),
        })
    }
}

/// Little-endian `u16` at a place that the caller has checked to exist.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Little-endian `u32` at a place that the caller has checked to exist.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Little-endian `u64` at a place that the caller has checked to exist.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The id in the first 32 bytes, which the caller has checked to exist.
pub(crate) fn id_at(bytes: &[u8]) -> ChunkId {
    ChunkId(bytes[..ID_LEN].try_into().expect("32 bytes"))
}
