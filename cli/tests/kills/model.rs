//! What a store was told and what it acknowledged.

use std::collections::BTreeMap;

use cairn_store::View;

/// Package and number of a version; the number also says which tree it is.
pub(crate) type Key = (&'static str, u64);

/// A profile as its one client knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) current: u64,
    pub(crate) last: u64,
    pub(crate) generations: BTreeMap<u64, BTreeMap<String, String>>,
}

/// What is known of a store. Each version and the profile have one client that changes them.
#[derive(Debug, Default)]
pub(crate) struct Model {
    versions: BTreeMap<Key, Known>,
    /// What the profile may be; the first is what was acknowledged.
    profile: Vec<Profile>,
}

/// What is known of a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) is_there: bool,
    /// Whether a change of it was begun and its end not seen.
    is_uncertain: bool,
    /// How often something was begun with it.
    changes: u64,
}

impl Known {
    /// Whether it is there and nobody is about to change that.
    pub(crate) fn is_certain(self) -> bool {
        self.is_there && !self.is_uncertain
    }
}

impl Model {
    pub(crate) fn of(&self, key: Key) -> Known {
        self.versions.get(&key).copied().unwrap_or_default()
    }

    /// Versions that are there for certain.
    pub(crate) fn certain(&self) -> Vec<Key> {
        self.versions.iter().filter(|(_, known)| known.is_certain()).map(|(key, _)| *key).collect()
    }

    /// A change of a version begins.
    pub(crate) fn begin(&mut self, key: Key) {
        let known = self.versions.entry(key).or_default();
        known.is_uncertain = true;
        known.changes += 1;
    }

    /// It is known how it ended.
    pub(crate) fn ended(&mut self, key: Key, is_there: bool) {
        let known = self.versions.entry(key).or_default();
        (known.is_there, known.is_uncertain) = (is_there, false);
    }

    pub(crate) fn profile(&self) -> Profile {
        self.profile.first().cloned().unwrap_or_default()
    }

    /// A change of the profile begins, which makes this of it.
    pub(crate) fn begin_profile(&mut self, after: Profile) {
        let before = self.profile();
        self.profile = vec![before, after];
    }

    pub(crate) fn profile_ended(&mut self, is_changed: bool) {
        if is_changed {
            self.profile.remove(0);
        } else {
            self.profile.truncate(1);
        }
    }

    /// What the store says is what is known from now on, if it is one of the things that it may be.
    pub(crate) fn settle(&mut self, view: &View, packages: [&'static str; 2]) {
        let mut found = BTreeMap::new();
        for key in view.refs.keys() {
            let package =
                packages.into_iter().find(|name| *name == key.name.as_str()).expect("it is one of ours");
            found.insert((package, key.version.as_str().parse::<u64>().unwrap()), ());
        }
        for (key, known) in &mut self.versions {
            let is_there = found.remove(key).is_some();
            assert!(
                known.is_uncertain || known.is_there == is_there,
                "{key:?}: found {is_there}, and {known:?}"
            );
            (known.is_there, known.is_uncertain) = (is_there, false);
        }
        assert!(found.is_empty(), "{found:?} was never added");
        let profile = view.profiles.values().next().map(|found| Profile {
            current: found.current,
            last: found.last,
            generations: found
                .generations
                .iter()
                .map(|(number, it)| {
                    let versions =
                        it.packages.iter().map(|(name, one)| (name.to_string(), one.version.to_string()));
                    (*number, versions.collect())
                })
                .collect(),
        });
        let profile = profile.unwrap_or_default();
        let possible =
            self.profile.contains(&profile) || self.profile.is_empty() && profile == Profile::default();
        assert!(possible, "found {profile:?}, and not one of {:?}", self.profile);
        self.profile = vec![profile];
    }
}
