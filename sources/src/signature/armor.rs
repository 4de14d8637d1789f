//! OpenPGP's packets in a file: binary, or in blocks of armor one after another.

use std::io::{BufReader, Read};

use pgp::armor::{BlockType, Dearmor, DearmorOptions};
use pgp::packet::{Packet, PacketParser};

/// Blocks of armor in one file.
const BLOCKS_MAX: usize = 1000;

/// What some editors put in front of a text. No packet begins so.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

const BEGIN: &[u8] = b"-----BEGIN PGP ";
const END: &[u8] = b"-----END PGP ";

/// Packets that are one behind another.
pub(super) struct Block {
    /// What the armor says they are; nothing where there is none.
    pub(super) typ: Option<BlockType>,
    pub(super) bytes: Vec<u8>,
}

/// The packets of a file, block by block; or the whole of it where it is binary. Text around blocks does not count. After a block
/// that is damaged come those behind it.
pub(super) fn blocks(file: &[u8]) -> Vec<Result<Block, String>> {
    if !file.starts_with(BYTE_ORDER_MARK) && file.first().is_some_and(|byte| byte & 0x80 != 0) {
        return vec![Ok(Block { typ: None, bytes: file.to_vec() })];
    }
    let mut blocks = Vec::new();
    let mut rest = file.strip_prefix(BYTE_ORDER_MARK).unwrap_or(file);
    while let Some(begin) = line_with(rest, BEGIN) {
        if blocks.len() == BLOCKS_MAX {
            blocks.push(Err(format!("it has more than {BLOCKS_MAX} blocks")));
            break;
        }
        let block = &rest[begin..];
        let Some(end) = line_with(block, END) else {
            blocks.push(Err("a block of it has no end: it is cut off".to_owned()));
            break;
        };
        let len =
            block[end..].iter().position(|byte| *byte == b'\n').map_or(block.len(), |line| end + line + 1);
        blocks.push(unarmor(&block[..len]).map_err(|error| format!("a block of it is damaged: {error}")));
        rest = &block[len..];
    }
    blocks
}

/// The packets of a block, as they come. What this reader does not know is left out, as it has to be; what is damaged is
/// an error.
pub(super) fn packets(bytes: &[u8]) -> impl Iterator<Item = pgp::errors::Result<Packet>> + '_ {
    let unknown = |packet: &pgp::errors::Result<Packet>| match packet {
        Err(pgp::errors::Error::Unsupported { .. }) => true,
        Err(pgp::errors::Error::InvalidPacketContent { source }) => {
            matches!(**source, pgp::errors::Error::Unsupported { .. })
        }
        _ => false,
    };
    PacketParser::new(bytes).filter(move |packet| !unknown(packet))
}

/// Where a line begins that begins so.
fn line_with(bytes: &[u8], begin: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        if bytes[at..].starts_with(begin) {
            return Some(at);
        }
        at += bytes[at..].iter().position(|byte| *byte == b'\n')? + 1;
    }
}

fn unarmor(block: &[u8]) -> Result<Block, String> {
    let options = DearmorOptions::new().set_limit(block.len());
    let mut armor = Dearmor::with_options(BufReader::new(block), options);
    armor.read_header().map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    armor.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(Block { typ: armor.typ, bytes })
}
