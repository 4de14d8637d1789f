//! What the directories show that the mount makes up: the root, `generations`, the generations, and the packages.
//!
//! [`Shown`] answers from a view of the names as it is, so that making one takes the same time for any number of
//! packages and generations. What would take going through all of them is made when it is first asked for.
//!
//! Names of versions: `V` is the ref `name@V` for the mount's platform, else for `any/any`, else the only one there is;
//! refs for other platforms are `V@os-arch`. What only a generation of the profile still names is `V` if no ref has that
//! version, else `V@` and 12 digits of the artifact's id. No version has an `@` in it, and no id a `-`.

mod bins;
mod compare;
mod named;
mod order;

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Arc, Mutex, OnceLock};

use cairn_store::{
    ArtifactId, Generation, Name, Package, Platform, Profile, ProfileName, RefKey, RefRecord, Version, View,
};

pub(crate) use bins::{Bins, Links};
use named::Named;
pub(crate) use order::{COOKIE_BITS, FIRST_COOKIE, Listing};

/// What a made-up directory's name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shows {
    Generations,
    Generation(u64),
    Bin(u64),
    Package(Name),
    Version(ArtifactId),
    Link(Vec<u8>),
}

/// What is shown, as of one view.
pub(crate) struct Shown {
    view: Arc<View>,
    profile: ProfileName,
    platform: Platform,
    /// Which artifacts the profile's generations name. Guards what was last made of it; a leaf lock.
    named: Arc<Mutex<Named>>,
    bins: Arc<Bins>,
    /// Names of the root's packages, once they were asked for.
    packages: OnceLock<BTreeSet<Name>>,
}

impl Shown {
    pub(crate) fn new(view: Arc<View>, profile: ProfileName, platform: Platform) -> Self {
        let (named, bins) = (Arc::default(), Arc::new(Bins::default()));
        Self { view, profile, platform, named, bins, packages: OnceLock::new() }
    }

    /// The same mount with another view.
    pub(crate) fn with_view(&self, view: Arc<View>) -> Self {
        Self {
            view,
            profile: self.profile.clone(),
            platform: self.platform.clone(),
            named: Arc::clone(&self.named),
            bins: Arc::clone(&self.bins),
            packages: OnceLock::new(),
        }
    }

    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    fn profile(&self) -> Option<&Profile> {
        self.view.profiles.get(&self.profile)
    }

    /// The number of the current generation, if there is one.
    pub(crate) fn current(&self) -> Option<u64> {
        self.profile().filter(|profile| profile.current().is_some()).map(|profile| profile.current)
    }

    pub(crate) fn generation(&self, number: u64) -> Option<&Arc<Generation>> {
        self.profile()?.generations.get(&number)
    }

    fn with_named<T>(&self, ask: impl FnOnce(&Named) -> T) -> T {
        let mut named = self.named.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        named.follow(&self.view, &self.profile);
        ask(&named)
    }

    /// What a name of the root stands for.
    pub(crate) fn in_root(&self, name: &[u8]) -> Option<Shows> {
        match name {
            b"generations" => Some(Shows::Generations),
            b"bin" => self.current().map(|_| Shows::Link(b"current/bin".to_vec())),
            b"current" => self.current().map(|n| Shows::Link(format!("generations/{n}").into_bytes())),
            _ => parse::<Name>(name).filter(|name| self.has_package(name)).map(Shows::Package),
        }
    }

    /// What a name of `generations` stands for.
    pub(crate) fn in_generations(&self, name: &[u8]) -> Option<Shows> {
        let number: u64 = std::str::from_utf8(name).ok()?.parse().ok()?;
        // `+7` and `07` are numbers, too.
        (number.to_string().as_bytes() == name && self.generation(number).is_some())
            .then_some(Shows::Generation(number))
    }

    /// What a name of a generation stands for.
    pub(crate) fn in_generation(&self, number: u64, name: &[u8]) -> Option<Shows> {
        let generation = self.generation(number)?;
        if name == b"bin" {
            return Some(Shows::Bin(number));
        }
        let name: Name = parse(name)?;
        let package = generation.packages.get(&name)?;
        Some(Shows::Link(self.package_target(&name, package)))
    }

