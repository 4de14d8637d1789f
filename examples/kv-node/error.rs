//! What can go wrong. Whatever is wrong with the state itself ends the node: to go on would make it worse.

use std::path::PathBuf;

use cairn_store::event::StateHash;

/// How the program ends for [`Error::Diverged`] and [`Error::Untrue`].
pub(crate) const DIVERGED: u8 = 3;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{}: nobody has this state open but one process, and one does; ask that node by its socket, or stop it", dir.display())]
    InUse { dir: PathBuf },
    #[error("the state in {} cannot be opened", dir.display())]
    Open { dir: PathBuf, source: Box<redb::Error> },
    #[error("the database failed")]
    Database(#[source] Box<redb::Error>),
    #[error("{}", what.display())]
    Io { what: PathBuf, source: std::io::Error },
    #[error("the payload is not a batch of writes: {0}")]
    Batch(&'static str),
    #[error("what is to be replayed is not framed as it has to be: {0}")]
    Frame(&'static str),
    #[error("round {round} follows round {at}: what is between them was never received")]
    Gap { at: u64, round: u64 },
    #[error(
        "DIVERGED at round {round}: the state here hashes to {here}, where its producer had {there}; nothing of the round was kept"
    )]
    Diverged { round: u64, here: StateHash, there: StateHash },
    #[error("the contents hash to {is}, where the state says {said}: the file was changed by something else")]
    Untrue { said: StateHash, is: StateHash },
    #[error(
        "the state is at round {at}, and of the stream nothing before round {first} is kept: get a newer state with `cairn join`"
    )]
    TooOld { at: u64, first: u64 },
    #[error(
        "the state is at round {at}, and the stream says that {next} comes next: it is another network's, or has lost rounds"
    )]
    Behind { next: u64, at: u64 },
    #[error("{given:?} is no stream: it is http://HOST:PORT/v1/streams/NAME")]
    NoStream { given: String },
    #[error(transparent)]
    Net(#[from] cairn_net::Error),
    #[error("{0}")]
    Refused(String),
    #[error("the node is stopping")]
    Stopping,
}

impl Error {
    /// Standard output or input failed.
    pub(crate) fn printing(source: std::io::Error) -> Self {
        Self::Io { what: "standard output".into(), source }
    }

    /// What the program exits with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Diverged { .. } | Self::Untrue { .. } => DIVERGED,
            _ => 1,
        }
    }
}

impl From<redb::Error> for Error {
    fn from(error: redb::Error) -> Self {
        Self::Database(Box::new(error))
    }
}
