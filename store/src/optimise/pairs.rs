//! Which version is told in terms of which.
//!
//! Versions of a name that others are told in terms of are its anchors, and stay plain. Each older version is told in terms
//! of one that is at most [`STEPS_MAX`] versions away, older or newer, if it can be of one that is an anchor already:
//! then of each nine versions at least one is plain, and whatever is read, frames are decoded of one level more.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::graph::Graph;
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId};
use crate::progress::Progress;
use crate::refs::{Name, Platform, RefKey, View};
use crate::sending::lacking::visit_all;
use crate::store::{Store, is_damage};

/// How many versions a version may be away from the one that it is told in terms of. Measured with six releases of a Rust
/// program of 37 MB: five told in terms of the newest come to 8 % of their bytes, maps and tables of chunks included.
const STEPS_MAX: usize = 8;
/// A version is told when more than one in so many of the bytes that it alone has is, and an anchor when one in so many
/// has something standing on it.
const TOLD_PART: u64 = 10;
const ANCHOR_PART: u64 = 20;

/// A pair of versions.
pub(super) struct Pair {
    pub(super) version: (RefKey, ArtifactId),
    pub(super) base: (RefKey, ArtifactId),
}

/// A version, and what is known of the chunks that it alone of its name has.
struct Version {
    key: (RefKey, ArtifactId),
    /// It has to stay plain.
    is_plain: bool,
    own_bytes: u64,
    told_bytes: u64,
    based_bytes: u64,
}

impl Version {
    fn is_told(&self) -> bool {
        self.told_bytes * TOLD_PART > self.own_bytes
    }

    fn is_anchor(&self) -> bool {
        self.based_bytes > 0 && self.based_bytes * ANCHOR_PART >= self.own_bytes && !self.is_told()
    }
}

/// What has to be known to pair versions.
pub(super) struct Standing<'a> {
    /// What stays plain.
    pub(super) plain: &'a BTreeSet<ArtifactId>,
    /// What stands on what.
    pub(super) graph: &'a Graph,
}

/// Each version that need not stay plain, and the one that it is told in terms of; of each name from the newest on, if
/// one of its versions is asked for. Versions of which metadata cannot be read are left out.
pub(super) fn pairs(
    store: &Store,
    view: &View,
    standing: &Standing<'_>,
    is_asked: &dyn Fn(&ArtifactId) -> bool,
    progress: &dyn Progress,
) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for versions in by_name(view).into_values().filter(|versions| versions.len() > 1) {
        if versions.iter().any(|(_, artifact)| is_asked(artifact)) {
            choose(&surveyed(store, versions, standing, progress)?, &mut pairs);
        }
    }
    Ok(pairs)
}

/// The versions of each name that are whole here, ascending.
pub(super) fn by_name(view: &View) -> BTreeMap<(Name, Platform), Vec<(RefKey, ArtifactId)>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (key, record) in view.refs.iter().filter(|(_, record)| !view.partial.contains(&record.artifact)) {
        let versions = found.entry((key.name.clone(), key.platform.clone())).or_default();
        versions.push((key.clone(), record.artifact));
    }
    found
}

fn surveyed(
    store: &Store,
    versions: Vec<(RefKey, ArtifactId)>,
    Standing { plain, graph }: &Standing<'_>,
    progress: &dyn Progress,
) -> Result<Vec<Version>> {
    let mut found: Vec<Version> = Vec::with_capacity(versions.len());
    // Whose a chunk is; nobody's if it is in several.
    let mut owners: HashMap<ChunkId, (Option<usize>, u32)> = HashMap::new();
    for key in versions {
        let number = found.len();
        let visited =
            visit_all(store, &key.1, &Quiet(progress), &mut |seen| match owners.entry(seen.chunk.id) {
                _ if seen.chunk.is_hole() => {}
                Entry::Vacant(entry) => _ = entry.insert((Some(number), seen.chunk.len)),
                Entry::Occupied(mut entry) if entry.get().0 != Some(number) => entry.get_mut().0 = None,
                Entry::Occupied(_) => {}
            });
        match visited {
            Ok(()) => {}
            Err(error) if is_damage(&error) || matches!(error, Error::Absent { .. }) => continue,
            Err(error) => return Err(error),
        }
        let is_plain = plain.contains(&key.1);
        found.push(Version { key, is_plain, own_bytes: 0, told_bytes: 0, based_bytes: 0 });
    }
    for (id, (owner, len)) in owners {
        // Of one that could not be read to its end, something may be noted without a version.
        let Some(version) = owner.and_then(|owner| found.get_mut(owner)) else { continue };
        let len = u64::from(len);
        version.own_bytes += len;
        version.told_bytes += if graph.is_told(&id) { len } else { 0 };
        version.based_bytes += if graph.is_base(&id) { len } else { 0 };
    }
    Ok(found)
}

