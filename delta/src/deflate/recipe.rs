//! What it takes to make a file again, beside its content. Numbers are LEB128:
//!
//! ```text
//! recipe = u8 form (1), u8 level (1 to 9, or 17 to 25 with hashes of 16 bits),
//!          number, bytes of the head; 8 bytes of the trailer;
//!          number of blocks, each: u8 kind, number of tokens (of bytes, if it is stored); if kind is 3: number of bits, the bits of
//!          the header in whole bytes;
//!          number of corrections, each: number of tokens between the one before and it that are as expected, number len (0: a byte as
//!          it is), number dist if len is not 0
//! kind   = 0 stored | 1 fixed codes | 2 codes as zlib makes them | 3 other codes
//! ```

use super::TRAILER_LEN;
use super::search::{Level, Token};
use crate::DeltaError;

/// Bytes of the head of a gzip file, at most.
pub(super) const HEAD_MAX: usize = 1 << 12;
const FORM: u8 = 1;
/// Blocks: so many, and one more for so many bytes of content.
pub(super) const BLOCKS_FREE: usize = 16;
pub(super) const BLOCK_BYTES: usize = 256;
/// Bits of a header: more than the longest.
const HEADER_BITS_MAX: usize = 1 << 12;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BlockKind {
    Stored,
    Fixed,
    /// With codes as zlib makes them.
    Known,
    /// With others: bits of the header, and how many.
    Header(Vec<u8>, usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) kind: BlockKind,
    /// Tokens; bytes, if it is stored.
    pub(super) len: usize,
}

/// A token that is not the expected one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Correction {
    /// Tokens since the correction before that are as expected.
    pub(super) gap: usize,
    pub(super) token: Token,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recipe {
    pub(super) head: Vec<u8>,
    pub(super) trailer: Vec<u8>,
    pub(super) level: Level,
    pub(super) blocks: Vec<Block>,
    pub(super) corrections: Vec<Correction>,
}

impl Recipe {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![FORM, self.level.to_byte()];
        put(&mut out, self.head.len());
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&self.trailer);
        put(&mut out, self.blocks.len());
        for block in &self.blocks {
            let kind = match &block.kind {
                BlockKind::Stored => 0,
                BlockKind::Fixed => 1,
                BlockKind::Known => 2,
                BlockKind::Header(..) => 3,
            };
            out.push(kind);
            put(&mut out, block.len);
            if let BlockKind::Header(bytes, bits) = &block.kind {
                put(&mut out, *bits);
                out.extend_from_slice(bytes);
            }
        }
        put(&mut out, self.corrections.len());
        for correction in &self.corrections {
            put(&mut out, correction.gap);
            put(&mut out, usize::from(correction.token.len));
            if correction.token.len != 0 {
                put(&mut out, usize::from(correction.token.dist));
            }
        }
        out
    }

    /// A recipe for content of so many bytes.
    pub(super) fn from_bytes(bytes: &[u8], plain_len: usize) -> Result<Self, DeltaError> {
        let mut rest = bytes;
        let head = take(&mut rest, 2)?;
        if head[0] != FORM {
            return Err(DeltaError::Invalid("a recipe of an unknown form"));
        }
        let level = Level::from_byte(head[1])?;
        let head_len = number(&mut rest, HEAD_MAX, "a head")?;
        let head = take(&mut rest, head_len)?.to_vec();
        let trailer = take(&mut rest, TRAILER_LEN)?.to_vec();
        let count = number(&mut rest, BLOCKS_FREE + plain_len / BLOCK_BYTES, "blocks")?;
        let mut blocks = Vec::with_capacity(count.min(rest.len()));
        for _ in 0..count {
            let kind = take(&mut rest, 1)?[0];
            let len = number(&mut rest, plain_len, "a block")?;
            let kind = match kind {
                0 => BlockKind::Stored,
                1 => BlockKind::Fixed,
                2 => BlockKind::Known,
                3 => {
                    let bits = number(&mut rest, HEADER_BITS_MAX, "a header")?;
                    BlockKind::Header(take(&mut rest, bits.div_ceil(8))?.to_vec(), bits)
                }
                _ => return Err(DeltaError::Invalid("no such block")),
            };
            blocks.push(Block { kind, len });
        }
        // Each is two bytes at least.
        let count = number(&mut rest, plain_len.min(bytes.len() / 2), "corrections")?;
        let mut corrections = Vec::with_capacity(count);
        for _ in 0..count {
            let gap = number(&mut rest, plain_len, "a gap")?;
            let token = match number(&mut rest, 258, "a match")? {
                0 => Token::LITERAL,
                len @ 3.. => {
                    let dist = number(&mut rest, 1 << 15, "a distance")?.max(1);
                    let in_range = |number| u16::try_from(number).map_err(|_| DeltaError::Invalid("a match"));
                    Token { len: in_range(len)?, dist: in_range(dist)? }
                }
                _ => return Err(DeltaError::Invalid("a match that is too short")),
            };
            corrections.push(Correction { gap, token });
        }
        if !rest.is_empty() {
            return Err(DeltaError::Invalid("bytes behind a recipe"));
        }
        Ok(Self { head, trailer, level, blocks, corrections })
    }
}

fn put(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn number(rest: &mut &[u8], most: usize, what: &'static str) -> Result<usize, DeltaError> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let byte = take(rest, 1)?[0];
        number |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return if number <= most { Ok(number) } else { Err(DeltaError::TooLarge(what)) };
        }
    }
    Err(DeltaError::TooLarge(what))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], DeltaError> {
    let (taken, behind) = rest.split_at_checked(count).ok_or(DeltaError::Truncated)?;
    *rest = behind;
    Ok(taken)
}
