//! The model: releases are places in a list, a profile is a few maps, and every rule is written out once more, in the
//! plainest way.

use std::collections::{BTreeMap, BTreeSet};

use cairn_store::Kind;
use cairn_store::generation::Kept;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Package, version, platform, the commands that it offers. Two of one package and version differ in content.
pub(super) const RELEASES: [(&str, &str, &str, &[&str]); 8] = [
    ("app", "1", "linux/x86_64", &["app"]),
    ("app", "1", "linux/x86_64", &["app", "extra"]),
    ("app", "2", "linux/x86_64", &["app", "run"]),
    ("tool", "1", "linux/x86_64", &["run", "tool"]),
    ("tool", "2", "any/any", &["tool"]),
    ("shim", "1", "any/any", &["app", "run", "tool"]),
    ("shim", "2", "any/any", &[]),
    ("vax", "1", "plan9/vax", &["vax"]),
];
const PACKAGES: [&str; 4] = ["app", "shim", "tool", "vax"];
const VERSIONS: [&str; 2] = ["1", "2"];
const PROFILES: [&str; 2] = ["canary", "default"];
pub(super) const RUNS_ON: &str = "linux/x86_64";

pub(super) type Package = &'static str;

#[derive(Debug, Clone)]
pub(super) enum Op {
    Add {
        release: usize,
        replace: bool,
    },
    RemoveRef {
        package: Package,
        version: &'static str,
    },
    Use {
        profile: Package,
        change: Change,
        if_current: Option<u64>,
    },
    Switch {
        profile: Package,
        to: u64,
        if_current: Option<u64>,
    },
    Rollback {
        profile: Package,
        to: Option<u64>,
    },
    SetPinned {
        profile: Package,
        number: u64,
        pinned: bool,
    },
    /// Plans a pruning, pins one generation, and only then runs the plan.
    Prune {
        profile: Package,
        keep: usize,
        pin_between: Option<u64>,
    },
    Reopen,
}

#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) set: Vec<(Package, &'static str)>,
    pub(super) remove: Vec<Package>,
    pub(super) prefer: Vec<Package>,
}

/// Changes; what they begin with makes the others find something.
pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let add = |release| Op::Add { release, replace: false };
    (Just([0, 2, 3, 4, 5, 6, 7].map(add)), vec(op(), 1..80))
        .prop_map(|(first, rest)| [&first[..], &rest].concat())
}

fn op() -> impl Strategy<Value = Op> {
    let profile = || prop_oneof![3 => Just(PROFILES[1]), 1 => Just(PROFILES[0])];
    let number = || prop_oneof![8 => 1..6u64, 1 => 0..30u64];
    let expected = || prop_oneof![6 => Just(None), 1 => (0..6u64).prop_map(Some)];
    let some = |most| vec(select(&PACKAGES[..]), 1..=most);
    let set = vec((select(&PACKAGES[..3]), select(&VERSIONS[..])), 1..=2);
    let set = prop_oneof![20 => set, 4 => Just(Vec::new()), 1 => Just(vec![("vax", "1")])];
    let remove = prop_oneof![4 => Just(Vec::new()), 1 => some(1)];
    let prefer = prop_oneof![2 => Just(Vec::new()), 1 => some(2)];
    let change = (set, remove, prefer);
    prop_oneof![
        3 => (0..RELEASES.len(), any::<bool>()).prop_map(|(release, replace)| Op::Add { release, replace }),
        1 => (select(&PACKAGES[..]), select(&VERSIONS[..]))
            .prop_map(|(package, version)| Op::RemoveRef { package, version }),
        12 => (profile(), change, expected()).prop_map(|(profile, (set, remove, prefer), if_current)| {
            Op::Use { profile, change: Change { set, remove, prefer }, if_current }
        }),
        2 => (profile(), number(), expected())
            .prop_map(|(profile, to, if_current)| Op::Switch { profile, to, if_current }),
        2 => (profile(), prop::option::weighted(0.3, number()))
            .prop_map(|(profile, to)| Op::Rollback { profile, to }),
        2 => (profile(), number(), any::<bool>())
            .prop_map(|(profile, number, pinned)| Op::SetPinned { profile, number, pinned }),
        1 => (profile(), 0..4usize, prop::option::of(number()))
            .prop_map(|(profile, keep, pin_between)| Op::Prune { profile, keep, pin_between }),
        1 => Just(Op::Reopen),
    ]
}