/// Whether it is to stop.
struct Quiet<'a>(&'a dyn Progress);

impl Progress for Quiet<'_> {
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

/// Pairs the versions of a name, which ascend.
fn choose(versions: &[Version], pairs: &mut Vec<Pair>) {
    let is_same = |a: &Version, b: &Version| a.key.1 == b.key.1;
    let mut anchors: BTreeSet<usize> = (0..versions.len())
        .filter(|number| versions[*number].is_plain || versions[*number].is_anchor())
        .collect();
    for (number, version) in versions.iter().enumerate().rev() {
        if version.is_plain || versions.iter().any(|other| other.is_plain && is_same(version, other)) {
            continue;
        }
        let near = number.saturating_sub(STEPS_MAX)..=number + STEPS_MAX;
        let best = anchors
            .range(near)
            .filter(|anchor| !is_same(&versions[**anchor], version) && !versions[**anchor].is_told())
            .max_by_key(|anchor| {
                let steps = anchor.abs_diff(number);
                (versions[**anchor].based_bytes, std::cmp::Reverse(steps), **anchor)
            });
        match best {
            _ if version.is_anchor() => {}
            Some(anchor) => {
                pairs.push(Pair { version: version.key.clone(), base: versions[*anchor].key.clone() })
            }
            None => _ = anchors.insert(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Versions with numbers for names; `p` has to stay plain, `a` has something standing on it, `t` is told.
    fn chosen(kinds: &str) -> Vec<(usize, usize)> {
        let version = |(number, kind): (usize, char)| {
            let name = (format!("1.{number}").parse().unwrap(), "app".parse().unwrap());
            let key = RefKey { name: name.1, version: name.0, platform: "any/any".parse().unwrap() };
            Version {
                key: (key, ArtifactId::of(&number.to_le_bytes())),
                is_plain: kind == 'p',
                own_bytes: 100,
                told_bytes: if kind == 't' { 80 } else { 0 },
                based_bytes: if kind == 'a' { 60 } else { 0 },
            }
        };
        let versions: Vec<Version> = kinds.chars().enumerate().map(version).collect();
        let mut pairs = Vec::new();
        choose(&versions, &mut pairs);
        let number = |key: &(RefKey, ArtifactId)| versions.iter().position(|it| it.key == *key).unwrap();
        pairs.iter().map(|pair| (number(&pair.version), number(&pair.base))).collect()
    }

    #[test]
    fn older_versions_stand_on_the_newest_or_on_what_has_something_on_it_already() {
        assert_eq!(chosen("p"), []);
        assert_eq!(chosen("..p"), [(1, 2), (0, 2)]);
        assert_eq!(chosen("ta.p"), [(2, 1), (0, 1)]);
        assert_eq!(chosen("ta"), [(0, 1)]);
        assert_eq!(chosen("pt.p"), [(2, 3), (1, 0)]);
        // The anchor is too far away for the last two.
        assert_eq!(
            chosen("attttttt..p"),
            [(9, 10), (8, 0), (7, 0), (6, 0), (5, 0), (4, 0), (3, 0), (2, 0), (1, 0)]
        );
    }

    #[test]
    fn of_many_versions_some_stay_plain() {
        let pairs = chosen(&format!("{}p", ".".repeat(20)));
        let told: BTreeSet<usize> = pairs.iter().map(|pair| pair.0).collect();
        let plain: Vec<usize> = (0..21).filter(|number| !told.contains(number)).collect();
        assert_eq!(plain, [2, 11, 20]);
        assert!(
            pairs.iter().all(|(version, base)| version.abs_diff(*base) <= STEPS_MAX && !told.contains(base))
        );
    }
}
