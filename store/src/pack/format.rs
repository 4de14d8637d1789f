//! The byte layout of a pack's header, footer and trailer (docs/format.md, "Pack").
//!
//! ```text
//! header, 16 bytes:  magic "CPK1" | version u16 = 1, or 2 of deltas | kind u8 | zero x 9
//! frames, back to back
//! footer:            frames x (offset u64, frame length u32, plain length u32)
//!                    chunks x (id 32, frame u16, slot u16), ascending by id
//! trailer, 64 bytes: frames u32 | chunks u32 | footer length u64 | kind u8 | zero x 7
//!                    BLAKE3 of footer and these 24 bytes | zero x 4 | magic "CPKE"
//! ```

use crate::block::format::{id_at, u16_at, u32_at, u64_at};
use crate::id::{ChunkId, ID_LEN, PackId};

/// First bytes of a pack.
pub const MAGIC: [u8; 4] = *b"CPK1";
/// Last bytes of a sealed pack.
pub const END_MAGIC: [u8; 4] = *b"CPKE";
/// The latest version of this layout.
pub const VERSION: u16 = 2;
/// Bytes before the first frame.
pub const HEADER_LEN: usize = 16;
/// Bytes after the footer's tables.
pub const TRAILER_LEN: usize = 64;
/// Frames in a pack, at most.
pub const FRAMES_MAX: usize = u16::MAX as usize;
const FRAME_ROW_LEN: usize = 16;
/// Bytes of a row of the chunk table.
pub(crate) const CHUNK_ROW_LEN: usize = ID_LEN + 4;
const COUNTS_LEN: usize = 24;

/// What a pack's chunks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PackKind {
    /// Bytes of files.
    Data = 0,
    /// Trees, chunk lists and artifacts.
    Metadata = 1,
    /// Bytes of files in frames that may be told in terms of chunks elsewhere.
    Delta = 2,
}

impl PackKind {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Data),
            1 => Some(Self::Metadata),
            2 => Some(Self::Delta),
            _ => None,
        }
    }

    /// The first version of the layout that has it: whoever does not know of deltas does not mistake them for damage.
    fn version(self) -> u16 {
        match self {
            Self::Data | Self::Metadata => 1,
            Self::Delta => 2,
        }
    }

    /// What its chunks are where nothing is told in terms of anything else.
    #[must_use]
    pub fn plain(self) -> Self {
        match self {
            Self::Data | Self::Delta => Self::Data,
            Self::Metadata => Self::Metadata,
        }
    }
}

/// A frame's place in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRow {
    /// Offset of the frame from the start of the pack.
    pub offset: u64,
    /// Bytes of the whole frame.
    pub len: u32,
    /// Plain bytes of its block.
    pub plain_len: u32,
}

/// A chunk's place in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkRow {
    /// The chunk.
    pub id: ChunkId,
    /// Which frame of the pack.
    pub frame: u16,
    /// Which chunk of the frame.
    pub slot: u16,
}

/// The header of a pack.
#[must_use]
pub fn encode_header(kind: PackKind) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&kind.version().to_le_bytes());
    bytes[6] = kind as u8;
    bytes
}

/// What a header says: the pack's kind, or the layout's version if that is newer than this code.
///
/// # Errors
/// The newer version, or 0 when it is no header at all.
pub fn decode_header(bytes: &[u8; HEADER_LEN]) -> Result<PackKind, u16> {
    if bytes[..4] != MAGIC {
        return Err(0);
    }
    match u16_at(bytes, 4) {
        1..=VERSION => {}
        newer if newer > VERSION => return Err(newer),
        _ => return Err(0),
    }
    PackKind::from_byte(bytes[6]).filter(|kind| encode_header(*kind) == *bytes).ok_or(0)
}

/// A pack's table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// What the pack holds.
    pub kind: PackKind,
    /// Its frames, in file order.
    pub frames: Vec<FrameRow>,
    /// Its chunks, ascending by id.
    pub chunks: Vec<ChunkRow>,
}

