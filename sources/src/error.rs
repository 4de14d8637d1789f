//! What keeps a source from giving what is wanted. Every error says what, where, and, where somebody can do something, what.

use std::io;
use std::path::{Path, PathBuf};

/// What goes wrong, with what it concerns.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file that says where packages come from is wrong.
    #[error("{path}, line {line}: {problem}", path = .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// It is asked for what cannot be.
    #[error("{problem}")]
    Usage {
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// The source answers, and does not have it.
    #[error("{what}")]
    Absent {
        /// What is not where.
        what: String,
        /// What to do: what there is instead.
        hint: String,
    },
    /// The source does not answer, or not to the end, or with an error, also when asked again.
    #[error("{what}: {reason}")]
    Unavailable {
        /// What was asked for: an address, a host.
        what: String,
        /// How it failed.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// The source wants to know who asks, or has enough of us for now.
    #[error("{what}: {reason}")]
    Refused {
        /// What was asked for.
        what: String,
        /// What it says.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// It came, and it is not what it should be: checksums, signatures.
    #[error("{what}: {reason}")]
    Untrusted {
        /// What came.
        what: String,
        /// Why it is not believed.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// An archive is not one, or would do harm.
    #[error("{archive}: {reason}")]
    Archive {
        /// The archive, by its name in the release.
        archive: String,
        /// What is wrong with it, with the member's name.
        reason: String,
    },
    /// A file of this machine.
    #[error("cannot {action} {path}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A program of this machine, such as ssh.
    #[error("cannot run {program}")]
    Program {
        /// The program.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// It was to stop.
    #[error("interrupted")]
    Cancelled,
}

/// A result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err`: what failed with which file.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// What somebody can do about it, if that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Usage { hint, .. }
            | Self::Absent { hint, .. }
            | Self::Unavailable { hint, .. }
            | Self::Refused { hint, .. }
            | Self::Untrusted { hint, .. } => Some(hint).filter(|hint| !hint.is_empty()).map(String::as_str),
            Self::Config { .. }
            | Self::Archive { .. }
            | Self::Io { .. }
            | Self::Program { .. }
            | Self::Cancelled => None,
        }
    }
}
