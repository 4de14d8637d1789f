//! Bitcode files of LLVM taken apart: tokens in whole bytes, which stay alike from one version to the next where what they mean does, and of which the
//! very same file is made again.
//!
//! Fields of bitcode are some bits wide, and nearly all are numbers that move with whatever comes before: of types, globals,
//! constants. Here such a number is the name of what it stands for, and what follows from other things is left out. The container is that of
//! the LLVM Bitcode File Format (<https://llvm.org/docs/BitCodeFormat.html>); what records mean is as LLVM 14 writes them. A record that is
//! misunderstood costs bytes, nothing else: taking apart and making again are one walk, and know the same at each value.
//!
//! Roles: `walk` goes through blocks and records, between the two `sides`, bits and tokens; `forms` are how values are told;
//! `model` knows what they stand for, with `types`, `constants`, `function`, `summary`; `names` are their names; `index` is
//! the order of a summary of many modules; `symtab` is a table of symbols; `bits` are bits.
//!
//! Either way takes time in proportion to the file and the tokens, both of which are bounded, and memory for what is kept
//! of a module; nothing vouches for what is made: whoever calls hashes it.

mod bits;
mod constants;
mod forms;
mod function;
mod index;
mod model;
mod names;
mod sides;
mod summary;
mod symtab;
mod types;
mod walk;

use crate::DeltaError;
use bits::{Reader, Width, Writer};
use index::Index;
use model::{Model, block};
use sides::{Making, Taking};

/// The first bytes of a file.
pub const MAGIC: &[u8] = b"BC\xc0\xde";

/// Longest file that is taken apart, in bytes.
pub const FILE_MAX: usize = 2 << 20;
/// Bytes of tokens, at most.
pub const TOKENS_MAX: usize = 4 << 20;

/// Tokens of a file; `None` where it is none, or too long, or not one that comes out the same again.
#[must_use]
pub fn unpack(file: &[u8]) -> Option<Vec<u8>> {
    let tokens = tokens(file)?;
    let again = pack(&tokens, file.len(), Vec::new()).ok()?;
    (again == file).then_some(tokens)
}

/// Tokens of a file, whether or not it could be made of them again: for what others are told behind.
#[must_use]
pub fn tokens(file: &[u8]) -> Option<Vec<u8>> {
    if !file.starts_with(MAGIC) || file.len() > FILE_MAX {
        return None;
    }
    let strtab = strtab(file).unwrap_or_default();
    let mut model = Model::new(strtab.to_vec(), None);
    let mut side = Taking::new(file, MAGIC.len() as u64 * 8);
    walk::walk(&mut side, &mut model).ok()?;
    let mut out = Vec::new();
    forms::number(&mut out, strtab.len() as u64);
    out.extend_from_slice(strtab);
    if let Some(index) = model.survey.index() {
        index.to_bytes(&mut out);
        let ranks = index.len();
        side = Taking::new(file, MAGIC.len() as u64 * 8);
        walk::walk(&mut side, &mut Model::new(strtab.to_vec(), Some(index))).ok()?;
        side.finish(ranks, &mut out);
    } else {
        forms::number(&mut out, 0);
        side.finish(0, &mut out);
    }
    (out.len() <= TOKENS_MAX).then_some(out)
}

/// The file again, of at most `len_max` bytes. The room of `out` is used again, what it holds is not.
///
/// # Errors
/// Tokens that do not hold, or that come to more bytes.
pub fn pack(tokens: &[u8], len_max: usize, out: Vec<u8>) -> Result<Vec<u8>, DeltaError> {
    if tokens.len() > TOKENS_MAX {
        return Err(DeltaError::TooLarge("tokens"));
    }
    let mut bytes = tokens;
    let len = forms::take_number(&mut bytes)?;
    let len = usize::try_from(len).map_err(|_| DeltaError::Truncated)?;
    let (strtab, mut bytes) = bytes.split_at_checked(len).ok_or(DeltaError::Truncated)?;
    let index = Index::from_bytes(&mut bytes)?;
    let mut bits = Writer::new(out, len_max);
    bits.put(MAGIC)?;
    let mut side = Making::new(bytes, index.as_ref().map_or(0, Index::len), bits)?;
    walk::walk(&mut side, &mut Model::new(strtab.to_vec(), index))?;
    side.bits.finish()
}

/// The names of globals, which come last in a file.
fn strtab(file: &[u8]) -> Option<&[u8]> {
    let mut bits = Reader::new(file, MAGIC.len() as u64 * 8);
    while !bits.is_at_end() {
        if bits.read(Width::Fixed(2)).ok()? != 1 {
            return None;
        }
        let block = bits.read(Width::Vbr(8)).ok()?;
        let width = u32::try_from(bits.read(Width::Vbr(4)).ok()?).ok()?;
        bits.align();
        let len = usize::try_from(bits.read(Width::Fixed(32)).ok()?).ok()?.checked_mul(4)?;
        let body = bits.take(len).ok()?;
        if block == block::STRTAB {
            return strtab_in(body, width);
        }
    }
    None
}

/// As it is written: an abbreviation of a blob, and a record by it.
fn strtab_in(body: &[u8], width: u32) -> Option<&[u8]> {
    let mut bits = Reader::new(body, 0);
    if !(2..=32).contains(&width) || bits.read(Width::Fixed(width)).ok()? != 2 {
        return None;
    }
    // Two operands: the code 1, and a blob.
    let head = [
        (Width::Vbr(5), 2),
        (Width::Fixed(1), 1),
        (Width::Vbr(8), 1),
        (Width::Fixed(1), 0),
        (Width::Fixed(3), 5),
        (Width::Fixed(width), 4),
    ];
    for (width, expected) in head {
        if bits.read(width).ok()? != expected {
            return None;
        }
    }
    let len = usize::try_from(bits.read(Width::Vbr(6)).ok()?).ok()?;
    bits.take(len).ok()
}
