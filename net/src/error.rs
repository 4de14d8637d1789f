//! What can go wrong between peers. Whatever a peer did is told with the peer's address; [`Kind`] decides exit codes.
//! `Display` never repeats its source.

use std::path::PathBuf;
use std::time::Duration;

use cairn_store::{ChunkId, Span};

use crate::address::PeerUrl;

/// The result of an exchange.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Those who answered do not have it.
    Absent,
    /// Nobody answers, or nobody brought all of it.
    Unavailable,
    /// A peer does not let us in.
    Refused,
    /// A peer sent what is not what it should be.
    Damaged,
    /// A name is something else already, or was something newer.
    Conflict,
    /// The request is wrong.
    Misuse,
    /// Something else failed, here or there.
    Failed,
    /// The caller asked to stop.
    Cancelled,
}

/// A failed exchange.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody could be asked, or all who could went away.
    #[error("{what} cannot be had: {detail}")]
    Unavailable {
        /// `bitcoin@29.0`.
        what: String,
        /// Each peer with its reason.
        detail: String,
    },
    /// Those who were asked do not have it.
    #[error("{what} is not there: {detail}")]
    Absent {
        /// `bitcoin@29.0`, `chunk 3f…`.
        what: String,
        /// Who was asked.
        detail: String,
    },
    /// One peer, one request.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// A peer says that a name is what it was before something newer that is known here.
    #[error("{peer} offers an older state of {what}: {detail}")]
    RolledBack {
        /// Who.
        peer: PeerUrl,
        /// `bitcoin@29.0 for linux/x86_64`.
        what: String,
        /// Which numbers.
        detail: String,
    },
    /// An address, token or file that is not acceptable.
    #[error("{what} {given:?} is not acceptable: {reason}")]
    Invalid {
        /// `address of a peer`.
        what: &'static str,
        /// As given.
        given: String,
        /// Why not.
        reason: String,
    },
    /// A file of settings cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// Verb phrase: `read`.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The machinery for connections does not start.
    #[error("cannot start what connections need")]
    Start(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The own store failed.
    #[error(transparent)]
    Store(#[from] cairn_store::Error),
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unavailable { .. } => Kind::Unavailable,
            Self::Absent { .. } => Kind::Absent,
            Self::Peer(error) => error.fault.kind(),
            Self::RolledBack { .. } => Kind::Conflict,
            Self::Invalid { .. } => Kind::Misuse,
            Self::Io { .. } | Self::Start(_) => Kind::Failed,
            Self::Store(cairn_store::Error::Cancelled) | Self::Cancelled => Kind::Cancelled,
            Self::Store(error) => match error.kind() {
                cairn_store::Kind::Absent => Kind::Absent,
                cairn_store::Kind::Damaged => Kind::Damaged,
                cairn_store::Kind::Conflict => Kind::Conflict,
                cairn_store::Kind::Misuse => Kind::Misuse,
                cairn_store::Kind::Cancelled => Kind::Cancelled,
                _ => Kind::Failed,
            },
        }
    }
}

/// What a peer did or did not do in one request.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{peer}: {detail}")]
pub struct PeerError {
    /// Which peer.
    pub peer: PeerUrl,
    /// What kind of fault.
    pub fault: Fault,
    /// What happened, for people.
    pub detail: String,
    /// When it wants to be asked again.
    pub retry_after: Option<Duration>,
    /// Ids that it says are unknown to it, or lack.
    pub missing: Vec<ChunkId>,
    /// What it keeps of a stream, where that is what is wrong.
    pub span: Option<Span>,
    /// A way through versions between that it shows, as it came.
    pub(crate) via: Option<Box<str>>,
}

/// Kinds of what peers do wrong; they decide whether a peer is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No connection, or it broke.
    Unreachable,
    /// Nothing came for too long, or next to nothing.
    Stalled,
    /// It is busy, and says when to come back.
    Busy,
    /// It does not let us in.
    Refused,
    /// It does not have what was asked for.
    Absent,
    /// It had it, and keeps it no more.
    Gone,
    /// It says that what we want contradicts what it has.
    Conflict,
    /// It says that things lack, and which.
    Incomplete,
    /// It failed by itself.
    Failed,
    /// Its answers do not follow the protocol. Not asked again.
    Misbehaved,
    /// What it sent is not what its id says, or was not asked for. Not asked again.
    Lied,
}

impl Fault {
    fn kind(self) -> Kind {
        match self {
            Self::Unreachable | Self::Stalled | Self::Busy => Kind::Unavailable,
            Self::Refused => Kind::Refused,
            Self::Absent | Self::Gone => Kind::Absent,
            Self::Conflict | Self::Incomplete => Kind::Conflict,
            Self::Failed => Kind::Failed,
            Self::Misbehaved | Self::Lied => Kind::Damaged,
        }
    }

    /// Whether asking again later may help.
    #[must_use]
    pub fn may_pass(self) -> bool {
        matches!(self, Self::Unreachable | Self::Stalled | Self::Busy | Self::Failed)
    }
}

impl PeerError {
    pub(crate) fn new(peer: &PeerUrl, fault: Fault, detail: impl Into<String>) -> Self {
        Self {
            peer: peer.clone(),
            fault,
            detail: detail.into(),
            retry_after: None,
            missing: Vec::new(),
            span: None,
            via: None,
        }
    }
}

/// An error with all its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}
