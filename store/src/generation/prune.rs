//! Taking old generations away: a plan that can be looked at, and its run. No content is deleted, only the generations'
//! hold on it is.

use std::collections::BTreeMap;

use super::change::profile_of;
use crate::error::Result;
use crate::journal::Op;
use crate::refs::{Gone, ProfileName};
use crate::writer::Writer;

/// What pruning a profile would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prune {
    /// The profile.
    pub profile: ProfileName,
    /// Generations that go, ascending.
    pub remove: Vec<u64>,
    /// Generations that stay, and why.
    pub kept: BTreeMap<u64, Kept>,
}

/// Why a generation stays. The first that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kept {
    /// It is shown.
    Current,
    /// It is pinned.
    Pinned,
    /// It is among the newest.
    Newest,
}

impl Writer {
    /// Plans to take away all generations of a profile but the newest `keep`, the current one and those that are pinned.
    ///
    /// # Errors
    /// [`Error::Absent`](crate::Error::Absent) when there is no such profile.
    pub fn plan_prune(&self, profile: &ProfileName, keep: usize) -> Result<Prune> {
        let view = self.names();
        let found = profile_of(&view, profile, 0)?;
        let mut plan = Prune { profile: profile.clone(), remove: Vec::new(), kept: BTreeMap::new() };
        let newest_from = found.generations.len().saturating_sub(keep);
        for (place, number) in found.generations.keys().enumerate() {
            let reason = if *number == found.current {
                Kept::Current
            } else if found.pins.contains(number) {
                Kept::Pinned
            } else if place >= newest_from {
                Kept::Newest
            } else {
                plan.remove.push(*number);
                continue;
            };
            plan.kept.insert(*number, reason);
        }
        Ok(plan)
    }

    /// Takes away what the plan says, all or nothing. Gives the sequence number of the last record.
    ///
    /// # Errors
    /// [`Error::Conflict`](crate::Error::Conflict) when one of them is current or pinned by now, or gone,
    /// [`Error::Io`](crate::Error::Io).
    pub fn prune(&self, plan: &Prune) -> Result<u64> {
        let (mut names, view) = self.lock_names();
        if plan.remove.is_empty() {
            return Ok(view.seq);
        }
        let remove = |number: &u64| Op::RemoveGeneration { profile: plan.profile.clone(), number: *number };
        let forgotten = view.partial_without(&Gone::Generations(&plan.profile, &plan.remove));
        let forget = forgotten.into_iter().map(|artifact| Op::SetWhole { artifact });
        drop(view);
        self.change(&mut names, plan.remove.iter().map(remove).chain(forget).collect())
    }
}
