//! A snapshot of a state directory that somebody uses: a consistent copy of it in the store, under its name and round.
//!
//! Consistent it becomes in one of three ways: whoever writes it is frozen meanwhile, or makes a checkpoint of it, which is read
//! instead, or nobody writes it. Whichever it is, nothing is taken on trust: a tree that does not stay as it is from the
//! beginning to the end is no snapshot, and that is an error.
//!
//! Order: what a process that was killed left frozen is thawed; freeze; checkpoint; round; reading, unless there is a
//! checkpoint; thaw; reading of the checkpoint; the name, and channel `latest`; older ones go. Thawing happens after
//! freezing whatever else does.

mod checkpoint;
mod create;
mod frozen;
mod round;
#[cfg(test)]
mod tests;

use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use cairn_store::{ArtifactId, Ingested, KeptSnapshots, Name, StateHash};

pub use create::create;
pub use frozen::thaw_left;
pub use round::{RoundCommand, ask as ask_round};

use crate::hook::HookError;

/// How long a command may take where nothing is said.
pub const HOOK_TIME: Duration = Duration::from_secs(60);

/// What is to be a snapshot.
#[derive(Debug, Clone)]
pub struct SnapshotOptions {
    /// The name that it is made under.
    pub name: Name,
    /// The state directory.
    pub dir: PathBuf,
    /// The round after which the state is what it is.
    pub round: RoundFrom,
    /// What the state hashes to, if that is known beforehand.
    pub state_hash: Option<StateHash>,
    /// How whoever writes the state is stopped meanwhile.
    pub freezing: Option<Freezing>,
    /// How a checkpoint is made that is read instead.
    pub checkpoint: Option<CheckpointOptions>,
    /// How many whole snapshots of the name stay. All, if nothing is said.
    pub keep: Option<NonZero<usize>>,
    /// How long each command may take.
    pub hook_time: Duration,
    /// Whether a snapshot of the same round with other content is replaced.
    pub replace: bool,
    /// Whether a round that has a snapshot is let be, whatever the state is now: [`SnapshotError::There`].
    pub only_new_rounds: bool,
    /// Worker threads; one for each core where none are given.
    pub threads: Option<NonZero<usize>>,
}

impl SnapshotOptions {
    /// Of a directory that nobody writes.
    #[must_use]
    pub fn new(name: Name, dir: PathBuf, round: RoundFrom) -> Self {
        Self {
            name,
            dir,
            round,
            state_hash: None,
            freezing: None,
            checkpoint: None,
            keep: None,
            hook_time: HOOK_TIME,
            replace: false,
            only_new_rounds: false,
            threads: None,
        }
    }
}

/// Who says which round it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoundFrom {
    /// Whoever asks for the snapshot.
    Given(u64),
    /// A shell command that prints `ROUND`, or `ROUND STATE_HASH`, about the directory that `$CAIRN_SNAPSHOT_DIR` names.
    Command(String),
}

/// Shell commands that stop whoever writes the state, and let him go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freezing {
    /// Stops him.
    pub freeze: String,
    /// Lets him go on. Runs after `freeze` in any case, and has to do no harm where nobody is stopped.
    pub thaw: String,
}

/// How a checkpoint is made: a copy of the state that whoever writes it makes himself, of hard links or reflinks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// Shell command that makes the directory `$CAIRN_CHECKPOINT`, which is not there yet.
    pub command: String,
    /// The directory in which it lies; the one that the state directory is in, if nothing is said. On the same file system,
    /// for links.
    pub within: Option<PathBuf>,
}

/// A snapshot that was made.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its name.
    pub name: Name,
    /// Its round.
    pub round: u64,
    /// What the state hashes to, if anybody said so.
    pub state_hash: Option<StateHash>,
    /// The artifact that the round names now.
    pub artifact: ArtifactId,
    /// Whether the round was there with the same content; times and owners may differ, and then the old one stays.
    pub unchanged: bool,
    /// What the round named before, if something else.
    pub replaced: Option<ArtifactId>,
    /// What was read and stored.
    pub ingested: Ingested,
    /// What became of older ones.
    pub kept: KeptSnapshots,
    /// How long whoever writes the state was frozen, from the beginning of the first command to the end of the last.
    pub frozen: Option<Duration>,
    /// How long all of it took.
    pub took: Duration,
}

/// No snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The store or the state directory.
    #[error(transparent)]
    Store(#[from] cairn_store::Error),
    /// A command failed that is no thawing.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// Thawing failed. Whoever writes the state may still be stopped; the next snapshot of the name, and the next daemon, try again.
    #[error("{name} may still be frozen: no snapshot was made of it")]
    Thaw {
        /// Whose state it is.
        name: Name,
        /// Why.
        source: HookError,
    },
    /// What the command for the round printed is no round.
    #[error("the round command printed {given:?}: {reason}")]
    Round {
        /// What it printed.
        given: String,
        /// What is wrong with that.
        reason: String,
    },
    /// Two say different things of the state's hash.
    #[error("the state hash is said to be {said}, and the round command says {found}")]
    StateHash {
        /// By whoever asked for the snapshot.
        said: StateHash,
        /// By the command.
        found: StateHash,
    },
    /// The checkpoint cannot be made, read or removed.
    #[error("checkpoint {}: {problem}", path.display())]
    Checkpoint {
        /// Where it is or would be.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The round has a snapshot, and only a new round was wanted.
    #[error("{name} has a snapshot of round {round}")]
    There {
        /// Whose state it is.
        name: Name,
        /// The round.
        round: u64,
    },
    /// A snapshot of that name is being made.
    #[error("a snapshot of {name} is being made already")]
    Running {
        /// The name.
        name: Name,
    },
}
