//! Profiles and their generations: which version of which package a mount shows as current.
//!
//! A profile is a named series of generations; a generation is an immutable, numbered set of packages. Numbers ascend
//! and are never given twice, even after pruning. Which generation is current is the one mutable thing here, and
//! changing it is the flip: no byte of content is read, written or copied.
//!
//! A generation is made of another one by [`Writer::use_packages`], which also shows it; [`Writer::switch`] and
//! [`Writer::rollback`] show one that there is; [`Writer::prune`] runs the plan of [`Writer::plan_prune`].
//!
//! Invariant: a generation names artifacts by their id, so that it keeps meaning the same when refs are replaced or
//! removed.
//!
//! [`Writer::use_packages`]: crate::Writer::use_packages
//! [`Writer::switch`]: crate::Writer::switch
//! [`Writer::rollback`]: crate::Writer::rollback
//! [`Writer::plan_prune`]: crate::Writer::plan_prune
//! [`Writer::prune`]: crate::Writer::prune

mod change;
mod delta;
mod prune;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use change::{Switched, UseOptions};
pub use delta::{Delta, NotThere, PackageChange, Packages, SetPackage};
pub use prune::{Kept, Prune};

use crate::id::ArtifactId;
use crate::refs::{Name, Platform, Version};

/// A package of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its version.
    pub version: Version,
    /// What it runs on.
    pub platform: Platform,
    /// Its content.
    pub artifact: ArtifactId,
    /// The commands that it offers: name, and path in the artifact (parts separated by `/`).
    pub commands: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// One immutable set of packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The generation that it was made from.
    pub parent: Option<u64>,
    /// When it was made, in milliseconds since 1970, by the writer's clock.
    pub time_ms: u64,
    /// What it holds.
    pub packages: Packages,
    /// Packages whose commands win where several offer one of the same name, the strongest last.
    pub preferred: Vec<Name>,
}

impl Generation {
    /// The commands that it shows, each with the package that it is of and its path there. Of packages that offer one
    /// of the same name the most preferred wins.
    #[must_use]
    pub fn commands(&self) -> BTreeMap<&[u8], (&Name, &[u8])> {
        let mut shown = BTreeMap::new();
        let rest = self.packages.keys().filter(|name| !self.preferred.contains(name));
        for name in rest.chain(&self.preferred) {
            let Some(package) = self.packages.get(name) else { continue };
            for (command, path) in &package.commands {
                shown.insert(&**command, (name, &**path));
            }
        }
        shown
    }
}

/// A series of generations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    /// The generation that is shown; 0 if none is.
    pub current: u64,
    /// The highest number that was ever given.
    pub last: u64,
    /// Those that there are, by number.
    pub generations: BTreeMap<u64, Arc<Generation>>,
    /// Those that pruning leaves alone.
    pub pins: BTreeSet<u64>,
}

impl Profile {
    /// The generation that is shown.
    #[must_use]
    pub fn current(&self) -> Option<&Arc<Generation>> {
        self.generations.get(&self.current)
    }
}
