//! Making generations, and showing another one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Delta, Generation, Package, PackageChange, Packages, Profile, SetPackage};
use crate::error::{Error, Result};
use crate::id::ArtifactId;
use crate::journal::Op;
use crate::refs::{Name, Platform, ProfileName, RefKey, View};
use crate::time::now_ms;
use crate::writer::Writer;

/// Generations of a profile, at most: pruning makes room. Each takes memory for every package that it has.
const GENERATIONS_MAX: usize = 10_000;
/// Packages of a generation, at most.
const PACKAGES_MAX: usize = 10_000;

/// A change of the packages of a profile.
#[derive(Debug, Clone, Default)]
pub struct UseOptions {
    /// The profile; one that is not there is made.
    pub profile: ProfileName,
    /// Versions that it is to have, in place of other versions of the same packages.
    pub set: Vec<(RefKey, ArtifactId)>,
    /// Packages that it is to have no longer.
    pub remove: Vec<Name>,
    /// Packages whose commands are to win over those of others, the strongest last. They stay preferred.
    pub prefer: Vec<Name>,
    /// The generation that has to be current, 0 for none: else nothing is changed.
    pub if_current: Option<u64>,
    /// What packages have to run on, if they do not run on anything: this machine, if nothing is said.
    pub platform: Option<Platform>,
    /// Whether versions will do of which files are not here yet. They are known as such from then on.
    pub allow_partial: bool,
}

/// A profile shows another generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switched {
    /// The profile.
    pub profile: ProfileName,
    /// What it showed, if anything.
    pub from: Option<u64>,
    /// What it shows.
    pub to: u64,
    /// Sequence number of the journal's record; none where nothing changed.
    pub seq: Option<u64>,
    /// How the packages differ, by name.
    pub changes: Vec<PackageChange>,
}

impl Writer {
    /// Makes a generation of the current one, with some packages changed, and shows it; both or neither. If nothing
    /// would be different, no generation is made.
    ///
    /// # Errors
    /// [`Error::Incomplete`], [`Error::WrongPlatform`], [`Error::CommandClash`], [`Error::NoPackage`] when one to be
    /// removed or preferred is not there, [`Error::Conflict`] when another generation is current than is expected or
    /// there are too many, [`Error::Invalid`] for contradictory options, [`Error::Absent`] and [`Error::Damaged`] when an
    /// artifact is, [`Error::Io`].
    pub fn use_packages(&self, options: &UseOptions) -> Result<Switched> {
        check_names(options)?;
        // What is found to be here stays until it is named.
        let _nothing_goes = self.holds().naming_what_is_here();
        // What takes time is done before names are locked. An artifact never changes.
        let (set, not_whole) = self.packages(options)?;
        let (mut names, view) = self.lock_names();
        let none = Profile::default();
        let profile = view.profiles.get(&options.profile).unwrap_or(&none);
        check_current(&options.profile, profile, options.if_current)?;
        let empty = Generation { parent: None, time_ms: 0, packages: Packages::new(), preferred: Vec::new() };
        let before = profile.current().map_or(&empty, |generation| &**generation);
        let delta = delta(options, &before.packages, &set)?;
        let preferred = preferred(options, before, &delta)?;
        check_commands(&before.packages, &delta, &preferred)?;
        let (from, changes) = (shown(profile), delta.changes(&before.packages));
        let mut switched =
            Switched { profile: options.profile.clone(), from, to: profile.current, seq: None, changes };
        if delta.is_empty() && preferred == before.preferred {
            return Ok(switched);
        }
        check_room(&options.profile, profile, before.packages.len() + delta.set.len() - delta.removed.len())?;
        switched.to = profile.last + 1;
        let (profile, number) = (options.profile.clone(), switched.to);
        let mut ops: Vec<Op> = not_whole
            .into_iter()
            .filter(|artifact| !view.partial.contains(artifact))
            .map(|artifact| Op::SetPartial { artifact })
            .collect();
        ops.extend([
            Op::AddGeneration {
                profile: profile.clone(),
                number,
                base: from,
                delta,
                preferred,
                time_ms: now_ms(),
            },
            Op::SetCurrent { profile, old: from, number },
        ]);
        drop(view);
        switched.seq = Some(self.change(&mut names, ops)?);
        Ok(switched)
    }

    /// Shows another generation of a profile: the flip. No content is read. `if_current` is the generation that has to
    /// be current before.
    ///
    /// # Errors
    /// [`Error::NoGeneration`], [`Error::Conflict`] when another generation is current than is expected, [`Error::Io`].
    pub fn switch(&self, profile: &ProfileName, to: u64, if_current: Option<u64>) -> Result<Switched> {
        self.show(profile, if_current, |_| Some(to))
    }

