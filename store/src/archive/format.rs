//! The layout of an archive (docs/format.md, "Archive").
//!
//! ```text
//! magic "CAR1" | version u16 | zero x 10 | items
//! item: tag u8 | length u32 | body
//! ```

use crate::block::format::{FIXED_LEN, MAGIC as FRAME_MAGIC};
use crate::block::{BLOCK_CHUNKS_MAX, BLOCK_MAX};
use crate::cursor::{Cursor, Defect};
use crate::id::{ArtifactId, ID_LEN};
use crate::refs::RefKey;

/// First bytes of every archive.
pub const MAGIC: [u8; 4] = *b"CAR1";
/// The version that is written, and the newest that is read.
pub(super) const VERSION: u16 = 1;
/// Bytes before the first item.
pub(super) const HEADER_LEN: usize = 16;
/// Bytes before the body of an item.
pub(super) const ITEM_LEN: usize = 5;
/// Artifacts that are left out, at most.
pub(super) const BASES_MAX: usize = 64;
/// Artifacts in one archive, at most.
pub(super) const ARTIFACTS_MAX: usize = 4096;
/// Bytes of all statements together, at most.
pub(super) const STATEMENTS_LEN_MAX: usize = 16 << 20;

/// Longest body of a base: an id and three names with their lengths.
const BASE_LEN_MAX: usize = 512;
/// Longest frame.
const FRAME_LEN_MAX: usize = FIXED_LEN + BLOCK_CHUNKS_MAX * (ID_LEN + 4) + 4 + BLOCK_MAX;
/// Bytes of an end before its hash.
const END_FIELDS_LEN: usize = 48;
/// Bytes of an end.
pub(super) const END_LEN: usize = END_FIELDS_LEN + ID_LEN;

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tag {
    End,
    Base,
    Statement,
    Artifact,
    Metadata,
    Data,
}

impl Tag {
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::End => 0,
            Self::Base => 1,
            Self::Statement => 2,
            Self::Artifact => 3,
            Self::Metadata => 4,
            Self::Data => 5,
        }
    }

    fn of(byte: u8) -> Result<Self, Defect> {
        let tags = [Self::End, Self::Base, Self::Statement, Self::Artifact, Self::Metadata, Self::Data];
        tags.get(usize::from(byte))
            .copied()
            .ok_or_else(|| Defect::new(format!("an item of unknown kind {byte}")))
    }

    /// The lengths that a body may have.
    fn lengths(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::End => END_LEN..=END_LEN,
            Self::Base => ID_LEN + 3..=BASE_LEN_MAX,
            Self::Statement => 2..=cairn_trust::envelope::JSON_LEN_MAX,
            Self::Artifact => ID_LEN..=ID_LEN,
            Self::Metadata | Self::Data => FIXED_LEN..=FRAME_LEN_MAX,
        }
    }
}

/// What an archive holds, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArchiveTotals {
    /// Artifacts.
    pub artifacts: u32,
    /// Statements about them.
    pub statements: u32,
    /// Artifacts whose chunks are left out.
    pub bases: u32,
    /// Frames of metadata objects.
    pub metadata_frames: u64,
    /// Frames of files' bytes.
    pub data_frames: u64,
    /// Chunks in all frames.
    pub chunks: u64,
    /// Their plain bytes.
    pub plain_bytes: u64,
}

impl ArchiveTotals {
    /// The body of the end without its hash.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(END_LEN);
        for count in [self.artifacts, self.statements, self.bases, 0] {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        for count in [self.metadata_frames, self.data_frames, self.chunks, self.plain_bytes] {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        debug_assert_eq!(bytes.len(), END_FIELDS_LEN);
        bytes
    }

    /// Reads the body of an end, which has the length that [`decode_item`] lets pass: what it says, and its hash.
    pub(super) fn decode(body: &[u8]) -> Result<(Self, [u8; ID_LEN]), Defect> {
        let mut fields = Cursor::new(body);
        let (artifacts, statements, bases) = (fields.u32()?, fields.u32()?, fields.u32()?);
        if fields.u32()? != 0 {
            return Err(Defect::new("reserved bytes of its end are not zero"));
        }
        let (metadata_frames, data_frames) = (fields.u64()?, fields.u64()?);
        let (chunks, plain_bytes) = (fields.u64()?, fields.u64()?);
        let hash = fields.id()?.0;
        fields.end()?;
        Ok((Self { artifacts, statements, bases, metadata_frames, data_frames, chunks, plain_bytes }, hash))
    }
}

/// The header.
pub(super) fn header() -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
    bytes
}