    /// Where a generation's link to a package leads.
    fn package_target(&self, name: &Name, package: &Package) -> Vec<u8> {
        format!("../../{name}/{}", self.shown_version(name, package)).into_bytes()
    }

    /// The commands of a generation.
    pub(crate) fn bin(&self, number: u64) -> Option<Arc<Links>> {
        Some(self.bins.get(number, self.generation(number)?))
    }

    /// What a name of a package's directory stands for.
    pub(crate) fn in_package(&self, package: &Name, name: &[u8]) -> Option<Shows> {
        if name == b"current" {
            let current = self.profile()?.current()?.packages.get(package)?;
            return Some(Shows::Link(self.shown_version(package, current).into_bytes()));
        }
        let text = std::str::from_utf8(name).ok()?;
        let (version, mark) = match text.split_once('@') {
            Some((version, mark)) => (version, Some(mark)),
            None => (text, None),
        };
        let version: Version = version.parse().ok()?;
        let artifact = match mark {
            None => match self.plain(package, &version) {
                Some((_, record)) => record.artifact,
                None => self.plain_orphan(package, &version)?,
            },
            Some(mark) => match mark.split_once('-') {
                Some((os, arch)) => self.marked(package, &version, &format!("{os}/{arch}").parse().ok()?)?,
                None => self.orphan_of(package, &version, mark)?,
            },
        };
        Some(Shows::Version(artifact))
    }

    /// What a version's name with a platform stands for.
    fn marked(&self, package: &Name, version: &Version, platform: &Platform) -> Option<ArtifactId> {
        let (plain, _) = self.plain(package, version).unzip();
        let key = RefKey { name: package.clone(), version: version.clone(), platform: platform.clone() };
        let (key, record) = self.view.refs.get_key_value(&key)?;
        (plain != Some(key)).then_some(record.artifact)
    }

    /// The refs of one version.
    fn refs_of(&self, name: &Name, version: &Version) -> impl Iterator<Item = (&RefKey, &RefRecord)> {
        let least = RefKey { name: name.clone(), version: version.clone(), platform: Platform::least() };
        let (name, version) = (least.name.clone(), least.version.clone());
        self.view
            .refs
            .range((Bound::Included(least), Bound::Unbounded))
            .take_while(move |(key, _)| key.name == name && key.version == version)
    }

    /// The ref that a version's plain name stands for.
    fn plain(&self, name: &Name, version: &Version) -> Option<(&RefKey, &RefRecord)> {
        let mut refs = self.refs_of(name, version).peekable();
        let first = *refs.peek()?;
        let (mut any, mut count) = (None, 0);
        for (key, record) in refs {
            count += 1;
            if key.platform == self.platform {
                return Some((key, record));
            }
            if key.platform.as_str() == "any/any" {
                any = Some((key, record));
            }
        }
        any.or((count == 1).then_some(first))
    }

    /// The name in the package's directory of what a generation names.
    fn shown_version(&self, name: &Name, package: &Package) -> String {
        let (version, artifact) = (&package.version, &package.artifact);
        let plain = self.plain(name, version);
        if plain.is_some_and(|(_, record)| record.artifact == *artifact) {
            return version.to_string();
        }
        if let Some((key, _)) = self.refs_of(name, version).find(|(_, record)| record.artifact == *artifact) {
            return marked_name(key);
        }
        match self.plain_orphan(name, version) {
            Some(plain) if plain == *artifact => version.to_string(),
            _ => format!("{version}@{}", artifact.short()),
        }
    }

    /// The artifact of a version that no ref has, but a generation.
    fn plain_orphan(&self, name: &Name, version: &Version) -> Option<ArtifactId> {
        if self.refs_of(name, version).next().is_some() {
            return None;
        }
        let rank = |platform: &Platform| match platform {
            platform if *platform == self.platform => 0,
            platform if platform.as_str() == "any/any" => 1,
            _ => 2,
        };
        self.with_named(|named| {
            named
                .of_version(name, version)
                .min_by_key(|(artifact, platform)| (rank(platform), *artifact))
                .map(|(artifact, _)| artifact)
        })
    }