    /// Shows an earlier generation: `to`, or the one before the current one.
    ///
    /// # Errors
    /// [`Error::NoGeneration`], [`Error::Conflict`] when there is none before the current one, [`Error::Io`].
    pub fn rollback(&self, profile: &ProfileName, to: Option<u64>) -> Result<Switched> {
        self.show(profile, None, |found| {
            to.or_else(|| found.generations.range(..found.current).next_back().map(|(number, _)| *number))
        })
    }

    /// Keeps pruning away from a generation; whether it was not so before.
    ///
    /// # Errors
    /// [`Error::NoGeneration`], [`Error::Io`].
    pub fn pin(&self, profile: &ProfileName, number: u64) -> Result<bool> {
        self.set_pinned(profile, number, true)
    }

    /// Lets pruning take a generation again; whether it was not so before.
    ///
    /// # Errors
    /// [`Error::NoGeneration`], [`Error::Io`].
    pub fn unpin(&self, profile: &ProfileName, number: u64) -> Result<bool> {
        self.set_pinned(profile, number, false)
    }

    fn set_pinned(&self, name: &ProfileName, number: u64, pinned: bool) -> Result<bool> {
        let (mut names, view) = self.lock_names();
        let profile = profile_of(&view, name, number)?;
        generation_of(profile, name, number)?;
        if profile.pins.contains(&number) == pinned {
            return Ok(false);
        }
        let profile = name.clone();
        let op = if pinned { Op::Pin { profile, number } } else { Op::Unpin { profile, number } };
        drop(view);
        self.change(&mut names, vec![op])?;
        Ok(true)
    }

    fn show(
        &self,
        name: &ProfileName,
        if_current: Option<u64>,
        choose: impl FnOnce(&Profile) -> Option<u64>,
    ) -> Result<Switched> {
        let (mut names, view) = self.lock_names();
        let profile = profile_of(&view, name, 0)?;
        check_current(name, profile, if_current)?;
        let to = choose(profile).ok_or_else(|| Error::Conflict {
            what: format!("profile {name}"),
            detail: format!("there is no generation before {}", profile.current),
        })?;
        let after = generation_of(profile, name, to)?;
        let unpacked = Packages::new();
        let before = profile.current().map_or(&unpacked, |generation| &generation.packages);
        let delta = Delta::between(before, &after.packages);
        let (from, changes) = (shown(profile), delta.changes(before));
        let mut switched = Switched { profile: name.clone(), from, to, seq: None, changes };
        if from != Some(to) {
            drop(view);
            let op = Op::SetCurrent { profile: name.clone(), old: from, number: to };
            switched.seq = Some(self.change(&mut names, vec![op])?);
        }
        Ok(switched)
    }

    /// The packages that are to be set, each with its commands, once it is certain that they can be used; and those
    /// artifacts among them that are not whole.
    fn packages(&self, options: &UseOptions) -> Result<(Packages, BTreeSet<ArtifactId>)> {
        let mut not_whole = BTreeSet::new();
        let wanted = options.platform.clone().unwrap_or_else(Platform::current);
        let mut package = |(key, artifact): &(RefKey, ArtifactId)| {
            if key.platform != wanted && key.platform != Platform::any() {
                return Err(Error::WrongPlatform { what: key.to_string(), wanted: wanted.clone() });
            }
            let missing = self.missing(artifact, &())?;
            if !missing.is_nothing() {
                // What leads to the files has to be here in any case.
                if !options.allow_partial || missing.objects > 0 {
                    return Err(Error::Incomplete { what: key.to_string(), missing });
                }
                not_whole.insert(*artifact);
            }
            let (version, platform) = (key.version.clone(), key.platform.clone());
            let commands = self.commands(artifact)?;
            let package = Package { version, platform, artifact: *artifact, commands };
            Ok((key.name.clone(), Arc::new(package)))
        };
        let packages = options.set.iter().map(&mut package).collect::<Result<_>>()?;
        Ok((packages, not_whole))
    }
}

/// Each package is to be changed in one way.
fn check_names(options: &UseOptions) -> Result<()> {
    let invalid = |given: String, reason: &str| {
        Err(Error::Invalid { what: "change of a profile", given, reason: reason.to_owned() })
    };
    let mut seen = BTreeSet::new();
    for name in options.set.iter().map(|(key, _)| &key.name).chain(&options.remove) {
        if !seen.insert(name) {
            return invalid(name.to_string(), "the package is named more than once");
        }
    }
    if seen.is_empty() && options.prefer.is_empty() {
        return invalid(options.profile.to_string(), "no package is named");
    }
    Ok(())
}