/// Reads a header whose magic was looked at.
pub(super) fn decode_header(bytes: &[u8; HEADER_LEN]) -> Result<(), Defect> {
    let version = u16::from_le_bytes([bytes[4], bytes[5]]);
    match version {
        VERSION => {}
        0 => return Err(Defect::new("format version 0")),
        found => return Err(Defect::Newer { found: found.into(), supported: VERSION.into() }),
    }
    if bytes[6..].iter().any(|byte| *byte != 0) {
        return Err(Defect::new("reserved bytes of its header are not zero"));
    }
    Ok(())
}

/// The head of an item.
pub(super) fn item(tag: Tag, len: usize) -> [u8; ITEM_LEN] {
    let len = u32::try_from(len).expect("a body is at most a frame, or an envelope").to_le_bytes();
    [tag.byte(), len[0], len[1], len[2], len[3]]
}

/// Reads the head of an item: what it is, and the length of its body.
pub(super) fn decode_item(head: [u8; ITEM_LEN]) -> Result<(Tag, usize), Defect> {
    let [tag, len @ ..] = head;
    let (tag, len) = (Tag::of(tag)?, u32::from_le_bytes(len));
    match usize::try_from(len) {
        Ok(len) if tag.lengths().contains(&len) => Ok((tag, len)),
        _ => Err(Defect::new(format!("an item of kind {} with {len} bytes", tag.byte()))),
    }
}

/// The body of a base.
pub(super) fn encode_base(key: &RefKey, artifact: &ArtifactId) -> Vec<u8> {
    postcard::to_extend(key, artifact.0.to_vec()).expect("memory takes everything and every length is known")
}

/// Reads the body of a base.
pub(super) fn decode_base(body: &[u8]) -> Result<(RefKey, ArtifactId), Defect> {
    let mut fields = Cursor::new(body);
    let artifact = ArtifactId(fields.id()?.0);
    let key: RefKey = postcard::from_bytes(fields.take(fields.left())?)
        .map_err(|error| Defect::new(format!("the name of what is left out does not decode: {error}")))?;
    if encode_base(&key, &artifact) != body {
        return Err(Defect::new("the name of what is left out is not in its canonical encoding"));
    }
    Ok((key, artifact))
}

/// What a file is that is no archive, by its first bytes, for people.
pub(super) fn kind_of(first: &[u8]) -> &'static str {
    let known: [(&[u8], &str); 17] = [
        (&FRAME_MAGIC, "it is a single frame of a cairn store, not an archive"),
        (b"CPK1", "it is a pack of a cairn store, not an archive"),
        (b"CJNL", "it is a journal segment of a cairn store, not an archive"),
        (b"CIDX", "it is an index run of a cairn store, not an archive"),
        (b"CART", "it is a cairn artifact's description alone, not an archive"),
        (b"CTRE", "it is a cairn directory listing alone, not an archive"),
        (
            b"cairn store\n",
            "it is the mark of a cairn store's folder: that whole folder is a store, and no archive",
        ),
        (b"\x1f\x8b", "it is gzip-compressed; decompress it first, or `cairn add` it"),
        (b"\x28\xb5\x2f\xfd", "it is zstd-compressed; decompress it first, or `cairn add` it"),
        (b"\xfd7zXZ\0", "it is xz-compressed; decompress it first, or `cairn add` it"),
        (b"BZh", "it is bzip2-compressed; decompress it first, or `cairn add` it"),
        (b"PK\x03\x04", "it is a zip file; unpack it, and `cairn add` what was in it"),
        (b"\x7fELF", "it is a program; `cairn add` stores it"),
        (b"MZ", "it is a program for Windows; `cairn add` stores it"),
        (b"#!", "it is a script; `cairn add` stores it"),
        (b"{", "it looks like JSON, not an archive"),
        (b"<", "it looks like a web page, not an archive"),
    ];
    match known.iter().find(|(magic, _)| first.starts_with(magic)) {
        Some((_, what)) => what,
        None if first.is_empty() => "it is empty",
        None => "it is no cairn archive",
    }
}
