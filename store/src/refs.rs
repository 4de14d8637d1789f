//! Refs: the mutable names of immutable artifacts.
//!
//! A ref is `name@version` for a platform; a channel (`stable`) is a name for one of the versions that exist. Both live
//! in the journal; [`View`] is what the journal says at one sequence number, and [`View::resolve`] is the one place
//! that turns what a person types into an artifact.
//!
//! Invariant: a [`Name`], [`Version`], [`Channel`] or [`Platform`] that exists is valid, whether it was typed or
//! decoded. Everything in the first three can stand in a file name and in a URL path as it is.

mod order;
mod spec;
mod statement;
mod text;
mod view;
mod witness;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use spec::Spec;
pub use statement::{Origin, RefStatement, Subject, SubjectName};
pub use text::{Channel, Name, Platform, ProfileName, Version};
pub(crate) use view::Gone;
pub use view::View;
pub(crate) use witness::{Changes, Words};
pub use witness::{Witness, Witnessed};

use crate::id::ArtifactId;

/// What a ref is found by. Ordered by name, then version (as versions order), then platform.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RefKey {
    /// The package or snapshot series.
    pub name: Name,
    /// Which of its versions.
    pub version: Version,
    /// What it runs on.
    pub platform: Platform,
}

impl RefKey {
    /// What no key of this name sorts before.
    fn least_of(name: &Name) -> Self {
        let (version, platform) = (Version::least(), Platform::least());
        Self { name: name.clone(), version, platform }
    }
}

impl fmt::Display for RefKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} for {}", self.name, self.version, self.platform)
    }
}

/// What a channel is found by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChannelKey {
    /// The package or snapshot series.
    pub name: Name,
    /// The channel of it.
    pub channel: Channel,
    /// For which platform; channels of different platforms move apart.
    pub platform: Platform,
}

impl fmt::Display for ChannelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} for {}", self.name, self.channel, self.platform)
    }
}

/// What a ref names, with what its publication measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefRecord {
    /// The artifact.
    pub artifact: ArtifactId,
    /// Files in it.
    pub files: u64,
    /// Bytes in its files.
    pub bytes: u64,
    /// Chunks that its files refer to, repeats counted.
    pub chunks: u64,
    /// Plain bytes of chunks that the store did not hold before it.
    pub new_bytes: u64,
    /// Bytes that those came to in packs.
    pub stored_bytes: u64,
    /// When it was published, in milliseconds since 1970.
    pub time_ms: u64,
}
