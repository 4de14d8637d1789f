//! Whether a new view leaves what the kernel may have kept of the old one true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_store::{ArtifactId, Name, Version};

use super::{Shown, marked_name};

/// The names of one version in its package's directory, and the name that links to each artifact use.
type VersionNames = (BTreeMap<String, ArtifactId>, BTreeMap<ArtifactId, String>);

impl Shown {
    /// Whether all that is shown here is the same in `new`, which may show more. Absent names are never kept by the
    /// kernel, so more is no matter.
    ///
    /// A flip is told in a time that does not depend on how many names there are; that refs were only added takes going
    /// through them.
    pub(crate) fn holds_in(&self, new: &Self) -> bool {
        if Arc::ptr_eq(&self.view, &new.view) {
            return true;
        }
        if self.current().is_some_and(|current| new.current() != Some(current)) {
            return false;
        }
        let is_there = |number: &u64| new.generation(*number).is_some();
        if !self.profile().is_none_or(|profile| profile.generations.keys().all(is_there)) {
            return false;
        }
        let Some(added) = self.added_to(new) else { return false };
        added.iter().all(|(name, version)| self.version_holds_in(new, name, version))
    }

    /// The versions that `new` has more refs of, or more artifacts without a ref; `None` if a ref is gone or was
    /// replaced.
    fn added_to<'a>(&self, new: &'a Self) -> Option<BTreeSet<(&'a Name, &'a Version)>> {
        let mut added = self.refs_added_to(new)?;
        for (number, generation) in new.profile().into_iter().flat_map(|profile| &profile.generations) {
            if self.generation(*number).is_some() {
                continue;
            }
            let named = generation.packages.iter().map(|(name, package)| (name, &package.version));
            added.extend(named.filter(|(name, version)| new.refs_of(name, version).next().is_none()));
        }
        Some(added)
    }

    fn refs_added_to<'a>(&self, new: &'a Self) -> Option<BTreeSet<(&'a Name, &'a Version)>> {
        let mut added = BTreeSet::new();
        // Clones of a view share what did not change.
        if std::ptr::eq(&*self.view.refs, &*new.view.refs) {
            return Some(added);
        }
        let mut before = self.view.refs.iter().peekable();
        for (key, record) in &new.view.refs {
            match before.peek() {
                Some((old, was)) if *old == key => {
                    if was.artifact != record.artifact {
                        return None;
                    }
                    before.next();
                }
                Some((old, _)) if *old < key => return None,
                _ => {
                    added.insert((&key.name, &key.version));
                }
            }
        }
        before.next().is_none().then_some(added)
    }

    fn version_holds_in(&self, new: &Self, name: &Name, version: &Version) -> bool {
        let ((before, links_before), (after, links_after)) =
            (self.names_of(name, version), new.names_of(name, version));
        before.iter().all(|(shown, artifact)| after.get(shown) == Some(artifact))
            && links_before.iter().all(|(artifact, shown)| links_after.get(artifact) == Some(shown))
    }

    fn names_of(&self, name: &Name, version: &Version) -> VersionNames {
        let (mut names, mut links) = (BTreeMap::new(), BTreeMap::new());
        let (plain, _) = self.plain(name, version).unzip();
        for (key, record) in self.refs_of(name, version) {
            let shown = if plain == Some(key) { version.to_string() } else { marked_name(key) };
            names.insert(shown, record.artifact);
        }
        let packages = self.with_named(|named| named.of(name));
        for package in packages.iter().filter(|package| package.version == *version) {
            let shown = self.shown_version(name, package);
            names.insert(shown.clone(), package.artifact);
            links.insert(package.artifact, shown);
        }
        (names, links)
    }
}
