//! Official releases: which there are, what belongs to one, and bringing it.
//!
//! Three steps, so that each can be shown before the next is taken: [`versions`] lists, [`find`] says which files are wanted and
//! what each has to hash to, with signatures verified, and [`bring`] downloads them and lays the programs in a folder.
//!
//! - A file without a checksum, a pinned hash or a waiver by name is not brought.
//! - Names are exact: `validator` is never `local_validator`.
//! - What was downloaded is believed by its hash alone, never by its name or its place.
//! - Nothing that is brought is executed, and no path of an archive is used as a path here.
//!
//! It does not know what a store holds but through [`Held`], and does not decide which version is wanted.

mod absent;
mod bring;
mod download;
mod find;
mod github;
mod link;
mod page;
mod shelf;
mod trust;
mod wanted;

use std::path::Path;
use std::time::SystemTime;

use cairn_store::Platform;

use crate::config::{Origin, Package, ReleaseSource, Strategy};
use crate::error::Result;
use crate::http::Http;
use crate::sha256::Sha256;
use crate::watch::{Held, Watch};

use github::GitHub;

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The package.
    pub package: &'a Package,
    /// Where its releases are.
    pub source: &'a ReleaseSource,
    /// The version, as the project calls it; never `latest`.
    pub version: &'a str,
    /// For which machines.
    pub platform: &'a Platform,
    /// When keys and signatures have to be valid.
    pub now: SystemTime,
}

/// The files of a release that are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The version.
    pub version: String,
    /// An address where a person reads of it.
    pub page: String,
    /// The files, in the order of the programs.
    pub assets: Vec<Asset>,
    /// What says that they are the right ones, for people: `SHA256SUMS signed by 3 keys`, `SHA256SUMS`, `pinned`, `waived`.
    pub verified: String,
    /// The fingerprints of the keys that signed the checksums, sorted.
    pub signers: Vec<String>,
}

/// A file of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Its length in bytes, if the server says it.
    pub size: Option<u64>,
    /// What it has to hash to; nothing where that is waived.
    pub sha256: Option<Sha256>,
    /// The programs that are in it.
    pub gives: Vec<Given>,
}

/// A program of a file of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The program.
    pub binary: String,
    /// Its path in the archive, after what is stripped, exact; nothing where the file is the program.
    pub member: Option<String>,
}

/// What was laid in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// The programs, in the order of [`Found::assets`].
    pub files: Vec<BroughtFile>,
    /// Bytes of files that came over the network.
    pub wire_bytes: u64,
    /// The files of the release by name, each with its hash.
    pub assets: Vec<(String, Sha256)>,
}

/// A program that was laid in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroughtFile {
    /// The program.
    pub binary: String,
    /// Its hash.
    pub sha256: Sha256,
    /// Its length in bytes.
    pub size: u64,
}

/// The versions that exist, newest first, at most `max`. For GitHub those that have a release that is no draft and whose tag is as
/// the template says; for a web server those that its page links to.
///
/// # Errors
/// `Absent` where there is no such repository or page, or none is configured; what asking a server comes to.
pub fn versions(
    http: &Http,
    source: &ReleaseSource,
    package: &Package,
    max: usize,
    watch: &dyn Watch,
) -> Result<Vec<String>> {
    match &source.origin {
        origin @ Origin::GitHub { .. } => GitHub::new(http, package, origin, watch)?.versions(max),
        Origin::Http { .. } => page::versions(http, source, package, max, watch),
    }
}

/// The files of a release that are wanted, each with what it has to hash to. Only checksums and signatures are downloaded.
///
/// # Errors
/// `Absent` where the version, a file or a checksum of one is not there; `Untrusted` where too few trusted keys signed;
/// `Usage` where the configuration cannot be meant; what asking a server comes to.
pub fn find(http: &Http, ask: &Ask<'_>, watch: &dyn Watch) -> Result<Found> {
    find::find(http, ask, watch)
}

/// Brings the files and lays each program at `to/BINARY` with mode 755. `downloads` is where finished and unfinished downloads lie,
/// shared by packages and processes. All or nothing: after an error nothing in `to` is to be used.
///
/// # Errors
/// `Untrusted` where a file is not what it has to be, also when it is brought again; `Archive` where a program is not in one; what
/// asking a server comes to; `Io`.
pub fn bring(
    http: &Http,
    found: &Found,
    source: &ReleaseSource,
    downloads: &Path,
    to: &Path,
    held: &dyn Held,
    watch: &dyn Watch,
) -> Result<Brought> {
    bring::bring(http, found, source, downloads, to, held, watch)
}

/// Removes downloads until they are at most `bytes_max` bytes, those first that were not used for longest. One that is in use is
/// left alone, and so is what is no download.
///
/// # Errors
/// `Io`.
pub fn prune(downloads: &Path, bytes_max: u64) -> Result<()> {
    shelf::prune(downloads, bytes_max)
}

/// Whether a name of the configuration is an address.
fn is_address(name: &str) -> bool {
    name.starts_with("https://") || name.starts_with("http://")
}

/// A name as one part of an address: all but letters, digits and `-._~` escaped.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// What [`escape`] made; nothing where it is not UTF-8 or no escape.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, behind @ ..] = rest {
        rest = behind;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = str::from_utf8(rest.get(..2)?).ok().filter(|digits| !digits.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

/// The other ways that a package can be brought, for a hint: `; use --strategy vm`.
fn other_strategy(package: &Package, than: Strategy) -> String {
    let ways = [
        (Strategy::Release, package.release.is_some()),
        (Strategy::Vm, package.vm.is_some()),
        (Strategy::Ssh, package.ssh.is_some()),
        (Strategy::Dir, package.dir.is_some()),
        (Strategy::Peer, package.peer.is_some()),
    ];
    let others: Vec<_> = ways
        .iter()
        .filter(|(way, is_there)| *is_there && *way != than)
        .map(|(way, _)| way.as_str())
        .collect();
    match others[..] {
        [] => String::new(),
        _ => format!("; use --strategy {}", others.join(" or ")),
    }
}
