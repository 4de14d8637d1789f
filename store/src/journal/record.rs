//! Records: what they say and how they are encoded.

use cairn_trust::Envelope;
use serde::{Deserialize, Serialize};

use super::state::State;
use crate::generation::Delta;
use crate::id::ArtifactId;
use crate::refs::{ChannelKey, Name, Origin, ProfileName, RefKey, RefRecord, Version};

/// One change. Each says what it replaces, so that the journal proves itself consistent as it is replayed. New kinds
/// are added at the end, with a new format version: the order is part of the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// A ref names an artifact from now on.
    SetRef {
        /// The ref.
        key: RefKey,
        /// What it named before.
        old: Option<ArtifactId>,
        /// What it names now.
        record: RefRecord,
    },
    /// A ref is no more.
    RemoveRef {
        /// The ref.
        key: RefKey,
        /// What it named.
        old: ArtifactId,
    },
    /// A channel names a version from now on.
    SetChannel {
        /// The channel.
        key: ChannelKey,
        /// What it named before.
        old: Option<Version>,
        /// What it names now. That there is such a ref is for whoever appends to ensure.
        version: Version,
    },
    /// A channel is no more.
    RemoveChannel {
        /// The channel.
        key: ChannelKey,
        /// What it named.
        old: Version,
    },
    /// A profile has one more generation, which is not shown yet. The first makes the profile.
    AddGeneration {
        /// The profile.
        profile: ProfileName,
        /// Its number: the one after the highest that was ever given in this profile, 1 in a new one.
        number: u64,
        /// The generation that it was made from.
        base: Option<u64>,
        /// How its packages differ from that one's; from none without one.
        delta: Delta,
        /// Packages whose commands win, the strongest last.
        preferred: Vec<Name>,
        /// When it was made, in milliseconds since 1970.
        time_ms: u64,
    },
    /// A profile shows another generation from now on: the flip.
    SetCurrent {
        /// The profile.
        profile: ProfileName,
        /// What it showed before, if anything.
        old: Option<u64>,
        /// What it shows now.
        number: u64,
    },
    /// A generation is no more. It is neither shown nor pinned.
    RemoveGeneration {
        /// The profile.
        profile: ProfileName,
        /// Which one. Its number is never given again.
        number: u64,
    },
    /// Pruning leaves a generation alone from now on. It was not pinned.
    Pin {
        /// The profile.
        profile: ProfileName,
        /// Which one.
        number: u64,
    },
    /// Pruning may take a generation away again. It was pinned.
    Unpin {
        /// The profile.
        profile: ProfileName,
        /// Which one.
        number: u64,
    },
    /// The store is called this in statements from now on, for ever.
    SetOrigin {
        /// The name.
        origin: Origin,
    },
    /// Another store says of a name what it is here now.
    SetWitness {
        /// The statement, a [`RefStatement`](crate::refs::RefStatement), as it came.
        envelope: Envelope,
    },
    /// An artifact that is named is not whole here.
    SetPartial {
        /// Which one.
        artifact: ArtifactId,
    },
    /// An artifact that was not whole here is so now, or nothing names it any more.
    SetWhole {
        /// Which one.
        artifact: ArtifactId,
    },
}

impl Op {
    /// Whether it changes refs or channels, and nothing else.
    pub(crate) fn is_of_refs(&self) -> bool {
        match self {
            Self::SetRef { .. }
            | Self::RemoveRef { .. }
            | Self::SetChannel { .. }
            | Self::RemoveChannel { .. } => true,
            Self::AddGeneration { .. }
            | Self::SetCurrent { .. }
            | Self::RemoveGeneration { .. }
            | Self::Pin { .. }
            | Self::Unpin { .. }
            | Self::SetOrigin { .. }
            | Self::SetWitness { .. }
            | Self::SetPartial { .. }
            | Self::SetWhole { .. } => false,
        }
    }

    /// The version of the journal's format that brought it.
    pub(super) fn since(&self) -> u32 {
        match self {
            Self::SetOrigin { .. }
            | Self::SetWitness { .. }
            | Self::SetPartial { .. }
            | Self::SetWhole { .. } => 3,
            _ if self.is_of_refs() => 1,
            _ => 2,
        }
    }
}

/// Whether operations together only take names away: what they take room for is little, and what can be collected
/// then may be much.
pub(super) fn takes_away(ops: &[Op]) -> bool {
    let (mut removes, mut adds) = (false, false);
    for op in ops {
        match op {
            Op::RemoveRef { .. } | Op::RemoveChannel { .. } => removes = true,
            Op::RemoveGeneration { .. } | Op::Unpin { .. } => removes = true,
            // Of what is no longer named.
            Op::SetWhole { .. } => {}
            _ => adds = true,
        }
    }
    removes && !adds
}

/// One line of the journal: when, who, what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number. They ascend; checkpoints, which the log leaves out, take numbers too.
    pub seq: u64,
    /// When it was appended, in milliseconds since 1970, by the writer's clock.
    pub time_ms: u64,
    /// `user@host`.
    pub who: String,
    /// What changed.
    pub op: Op,
}

/// A record as it is stored, with the state as its version has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored<S = State> {
    pub(super) seq: u64,
    pub(super) time_ms: u64,
    pub(super) who: String,
    pub(super) body: Body<S>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Body<S = State> {
    Checkpoint(S),
    Change(Op),
}

impl<S> Stored<S> {
    /// The same with the state of another version.
    pub(super) fn map<T>(self, state: impl FnOnce(S) -> T) -> Stored<T> {
        let body = match self.body {
            Body::Checkpoint(found) => Body::Checkpoint(state(found)),
            Body::Change(op) => Body::Change(op),
        };
        Stored { seq: self.seq, time_ms: self.time_ms, who: self.who, body }
    }
}