/// What a call says: it is all that is compared of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    Changed(bool),
    /// From, to, whether anything was recorded, and how the packages differ.
    Switched(Option<u64>, u64, bool, Vec<(String, Option<usize>, Option<usize>)>),
    /// What goes, what stays and why, and whether the plan could be run.
    Pruned(Vec<u64>, Vec<(u64, Kept)>, Result<(), Kind>),
}

pub(super) type Outcome = Result<Said, Kind>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ModelGeneration {
    pub(super) parent: Option<u64>,
    pub(super) packages: BTreeMap<String, usize>,
    pub(super) preferred: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ModelProfile {
    pub(super) current: u64,
    pub(super) last: u64,
    pub(super) pins: BTreeSet<u64>,
    pub(super) generations: BTreeMap<u64, ModelGeneration>,
}

/// What is named: releases, by their place in the list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) refs: BTreeMap<(Package, &'static str), usize>,
    pub(super) profiles: BTreeMap<String, ModelProfile>,
}

impl ModelGeneration {
    /// The package that each command is shown of; nothing if two claim one and neither is preferred.
    pub(super) fn commands(&self) -> Option<BTreeMap<&'static str, &str>> {
        let strength = |package: &str| self.preferred.iter().position(|preferred| preferred == package);
        let mut shown: BTreeMap<&'static str, &str> = BTreeMap::new();
        for (package, release) in &self.packages {
            for command in RELEASES[*release].3 {
                let other = shown.insert(command, package);
                match other.map(|other| (other, strength(other), strength(package))) {
                    Some((_, None, None)) => {
                        // A third may be preferred to both.
                        let is_offered = |name: &&String| {
                            self.packages.get(*name).is_some_and(|of| RELEASES[*of].3.contains(command))
                        };
                        self.preferred.iter().find(is_offered)?;
                    }
                    Some((other, theirs, ours)) if theirs > ours => drop(shown.insert(command, other)),
                    _ => {}
                }
            }
        }
        Some(shown)
    }
}

impl ModelProfile {
    fn shown(&self) -> Option<u64> {
        (self.current != 0).then_some(self.current)
    }

    fn current(&self) -> ModelGeneration {
        self.generations.get(&self.current).cloned().unwrap_or_default()
    }

    fn expect(&self, if_current: Option<u64>) -> Result<(), Kind> {
        if_current.is_none_or(|expected| expected == self.current).then_some(()).ok_or(Kind::Conflict)
    }

    fn show(&mut self, to: u64) -> Outcome {
        let after = self.generations.get(&to).ok_or(Kind::Absent)?;
        let changes = differences(&self.current().packages, &after.packages);
        let from = self.shown();
        self.current = to;
        Ok(Said::Switched(from, to, from != Some(to), changes))
    }

    /// The generation that a change makes of the current one.
    fn changed(&self, set: &BTreeMap<Package, usize>, change: &Change) -> Result<ModelGeneration, Kind> {
        let mut made = ModelGeneration { parent: self.shown(), ..self.current() };
        for package in &change.remove {
            made.packages.remove(*package).ok_or(Kind::Absent)?;
        }
        made.packages.extend(set.iter().map(|(package, release)| ((*package).to_owned(), *release)));
        for package in &change.prefer {
            made.packages.get(*package).ok_or(Kind::Absent)?;
            made.preferred.retain(|preferred| preferred != package);
            made.preferred.push((*package).to_owned());
        }
        made.preferred.retain(|package| made.packages.contains_key(package));
        made.commands().is_some().then_some(made).ok_or(Kind::Conflict)
    }
}

fn differences(
    from: &BTreeMap<String, usize>,
    to: &BTreeMap<String, usize>,
) -> Vec<(String, Option<usize>, Option<usize>)> {
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let change = |name: &String| (name.clone(), from.get(name).copied(), to.get(name).copied());
    names.into_iter().map(change).filter(|(_, from, to)| from != to).collect()
}