impl Footer {
    /// Footer and trailer as bytes, and the pack's id.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, PackId) {
        let tables = self.frames.len() * FRAME_ROW_LEN + self.chunks.len() * CHUNK_ROW_LEN;
        let mut bytes = Vec::with_capacity(tables + TRAILER_LEN);
        for frame in &self.frames {
            bytes.extend_from_slice(&frame.offset.to_le_bytes());
            bytes.extend_from_slice(&frame.len.to_le_bytes());
            bytes.extend_from_slice(&frame.plain_len.to_le_bytes());
        }
        for chunk in &self.chunks {
            bytes.extend_from_slice(&chunk.id.0);
            bytes.extend_from_slice(&chunk.frame.to_le_bytes());
            bytes.extend_from_slice(&chunk.slot.to_le_bytes());
        }
        let count = |n: usize| u32::try_from(n).expect("at most 65,535 frames of 65,535 chunks");
        bytes.extend_from_slice(&count(self.frames.len()).to_le_bytes());
        bytes.extend_from_slice(&count(self.chunks.len()).to_le_bytes());
        bytes.extend_from_slice(&(tables as u64).to_le_bytes());
        bytes.extend_from_slice(&[self.kind as u8, 0, 0, 0, 0, 0, 0, 0]);
        let id = PackId::of(&bytes);
        bytes.extend_from_slice(&id.0);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&END_MAGIC);
        (bytes, id)
    }

    /// Reads footer and trailer, the last [`Trailer::footer_len`] + [`TRAILER_LEN`] bytes of a pack, and checks that
    /// the frames tile the file.
    ///
    /// # Errors
    /// What does not hold.
    pub fn decode(bytes: &[u8]) -> Result<(Self, PackId), &'static str> {
        let tables = Tables::parse(bytes)?;
        Ok((tables.footer(), tables.id))
    }

    /// Where the frames end and the footer begins.
    #[must_use]
    pub fn frames_end(&self) -> u64 {
        self.frames.last().map_or(HEADER_LEN as u64, |frame| frame.offset + u64::from(frame.len))
    }
}

/// A row of the chunk table: id 32, frame u16, slot u16.
pub(crate) type ChunkRowBytes = [u8; CHUNK_ROW_LEN];

/// A footer where it lies, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tables<'a> {
    pub(crate) id: PackId,
    pub(crate) kind: PackKind,
    frames: &'a [[u8; FRAME_ROW_LEN]],
    /// The chunk table, ascending by id.
    pub(crate) chunks: &'a [ChunkRowBytes],
    /// Where the frames end and the footer begins.
    pub(crate) frames_end: u64,
}

impl<'a> Tables<'a> {
    /// Checks what [`Footer::decode`] does, which is all that a footer must be.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let (tables, trailer) = bytes.split_last_chunk().ok_or("no trailer")?;
        let trailer = Trailer::decode(trailer)?;
        if trailer.footer_len != tables.len() as u64 {
            return Err("the footer has another length");
        }
        if PackId::of(&bytes[..tables.len() + COUNTS_LEN]) != trailer.id {
            return Err("the footer's hash does not hold");
        }
        let (frames, chunks) = tables.split_at(trailer.frames as usize * FRAME_ROW_LEN);
        let (frames, chunks) = (frames.as_chunks().0, chunks.as_chunks::<CHUNK_ROW_LEN>().0);
        let mut frames_end = HEADER_LEN as u64;
        for frame in frames.iter().map(frame_row) {
            if frame.offset != frames_end {
                return Err("the frames do not follow one another");
            }
            frames_end += u64::from(frame.len);
        }
        let ascending = chunks.windows(2).all(|pair| pair[0][..ID_LEN] < pair[1][..ID_LEN]);
        if !ascending || chunks.iter().any(|row| usize::from(u16_at(row, ID_LEN)) >= frames.len()) {
            return Err("the chunk table contradicts itself");
        }
        Ok(Self { id: trailer.id, kind: trailer.kind, frames, chunks, frames_end })
    }

    /// Its frames, in file order.
    pub(crate) fn frames(&self) -> impl Iterator<Item = FrameRow> {
        self.frames.iter().map(frame_row)
    }

    pub(crate) fn footer(&self) -> Footer {
        let chunk =
            |row: &ChunkRowBytes| ChunkRow { id: id_at(row), frame: u16_at(row, 32), slot: u16_at(row, 34) };
        Footer {
            kind: self.kind,
            frames: self.frames.iter().map(frame_row).collect(),
            chunks: self.chunks.iter().map(chunk).collect(),
        }
    }
}

