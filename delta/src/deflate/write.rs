//! The stream again, from content and recipe.

use super::bits::{BitReader, BitWriter};
use super::codes::{self, DISTANCES, END, LITERALS, Lengths, distance_symbol, length_symbol};
use super::recipe::{Block, BlockKind, Recipe};
use super::search::{Search, Token};
use crate::DeltaError;

const STRAY: DeltaError = DeltaError::Invalid("a recipe for other content");

/// Behind what `out` has.
pub(super) fn write(
    plain: &[u8],
    recipe: &Recipe,
    len_max: usize,
    out: Vec<u8>,
) -> Result<Vec<u8>, DeltaError> {
    let mut bits = BitWriter::new(out, len_max);
    let mut search = Search::new(plain, recipe.level);
    let mut corrections = recipe.corrections.iter();
    let mut correction = corrections.next();
    let (mut gap, mut tokens) = (0, Vec::new());
    for (number, block) in recipe.blocks.iter().enumerate() {
        let is_last = number + 1 == recipe.blocks.len();
        let from = search.at();
        tokens.clear();
        if block.kind == BlockKind::Stored {
            search.skip(block.len);
        } else {
            for _ in 0..block.len {
                let expected = search.expected().ok_or(STRAY)?;
                let token = match correction.filter(|next| next.gap == gap) {
                    Some(next) => {
                        (gap, correction) = (0, corrections.next());
                        next.token
                    }
                    None => {
                        gap += 1;
                        expected
                    }
                };
                if token.bytes() > plain.len() - search.at() || usize::from(token.dist) > search.at() {
                    return Err(STRAY);
                }
                tokens.push(token);
                search.take(token);
            }
        }
        let bytes = plain.get(from..search.at()).ok_or(STRAY)?;
        write_block(block, is_last, bytes, &tokens, &mut bits)?;
    }
    if search.at() != plain.len() || correction.is_some() || recipe.blocks.is_empty() {
        return Err(STRAY);
    }
    Ok(bits.finish())
}

/// Its recipe with the headers left out that follow from what their blocks hold.
pub(super) fn without_known_headers(mut recipe: Recipe, tokens: &[Token], plain: &[u8]) -> Recipe {
    let (mut rest, mut at) = (tokens, 0);
    for block in &mut recipe.blocks {
        if block.kind == BlockKind::Stored {
            at += block.len;
            continue;
        }
        let (here, behind) = rest.split_at(block.len.min(rest.len()));
        rest = behind;
        let from = at;
        at += here.iter().map(|token| token.bytes()).sum::<usize>();
        if let BlockKind::Header(header, _) = &block.kind {
            let mut bits = BitWriter::new(Vec::new(), usize::MAX);
            let known = known(here, &plain[from..at]);
            if known.write(&mut bits).is_ok() && bits.finish() == *header {
                block.kind = BlockKind::Known;
            }
        }
    }
    recipe
}

fn write_block(
    block: &Block,
    is_last: bool,
    plain: &[u8],
    tokens: &[Token],
    bits: &mut BitWriter,
) -> Result<(), DeltaError> {
    let last = u32::from(is_last);
    let lengths = match &block.kind {
        BlockKind::Stored => {
            let len = u16::try_from(plain.len()).map_err(|_| DeltaError::TooLarge("a stored block"))?;
            bits.put(last, 3)?;
            bits.put_bytes(&[len.to_le_bytes(), (!len).to_le_bytes()].concat())?;
            return bits.put_bytes(plain);
        }
        BlockKind::Fixed => {
            bits.put(last | 1 << 1, 3)?;
            Lengths::fixed()
        }
        BlockKind::Known => {
            bits.put(last | 2 << 1, 3)?;
            let lengths = known(tokens, plain);
            lengths.write(bits)?;
            lengths
        }
        BlockKind::Header(header, count) => {
            bits.put(last | 2 << 1, 3)?;
            let mut reader = BitReader::new(header);
            for at in (0..*count).step_by(8) {
                let count = u32::try_from((*count - at).min(8)).map_err(|_| DeltaError::Truncated)?;
                bits.put(reader.take(count).ok_or(DeltaError::Truncated)?, count)?;
            }
            let mut reader = BitReader::new(header);
            let lengths = Lengths::read(&mut reader).ok_or(DeltaError::Invalid("codes"))?;
            if reader.at() != *count {
                return Err(DeltaError::Invalid("codes"));
            }
            lengths
        }
    };
    write_tokens(&lengths, plain, tokens, bits)
}

fn write_tokens(
    lengths: &Lengths,
    mut plain: &[u8],
    tokens: &[Token],
    bits: &mut BitWriter,
) -> Result<(), DeltaError> {
    let (literals, distances) = (codes::codes(&lengths.literals), codes::codes(&lengths.distances));
    let mut put = |codes: &[(u32, u32)], symbol: usize, extra: u32, extra_bits: u32| {
        let (code, len) = codes.get(symbol).copied().filter(|(_, len)| *len > 0).ok_or(STRAY)?;
        bits.put(code, len)?;
        bits.put(extra, extra_bits)
    };
    for token in tokens {
        let (bytes, behind) = plain.split_at_checked(token.bytes()).ok_or(STRAY)?;
        if *token == Token::LITERAL {
            put(&literals, usize::from(bytes[0]), 0, 0)?;
        } else {
            let (symbol, extra, extra_bits) = length_symbol(token.len);
            put(&literals, symbol, extra, extra_bits)?;
            let (symbol, extra, extra_bits) = distance_symbol(token.dist);
            put(&distances, symbol, extra, extra_bits)?;
        }
        plain = behind;
    }
    put(&literals, END, 0, 0)
}

/// The codes that zlib makes for a block.
fn known(tokens: &[Token], mut plain: &[u8]) -> Lengths {
    let (mut literals, mut distances) = ([0; LITERALS], [0; DISTANCES]);
    literals[END] = 1;
    for token in tokens {
        if *token == Token::LITERAL {
            literals[usize::from(plain[0])] += 1;
        } else {
            literals[length_symbol(token.len).0] += 1;
            distances[distance_symbol(token.dist).0] += 1;
        }
        plain = &plain[token.bytes()..];
    }
    Lengths::of(&literals, &distances)
}