impl Model {
    pub(super) fn take(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Add { release, replace } => {
                let (package, version, ..) = RELEASES[*release];
                let there = self.refs.get(&(package, version));
                if !replace && there.is_some_and(|there| there != release) {
                    return Err(Kind::Conflict);
                }
                Ok(Said::Changed(self.refs.insert((package, version), *release) != Some(*release)))
            }
            Op::RemoveRef { package, version } => {
                self.refs.remove(&(*package, *version)).map(|_| Said::Nothing).ok_or(Kind::Absent)
            }
            Op::Use { profile, change, if_current } => self.use_(profile, change, *if_current),
            Op::Switch { profile, to, if_current } => {
                let profile = self.profile(profile)?;
                profile.expect(*if_current)?;
                profile.show(*to)
            }
            Op::Rollback { profile, to } => {
                let profile = self.profile(profile)?;
                let before = profile.generations.range(..profile.current).next_back();
                let to = to.or(before.map(|(number, _)| *number)).ok_or(Kind::Conflict)?;
                profile.show(to)
            }
            Op::SetPinned { profile, number, pinned } => {
                self.profile(profile)?.set_pinned(*number, *pinned).map(Said::Changed)
            }
            Op::Prune { profile, keep, pin_between } => self.profile(profile)?.prune(*keep, *pin_between),
            Op::Reopen => Ok(Said::Nothing),
        }
    }

    fn profile(&mut self, name: &str) -> Result<&mut ModelProfile, Kind> {
        self.profiles.get_mut(name).ok_or(Kind::Absent)
    }

    fn use_(&mut self, name: &str, change: &Change, if_current: Option<u64>) -> Outcome {
        let release = |of: &(Package, &'static str)| self.refs.get(of).copied().ok_or(Kind::Absent);
        let set: Vec<usize> = change.set.iter().map(release).collect::<Result<_, _>>()?;
        let named = change.set.iter().map(|(package, _)| package).chain(&change.remove);
        let different: BTreeSet<_> = named.clone().collect();
        if different.len() < named.count() || (different.is_empty() && change.prefer.is_empty()) {
            return Err(Kind::Misuse);
        }
        if set.iter().any(|release| !matches!(RELEASES[*release].2, RUNS_ON | "any/any")) {
            return Err(Kind::Misuse);
        }
        let set = set.into_iter().map(|release| (RELEASES[release].0, release)).collect();
        let mut profile = self.profiles.get(name).cloned().unwrap_or_default();
        profile.expect(if_current)?;
        let (before, made) = (profile.current(), profile.changed(&set, change)?);
        if made.packages == before.packages && made.preferred == before.preferred {
            return Ok(Said::Switched(profile.shown(), profile.current, false, Vec::new()));
        }
        profile.last += 1;
        let to = profile.last;
        profile.generations.insert(to, made);
        let said = profile.show(to);
        self.profiles.insert(name.to_owned(), profile);
        said
    }
}

impl ModelProfile {
    fn set_pinned(&mut self, number: u64, pinned: bool) -> Result<bool, Kind> {
        if !self.generations.contains_key(&number) {
            return Err(Kind::Absent);
        }
        Ok(if pinned { self.pins.insert(number) } else { self.pins.remove(&number) })
    }

    fn prune(&mut self, keep: usize, pin_between: Option<u64>) -> Outcome {
        let newest: BTreeSet<u64> = self.generations.keys().rev().take(keep).copied().collect();
        let kept = |number: &u64| match number {
            number if *number == self.current => Some(Kept::Current),
            number if self.pins.contains(number) => Some(Kept::Pinned),
            number if newest.contains(number) => Some(Kept::Newest),
            _ => None,
        };
        let (stays, goes): (Vec<u64>, Vec<u64>) =
            self.generations.keys().partition(|number| kept(number).is_some());
        let stays = stays.into_iter().filter_map(|number| Some((number, kept(&number)?))).collect();
        if let Some(number) = pin_between {
            let _ = self.set_pinned(number, true);
        }
        let ran = if goes.iter().any(|number| self.pins.contains(number)) {
            Err(Kind::Conflict)
        } else {
            self.generations.retain(|number, _| !goes.contains(number));
            Ok(())
        };
        Ok(Said::Pruned(goes, stays, ran))
    }
}
