//! What has to be in a store: names, in the plainest terms. Releases are places in the world's list.

use std::collections::{BTreeMap, BTreeSet};

use cairn_store::{ArtifactId, Generation, Profile, View};

use crate::steps::Change;
use crate::world::World;

/// Package and version, or package and channel.
type Key = (String, String);

/// Everything that is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) refs: BTreeMap<Key, usize>,
    pub(crate) channels: BTreeMap<Key, String>,
    pub(crate) profiles: BTreeMap<String, Series>,
}

/// A profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Series {
    pub(crate) current: u64,
    pub(crate) last: u64,
    pub(crate) pins: BTreeSet<u64>,
    /// By number: what it was made from, and its packages.
    pub(crate) generations: BTreeMap<u64, (Option<u64>, BTreeMap<String, usize>)>,
}

/// What a store has to be like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) names: Names,
    /// Releases that may not be wholly there: all others that are named are.
    pub(crate) partial: BTreeSet<usize>,
}

impl Names {
    /// What a view says.
    pub(crate) fn of(view: &View, world: &World) -> Self {
        let place = |artifact: &ArtifactId| {
            world.place_of(artifact).unwrap_or_else(|| panic!("{artifact} is named and was never added"))
        };
        let generation = |found: &Generation| {
            let packages =
                found.packages.iter().map(|(name, package)| (name.to_string(), place(&package.artifact)));
            (found.parent, packages.collect())
        };
        let series = |found: &Profile| Series {
            current: found.current,
            last: found.last,
            pins: found.pins.clone(),
            generations: found.generations.iter().map(|(number, it)| (*number, generation(it))).collect(),
        };
        let refs = view
            .refs
            .iter()
            .map(|(key, record)| ((key.name.to_string(), key.version.to_string()), place(&record.artifact)));
        let channels = view
            .channels
            .iter()
            .map(|(key, version)| ((key.name.to_string(), key.channel.to_string()), version.to_string()));
        let profiles = view.profiles.iter().map(|(name, found)| (name.to_string(), series(found)));
        Self { refs: refs.collect(), channels: channels.collect(), profiles: profiles.collect() }
    }

    /// Every release that something names.
    pub(crate) fn releases(&self) -> BTreeSet<usize> {
        let generations = self.profiles.values().flat_map(|series| series.generations.values());
        let shown = generations.flat_map(|(_, packages)| packages.values());
        self.refs.values().chain(shown).copied().collect()
    }
}

impl Model {
    /// Whether a store that says this is like it.
    pub(crate) fn allows(&self, names: &Names, partial: &BTreeSet<usize>) -> bool {
        self.names == *names && partial.is_subset(&self.partial)
    }

    /// What a change makes of it.
    pub(crate) fn after(&self, change: &Change, world: &World) -> Self {
        let mut after = self.clone();
        let names = &mut after.names;
        let key = |place: usize| (world.at(place).package.to_owned(), world.at(place).version.to_owned());
        match change {
            Change::Publish { release } => {
                names.refs.insert(key(*release), *release);
            }
            Change::Pull { release, partial } => {
                let is_whole = self.names.releases().contains(release) && !self.partial.contains(release);
                names.refs.insert(key(*release), *release);
                if !partial {
                    after.partial.remove(release);
                } else if !is_whole {
                    after.partial.insert(*release);
                }
            }
            Change::Complete { release } => {
                after.partial.remove(release);
            }
            Change::Tag { release, channel } => {
                let (package, version) = key(*release);
                names.channels.insert((package, (*channel).to_owned()), version);
            }
            Change::RemoveRef { release } => {
                let (package, version) = key(*release);
                names.channels.retain(|(of, _), to| (of, &*to) != (&package, &version));
                names.refs.remove(&(package, version));
            }
            Change::RemoveChannel { package, channel } => {
                names.channels.remove(&(package.clone(), channel.clone()));
            }
            Change::Use { profile, set, remove } => {
                let series = names.profiles.entry((*profile).to_owned()).or_default();
                let empty = (None, BTreeMap::new());
                let before = &series.generations.get(&series.current).unwrap_or(&empty).1;
                let mut packages = before.clone();
                packages.retain(|package, _| !remove.contains(package));
                packages.extend(set.iter().map(|place| (key(*place).0, *place)));
                if packages != *before {
                    let parent = (series.current != 0).then_some(series.current);
                    series.last += 1;
                    series.current = series.last;
                    series.generations.insert(series.last, (parent, packages));
                } else if series.current == 0 {
                    names.profiles.remove(*profile);
                }
            }
            Change::Switch { profile, to } | Change::Rollback { profile, to } => {
                names.profiles.entry((*profile).to_owned()).or_default().current = *to;
            }
            Change::Pin { profile, number } => {
                names.profiles.entry((*profile).to_owned()).or_default().pins.insert(*number);
            }
            Change::Unpin { profile, number } => {
                names.profiles.entry((*profile).to_owned()).or_default().pins.remove(number);
            }
            Change::Prune { profile, keep } => {
                let series = names.profiles.entry((*profile).to_owned()).or_default();
                let newest: BTreeSet<u64> = series.generations.keys().rev().take(*keep).copied().collect();
                let (current, pins) = (series.current, &series.pins);
                series.generations.retain(|number, _| {
                    newest.contains(number) || *number == current || pins.contains(number)
                });
            }
        }
        let named = after.names.releases();
        after.partial.retain(|place| named.contains(place));
        after
    }
}
