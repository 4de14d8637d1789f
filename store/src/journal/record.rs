//! Records: what they say, how they are encoded, and what they do to a view.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::id::ArtifactId;
use crate::refs::{ChannelKey, RefKey, RefRecord, Version, View};

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

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) seq: u64,
    pub(super) time_ms: u64,
    pub(super) who: String,
    pub(super) body: Body,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Body {
    Checkpoint(State),
    Change(Op),
}

/// Everything that is named. Lists and not maps: the order of versions may improve, old bytes stay valid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    refs: Vec<(RefKey, RefRecord)>,
    channels: Vec<(ChannelKey, Version)>,
}

impl State {
    pub(super) fn of(view: &View) -> Self {
        Self {
            refs: view.refs.iter().map(|(key, record)| (key.clone(), record.clone())).collect(),
            channels: view.channels.iter().map(|(key, version)| (key.clone(), version.clone())).collect(),
        }
    }

    /// The view that it was made of; nothing if a key is there twice.
    pub(super) fn into_view(self, seq: u64) -> Option<View> {
        let keys = (self.refs.len(), self.channels.len());
        let refs = self.refs.into_iter().collect();
        let view = View { refs, channels: self.channels.into_iter().collect(), seq, ..View::default() };
        (keys == (view.refs.len(), view.channels.len())).then_some(view)
    }
}

/// An operation that expects something else than what is there.
#[derive(Debug)]
pub(super) struct Mismatch {
    key: String,
    expected: Option<String>,
    found: Option<String>,
}

impl Mismatch {
    pub(super) fn into_conflict(self) -> Error {
        let detail = self.detail();
        Error::Conflict { what: self.key, detail }
    }

    pub(super) fn detail(&self) -> String {
        let say = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        format!("it names {}, not {}", say(&self.found), say(&self.expected))
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }
}

/// What takes an applied operation back.
pub(super) enum Undo {
    Ref(RefKey, Option<RefRecord>),
    Channel(ChannelKey, Option<Version>),
}

impl Undo {
    pub(super) fn run(self, view: &mut View) {
        match self {
            Self::Ref(key, Some(record)) => drop(view.refs.insert(key, record)),
            Self::Ref(key, None) => drop(view.refs.remove(&key)),
            Self::Channel(key, Some(version)) => drop(view.channels.insert(key, version)),
            Self::Channel(key, None) => drop(view.channels.remove(&key)),
        }
    }
}

/// Applies `op`, or leaves the view as it is.
pub(super) fn apply(view: &mut View, op: &Op) -> Result<Undo, Mismatch> {
    match op {
        Op::SetRef { key, old, record } => {
            expect_ref(view, key, old.as_ref())?;
            Ok(Undo::Ref(key.clone(), view.refs.insert(key.clone(), record.clone())))
        }
        Op::RemoveRef { key, old } => {
            expect_ref(view, key, Some(old))?;
            Ok(Undo::Ref(key.clone(), view.refs.remove(key)))
        }
        Op::SetChannel { key, old, version } => {
            expect_channel(view, key, old.as_ref())?;
            Ok(Undo::Channel(key.clone(), view.channels.insert(key.clone(), version.clone())))
        }
        Op::RemoveChannel { key, old } => {
            expect_channel(view, key, Some(old))?;
            Ok(Undo::Channel(key.clone(), view.channels.remove(key)))
        }
    }
}

fn expect_ref(view: &View, key: &RefKey, expected: Option<&ArtifactId>) -> Result<(), Mismatch> {
    let found = view.refs.get(key).map(|record| &record.artifact);
    if found == expected {
        return Ok(());
    }
    let say = |id: &ArtifactId| format!("artifact {}", id.short());
    Err(Mismatch { key: key.to_string(), expected: expected.map(say), found: found.map(say) })
}

fn expect_channel(view: &View, key: &ChannelKey, expected: Option<&Version>) -> Result<(), Mismatch> {
    let found = view.channels.get(key);
    if found == expected {
        return Ok(());
    }
    let say = |version: &Version| format!("version {version}");
    Err(Mismatch { key: key.to_string(), expected: expected.map(say), found: found.map(say) })
}
