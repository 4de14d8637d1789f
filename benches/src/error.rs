//! What can stop a bench, or one entrant of it.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{program} is not installed")]
    NotInstalled { program: String },
    #[error("{program} ended with {status}: {complaint}")]
    Failed { program: String, status: String, complaint: String },
    /// The program said that all is well, and it was not.
    #[error("{program}: {what}")]
    Wrong { program: String, what: String },
    #[error("{what} needs {need_mib} MiB free in the work folder, which has {free_mib} MiB")]
    NoRoom { what: &'static str, need_mib: u64, free_mib: u64 },
    /// The machine is not one that this can be measured on.
    #[error("SKIPPED: {0}")]
    Unsuitable(String),
    #[error("no corpus {name}: {} is not there (benches/fetch-corpus.sh makes it)", path.display())]
    NoCorpus { name: &'static str, path: PathBuf },
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// For `map_err` on a file operation.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }

    /// The whole chain on one line: for the table's notes and for the end of the program.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(source) = next {
            let _ = write!(text, ": {source}");
            next = source.source();
        }
        text
    }
}
