//! Which generations and versions may go by a rule, without anybody naming them: a plan that can be looked at, and its
//! run. Only names go; bytes are for a collection to take.
//!
//! Whatever the rule, what somebody relies on by name stays: the current generation and pinned ones, versions that a channel
//! or a generation names, and the latest version of each package and platform.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::generation::Prune;
use crate::id::ArtifactId;
use crate::refs::{ChannelKey, Name, Platform, ProfileName, RefKey, View};
use crate::writer::Writer;

/// What is kept. What no field speaks of stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// Of each profile, so many of the newest generations.
    pub generations: Option<usize>,
    /// Versions that became what they are less than so many milliseconds ago.
    pub versions_ms: Option<u64>,
}

/// What goes by a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionPlan {
    /// Generations, by profile. Profiles that lose none are not in it.
    pub prunes: Vec<Prune>,
    /// Versions, the oldest first.
    pub versions: Vec<RefKey>,
}

impl RetentionPlan {
    /// Whether nothing goes.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.prunes.is_empty() && self.versions.is_empty()
    }
}

/// What went by a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retired {
    /// Generations, by profile.
    pub generations: Vec<(ProfileName, Vec<u64>)>,
    /// Versions.
    pub versions: Vec<RefKey>,
}

impl Writer {
    /// Plans what goes by a rule at `now_ms` (since 1970).
    ///
    /// # Errors
    /// None at present; a profile that is gone meanwhile is left out.
    pub fn plan_retention(&self, rule: &Retention, now_ms: u64) -> Result<RetentionPlan> {
        let view = self.names();
        let mut plan = RetentionPlan::default();
        if let Some(keep) = rule.generations {
            for profile in view.profiles.keys() {
                let prune = match self.plan_prune(profile, keep) {
                    Err(Error::Absent { .. }) => continue,
                    prune => prune?,
                };
                if !prune.remove.is_empty() {
                    plan.prunes.push(prune);
                }
            }
        }
        if let Some(age) = rule.versions_ms {
            let before = now_ms.saturating_sub(age);
            let spare = spare_versions(&view, &plan.prunes).into_iter();
            plan.versions = spare.filter(|(time, _)| *time < before).map(|(_, key)| key).collect();
        }
        Ok(plan)
    }

    /// Versions that may go when room is wanted, the oldest first: those that no channel and no generation names, and that
    /// are not the latest of their package. Of these, what a rule keeps for its age is not among them.
    #[must_use]
    pub fn spare_versions(&self, rule: &Retention, now_ms: u64) -> Vec<RefKey> {
        let before = rule.versions_ms.map_or(u64::MAX, |age| now_ms.saturating_sub(age));
        let spare = spare_versions(&self.names(), &[]).into_iter();
        spare.filter(|(time, _)| *time < before).map(|(_, key)| key).collect()
    }

