//! What can go wrong in a store, kept apart by what a caller does next: [`Kind`] decides exit codes and HTTP statuses,
//! the variant carries what, where and why. `Display` never repeats its source.

use std::path::PathBuf;

use crate::id::{ChunkId, PackId};
use crate::presence::Missing;
use crate::refs::{Name, Origin, Platform, ProfileName};

/// The store's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The named thing is not in the store.
    Absent,
    /// Stored bytes are not what their id or checksum says.
    Damaged,
    /// Another process holds the store, or what is there contradicts the request.
    Conflict,
    /// The request itself is wrong.
    Misuse,
    /// The operating system refused, or the input cannot be used.
    Failed,
    /// It is elsewhere, and nobody who has it answers.
    Unavailable,
    /// The caller asked to stop.
    Cancelled,
}

/// A failed operation on a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call on the store's own files failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// Verb phrase: `read`, `append to`, `sync`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A system call on a file to be added, or on a restored file, failed.
    #[error("cannot {action} {}", path.display())]
    Tree {
        /// Verb phrase: `read`, `create`, `list`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Input that cannot be stored as it is: a socket, a file that changes while it is read.
    #[error("{}: {problem}", path.display())]
    Input {
        /// The offending path.
        path: PathBuf,
        /// What is wrong with it, for people.
        problem: String,
    },
    /// The named thing is not here.
    #[error("{what} is not in the store")]
    Absent {
        /// `chunk 3f…`, `bitcoin@29.0`.
        what: String,
    },
    /// Stored bytes are not what they should be.
    #[error("damaged {what}: {detail}")]
    Damaged {
        /// `chunk 3f…`, `journal …`.
        what: String,
        /// The chunk, where one is named.
        chunk: Option<ChunkId>,
        /// The pack it lies in, where known.
        pack: Option<PackId>,
        /// Byte offset in that file, where known.
        offset: Option<u64>,
        /// What does not hold.
        detail: String,
    },
    /// An archive that does not hold: it was cut short, changed on its way, or made to be read wrongly.
    #[error("damaged archive {}, at byte {offset}: {problem}", path.display())]
    Archive {
        /// The archive, as whoever reads it calls it.
        path: PathBuf,
        /// Where it was found.
        offset: u64,
        /// What does not hold.
        problem: String,
    },
    /// Another process writes this store.
    #[error("busy: process {pid} holds {} since {since}", path.display())]
    Busy {
        /// The store.
        path: PathBuf,
        /// The holder's process id, 0 if unknown.
        pid: u32,
        /// RFC 3339 time, or `an unknown time`.
        since: String,
    },
    /// What is there contradicts the request.
    #[error("{what}: {detail}")]
    Conflict {
        /// The ref, channel or path in question.
        what: String,
        /// Why, and what would do.
        detail: String,
    },
    /// An event of a later round than the next.
    #[error("{what} takes round {next} next, and was given round {given}")]
    RoundGap {
        /// `stream chain`.
        what: String,
        /// The round that was given.
        given: u64,
        /// The round that it takes next.
        next: u64,
    },
    /// Rounds that are older than what is kept of a stream.
    #[error("{what} keeps rounds from {first} on; round {given} is gone")]
    RoundsGone {
        /// `stream chain`.
        what: String,
        /// The round that was asked for.
        given: u64,
        /// The oldest that is kept.
        first: u64,
        /// The round after the newest.
        next: u64,
    },
    /// A name, version, spec, platform or option that is not acceptable.
    #[error("{what} {given:?} is not acceptable: {reason}")]
    Invalid {
        /// `name`, `version`, `spec`.
        what: &'static str,
        /// As given.
        given: String,
        /// Why not.
        reason: String,
    },
    /// Several things fit.
    #[error("{given} fits more than one: {}", candidates.join(", "))]
    Ambiguous {
        /// As given.
        given: String,
        /// What fits, at most ten.
        candidates: Vec<String>,
    },
    /// A statement about a name that is older than what is known here: somebody shows a name as it was once.
    #[error(
        "{what} is rolled back: change {given} of its origin {origin} is shown, where change {known} is known"
    )]
    RolledBack {
        /// The ref or channel.
        what: String,
        /// The store that published it first.
        origin: Origin,
        /// Number of the last change of it that is known.
        known: u64,
        /// Number of the change that is shown.
        given: u64,
    },
    /// Something of an artifact is not here.
    #[error("{what} is not wholly in the store: {missing} missing")]
    Incomplete {
        /// `bitcoin@29.0 for linux/x86_64`.
        what: String,
        /// How much of it.
        missing: Missing,
    },
    /// A package for other machines.
    #[error("{what} does not run on {wanted}")]
    WrongPlatform {
        /// `bitcoin@29.0 for linux/aarch64`.
        what: String,
        /// What it would have to run on.
        wanted: Platform,
    },
    /// Packages of one generation offer a command of one name, and none of them is preferred.
    #[error("command {command:?} is offered by both {first} and {second}, and neither is preferred")]
    CommandClash {
        /// The command.
        command: String,
        /// One of the packages.
        first: Name,
        /// Another.
        second: Name,
    },
    /// A profile has no such package.
    #[error("profile {profile} has no package {name}")]
    NoPackage {
        /// The profile.
        profile: ProfileName,
        /// The package.
        name: Name,
    },
    /// A profile has no such generation.
    #[error("profile {profile} has no generation {number}")]
    NoGeneration {
        /// The profile.
        profile: ProfileName,
        /// The generation.
        number: u64,
    },
    /// Written by a later cairn.
    #[error("{} has format {found}; this cairn reads up to {supported}", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version this build reads.
        supported: u32,
    },
    /// There is no room for a change of names. It was not made, and the writer goes on.
    #[error("the disk is full: no more can be written to {}", path.display())]
    Full {
        /// The file that would have grown.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An earlier write or sync of this writer failed; it takes nothing more.
    #[error("the writer of {} stopped after a failed write; open the store again", path.display())]
    Poisoned {
        /// The file whose write failed.
        path: PathBuf,
    },
    /// It is not here, and nobody brings it.
    #[error("{what} is not available: {detail}")]
    Unavailable {
        /// `chunk 3f…`.
        what: String,
        /// Who was asked, and what came of it.
        detail: String,
    },
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Io { .. } | Self::Tree { .. } | Self::Input { .. } | Self::Poisoned { .. } => Kind::Failed,
            Self::NewerFormat { .. } | Self::Full { .. } => Kind::Failed,
            Self::Absent { .. } | Self::Incomplete { .. } => Kind::Absent,
            Self::NoPackage { .. } | Self::NoGeneration { .. } | Self::RoundsGone { .. } => Kind::Absent,
            Self::Damaged { .. } | Self::Archive { .. } => Kind::Damaged,
            Self::Busy { .. } | Self::Conflict { .. } | Self::CommandClash { .. } => Kind::Conflict,
            Self::RolledBack { .. } | Self::RoundGap { .. } => Kind::Conflict,
            Self::Invalid { .. } | Self::Ambiguous { .. } | Self::WrongPlatform { .. } => Kind::Misuse,
            Self::Unavailable { .. } => Kind::Unavailable,
            Self::Cancelled => Kind::Cancelled,
        }
    }

    /// Whether the store's disk, or the user's share of it, is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { source, .. } => crate::io::is_full(source),
            _ => false,
        }
    }

    /// The same damage, with the reason why nobody mended it.
    pub(crate) fn because(self, reason: &Self) -> Self {
        match self {
            Self::Damaged { what, chunk, pack, offset, detail } => {
                Self::Damaged { what, chunk, pack, offset, detail: format!("{detail}, and {reason}") }
            }
            error => error,
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn tree(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.into();
        move |errno| Self::Tree { action, path, source: errno.into() }
    }

    pub(crate) fn damaged(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Damaged { what: what.into(), chunk: None, pack: None, offset: None, detail: detail.into() }
    }
}
