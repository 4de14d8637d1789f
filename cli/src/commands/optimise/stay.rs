//! Which versions stay as they are, and why.

use std::collections::{BTreeMap, BTreeSet};

use cairn_store::{ArtifactId, OptimisePlan, RefKey, View};

use crate::app::App;
use crate::output::OutputResult;
use crate::text;

/// Why a version stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// It is the newest of its package and platform.
    Newest,
    /// A channel names it.
    Channel,
    /// A current or pinned generation shows it.
    Generation,
    /// Another version of the same bytes stays.
    Same,
    /// Not all of it is here.
    Partial,
    /// It was told already, or has nothing that nobody else has, or others stand on it.
    Done,
}

impl Why {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Channel => "channel",
            Self::Generation => "generation",
            Self::Same => "same",
            Self::Partial => "partial",
            Self::Done => "done",
        }
    }

    /// What follows "it is", or "they are".
    fn text(self) -> &'static str {
        match self {
            Self::Newest => "newest of their package",
            Self::Channel => "named by a channel",
            Self::Generation => "in a current or pinned generation",
            Self::Same => "the same as one that stays",
            Self::Partial => "not whole here",
            Self::Done => "told already, stood on by others, or without bytes that could be told",
        }
    }
}

/// A version that stays as it is.
pub(super) struct Staying {
    pub(super) version: RefKey,
    pub(super) artifact: ArtifactId,
    pub(super) why: BTreeSet<Why>,
}

/// All versions that the plan does not tell anew.
pub(super) fn staying(view: &View, plan: &OptimisePlan) -> Vec<Staying> {
    let told: BTreeSet<&RefKey> = plan.versions.iter().map(|version| &version.version).collect();
    let mut newest = BTreeMap::new();
    let whole = view.refs.iter().filter(|(_, record)| !view.partial.contains(&record.artifact));
    for (key, _) in whole {
        newest.insert((&key.name, &key.platform), &key.version);
    }
    let named: BTreeSet<RefKey> = view
        .channels
        .iter()
        .map(|(channel, version)| RefKey {
            name: channel.name.clone(),
            version: version.clone(),
            platform: channel.platform.clone(),
        })
        .collect();
    let shown: BTreeSet<ArtifactId> = view
        .profiles
        .values()
        .flat_map(|profile| {
            let numbers = profile.pins.iter().chain([&profile.current]);
            numbers.filter_map(|number| profile.generations.get(number))
        })
        .flat_map(|generation| generation.packages.values().map(|package| package.artifact))
        .collect();
    let mut staying = Vec::new();
    for (key, record) in view.refs.iter().filter(|(key, _)| !told.contains(key)) {
        let newest = newest.get(&(&key.name, &key.platform));
        let mut why: BTreeSet<Why> = [
            (Why::Newest, newest == Some(&&key.version)),
            (Why::Channel, named.contains(key)),
            (Why::Generation, shown.contains(&record.artifact)),
            (Why::Partial, view.partial.contains(&record.artifact)),
        ]
        .into_iter()
        .filter_map(|(why, is_so)| is_so.then_some(why))
        .collect();
        if why.is_empty() {
            why.insert(if plan.plain.contains(&record.artifact) { Why::Same } else { Why::Done });
        }
        staying.push(Staying { version: key.clone(), artifact: record.artifact, why });
    }
    staying
}

/// How many stay, and why; each counts for every reason that it has.
pub(super) fn print(app: &mut App, staying: &[Staying]) -> OutputResult {
    let mut counts = BTreeMap::<Why, u64>::new();
    for why in staying.iter().flat_map(|staying| &staying.why) {
        *counts.entry(*why).or_default() += 1;
    }
    if counts.is_empty() {
        return Ok(());
    }
    let reasons: Vec<String> = counts.iter().map(|(why, count)| format!("{count} {}", why.text())).collect();
    let versions = text::count(staying.len() as u64, "version");
    app.out.line(format!("as they are: {versions}: {}", reasons.join("; ")))
}
