//! A deflate stream (RFC 1951), taken apart: content, blocks, and what they were told by.

use super::bits::BitReader;
use super::codes::{Decoder, END, Lengths, distance, length};
use super::recipe::{BLOCK_BYTES, BLOCKS_FREE, Block, BlockKind};
use super::search::Token;

pub(super) struct Stream {
    pub(super) plain: Vec<u8>,
    pub(super) tokens: Vec<Token>,
    /// The last is the last one of the stream.
    pub(super) blocks: Vec<Block>,
}

/// `None` for what is no stream, does not end with its bytes, or has more than `plain_max` bytes in it.
pub(super) fn read(bytes: &[u8], plain_max: usize) -> Option<Stream> {
    let mut bits = BitReader::new(bytes);
    let mut stream = Stream { plain: Vec::new(), tokens: Vec::new(), blocks: Vec::new() };
    loop {
        let is_last = bits.bit()? == 1;
        let block = match bits.take(2)? {
            0 => {
                let head = bits.bytes(4)?;
                let len = u16::from_le_bytes([head[0], head[1]]);
                if len != !u16::from_le_bytes([head[2], head[3]]) {
                    return None;
                }
                stream.plain.extend_from_slice(bits.bytes(usize::from(len))?);
                Block { kind: BlockKind::Stored, len: usize::from(len) }
            }
            1 => {
                let len = stream.tokens(&mut bits, &Lengths::fixed(), plain_max)?;
                Block { kind: BlockKind::Fixed, len }
            }
            2 => {
                let from = bits.at();
                let lengths = Lengths::read(&mut bits)?;
                let header = BlockKind::Header(bits.since(from), bits.at() - from);
                Block { kind: header, len: stream.tokens(&mut bits, &lengths, plain_max)? }
            }
            _ => return None,
        };
        if stream.plain.len() > plain_max || stream.blocks.len() > BLOCKS_FREE + plain_max / BLOCK_BYTES {
            return None;
        }
        stream.blocks.push(block);
        if is_last {
            return (bits.at().div_ceil(8) == bytes.len()).then_some(stream);
        }
    }
}

impl Stream {
    /// How many tokens a block has.
    fn tokens(&mut self, bits: &mut BitReader<'_>, lengths: &Lengths, plain_max: usize) -> Option<usize> {
        let (literals, distances) = (Decoder::new(&lengths.literals)?, Decoder::new(&lengths.distances)?);
        let before = self.tokens.len();
        loop {
            match literals.symbol(bits)? {
                symbol @ 0..END => {
                    self.plain.push(u8::try_from(symbol).ok()?);
                    self.tokens.push(Token::LITERAL);
                }
                END => return Some(self.tokens.len() - before),
                symbol => {
                    let (base, extra) = length(symbol)?;
                    let len = base + u16::try_from(bits.take(extra)?).ok()?;
                    let (base, extra) = distance(distances.symbol(bits)?)?;
                    let dist = base.checked_add(u16::try_from(bits.take(extra)?).ok()?)?;
                    let from = self.plain.len().checked_sub(usize::from(dist))?;
                    for at in from..from + usize::from(len) {
                        self.plain.push(self.plain[at]);
                    }
                    self.tokens.push(Token { len, dist });
                }
            }
            if self.plain.len() > plain_max {
                return None;
            }
        }
    }
}
