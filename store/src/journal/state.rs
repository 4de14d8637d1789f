//! What a checkpoint says: everything that is named, as lists. The order of names and versions may improve, old bytes
//! stay valid.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::generation::{Delta, Generation, Packages, Profile};
use crate::refs::{ChannelKey, Name, ProfileName, RefKey, RefRecord, Version, View};

/// Everything that is named, as version 2 has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    refs: Vec<(RefKey, RefRecord)>,
    channels: Vec<(ChannelKey, Version)>,
    profiles: Vec<(ProfileName, ProfileState)>,
}

/// Everything that is named, as version 1 has it, which knew no profiles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State1 {
    refs: Vec<(RefKey, RefRecord)>,
    channels: Vec<(ChannelKey, Version)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ProfileState {
    /// The generation that is shown, 0 if none is.
    current: u64,
    /// The highest number that was ever given.
    last: u64,
    /// By ascending number.
    generations: Vec<GenerationState>,
    /// Ascending.
    pins: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct GenerationState {
    number: u64,
    parent: Option<u64>,
    time_ms: u64,
    /// Against the one before it in the list; against nothing for the first.
    delta: Delta,
    preferred: Vec<Name>,
}

impl From<State1> for State {
    fn from(State1 { refs, channels }: State1) -> Self {
        Self { refs, channels, profiles: Vec::new() }
    }
}

impl State {
    pub(super) fn of(view: &View) -> Self {
        Self {
            refs: view.refs.iter().map(|(key, record)| (key.clone(), record.clone())).collect(),
            channels: view.channels.iter().map(|(key, version)| (key.clone(), version.clone())).collect(),
            profiles: view
                .profiles
                .iter()
                .map(|(name, profile)| (name.clone(), ProfileState::of(profile)))
                .collect(),
        }
    }

    /// The view that it was made of, or what does not hold.
    pub(super) fn into_view(self, seq: u64) -> Result<View, &'static str> {
        let keys = (self.refs.len(), self.channels.len(), self.profiles.len());
        let profiles: Result<BTreeMap<_, _>, _> = self
            .profiles
            .into_iter()
            .map(|(name, profile)| profile.into_profile().map(|profile| (name, profile)))
            .collect();
        let (refs, channels) = (self.refs.into_iter().collect(), self.channels.into_iter().collect());
        let view = View { refs, channels, profiles: profiles?, seq };
        if keys != (view.refs.len(), view.channels.len(), view.profiles.len()) {
            return Err("a key is twice in the checkpoint");
        }
        Ok(view)
    }
}

impl ProfileState {
    fn of(profile: &Profile) -> Self {
        let none = Packages::new();
        let mut before = &none;
        let generations = profile.generations.iter().map(|(number, generation)| {
            let delta = Delta::between(before, &generation.packages);
            before = &generation.packages;
            let (parent, time_ms) = (generation.parent, generation.time_ms);
            GenerationState {
                number: *number,
                parent,
                time_ms,
                delta,
                preferred: generation.preferred.clone(),
            }
        });
        Self {
            current: profile.current,
            last: profile.last,
            generations: generations.collect(),
            pins: profile.pins.iter().copied().collect(),
        }
    }

    fn into_profile(self) -> Result<Profile, &'static str> {
        let Self { current, last, generations: listed, pins } = self;
        let mut generations: BTreeMap<u64, Arc<Generation>> = BTreeMap::new();
        for GenerationState { number, parent, time_ms, delta, preferred } in listed {
            let before = generations.last_key_value();
            if number <= before.map_or(0, |(number, _)| *number) || number > last {
                return Err("the generations of a profile are not numbered as they are to be");
            }
            let none = Packages::new();
            let packages = delta
                .apply(before.map_or(&none, |(_, before)| &before.packages))
                .map_err(|_| "a generation replaces what is not in the one before it")?;
            generations.insert(number, Arc::new(Generation { parent, time_ms, packages, preferred }));
        }
        let is_there = |number: &u64| generations.contains_key(number);
        if (current != 0 && !is_there(&current)) || !pins.iter().all(is_there) {
            return Err("a profile shows or pins a generation that is not there");
        }
        if !pins.is_sorted_by(|a, b| a < b) {
            return Err("the pins of a profile do not ascend");
        }
        Ok(Profile { current, last, generations, pins: pins.into_iter().collect() })
    }
}
