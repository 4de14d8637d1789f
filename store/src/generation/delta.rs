//! How one set of packages differs from another: what the journal keeps of a generation, so that a change of one
//! package costs the same in a profile of a thousand.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Package;
use crate::id::ArtifactId;
use crate::refs::Name;

/// The packages of a generation.
pub type Packages = BTreeMap<Name, Arc<Package>>;

/// What makes one set of packages of another. Each part says what it replaces.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Delta {
    /// Packages that are new or changed.
    pub set: Vec<SetPackage>,
    /// Packages that go, each with the artifact that it was.
    pub removed: Vec<(Name, ArtifactId)>,
}

/// A package that is new or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPackage {
    /// Its name.
    pub name: Name,
    /// The artifact that it was before, if it was there.
    pub old: Option<ArtifactId>,
    /// What it is now.
    pub package: Arc<Package>,
}

impl SetPackage {
    /// What makes `package` of `old`, if they differ.
    pub(super) fn replacing(name: &Name, old: Option<&Arc<Package>>, package: &Arc<Package>) -> Option<Self> {
        let is_same = old.is_some_and(|old| Arc::ptr_eq(old, package) || old == package);
        let (name, old) = (name.clone(), old.map(|old| old.artifact));
        (!is_same).then(|| Self { name, old, package: Arc::clone(package) })
    }
}

/// A package that is not in two generations alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageChange {
    /// Its name.
    pub name: Name,
    /// What it was, if it was there.
    pub from: Option<Arc<Package>>,
    /// What it is, if it is there.
    pub to: Option<Arc<Package>>,
}

/// A package that is not what a delta replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotThere {
    /// The package.
    pub name: Name,
    /// What the delta expects.
    pub expected: Option<ArtifactId>,
    /// What there is.
    pub found: Option<ArtifactId>,
}

impl Delta {
    /// What makes `to` of `from`. Goes along both at once: packages that are the same are told by their place in memory
    /// where one set was made of the other.
    #[must_use]
    pub fn between(from: &Packages, to: &Packages) -> Self {
        let mut delta = Self::default();
        let mut from = from.iter().peekable();
        for (name, package) in to {
            while let Some((gone, old)) = from.next_if(|(before, _)| *before < name) {
                delta.removed.push((gone.clone(), old.artifact));
            }
            let old = from.next_if(|(before, _)| *before == name).map(|(_, old)| old);
            delta.set.extend(SetPackage::replacing(name, old, package));
        }
        delta.removed.extend(from.map(|(gone, old)| (gone.clone(), old.artifact)));
        delta
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }

    /// The packages that it changes, by name, with what they are in `from`, which it applies to.
    #[must_use]
    pub fn changes(&self, from: &Packages) -> Vec<PackageChange> {
        let change =
            |name: &Name, to| PackageChange { name: name.clone(), from: from.get(name).cloned(), to };
        let set = self.set.iter().map(|set| change(&set.name, Some(Arc::clone(&set.package))));
        let mut all: Vec<_> = set.chain(self.removed.iter().map(|(name, _)| change(name, None))).collect();
        all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// The set of packages that it makes of `from`.
    ///
    /// # Errors
    /// The first package that is not what is to be replaced.
    pub fn apply(&self, from: &Packages) -> Result<Packages, NotThere> {
        let mut packages = from.clone();
        for (name, old) in &self.removed {
            let found = packages.remove(name);
            expect(name, Some(*old), found.as_deref())?;
        }
        for SetPackage { name, old, package } in &self.set {
            let found = packages.insert(name.clone(), Arc::clone(package));
            expect(name, *old, found.as_deref())?;
        }
        Ok(packages)
    }
}

fn expect(name: &Name, expected: Option<ArtifactId>, found: Option<&Package>) -> Result<(), NotThere> {
    let found = found.map(|package| package.artifact);
    if found == expected {
        return Ok(());
    }
    Err(NotThere { name: name.clone(), expected, found })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packages(of: &BTreeMap<u8, u8>) -> Packages {
        let package = |content: &u8| Package {
            version: content.to_string().parse().unwrap(),
            platform: crate::refs::Platform::any(),
            artifact: ArtifactId::of(&[*content]),
            commands: BTreeMap::new(),
        };
        of.iter()
            .map(|(name, content)| (name.to_string().parse().unwrap(), package(content).into()))
            .collect()
    }

    proptest! {
        #[test]
        fn it_makes_one_of_the_other_and_nothing_else(
            from in prop::collection::btree_map(0..9u8, 0..3u8, 0..9),
            to in prop::collection::btree_map(0..9u8, 0..3u8, 0..9),
            other in prop::collection::btree_map(0..9u8, 0..3u8, 0..9),
        ) {
            let delta = Delta::between(&packages(&from), &packages(&to));
            prop_assert_eq!(delta.apply(&packages(&from)).unwrap(), packages(&to));
            prop_assert_eq!(delta.is_empty(), from == to);
            let names = delta.set.iter().map(|set| &set.name).chain(delta.removed.iter().map(|(name, _)| name));
            let fits = names.map(|name| name.as_str().parse().unwrap()).all(|name: u8| other.get(&name) == from.get(&name));
            prop_assert_eq!(delta.apply(&packages(&other)).is_ok(), fits);
        }
    }
}