fn frame_row(row: &[u8; FRAME_ROW_LEN]) -> FrameRow {
    FrameRow { offset: u64_at(row, 0), len: u32_at(row, 8), plain_len: u32_at(row, 12) }
}

/// The fixed last bytes of a sealed pack.
#[derive(Debug, Clone, Copy)]
pub struct Trailer {
    frames: u32,
    kind: PackKind,
    id: PackId,
    /// Bytes of the footer's tables.
    pub footer_len: u64,
}

impl Trailer {
    /// Reads the last [`TRAILER_LEN`] bytes of a pack.
    ///
    /// # Errors
    /// What does not hold.
    pub fn decode(bytes: &[u8; TRAILER_LEN]) -> Result<Self, &'static str> {
        if bytes[60..] != END_MAGIC {
            return Err("no trailer ends the file");
        }
        let (frames, chunks, footer_len) = (u32_at(bytes, 0), u32_at(bytes, 4), u64_at(bytes, 8));
        let kind = PackKind::from_byte(bytes[16]).ok_or("the trailer's kind is not known")?;
        if bytes[17..24] != [0; 7] || bytes[56..60] != [0; 4] {
            return Err("reserved bytes of the trailer are not zero");
        }
        let tables = u64::from(frames) * FRAME_ROW_LEN as u64 + u64::from(chunks) * CHUNK_ROW_LEN as u64;
        if frames as usize > FRAMES_MAX || tables != footer_len {
            return Err("the trailer's counts contradict each other");
        }
        Ok(Self { frames, kind, id: PackId(id_at(&bytes[24..]).0), footer_len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footer() -> Footer {
        let mut chunks: Vec<_> = (0..200u16)
            .map(|n| ChunkRow { id: ChunkId::of(&n.to_le_bytes()), frame: n % 2, slot: n / 2 })
            .collect();
        chunks.sort_unstable();
        let frames = vec![
            FrameRow { offset: 16, len: 1000, plain_len: 2000 },
            FrameRow { offset: 1016, len: 500, plain_len: 600 },
        ];
        Footer { kind: PackKind::Metadata, frames, chunks }
    }

    #[test]
    fn footers_round_trip() {
        let (bytes, id) = footer().encode();
        assert_eq!(Footer::decode(&bytes), Ok((footer(), id)));
        assert_eq!(footer().frames_end(), 1516);
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let (bytes, _) = footer().encode();
        for at in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(Footer::decode(&bad).is_err(), "bit {at}");
        }
        for len in 0..bytes.len() {
            assert!(Footer::decode(&bytes[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn headers_round_trip_and_tell_newer_versions_from_garbage() {
        for kind in [PackKind::Data, PackKind::Metadata] {
            assert_eq!(decode_header(&encode_header(kind)), Ok(kind));
        }
        let mut newer = encode_header(PackKind::Data);
        newer[4] = 9;
        assert_eq!(decode_header(&newer), Err(9));
        let mut bad = encode_header(PackKind::Data);
        bad[15] = 1;
        assert_eq!(decode_header(&bad), Err(0));
    }
}