    /// Does what the plan says, as far as it still may: what became current, pinned or named meanwhile stays.
    ///
    /// # Errors
    /// [`Error::Io`]. What went before that is gone.
    pub fn retire(&self, plan: &RetentionPlan) -> Result<Retired> {
        let mut retired = Retired::default();
        for prune in &plan.prunes {
            match self.prune(prune) {
                Ok(_) => retired.generations.push((prune.profile.clone(), prune.remove.clone())),
                Err(Error::Conflict { .. } | Error::Absent { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        for key in &plan.versions {
            let spare = spare_versions(&self.names(), &[]);
            if !spare.iter().any(|(_, spare)| spare == key) {
                continue;
            }
            match self.remove_ref(key, false) {
                Ok(_) => retired.versions.push(key.clone()),
                Err(Error::Conflict { .. } | Error::Absent { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(retired)
    }
}

/// Versions that nothing but their own name keeps once the generations that `pruned` tells are gone, with the times at which they
/// became what they are, the oldest first.
fn spare_versions(view: &View, pruned: &[Prune]) -> Vec<(u64, RefKey)> {
    let in_use = artifacts_of_generations(view, pruned);
    let mut latest: BTreeMap<(&Name, &Platform), (u64, &RefKey)> = BTreeMap::new();
    for (key, record) in &view.refs {
        let entry = latest.entry((&key.name, &key.platform)).or_insert((record.time_ms, key));
        *entry = (*entry).max((record.time_ms, key));
    }
    let is_latest = |key: &RefKey| latest.get(&(&key.name, &key.platform)).is_some_and(|(_, it)| *it == key);
    let has_channel = |key: &RefKey| {
        let of = |channel: &ChannelKey| (&channel.name, &channel.platform) == (&key.name, &key.platform);
        view.channels.iter().any(|(channel, version)| of(channel) && *version == key.version)
    };
    let mut spare: Vec<_> = view
        .refs
        .iter()
        .filter(|(key, record)| !in_use.contains(&record.artifact) && !is_latest(key) && !has_channel(key))
        .map(|(key, record)| (record.time_ms, key.clone()))
        .collect();
    spare.sort();
    spare
}

/// What the generations name that stay when `pruned` goes.
pub(crate) fn artifacts_of_generations(view: &View, pruned: &[Prune]) -> BTreeSet<ArtifactId> {
    let goes = |profile: &ProfileName, number: &u64| {
        pruned.iter().any(|prune| prune.profile == *profile && prune.remove.contains(number))
    };
    let mut found = BTreeSet::new();
    for (name, profile) in &view.profiles {
        for (number, generation) in &profile.generations {
            if !goes(name, number) {
                found.extend(generation.packages.values().map(|package| package.artifact));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::generation::UseOptions;
    use crate::ingest::{IngestOptions, Input};
    use crate::io::Sim;
    use crate::time::now_ms;
    use crate::writer::{PublishOptions, WriterOptions};

    fn writer() -> Writer {
        let options = WriterOptions { wait: Duration::ZERO, command: String::new(), who: String::new() };
        Writer::open_with(Arc::new(Sim::new(1)), Path::new("/store"), &options).unwrap()
    }

    fn add(writer: &Writer, version: &str, channel: Option<&str>) -> (RefKey, ArtifactId) {
        let reader = Box::new(std::io::Cursor::new(version.as_bytes().to_vec()));
        let input = Input::Reader { name: "app".to_owned(), executable: true, reader };
        let package = IngestOptions::package("app".parse().unwrap(), version.parse().unwrap());
        let ingested = writer.ingest(input, &package, &()).unwrap();
        let channel = channel.map(|channel| channel.parse().unwrap());
        writer.publish(&ingested, &PublishOptions { replace: false, channel }).unwrap();
        // The latest is told by the time.
        std::thread::sleep(Duration::from_millis(2));
        (ingested.key, ingested.artifact)
    }

    fn show(writer: &Writer, version: (RefKey, ArtifactId)) {
        let set = vec![version];
        writer.use_packages(&UseOptions { set, ..UseOptions::default() }).unwrap();
    }

    fn versions(keys: &[RefKey]) -> Vec<&str> {
        keys.iter().map(|key| key.version.as_str()).collect()
    }

    #[test]
    fn what_is_old_goes_and_what_somebody_names_stays() {
        let writer = writer();
        for version in ["1", "2"] {
            let added = add(&writer, version, None);
            show(&writer, added);
        }
        add(&writer, "3", Some("stable"));
        for version in ["4", "5", "6"] {
            add(&writer, version, None);
        }
        let rule = Retention { generations: None, versions_ms: Some(0) };
        let plan = writer.plan_retention(&rule, now_ms() + 1).unwrap();
        assert_eq!((plan.prunes.len(), versions(&plan.versions)), (0, vec!["4", "5"]));
        let young = Retention { generations: None, versions_ms: Some(3_600_000) };
        assert!(writer.plan_retention(&young, now_ms()).unwrap().is_nothing());
        assert_eq!(versions(&writer.spare_versions(&Retention::default(), now_ms())), ["4", "5"]);
        assert!(writer.spare_versions(&young, now_ms()).is_empty());
        let retired = writer.retire(&plan).unwrap();
        assert_eq!(versions(&retired.versions), ["4", "5"]);
        let left: Vec<_> = writer.names().refs.keys().cloned().collect();
        assert_eq!(versions(&left), ["1", "2", "3", "6"]);
    }

    #[test]
    fn versions_follow_the_generations_that_named_them() {
        let writer = writer();
        for version in ["1", "2", "3"] {
            let added = add(&writer, version, None);
            show(&writer, added);
        }
        let rule = Retention { generations: Some(1), versions_ms: Some(0) };
        let plan = writer.plan_retention(&rule, now_ms() + 1).unwrap();
        assert_eq!(plan.prunes[0].remove, [1, 2]);
        assert_eq!(versions(&plan.versions), ["1", "2"]);
        let retired = writer.retire(&plan).unwrap();
        assert_eq!(retired.generations, [(ProfileName::default(), vec![1, 2])]);
        assert_eq!(versions(&retired.versions), ["1", "2"]);
    }

    #[test]
    fn what_was_named_since_the_plan_stays() {
        let writer = writer();
        let first = add(&writer, "1", None);
        add(&writer, "2", None);
        let rule = Retention { generations: None, versions_ms: Some(0) };
        let plan = writer.plan_retention(&rule, now_ms() + 1).unwrap();
        assert_eq!(versions(&plan.versions), ["1"]);
        show(&writer, first);
        assert!(writer.retire(&plan).unwrap().versions.is_empty());
        assert_eq!(writer.names().refs.len(), 2);
    }
}
