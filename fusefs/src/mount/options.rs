//! What a mount is to be, and what is said of it.

use std::path::PathBuf;

use cairn_store::{Platform, ProfileName};

use crate::attr::FsStats;
use crate::damage::Damage;
use crate::session::End;
use crate::takeover::SentOptions;
use crate::timings::Spread;

/// Whether the kernel may read whole files by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Passthrough {
    /// Where it can and this process may: it takes root.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// What is mounted where.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(from = "SentOptions", into = "SentOptions")]
pub struct MountOptions {
    /// The mount point, a directory.
    pub dir: PathBuf,
    /// The profile whose generations are shown.
    pub profile: ProfileName,
    /// Whose versions are shown under their plain names; this machine's if not given.
    pub platform: Option<Platform>,
    /// Whether other users see it. As root they always do.
    pub allow_other: bool,
    /// Whether the kernel may read whole files by itself.
    pub passthrough: Passthrough,
}

impl MountOptions {
    /// The usual mount of a profile.
    #[must_use]
    pub fn new(dir: PathBuf, profile: ProfileName) -> Self {
        Self { dir, profile, platform: None, allow_other: false, passthrough: Passthrough::Auto }
    }
}

/// Figures about a mount.
#[derive(Clone, Debug)]
pub struct MountStatus {
    /// The mount point.
    pub dir: PathBuf,
    /// The profile.
    pub profile: ProfileName,
    /// How it ended, if it has.
    pub end: Option<End>,
    /// Where it is seen: at its mount point, unless a directory above that was renamed. Nowhere if it is unmounted and
    /// still in use.
    pub place: Option<PathBuf>,
    /// Whether the kernel reads whole files by itself.
    pub passthrough: bool,
    /// Whether the kernel can be told at once that names have changed; else it asks again for those that may.
    pub epoch: bool,
    /// Inodes that are open.
    pub open_files: u64,
    /// Changes of which the kernel had to be told: how long look-ups were held back for each.
    pub flips: Spread,
    /// Figures about names.
    pub fs: FsStats,
    /// Directories that could not be read, by path: not all if they are many.
    pub damage: Vec<Damage>,
    /// How many could not be read.
    pub damage_count: u64,
}
