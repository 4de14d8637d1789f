//! What a change does to a view, and how it is taken back.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_trust::Envelope;

use super::record::Op;
use crate::Error;
use crate::generation::{Delta, Generation, NotThere, Packages, Profile};
use crate::id::ArtifactId;
use crate::refs::{
    ChannelKey, ProfileName, RefKey, RefRecord, Subject, SubjectName, Version, View, Witness, Words,
};

/// An operation that expects something else than what is there.
#[derive(Debug)]
pub(super) struct Mismatch {
    key: String,
    detail: String,
}

impl Mismatch {
    /// What `key` names is not what is expected.
    fn named(key: String, expected: Option<String>, found: Option<String>) -> Self {
        let say = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
        Self { key, detail: format!("it names {}, not {}", say(found), say(expected)) }
    }

    fn of(key: String, detail: impl Into<String>) -> Self {
        Self { key, detail: detail.into() }
    }

    fn of_profile(profile: &ProfileName, detail: impl Into<String>) -> Self {
        Self { key: format!("profile {profile}"), detail: detail.into() }
    }

    pub(super) fn into_conflict(self) -> Error {
        Error::Conflict { what: self.key, detail: self.detail }
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }
}

/// What takes an applied operation back.
pub(super) enum Undo {
    Ref(RefKey, Option<RefRecord>, Option<u64>),
    Channel(ChannelKey, Option<Version>, Option<u64>),
    /// The generation with the highest number goes again, and the profile with it if it made it.
    Added(ProfileName, u64),
    Current(ProfileName, u64),
    Removed(ProfileName, u64, Arc<Generation>),
    Pinned(ProfileName, u64),
    Unpinned(ProfileName, u64),
    Origin,
    Witnessed(SubjectName, Option<Words>),
    Partial(ArtifactId),
    Whole(ArtifactId),
}

impl Undo {
    pub(super) fn run(self, view: &mut View) {
        match self {
            Self::Ref(key, record, change) => {
                put(&mut view.changes.refs, &key, change);
                put(&mut view.refs, &key, record);
            }
            Self::Channel(key, version, change) => {
                put(&mut view.changes.channels, &key, change);
                put(&mut view.channels, &key, version);
            }
            Self::Added(name, number) => {
                if let Some(profile) = view.profiles.get_mut(&name) {
                    profile.generations.remove(&number);
                    profile.last = number - 1;
                }
                if number == 1 {
                    view.profiles.remove(&name);
                }
            }
            Self::Current(name, old) => change(view, &name, |profile| profile.current = old),
            Self::Removed(name, number, generation) => {
                change(view, &name, |profile| profile.generations.insert(number, generation));
            }
            Self::Pinned(name, number) => {
                change(view, &name, |profile| profile.pins.remove(&number));
            }
            Self::Unpinned(name, number) => {
                change(view, &name, |profile| profile.pins.insert(number));
            }
            Self::Origin => view.origin = None,
            Self::Witnessed(name, words) => view.witnessed.put_back(&name, words),
            Self::Partial(artifact) => drop(view.partial.remove(&artifact)),
            Self::Whole(artifact) => drop(view.partial.insert(artifact)),
        }
    }
}

/// Makes what is under a key `value`, or takes it away; gives what was there.
fn put<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, key: &K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(key),
    }
}

fn change<T>(view: &mut View, name: &ProfileName, by: impl FnOnce(&mut Profile) -> T) {
    if let Some(profile) = view.profiles.get_mut(name) {
        by(profile);
    }
}

/// Applies `op`, which is record `seq`, or leaves the view as it is.
pub(super) fn apply(view: &mut View, op: &Op, seq: u64) -> Result<Undo, Mismatch> {
    match op {
        Op::SetRef { key, old, record } => {
            expect_ref(view, key, old.as_ref())?;
            Ok(set_ref(view, key, Some((record.clone(), seq))))
        }
        Op::RemoveRef { key, old } => {
            expect_ref(view, key, Some(old))?;
            Ok(set_ref(view, key, None))
        }
        Op::SetChannel { key, old, version } => {
            expect_channel(view, key, old.as_ref())?;
            Ok(set_channel(view, key, Some((version.clone(), seq))))
        }
        Op::RemoveChannel { key, old } => {
            expect_channel(view, key, Some(old))?;
            Ok(set_channel(view, key, None))
        }
        Op::AddGeneration { profile, number, base, delta, preferred, time_ms } => {
            let packages = packages_of(view.profiles.get(profile), profile, *number, *base, delta)?;
            let (preferred, time_ms) = (preferred.clone(), *time_ms);
            let generation = Generation { parent: *base, time_ms, packages, preferred };
            let found = view.profiles.entry(profile.clone()).or_default();
            found.generations.insert(*number, Arc::new(generation));
            found.last = *number;
            Ok(Undo::Added(profile.clone(), *number))
        }
        Op::SetCurrent { profile, old, number } => set_current(view, profile, *old, *number),
        Op::RemoveGeneration { profile, number } => {
            let found = holding(view, profile, *number)?;
            if found.current == *number || found.pins.contains(number) {
                let detail = format!("generation {number} is current or pinned");
                return Err(Mismatch::of_profile(profile, detail));
            }
            let removed = found.generations.remove(number).ok_or_else(|| not_there(profile, *number))?;
            Ok(Undo::Removed(profile.clone(), *number, removed))
        }
        Op::Pin { profile, number } => {
            if !holding(view, profile, *number)?.pins.insert(*number) {
                return Err(Mismatch::of_profile(profile, format!("generation {number} is pinned")));
            }
            Ok(Undo::Pinned(profile.clone(), *number))
        }
        Op::Unpin { profile, number } => {
            if !holding(view, profile, *number)?.pins.remove(number) {
                return Err(Mismatch::of_profile(profile, format!("generation {number} is not pinned")));
            }
            Ok(Undo::Unpinned(profile.clone(), *number))
        }
        Op::SetOrigin { origin } => match view.origin {
            Some(_) => Err(Mismatch::of("the store".to_owned(), "it has an origin")),
            None => {
                view.origin = Some((*origin, seq));
                Ok(Undo::Origin)
            }
        },
        Op::SetWitness { envelope } => set_witness(view, envelope),
        Op::SetPartial { artifact } => match view.partial.contains(artifact) {
            true => Err(Mismatch::of(format!("artifact {artifact}"), "it is known not to be whole")),
            false => {
                view.partial.insert(*artifact);
                Ok(Undo::Partial(*artifact))
            }
        },
        Op::SetWhole { artifact } => match view.partial.contains(artifact) {
            true => {
                view.partial.remove(artifact);
                Ok(Undo::Whole(*artifact))
            }
            false => Err(Mismatch::of(format!("artifact {artifact}"), "nobody said that it is not whole")),
        },
    }
}

