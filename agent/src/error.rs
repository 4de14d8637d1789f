//! What can go wrong when a node joins. `Display` never repeats its source.

use std::path::PathBuf;
use std::time::Duration;

use cairn_net::PeerUrl;
use cairn_store::StateHash;

/// The result of joining.
pub(crate) type Result<T, E = JoinError> = std::result::Result<T, E>;

/// Why a node has not joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// No snapshot can be taken.
    #[error("no snapshot of {name} can be taken: {detail}")]
    NoSnapshot {
        /// The network.
        name: String,
        /// Why, with what each peer said.
        detail: String,
    },
    /// Two peers contradict each other, and nobody decides it.
    #[error("{first} and {second} disagree on {what}")]
    Disagree {
        /// One.
        first: PeerUrl,
        /// The other.
        second: PeerUrl,
        /// `the state at round 160`, `the event of round 160`.
        what: String,
    },
    /// The state is not what peers say that it is.
    #[error("the state at round {round} is {found}, and {by} says {due}")]
    Inconsistent {
        /// At which round.
        round: u64,
        /// What the own state hashes to.
        found: StateHash,
        /// What it should hash to.
        due: StateHash,
        /// Who says so: `the snapshot`, a peer.
        by: String,
    },
    /// Events cannot be had.
    #[error("the events of {name} from round {from} on cannot be had: {detail}")]
    NoEvents {
        /// The network.
        name: String,
        /// Which are due.
        from: u64,
        /// Each peer with its reason.
        detail: String,
    },
    /// More events came than the buffer holds while the snapshot was on its way.
    #[error(
        "the events after round {round} did not fit into the buffer: the first that is left is of round {first}"
    )]
    Overflow {
        /// That of the snapshot.
        round: u64,
        /// The first round that is still there.
        first: u64,
    },
    /// A command of the user failed.
    #[error("the {what} command failed: {detail}")]
    Command {
        /// `replay`, `verify`.
        what: &'static str,
        /// How.
        detail: String,
    },
    /// A program's own replay failed.
    #[error("the event of round {round} cannot be applied")]
    Replay {
        /// Which.
        round: u64,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The folder cannot be used.
    #[error("{}: {problem}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A system call failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// Verb phrase: `rename`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It took longer than it may.
    #[error("not joined within {:.0} s", time.as_secs_f64())]
    Late {
        /// How long it may take.
        time: Duration,
    },
    /// The exchange with peers failed.
    #[error(transparent)]
    Net(#[from] cairn_net::Error),
    /// The own store failed.
    #[error(transparent)]
    Store(#[from] cairn_store::Error),
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

impl JoinError {
    /// Whether another attempt may end otherwise.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Cancelled | Self::Late { .. } | Self::Folder { .. } | Self::Io { .. } => false,
            Self::Net(error) => {
                !matches!(
                    error.kind(),
                    cairn_net::Kind::Cancelled | cairn_net::Kind::Misuse | cairn_net::Kind::Refused
                ) && !matches!(error, cairn_net::Error::Store(error) if !store_may_pass(error))
            }
            Self::Store(error) => store_may_pass(error),
            _ => true,
        }
    }
}

/// A disk that is full or fails does so again.
fn store_may_pass(error: &cairn_store::Error) -> bool {
    matches!(
        error.kind(),
        cairn_store::Kind::Absent | cairn_store::Kind::Damaged | cairn_store::Kind::Unavailable
    )
}