/// What `options` change of these packages, `set` being what they set.
fn delta(options: &UseOptions, before: &Packages, set: &Packages) -> Result<Delta> {
    let gone = |name: &Name| match before.get(name) {
        Some(package) => Ok((name.clone(), package.artifact)),
        None => Err(Error::NoPackage { profile: options.profile.clone(), name: name.clone() }),
    };
    let set = set.iter().filter_map(|(name, package)| SetPackage::replacing(name, before.get(name), package));
    Ok(Delta { set: set.collect(), removed: options.remove.iter().map(gone).collect::<Result<_>>()? })
}

/// The packages that are preferred once `before` is changed by `delta`.
fn preferred(options: &UseOptions, before: &Generation, delta: &Delta) -> Result<Vec<Name>> {
    let is_removed = |name: &Name| delta.removed.iter().any(|(removed, _)| removed == name);
    let is_set = |name: &Name| delta.set.iter().any(|set| set.name == *name);
    let is_there = |name: &Name| is_set(name) || (before.packages.contains_key(name) && !is_removed(name));
    if let Some(name) = options.prefer.iter().find(|name| !is_there(name)) {
        return Err(Error::NoPackage { profile: options.profile.clone(), name: name.clone() });
    }
    let still = before.preferred.iter().filter(|name| is_there(name) && !options.prefer.contains(name));
    let mut preferred: Vec<Name> = still.cloned().collect();
    for name in &options.prefer {
        preferred.retain(|earlier| earlier != name);
        preferred.push(name.clone());
    }
    Ok(preferred)
}

/// Of packages that offer a command of one name, one has to be preferred. Looks at the commands of packages that change
/// or go: nobody else's can clash that did not before.
fn check_commands(before: &Packages, delta: &Delta, preferred: &[Name]) -> Result<()> {
    let changed: BTreeSet<&Name> =
        delta.set.iter().map(|set| &set.name).chain(delta.removed.iter().map(|(name, _)| name)).collect();
    let old = changed.iter().filter_map(|name| before.get(*name));
    let touched: BTreeSet<&[u8]> = old
        .chain(delta.set.iter().map(|set| &set.package))
        .flat_map(|package| package.commands.keys().map(|command| &**command))
        .collect();
    let same = before.iter().filter(|(name, _)| !changed.contains(name));
    let mut offers: BTreeMap<&[u8], Vec<&Name>> = BTreeMap::new();
    for (name, package) in same.chain(delta.set.iter().map(|set| (&set.name, &set.package))) {
        for command in package.commands.keys().filter(|command| touched.contains(&***command)) {
            offers.entry(command).or_default().push(name);
        }
    }
    for (command, names) in &mut offers {
        names.sort_unstable();
        if let [first, second, ..] = names[..]
            && !names.iter().any(|name| preferred.contains(name))
        {
            let (first, second) = (first.clone(), second.clone());
            let command = String::from_utf8_lossy(command).into_owned();
            return Err(Error::CommandClash { command, first, second });
        }
    }
    Ok(())
}

fn check_room(name: &ProfileName, profile: &Profile, packages: usize) -> Result<()> {
    if profile.generations.len() < GENERATIONS_MAX && packages <= PACKAGES_MAX {
        return Ok(());
    }
    Err(Error::Conflict {
        what: format!("profile {name}"),
        detail: format!(
            "it can have {GENERATIONS_MAX} generations, and {PACKAGES_MAX} packages in each: prune it first"
        ),
    })
}

fn check_current(name: &ProfileName, profile: &Profile, expected: Option<u64>) -> Result<()> {
    let say = |number: u64| if number == 0 { "none".to_owned() } else { number.to_string() };
    match expected {
        Some(expected) if expected != profile.current => Err(Error::Conflict {
            what: format!("profile {name}"),
            detail: format!(
                "its current generation is {}, not {}: somebody else changed it",
                say(profile.current),
                say(expected)
            ),
        }),
        _ => Ok(()),
    }
}

fn shown(profile: &Profile) -> Option<u64> {
    (profile.current != 0).then_some(profile.current)
}

/// A profile that has to be there, of which generation `number` is wanted.
pub(super) fn profile_of<'a>(view: &'a View, name: &ProfileName, number: u64) -> Result<&'a Profile> {
    let absent = || match number {
        0 => Error::Absent { what: format!("profile {name}") },
        number => Error::NoGeneration { profile: name.clone(), number },
    };
    view.profiles.get(name).ok_or_else(absent)
}

fn generation_of<'a>(profile: &'a Profile, name: &ProfileName, number: u64) -> Result<&'a Arc<Generation>> {
    let absent = || Error::NoGeneration { profile: name.clone(), number };
    profile.generations.get(&number).ok_or_else(absent)
}
