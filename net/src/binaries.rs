//! The binary API of a server, from the side of who fetches: which file it is, and the file itself where its chunks cannot
//! be had.
//!
//! What a record says is a claim like any other: its parts are checked before they are used, and the bytes of its file are
//! for the caller to hold against its checksum.

use cairn_store::{Platform, Version};
use serde::Deserialize;

use crate::address::Source;
use crate::error::{Error, Fault, PeerError, Result};
use crate::net::Net;
use crate::peer::Peer;
use crate::report::Watch;

/// How often a file that was cut off is asked for again, if any of it came.
const ATTEMPTS_MAX: u32 = 8;
/// Longest name of a file, in bytes.
const PATH_LEN_MAX: usize = 255;
/// Digits of a SHA-256.
const CHECKSUM_LEN: usize = 64;

/// A binary, as a server has it. More fields may come and are left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BinaryRecord {
    /// Its version.
    pub version: Version,
    /// SHA-256 of the file, in lower-case hexadecimal digits.
    pub checksum: String,
    /// Bytes of the file.
    pub size_bytes: u64,
    /// The file's name there.
    pub path: String,
}

/// Which version of a binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BinaryVersion {
    /// The latest, as the server says.
    Latest,
    /// This one.
    Exactly(Version),
}

impl Net {
    /// The record of a binary; `None` where the server has none or knows nothing of binaries.
    ///
    /// # Errors
    /// [`Error::Peer`].
    pub fn find_binary(
        &self,
        from: &Source,
        program: &str,
        version: &BinaryVersion,
        platform: &Platform,
        watch: &dyn Watch,
    ) -> Result<Option<BinaryRecord>> {
        let peer = self.peer(from)?;
        let asked = match version {
            BinaryVersion::Latest => "latest".to_owned(),
            BinaryVersion::Exactly(version) => version.to_string(),
        };
        let system = if platform.os() == "macos" { "darwin" } else { platform.os() }.to_owned();
        let (program, arch) = (program.to_owned(), platform.arch().to_owned());
        let asking = peer.clone();
        let work = async move { asking.binary(&program, &asked, &system, &arch).await };
        let record = match self.wait(work, &|| watch.cancelled())? {
            Err(error) if error.fault == Fault::Absent => return Ok(None),
            record => record?,
        };
        check(&peer, version, record).map(Some)
    }

    /// Brings a file. Whoever takes the bytes decides what they are worth; no more come than the record says. Where it is
    /// cut off it goes on from there.
    ///
    /// # Errors
    /// [`Error::Peer`]; [`Error::Cancelled`]; what `take` says.
    pub fn download_binary<E: From<Error>>(
        &self,
        from: &Source,
        record: &BinaryRecord,
        watch: &dyn Watch,
        mut take: impl FnMut(&[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let peer = self.peer(from)?;
        let (mut came, mut attempts) = (0, 0);
        while came < record.size_bytes || attempts == 0 {
            attempts += 1;
            let before = came;
            match self.download_from(&peer, record, watch, &mut came, &mut take)? {
                None => break,
                Some(error) if came == before || attempts >= ATTEMPTS_MAX || !error.fault.may_pass() => {
                    return Err(Error::from(error).into());
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// One request; gives why it ended early.
    fn download_from<E: From<Error>>(
        &self,
        peer: &Peer,
        record: &BinaryRecord,
        watch: &dyn Watch,
        came: &mut u64,
        take: &mut impl FnMut(&[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<Option<PeerError>, E> {
        let (asked, wanted, offset) = (peer.clone(), record.clone(), *came);
        let opened = self.wait(async move { asked.file(&wanted, offset).await }, &|| watch.cancelled())?;
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(error) => return Ok(Some(error)),
        };
        loop {
            let work = async move { (stream.next().await, stream) };
            let (next, rest) = self.wait(work, &|| watch.cancelled())?;
            stream = rest;
            match next {
                Ok(Some(piece)) => {
                    *came += piece.len() as u64;
                    if *came > record.size_bytes {
                        let detail = format!("its file is longer than {} bytes", record.size_bytes);
                        return Ok(Some(peer.error(Fault::Lied, detail)));
                    }
                    watch.received(peer.url(), piece.len() as u64);
                    take(&piece)?;
                }
                Ok(None) if *came == record.size_bytes => return Ok(None),
                Ok(None) => return Ok(Some(peer.error(Fault::Unreachable, "its answer was cut off"))),
                Err(error) => return Ok(Some(error)),
            }
        }
    }
}

/// Whether a record is one that can be used.
fn check(peer: &Peer, asked: &BinaryVersion, mut record: BinaryRecord) -> Result<BinaryRecord> {
    let refuse = |detail: &str| Err(Error::Peer(peer.error(Fault::Misbehaved, detail)));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
    let path = &record.path;
    if path.is_empty() || path.len() > PATH_LEN_MAX || path.starts_with('.') || !path.chars().all(is_plain) {
        return refuse("its record has a path that is no file's name");
    }
    record.checksum.make_ascii_lowercase();
    if record.checksum.len() != CHECKSUM_LEN || !record.checksum.bytes().all(|b| b.is_ascii_hexdigit()) {
        return refuse("its record has a checksum that is no SHA-256");
    }
    match asked {
        BinaryVersion::Exactly(version) if *version != record.version => {
            refuse("its record is of another version than was asked for")
        }
        _ => Ok(record),
    }
}
