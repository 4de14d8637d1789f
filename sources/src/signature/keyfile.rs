//! Files with the keys that are trusted.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use pgp::armor::BlockType;
use pgp::composed::{Deserializable, SignedPublicKey};
use pgp::packet::{Packet, PacketTrait};
use pgp::types::Tag;

use crate::error::{Error, Result};
use crate::signature::{Keys, armor, minisign};

/// A key ring with hundreds of certificates that many others signed.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// What GnuPG keeps its own keys in, behind four bytes of length and four of other things.
const KEYBOX: &[u8] = b"KBXf";

/// Adds the keys of a file.
pub(super) fn read(path: &Path, keys: &mut Keys) -> Result<()> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty())
        .map_err(|errno| Error::io("open", path)(errno.into()))?;
    let mut bytes = Vec::new();
    File::from(file).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    let refuse = |problem: String| {
        Error::Usage {
        problem: format!("{}: {problem}", path.display()),
        hint: "a file of keys holds OpenPGP certificates as `gpg --export [--armor] KEY` writes them, or the .pub of \
               minisign"
            .to_owned(),
    }
    };
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(refuse(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    add(&bytes, keys).map_err(refuse)
}

/// Adds the keys that a file holds.
pub(super) fn add(bytes: &[u8], keys: &mut Keys) -> Result<(), String> {
    if bytes.get(8..).is_some_and(|behind| behind.starts_with(KEYBOX)) {
        return Err("it is a key box of GnuPG, which only GnuPG reads".to_owned());
    }
    let text = std::str::from_utf8(bytes).ok();
    if minisign::is_signature(bytes) || text.is_some_and(|text| text.trim_start().starts_with("RW")) {
        keys.minisign.extend(minisign::parse_keys(text.ok_or("it is no text")?)?);
        return Ok(());
    }
    let mut found = 0;
    for block in armor::blocks(bytes) {
        let block = block?;
        match block.typ {
            None | Some(BlockType::PublicKey | BlockType::File) => {}
            Some(BlockType::PrivateKey) => {
                return Err("it has a secret key, which does not belong here".to_owned());
            }
            Some(typ) => return Err(format!("it has a {typ} and not keys alone")),
        }
        for certificate in certificates(&block.bytes)? {
            keys.openpgp.add(certificate);
            found += 1;
        }
    }
    if found == 0 { Err("it has no key".to_owned()) } else { Ok(()) }
}

/// The certificates of one block.
fn certificates(block: &[u8]) -> Result<Vec<SignedPublicKey>, String> {
    let mut packets = Vec::new();
    for packet in armor::packets(block) {
        let packet = packet.map_err(|error| format!("it is damaged: {error}"))?;
        match packet.tag() {
            Tag::SecretKey | Tag::SecretSubkey => {
                return Err("it has a secret key, which does not belong here".to_owned());
            }
            // What GnuPG notes between the packets of its own rings would end a certificate early.
            Tag::Trust | Tag::Marker | Tag::Padding => {}
            Tag::PublicKey | Tag::PublicSubkey | Tag::UserId | Tag::UserAttribute | Tag::Signature => {
                packets.push(Ok::<Packet, pgp::errors::Error>(packet));
            }
            tag => return Err(format!("it has a packet {tag:?}, and not keys alone")),
        }
    }
    let parsed = SignedPublicKey::from_packets(packets.into_iter().peekable());
    parsed.collect::<Result<_, _>>().map_err(|error| format!("it is damaged: {error}"))
}
