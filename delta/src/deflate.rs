//! Gzip files taken apart: their plain content, which can be told in terms of older content, and a recipe to make the very same
//! file of it again.
//!
//! Most gzip files in packages were made by `gzip` or zlib, whose search for matches is the same and depends on the content and the
//! level alone. So the recipe says which level, where blocks end, and where a match is another one than that search
//! finds, which is nowhere as a rule. Huffman codes follow from what a block holds. What was made by something else does not come
//! apart, and stays as it is. The idea is that of precomp (C. Schneider) and preflate (D. Steinke).
//!
//! Roles: `read` takes a stream apart; `search` finds matches as zlib does; `codes` has Huffman codes as zlib makes them; `recipe` is the
//! recipe's form; `write` makes the stream again; `bits` are bits.
//!
//! Making it again takes time and memory in proportion to the plain content, whatever the recipe is, and never gives more
//! bytes than were allowed. Nothing vouches for them: whoever calls hashes them.

mod bits;
mod codes;
mod read;
mod recipe;
mod search;
mod write;

use crate::DeltaError;
use recipe::{BlockKind, Correction, Recipe};
use search::{Level, Search, Token};

/// Plain bytes of a file that is taken apart, at most: making it again goes at the speed of `gzip -9`.
pub const PLAIN_MAX: usize = 8 << 20;
/// A file has to be so long, or it is not worth it.
const FILE_MIN: usize = 256;
/// One token in so many may be another one than was found.
const CORRECTED_MAX: usize = 32;
/// Tokens that tell the level.
const TRIED: usize = 20_000;
/// Checksum and length of the content, behind a gzip stream.
const TRAILER_LEN: usize = 8;

/// A file, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// What is in it.
    pub plain: Vec<u8>,
    /// What it takes to make the file of that again.
    pub recipe: Vec<u8>,
}

/// Takes a gzip file apart; `None` where it is none, or one of several members, too long, or not one that comes out the same
/// again.
#[must_use]
pub fn unpack(file: &[u8]) -> Option<Unpacked> {
    let head_len = gzip_head_len(file)?;
    let (head, body) = file.split_at(head_len);
    if file.len() < FILE_MIN || body.len() < TRAILER_LEN {
        return None;
    }
    let (body, trailer) = body.split_at(body.len() - TRAILER_LEN);
    let stream = read::read(body, PLAIN_MAX)?;
    let level = level_of(head, &stream.plain, &stream.tokens)?;
    let corrections = corrections(&stream, level)?;
    let recipe =
        Recipe { head: head.to_vec(), trailer: trailer.to_vec(), level, blocks: stream.blocks, corrections };
    // Codes that are not as zlib makes them are kept word for word; those that are need not be.
    let recipe = write::without_known_headers(recipe, &stream.tokens, &stream.plain);
    let (bytes, plain) = (recipe.to_bytes(), stream.plain);
    let again = repack(&plain, &bytes, file.len(), Vec::new()).ok()?;
    (again == file).then_some(Unpacked { plain, recipe: bytes })
}

/// What is in a gzip file of one member, at most [`PLAIN_MAX`] bytes of it; whether the file could be made again is not looked
/// at.
#[must_use]
pub fn content(file: &[u8]) -> Option<Vec<u8>> {
    let body = file.get(gzip_head_len(file)?..)?;
    let body = body.get(..body.len().checked_sub(TRAILER_LEN)?)?;
    Some(read::read(body, PLAIN_MAX)?.plain)
}

/// The file again, of at most `len_max` bytes. The room of `out` is used again, what it holds is not.
///
/// # Errors
/// A recipe that does not hold, or is not for this content; more than `len_max` bytes.
pub fn repack(plain: &[u8], recipe: &[u8], len_max: usize, mut out: Vec<u8>) -> Result<Vec<u8>, DeltaError> {
    if plain.len() > PLAIN_MAX {
        return Err(DeltaError::TooLarge("content"));
    }
    let recipe = Recipe::from_bytes(recipe, plain.len())?;
    out.clear();
    out.extend_from_slice(&recipe.head);
    let mut out = write::write(plain, &recipe, len_max, out)?;
    out.extend_from_slice(&recipe.trailer);
    if out.len() > len_max {
        return Err(DeltaError::TooLarge("a file"));
    }
    Ok(out)
}

/// Bytes before the stream of a gzip file (RFC 1952).
fn gzip_head_len(file: &[u8]) -> Option<usize> {
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    const CHECK: u8 = 2;
    let flags = match file {
        [0x1f, 0x8b, 8, flags, ..] => *flags,
        _ => return None,
    };
    let mut at = 10;
    if flags & EXTRA != 0 {
        let len = file.get(at..at + 2)?;
        at += 2 + usize::from(u16::from_le_bytes([len[0], len[1]]));
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            at += file.get(at..)?.iter().position(|byte| *byte == 0)? + 1;
        }
    }
    if flags & CHECK != 0 {
        at += 2;
    }
    (at <= recipe::HEAD_MAX && at <= file.len()).then_some(at)
}

/// The level at whose matches these are most. Gzip says in its head whether it was the highest or the lowest.
fn level_of(head: &[u8], plain: &[u8], tokens: &[Token]) -> Option<Level> {
    let sample = &tokens[..tokens.len().min(TRIED)];
    let mut order: Vec<Level> = Level::all().collect();
    let said = match head.get(8) {
        Some(2) => 9,
        Some(4) => 1,
        _ => 6,
    };
    order.sort_by_key(|level| level.number().abs_diff(said));
    let mut best: Option<(usize, Level)> = None;
    for level in order {
        let wrong =
            wrong(plain, sample, level, best.map_or(sample.len() / CORRECTED_MAX, |(wrong, _)| wrong));
        if let Some(wrong) = wrong {
            best = Some((wrong, level));
        }
        if wrong == Some(0) {
            break;
        }
    }
    best.map(|(_, level)| level)
}

/// How many of the tokens are not as they are found; `None` for as many as `limit`, unless both are 0.
fn wrong(plain: &[u8], tokens: &[Token], level: Level, limit: usize) -> Option<usize> {
    let (mut search, mut wrong) = (Search::new(plain, level), 0);
    for token in tokens {
        if search.expected()? != *token {
            wrong += 1;
            if wrong >= limit {
                return None;
            }
        }
        search.take(*token);
    }
    Some(wrong)
}

fn corrections(stream: &read::Stream, level: Level) -> Option<Vec<Correction>> {
    let mut search = Search::new(&stream.plain, level);
    let (mut corrections, mut gap, mut tokens) = (Vec::new(), 0, stream.tokens.iter());
    let most = stream.tokens.len() / CORRECTED_MAX;
    for block in &stream.blocks {
        match &block.kind {
            BlockKind::Stored => search.skip(block.len),
            BlockKind::Fixed | BlockKind::Known | BlockKind::Header(..) => {
                for token in tokens.by_ref().take(block.len) {
                    if search.expected()? == *token {
                        gap += 1;
                    } else {
                        corrections.push(Correction { gap, token: *token });
                        gap = 0;
                        if corrections.len() > most {
                            return None;
                        }
                    }
                    search.take(*token);
                }
            }
        }
    }
    Some(corrections)
}
