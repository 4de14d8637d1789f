//! Minisign: one line of key, four of signature. The crate verifies; what it does not tell, the ids of keys, is decoded here.

use std::io::Read;

use minisign_verify::{PublicKey, Signature};
use pgp::base64::{Base64Decoder, Base64Reader};

use crate::signature::{SIGNATURES_MAX, Signer, Tally};

/// How each file of minisign begins.
const COMMENT: &str = "untrusted comment:";

/// Two bytes of algorithm, eight of id, and the key.
const KEY_BYTES: usize = 42;

/// Lines of one signature.
const SIGNATURE_LINES: usize = 4;

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    id: String,
    text: String,
    key: PublicKey,
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

/// The keys of a text: one a line, lines of comments between them.
pub(super) fn parse_keys(text: &str) -> Result<Vec<Key>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(COMMENT));
    let keys = lines.map(parse_key).collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() { Err("it has no key".to_owned()) } else { Ok(keys) }
}

fn parse_key(line: &str) -> Result<Key, String> {
    let shown = || line.chars().take(60).collect::<String>();
    let bytes = decode(line).filter(|bytes| bytes.len() == KEY_BYTES);
    let bytes = bytes.ok_or_else(|| format!("{:?} is no key", shown()))?;
    let key = PublicKey::from_base64(line).map_err(|error| format!("{:?} is no key: {error}", shown()))?;
    Ok(Key { id: id(&bytes), text: line.to_owned(), key })
}

/// Whether a file looks like one of minisign's, key or signature.
pub(super) fn is_signature(file: &[u8]) -> bool {
    file.trim_ascii_start().starts_with(COMMENT.as_bytes())
}

/// Counts who of `keys` signed `data`: one signature, or several one after another.
pub(super) fn verify(keys: &[Key], data: &[u8], file: &[u8], tally: &mut Tally) {
    let Ok(text) = std::str::from_utf8(file) else {
        return tally.dismiss("a signature that is no text".to_owned());
    };
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    for (number, lines) in lines.chunks(SIGNATURE_LINES).enumerate() {
        if number == SIGNATURES_MAX {
            return tally.dismiss(format!("signatures past the first {SIGNATURES_MAX}"));
        }
        verify_one(keys, data, lines, tally);
    }
}

fn verify_one(keys: &[Key], data: &[u8], lines: &[&str], tally: &mut Tally) {
    let signature = Signature::decode(&lines.join("\n"));
    let id =
        lines.get(1).and_then(|line| decode(line)).filter(|bytes| bytes.len() > 10).map(|bytes| id(&bytes));
    let (Ok(signature), Some(id)) = (signature, id) else {
        return tally.dismiss("a damaged signature of minisign".to_owned());
    };
    let mut known = keys.iter().filter(|key| key.id == id).peekable();
    if known.peek().is_none() {
        return tally.dismiss(format!("unknown key {id}"));
    }
    // Signatures of the data itself, as minisign made them before 0.10, are no weaker than those of its hash.
    if known.any(|key| key.key.verify(data, &signature, true).is_ok()) {
        tally.count(id, None);
    } else {
        tally.dismiss(format!("bad signature by {}", Signer::label(&id, None)));
    }
}

/// As minisign writes it: the bytes as a little-endian number.
fn id(bytes: &[u8]) -> String {
    bytes[2..10].iter().rev().map(|byte| format!("{byte:02X}")).collect()
}

fn decode(line: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut decoder = Base64Decoder::new(Base64Reader::new(line.as_bytes()));
    decoder.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
