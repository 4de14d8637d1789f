//! Development builds in a folder of this machine.

use std::path::{Path, PathBuf};

use crate::config::FolderSource;
use crate::error::Result;
pub use crate::machine::{Brought, BroughtFile, Commit};
use crate::sha256::Sha256;
use crate::watch::{Held, Watch};

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The package.
    pub package: &'a str,
    /// Its programs, all of them.
    pub binaries: &'a [String],
    /// Where they are.
    pub source: &'a FolderSource,
}

/// A build in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// In the order of the programs that were asked for.
    pub files: Vec<LocalFile>,
    /// What it was built from, if that is a working tree of git.
    pub commit: Option<Commit>,
}

/// A program in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// What it is called.
    pub binary: String,
    /// Where it is.
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    /// Of its content.
    pub sha256: Sha256,
}

/// What the folder has now.
///
/// # Errors
/// If a program is not there or cannot be read. [`Cancelled`](crate::Error::Cancelled).
pub fn look(ask: &Ask<'_>, watch: &dyn Watch) -> Result<Build> {
    let _ = (ask, watch);
    Err(crate::Error::Cancelled)
}

/// Copies the programs of a build into `to`, a folder, as `to/BINARY` with mode 755; as clones where the file system can.
/// `wire_bytes` of the answer is 0.
///
/// # Errors
/// If a file is not there any more or changes again and again, or what is here cannot be written. Then nothing in
/// `to` is to be used.
pub fn bring(build: &Build, ask: &Ask<'_>, to: &Path, held: &dyn Held, watch: &dyn Watch) -> Result<Brought> {
    let _ = (build, ask, to, held, watch);
    Err(crate::Error::Cancelled)
}
