//! Which artifacts the generations of a profile name, counted, so that following the profile from one view to another
//! takes going through the generations that came and went, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_store::{ArtifactId, Generation, Name, Package, Platform, ProfileName, Version, View};

/// How many generations name an artifact as a version.
struct Count {
    platform: Platform,
    generations: u64,
}

/// The artifacts of a profile's generations.
#[derive(Default)]
pub(super) struct Named {
    /// The view that this is of.
    view: Option<Arc<View>>,
    /// The generations that are counted.
    generations: BTreeMap<u64, Arc<Generation>>,
    packages: BTreeMap<Name, BTreeMap<(Version, ArtifactId), Count>>,
}

impl Named {
    /// Makes it what the profile's generations name in this view.
    pub(super) fn follow(&mut self, view: &Arc<View>, profile: &ProfileName) {
        if self.view.as_ref().is_some_and(|known| Arc::ptr_eq(known, view)) {
            return;
        }
        let none = BTreeMap::new();
        let now = view.profiles.get(profile).map_or(&none, |profile| &profile.generations);
        let same = |known: &Arc<Generation>, other: Option<&Arc<Generation>>| {
            other.is_some_and(|other| Arc::ptr_eq(known, other))
        };
        let gone: Vec<u64> = self
            .generations
            .iter()
            .filter(|(number, known)| !same(known, now.get(number)))
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            if let Some(generation) = self.generations.remove(&number) {
                self.discount(&generation);
            }
        }
        for (number, generation) in now {
            if !self.generations.contains_key(number) {
                self.count(generation);
                self.generations.insert(*number, Arc::clone(generation));
            }
        }
        self.view = Some(Arc::clone(view));
    }

    fn count(&mut self, generation: &Generation) {
        for (name, package) in &generation.packages {
            if !self.packages.contains_key(name) {
                self.packages.insert(name.clone(), BTreeMap::new());
            }
            let Some(versions) = self.packages.get_mut(name) else { continue };
            versions
                .entry((package.version.clone(), package.artifact))
                .or_insert_with(|| Count { platform: package.platform.clone(), generations: 0 })
                .generations += 1;
        }
    }

    fn discount(&mut self, generation: &Generation) {
        for (name, package) in &generation.packages {
            let Some(versions) = self.packages.get_mut(name) else { continue };
            let key = (package.version.clone(), package.artifact);
            if let Some(count) = versions.get_mut(&key) {
                count.generations -= 1;
                if count.generations == 0 {
                    versions.remove(&key);
                }
            }
            if versions.is_empty() {
                self.packages.remove(name);
            }
        }
    }

    /// Whether a generation has the package.
    pub(super) fn has(&self, name: &Name) -> bool {
        self.packages.contains_key(name)
    }

    /// All packages' names.
    pub(super) fn names(&self) -> BTreeSet<Name> {
        self.packages.keys().cloned().collect()
    }

    /// What generations have of a package, without commands.
    pub(super) fn of(&self, name: &Name) -> Vec<Package> {
        let versions = self.packages.get(name).into_iter().flatten();
        let package = |((version, artifact), count): (&(Version, ArtifactId), &Count)| Package {
            version: version.clone(),
            platform: count.platform.clone(),
            artifact: *artifact,
            commands: BTreeMap::new(),
        };
        versions.map(package).collect()
    }

    /// What generations have of one version.
    pub(super) fn of_version<'a>(
        &'a self,
        name: &Name,
        version: &'a Version,
    ) -> impl Iterator<Item = (ArtifactId, &'a Platform)> {
        let least = (version.clone(), ArtifactId([0; 32]));
        let versions = self.packages.get(name).map(|versions| versions.range(least..));
        versions
            .into_iter()
            .flatten()
            .take_while(move |((there, _), _)| there == version)
            .map(|((_, artifact), count)| (*artifact, &count.platform))
    }
}