fn set_ref(view: &mut View, key: &RefKey, to: Option<(RefRecord, u64)>) -> Undo {
    let (record, seq) = to.unzip();
    let change = put(&mut view.changes.refs, key, seq);
    Undo::Ref(key.clone(), put(&mut view.refs, key, record), change)
}

fn set_channel(view: &mut View, key: &ChannelKey, to: Option<(Version, u64)>) -> Undo {
    let (version, seq) = to.unzip();
    let change = put(&mut view.changes.channels, key, seq);
    Undo::Channel(key.clone(), put(&mut view.channels, key, version), change)
}

/// A word about a name, which has to be what the name is here, and no older than the last of its origin.
fn set_witness(view: &mut View, envelope: &Envelope) -> Result<Undo, Mismatch> {
    let refuse = |error: Error| Mismatch::of("a statement".to_owned(), error.to_string());
    let witness = Witness::of(envelope.clone()).map_err(refuse)?;
    view.check_statement(&witness.statement).map_err(refuse)?;
    let subject = &witness.statement.subject;
    let leads_to = |key: &RefKey| view.refs.get(key).map(|record| record.artifact);
    let holds = match subject {
        Subject::Ref { key, artifact } => leads_to(key) == Some(*artifact),
        Subject::Channel { key, version, artifact } => {
            let (name, platform) = (key.name.clone(), key.platform.clone());
            let key_of_version = RefKey { name, version: version.clone(), platform };
            view.channels.get(key) == Some(version) && leads_to(&key_of_version) == Some(*artifact)
        }
    };
    let name = subject.name();
    if !holds {
        return Err(Mismatch::of(name.to_string(), "it is not what the statement says"));
    }
    let before = view.witnessed.add(witness);
    Ok(Undo::Witnessed(name, before))
}

/// The packages of a generation that is to be added.
fn packages_of(
    profile: Option<&Profile>,
    name: &ProfileName,
    number: u64,
    base: Option<u64>,
    delta: &Delta,
) -> Result<Packages, Mismatch> {
    let last = profile.map_or(0, |profile| profile.last);
    if Some(number) != last.checked_add(1) {
        let detail = format!("its newest generation is {last}, so that {number} cannot be the next");
        return Err(Mismatch::of_profile(name, detail));
    }
    let none = Packages::new();
    let from = match base {
        None => &none,
        Some(base) => {
            let found = profile.and_then(|profile| profile.generations.get(&base));
            &found.ok_or_else(|| not_there(name, base))?.packages
        }
    };
    delta.apply(from).map_err(|NotThere { name: package, expected, found }| {
        let say = |id: ArtifactId| format!("artifact {}", id.short());
        let key = format!("package {package} of profile {name}");
        Mismatch::named(key, expected.map(say), found.map(say))
    })
}

fn set_current(view: &mut View, name: &ProfileName, old: Option<u64>, number: u64) -> Result<Undo, Mismatch> {
    let profile = holding(view, name, number)?;
    let found = (profile.current != 0).then_some(profile.current);
    if found != old {
        let say = |number: Option<u64>| number.map_or("none".to_owned(), |number| number.to_string());
        let detail = format!("its current generation is {}, not {}", say(found), say(old));
        return Err(Mismatch::of_profile(name, detail));
    }
    Ok(Undo::Current(name.clone(), std::mem::replace(&mut profile.current, number)))
}

/// The profile, which has to have a generation of this number.
fn holding<'a>(view: &'a mut View, name: &ProfileName, number: u64) -> Result<&'a mut Profile, Mismatch> {
    let found = view.profiles.get_mut(name).filter(|profile| profile.generations.contains_key(&number));
    found.ok_or_else(|| not_there(name, number))
}

fn not_there(profile: &ProfileName, number: u64) -> Mismatch {
    Mismatch::of_profile(profile, format!("it has no generation {number}"))
}

fn expect_ref(view: &View, key: &RefKey, expected: Option<&ArtifactId>) -> Result<(), Mismatch> {
    let found = view.refs.get(key).map(|record| &record.artifact);
    if found == expected {
        return Ok(());
    }
    let say = |id: &ArtifactId| format!("artifact {}", id.short());
    Err(Mismatch::named(key.to_string(), expected.map(say), found.map(say)))
}

fn expect_channel(view: &View, key: &ChannelKey, expected: Option<&Version>) -> Result<(), Mismatch> {
    let found = view.channels.get(key);
    if found == expected {
        return Ok(());
    }
    let say = |version: &Version| format!("version {version}");
    Err(Mismatch::named(key.to_string(), expected.map(say), found.map(say)))
}
