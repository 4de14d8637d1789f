//! Older versions told in terms of newer ones: what an older version alone has goes from plain frames into packs of
//! deltas, where a frame stands on plain chunks of another version.
//!
//! What is read often stays plain and fast: the newest version of each name and platform, what channels lead to, and
//! what is in a current or pinned generation of any profile. A chunk that one of these needs is not touched, whoever else
//! has it.
//!
//! Order: new packs are sealed, and their names durable; then the places where their chunks were go, by the machinery of
//! collections, which reads each chunk where it is now before it goes where it was. Whenever this stops, by request, by an
//! error or by a crash, each chunk is in a sealed pack, at worst in two, and then the next collection drops one of them.
//! It has the turn of collections, and so works beside everything else as they do.
//!
//! Roles: `pairs` says which version stands on which; `plan` what of them is to be told, and what is to be plain again; `graph`
//! knows what stands on what, and keeps it to one level; `run` tells, into packs that `batch` makes.

mod batch;
mod graph;
mod pairs;
mod plan;
mod run;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::delta::{DeltaOptions, Effort};

pub use self::plan::{OptimisePlan, OptimiseVersion};
pub use self::run::Optimised;

/// How older versions are told in terms of newer ones.
#[derive(Debug, Clone)]
pub struct OptimiseOptions {
    /// How hard it is tried to make frames small.
    pub effort: Effort,
    /// Longest executable that is predicted from another, in bytes. It takes about 12 times as much memory.
    pub file_max: u64,
    /// Bytes that are read and written a second, at most.
    pub bandwidth: Option<u64>,
    /// It stops after this time, between two steps.
    pub max_time: Option<Duration>,
}

impl Default for OptimiseOptions {
    fn default() -> Self {
        let DeltaOptions { effort, file_max, .. } = DeltaOptions::default();
        Self { effort, file_max, bandwidth: None, max_time: None }
    }
}
