//! What a checkpoint says: everything that is named, as lists. The order of names and versions may improve, old bytes
//! stay valid.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_trust::Envelope;
use serde::{Deserialize, Serialize};

use crate::generation::{Delta, Generation, Packages, Profile};
use crate::id::ArtifactId;
use crate::refs::{
    Changes, ChannelKey, Name, Origin, ProfileName, RefKey, RefRecord, Version, View, Witness, Witnessed,
};
use crate::shared::Shared;

/// Everything that is named, as version 3 has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Each with the change that made it what it is, 0 where that is not known.
    refs: Vec<(RefKey, RefRecord, u64)>,
    channels: Vec<(ChannelKey, Version, u64)>,
    profiles: Vec<(ProfileName, ProfileState)>,
    /// With the change that gave the store its name.
    origin: Option<(Origin, u64)>,
    /// Of each name the latest last.
    witnessed: Vec<Envelope>,
    /// Ascending.
    partial: Vec<ArtifactId>,
}

/// Everything that is named, as version 2 has it, which knew no other stores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State2 {
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
        State2 { refs, channels, profiles: Vec::new() }.into()
    }
}

impl From<State2> for State {
    fn from(State2 { refs, channels, profiles }: State2) -> Self {
        Self {
            refs: refs.into_iter().map(|(key, record)| (key, record, 0)).collect(),
            channels: channels.into_iter().map(|(key, version)| (key, version, 0)).collect(),
            profiles,
            origin: None,
            witnessed: Vec::new(),
            partial: Vec::new(),
        }
    }
}

impl State {
    pub(super) fn of(view: &View) -> Self {
        let (of_refs, of_channels) = (&view.changes.refs, &view.changes.channels);
        let change = |known: Option<&u64>| known.copied().unwrap_or(0);
        let of_ref =
            |(key, record): (&RefKey, &RefRecord)| (key.clone(), record.clone(), change(of_refs.get(key)));
        let of_channel = |(key, version): (&ChannelKey, &Version)| {
            (key.clone(), version.clone(), change(of_channels.get(key)))
        };
        let of_profile =
            |(name, profile): (&ProfileName, &Profile)| (name.clone(), ProfileState::of(profile));
        Self {
            refs: view.refs.iter().map(of_ref).collect(),
            channels: view.channels.iter().map(of_channel).collect(),
            profiles: view.profiles.iter().map(of_profile).collect(),
            origin: view.origin,
            witnessed: view.witnessed.iter().map(|witness| witness.envelope.clone()).collect(),
            partial: view.partial.iter().copied().collect(),
        }
    }

    /// The view that it was made of, as record `seq`, or what does not hold.
    pub(super) fn into_view(self, seq: u64) -> Result<View, &'static str> {
        let Self { refs, channels, profiles, origin, witnessed, partial } = self;
        let keys = (refs.len(), channels.len(), profiles.len());
        let changes =
            refs.iter().map(|(_, _, change)| change).chain(channels.iter().map(|(_, _, change)| change));
        let highest = changes.copied().chain(origin.map(|(_, change)| change)).max();
        if highest.is_some_and(|change| change >= seq) || origin.is_some_and(|(_, change)| change == 0) {
            return Err("it knows of changes after it");
        }
        if !partial.is_sorted_by(|a, b| a < b) {
            return Err("the artifacts that are not whole do not ascend");
        }
        let profiles: Result<BTreeMap<_, _>, _> = profiles
            .into_iter()
            .map(|(name, profile)| profile.into_profile().map(|profile| (name, profile)))
            .collect();
        let ((refs, of_refs), (channels, of_channels)) = (parted(refs), parted(channels));
        let view = View {
            refs,
            channels,
            profiles: profiles?,
            origin,
            witnessed: witnessed_of(witnessed)?,
            partial: partial.into_iter().collect(),
            seq,
            changes: Changes { refs: of_refs, channels: of_channels },
        };
        if keys != (view.refs.len(), view.channels.len(), view.profiles.len()) {
            return Err("a key is twice in the checkpoint");
        }
        Ok(view)
    }
}

type Map<K, V> = Shared<BTreeMap<K, V>>;

/// What names stand for, and the changes that made them so as far as these are known.
fn parted<K: Ord + Clone, V: Clone>(list: Vec<(K, V, u64)>) -> (Map<K, V>, Map<K, u64>) {
    let known = list.iter().filter(|(_, _, change)| *change != 0);
    let changes = known.map(|(key, _, change)| (key.clone(), *change)).collect();
    (list.into_iter().map(|(key, value, _)| (key, value)).collect(), changes)
}

fn witnessed_of(envelopes: Vec<Envelope>) -> Result<Witnessed, &'static str> {
    let (mut witnessed, mut previous, count) = (Witnessed::default(), None, envelopes.len());
    for envelope in envelopes {
        let witness = Witness::of(envelope).map_err(|_| "it has a statement that is none")?;
        let name = witness.statement.subject.name();
        if previous.as_ref() > Some(&name) {
            return Err("its statements are not in the order of their names");
        }
        witnessed.add(witness);
        previous = Some(name);
    }
    match witnessed.iter().count() == count {
        true => Ok(witnessed),
        false => Err("it has two statements of one origin about one name, or too many"),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ArtifactId;
    use crate::journal::exchange_tests::statement;
    use crate::journal::tests::{channel, key, record};

    fn sample() -> State {
        let word = |seq, version| statement(seq, &key("p", version), b"a").to_envelope();
        State {
            refs: vec![
                (key("p", "1"), record(ArtifactId::of(b"a")), 3),
                (key("p", "2"), record(ArtifactId::of(b"b")), 0),
            ],
            channels: vec![(channel("p", "stable"), key("p", "1").version, 4)],
            profiles: Vec::new(),
            origin: Some((Origin([1; 16]), 2)),
            witnessed: vec![word(5, "1"), word(6, "2")],
            partial: vec![ArtifactId([1; 32]), ArtifactId([2; 32])],
        }
    }

    #[test]
    fn a_checkpoint_that_contradicts_itself_is_refused() {
        let sound = sample();
        assert_eq!(State::of(&sound.clone().into_view(5).unwrap()), sound);
        let bad: [fn(&mut State); 10] = [
            |state| state.refs[0].2 = 5,
            |state| state.channels[0].2 = u64::MAX,
            |state| state.origin = Some((Origin([1; 16]), 5)),
            |state| state.origin = Some((Origin([1; 16]), 0)),
            |state| state.partial.swap(0, 1),
            |state| state.partial[1] = state.partial[0],
            |state| state.witnessed.swap(0, 1),
            |state| state.witnessed[1] = state.witnessed[0].clone(),
            |state| state.witnessed[1].payload[0] ^= 1,
            |state| state.refs[1].0 = state.refs[0].0.clone(),
        ];
        for (number, spoil) in bad.iter().enumerate() {
            let mut state = sound.clone();
            spoil(&mut state);
            assert!(state.into_view(5).is_err(), "{number}");
        }
    }
}
