//! `[packages.NAME]` of `cairn.toml`: which programs of a package count, and where they come from.
//!
//! The types are what is meant; `written` is how it is written. Other sections of the file are somebody else's.

mod written;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use cairn_store::{Channel, Name, Platform};

use crate::error::Result;
use crate::sha256::Sha256;
use crate::template::Template;

/// The packages that a file declares, in the order of their names. Paths in it are relative to its folder.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) with the line of what is wrong.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Package>> {
    written::parse(path, text)
}

/// A package, as the file declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// What it is called here.
    pub name: Name,
    /// The programs that count, in the file's order: only these are kept. Each is a file name, without `/`.
    pub binaries: Vec<String>,
    /// What the project calls platforms.
    pub platforms: BTreeMap<Platform, String>,
    /// The platform that is wanted, where it is not this machine's.
    pub platform: Option<Platform>,
    /// The strategy that is meant if none is named.
    pub strategy: Strategy,
    /// What names the version that was synced last.
    pub channel: Option<Channel>,
    /// Official releases.
    pub release: Option<ReleaseSource>,
    /// Virtual machines, by what `multipass` calls them.
    pub vm: Option<MachineSource>,
    /// Machines, by what `ssh` calls them.
    pub ssh: Option<MachineSource>,
    /// A folder of this machine.
    pub dir: Option<FolderSource>,
    /// Another cairn.
    pub peer: Option<PeerSource>,
}

/// How a package is brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strategy {
    /// An official release.
    Release,
    /// A development build of a virtual machine.
    Vm,
    /// A development build of a machine that is reached by SSH.
    Ssh,
    /// A local folder.
    Dir,
    /// Another cairn.
    Peer,
}

/// Where releases are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseSource {
    /// Which server, and how to ask it.
    pub origin: Origin,
    /// The name of a file of the release. One with `{binary}` is a file for each program; one without has them all.
    pub asset: Template,
    /// The path of a program in an archive, after `strip`; `{binary}` if it is not said.
    pub member: Template,
    /// How many leading folders of the paths in an archive are left out.
    pub strip: usize,
    /// What the files are compared with.
    pub checksums: Checksums,
    /// Who has to have signed the checksums.
    pub signatures: Option<Signatures>,
}

/// Which server has the releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The API of GitHub, or one like it.
    GitHub {
        /// Without a slash at the end: `https://api.github.com`.
        api: String,
        /// `owner/name`.
        repository: String,
        /// The tag of a version: `v{version}`.
        tag: Template,
        /// The variables that may have a token, the first one that is set counts.
        token_env: Vec<String>,
    },
    /// Files of a web server.
    Http {
        /// The address of a file of the release, the asset's name at the end or as `{asset}`.
        url: Template,
        /// A page with links to versions, and what such a link looks like (`bitcoin-core-{version}/`).
        versions: Option<(String, Template)>,
    },
}

/// What the files of a release are compared with. Every file needs one of these three.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checksums {
    /// A file of the release, or an address, with checksums: `SHA256SUMS`, `{asset}.sha256`.
    pub file: Option<Template>,
    /// Files whose hash the configuration has, by name.
    pub pinned: BTreeMap<String, Sha256>,
    /// Names of files that are taken without.
    pub waived: Vec<Template>,
}

/// Who has to have signed the file of checksums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signatures {
    /// A file of the release, or an address, with the signatures: `SHA256SUMS.asc` (OpenPGP), `SHA256SUMS.minisig`.
    pub file: Template,
    /// Files with the keys that are trusted, each with one or several; absolute.
    pub key_files: Vec<PathBuf>,
    /// Public keys of minisign, as text.
    pub minisign_keys: Vec<String>,
    /// How many different keys have to have signed.
    pub required: NonZero<usize>,
}

/// Build machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSource {
    /// By preference: the first one that answers and has the programs.
    pub machines: Vec<String>,
    /// The user there, where `ssh` does not know better.
    pub user: Option<String>,
    /// Where a program is, relative to the user's folder: `src/app/target/release/{binary}`.
    pub path: Template,
    /// The tree that it is built from; else the folder of the program.
    pub tree: Option<String>,
    /// The client and its options: `["ssh"]`.
    pub ssh: Vec<String>,
    /// Whether `multipass` is asked for the address of a machine.
    pub is_multipass: bool,
}

/// A folder of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderSource {
    /// Where a program is; absolute, or relative to the file of the configuration and then made absolute.
    pub path: Template,
    /// The tree that it is built from; else the folder of the program.
    pub tree: Option<PathBuf>,
}

/// Another cairn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSource {
    /// Addresses; those that the store knows if there is none.
    pub from: Vec<String>,
    /// The name that it has there.
    pub name: Option<Name>,
    /// The channel that is meant if no version is named.
    pub channel: Option<Channel>,
}

impl Package {
    /// The strategies that it has, in the order in which they are preferred.
    #[must_use]
    pub fn strategies(&self) -> Vec<Strategy> {
        Strategy::ALL.into_iter().filter(|strategy| self.has(*strategy)).collect()
    }

    fn has(&self, strategy: Strategy) -> bool {
        match strategy {
            Strategy::Release => self.release.is_some(),
            Strategy::Vm => self.vm.is_some(),
            Strategy::Ssh => self.ssh.is_some(),
            Strategy::Dir => self.dir.is_some(),
            Strategy::Peer => self.peer.is_some(),
        }
    }
}

impl ReleaseSource {
    /// A version as the project calls it: `v1.2` is `1.2` where tags are `v{version}`.
    #[must_use]
    pub fn version<'a>(&self, said: &'a str) -> &'a str {
        let bare = said.strip_prefix('v').filter(|bare| bare.starts_with(|c: char| c.is_ascii_digit()));
        match (&self.origin, bare) {
            (Origin::GitHub { tag, .. }, Some(bare)) if tag.as_str().contains("v{version}") => bare,
            _ => said,
        }
    }
}

impl Strategy {
    /// All of them, in the order in which they are preferred where the file prefers none.
    pub const ALL: [Self; 5] = [Self::Release, Self::Vm, Self::Ssh, Self::Dir, Self::Peer];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Vm => "vm",
            Self::Ssh => "ssh",
            Self::Dir => "dir",
            Self::Peer => "peer",
        }
    }
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