    /// The artifact of a version that only a generation names, by the first digits of its id.
    fn orphan_of(&self, name: &Name, version: &Version, digits: &str) -> Option<ArtifactId> {
        let of_refs: Vec<ArtifactId> =
            self.refs_of(name, version).map(|(_, record)| record.artifact).collect();
        let plain = self.plain_orphan(name, version);
        self.with_named(|named| {
            named
                .of_version(name, version)
                .map(|(artifact, _)| artifact)
                .filter(|artifact| !of_refs.contains(artifact) && plain != Some(*artifact))
                .find(|artifact| artifact.short() == digits)
        })
    }

    /// All artifacts that are shown, some of them more than once.
    pub(crate) fn artifacts(&self) -> impl Iterator<Item = ArtifactId> + '_ {
        let generations = self.profile().into_iter().flat_map(|profile| profile.generations.values());
        let named = generations.flat_map(|generation| generation.packages.values());
        let named = named.map(|package| package.artifact);
        self.view.refs.values().map(|record| record.artifact).chain(named)
    }

    fn has_package(&self, name: &Name) -> bool {
        self.view.refs_of(name).next().is_some() || self.with_named(|named| named.has(name))
    }

    /// The names of the root.
    pub(crate) fn list_root(&self) -> Vec<(Vec<u8>, Shows)> {
        let packages = self.packages.get_or_init(|| {
            let mut names = self.with_named(Named::names);
            let mut last = None;
            for key in self.view.refs.keys() {
                if last != Some(&key.name) {
                    names.insert(key.name.clone());
                    last = Some(&key.name);
                }
            }
            names
        });
        let fixed = [&b"generations"[..], b"bin", b"current"];
        let fixed = fixed.into_iter().filter_map(|name| Some((name.to_vec(), self.in_root(name)?)));
        fixed
            .chain(packages.iter().map(|name| (name.as_str().into(), Shows::Package(name.clone()))))
            .collect()
    }

    /// The names of `generations`.
    pub(crate) fn list_generations(&self) -> Vec<(Vec<u8>, Shows)> {
        let numbers = self.profile().into_iter().flat_map(|profile| profile.generations.keys());
        numbers.map(|number| (number.to_string().into_bytes(), Shows::Generation(*number))).collect()
    }

    /// A name of a generation by its place: `bin`, then the packages in the order of their names.
    pub(crate) fn list_generation(
        &self,
        number: u64,
        from: usize,
    ) -> impl Iterator<Item = (Vec<u8>, Shows)> + '_ {
        let generation = self.generation(number);
        let bin = generation.filter(|_| from == 0).map(|_| (b"bin".to_vec(), Shows::Bin(number)));
        let packages = generation.into_iter().flat_map(|generation| &generation.packages);
        bin.into_iter().chain(
            packages.skip(from.saturating_sub(1)).map(|(name, package)| {
                (name.as_str().into(), Shows::Link(self.package_target(name, package)))
            }),
        )
    }

    /// The names of a package's directory.
    pub(crate) fn list_package(&self, package: &Name) -> Vec<(Vec<u8>, Shows)> {
        let mut names = Vec::new();
        if let Some(current) = self.in_package(package, b"current") {
            names.push((b"current".to_vec(), current));
        }
        for (key, record) in self.view.refs_of(package) {
            let (plain, _) = self.plain(package, &key.version).unzip();
            let name = if plain == Some(key) { key.version.to_string() } else { marked_name(key) };
            names.push((name.into_bytes(), Shows::Version(record.artifact)));
        }
        let named: Vec<Package> = self.with_named(|named| named.of(package));
        for orphan in named {
            let of_ref = |(_, record): (&RefKey, &RefRecord)| record.artifact == orphan.artifact;
            if !self.refs_of(package, &orphan.version).any(of_ref) {
                let name = self.shown_version(package, &orphan);
                names.push((name.into_bytes(), Shows::Version(orphan.artifact)));
            }
        }
        names
    }
}

fn marked_name(key: &RefKey) -> String {
    format!("{}@{}-{}", key.version, key.platform.os(), key.platform.arch())
}

fn parse<T: std::str::FromStr>(name: &[u8]) -> Option<T> {
    std::str::from_utf8(name).ok()?.parse().ok()
}
