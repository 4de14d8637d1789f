//! The operations against a plain model of the name space: a map of full paths, made from the trees that were ingested
//! and from a view by going through all of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use cairn_store::{ArtifactId, Content, Name, Package, Platform, ProfileName, RefKey, Version, View};
use proptest::prelude::*;

use super::*;
use crate::attr::DirEntry;
use crate::testing::names::{Item, Scratch, add_ref, file, package};

const PLATFORMS: [&str; 4] = ["linux/x86_64", "any/any", "linux/riscv64", "plan9/vax"];
const NAMES: [&str; 3] = ["a", "b-c", "bins"];
const VERSIONS: [&str; 2] = ["1.0", "2.0-rc.1+x"];

/// What a path is, with all that the file system can say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Is {
    Dir,
    File(Vec<u8>, u16),
    Link(String),
    /// A version's directory.
    Version(ArtifactId),
}

type Tree = Vec<(&'static str, Item)>;
type Paths = BTreeMap<String, Is>;

fn trees() -> Vec<Tree> {
    let script = |text: &str| Item::File(text.as_bytes().to_vec(), 0o755);
    vec![
        vec![("bin/x", script("one")), ("lib/d/e/f", file("deep")), ("l", Item::Link("bin/x".into()))],
        vec![("bin/x", script("one")), ("bin/y", script("two")), ("lib/d/e/f", file("deep"))],
        vec![("x", file("one")), ("X", file("")), ("0", file("one"))],
        vec![("lib/d/e/f", file("deep")), ("lib/d/g", Item::Link("../../..".into()))],
        vec![("bin/x", script("other")), ("bin", Item::File(Vec::new(), 0)), ("\u{e9}", file("utf-8"))]
            .into_iter()
            .filter(|(path, _)| *path != "bin")
            .collect(),
    ]
}

/// What is above the artifacts.
fn shallow(view: &View) -> Paths {
    let mut paths = Paths::from([("generations".to_owned(), Is::Dir)]);
    let none = cairn_store::Profile::default();
    let profile = view.profiles.get(&ProfileName::default()).unwrap_or(&none);
    let mut shown: BTreeMap<(String, String, ArtifactId), String> = BTreeMap::new();
    for name in NAMES {
        for version in VERSIONS {
            for (artifact, text) in versions(view, profile, name, version) {
                paths.insert(name.to_owned(), Is::Dir);
                paths.insert(format!("{name}/{text}"), Is::Version(artifact));
                // The plain name is preferred, then the first platform; a name by id comes last.
                let key = (name.to_owned(), version.to_owned(), artifact);
                let best = shown.entry(key).or_insert_with(|| text.clone());
                if rank(version, &text) < rank(version, best) {
                    *best = text;
                }
            }
        }
    }
    for (number, generation) in &profile.generations {
        let dir = format!("generations/{number}");
        paths.insert(dir.clone(), Is::Dir);
        paths.insert(format!("{dir}/bin"), Is::Dir);
        for (name, package) in &generation.packages {
            let key = (name.to_string(), package.version.to_string(), package.artifact);
            let target = format!("../../{name}/{}", shown[&key]);
            paths.insert(format!("{dir}/{name}"), Is::Link(target));
            if *number == profile.current {
                paths.insert(format!("{name}/current"), Is::Link(shown[&key].clone()));
            }
            for (command, path) in &package.commands {
                let (command, path) = (String::from_utf8_lossy(command), String::from_utf8_lossy(path));
                // Packages come in the order of their names, and the later wins.
                paths.insert(format!("{dir}/bin/{command}"), Is::Link(format!("../{name}/{path}")));
            }
        }
    }
    if profile.generations.contains_key(&profile.current) {
        paths.insert("bin".to_owned(), Is::Link("current/bin".to_owned()));
        paths.insert("current".to_owned(), Is::Link(format!("generations/{}", profile.current)));
    }
    paths
}

fn rank(version: &str, text: &str) -> (u8, String) {
    let kind = if text == version { 0 } else { 1 + u8::from(!text[version.len()..].contains('-')) };
    (kind, text.replace('-', "/"))
}

/// The names of one version, and what they stand for.
fn versions(
    view: &View,
    profile: &cairn_store::Profile,
    name: &str,
    version: &str,
) -> Vec<(ArtifactId, String)> {
    let refs: BTreeMap<&str, ArtifactId> = view
        .refs
        .iter()
        .filter(|(key, _)| key.name.as_str() == name && key.version.as_str() == version)
        .map(|(key, record)| (key.platform.as_str(), record.artifact))
        .collect();
    let plain = match refs.len() {
        1 => refs.keys().next().copied(),
        _ => PLATFORMS[..2].iter().copied().find(|platform| refs.contains_key(platform)),
    };
    let mut names = Vec::new();
    for (platform, artifact) in &refs {
        let marked = format!("{version}@{}", platform.replace('/', "-"));
        names.push((*artifact, if plain == Some(*platform) { version.to_owned() } else { marked }));
    }
    let mut orphans: BTreeSet<(usize, ArtifactId)> = BTreeSet::new();
    for generation in profile.generations.values() {
        for (there, package) in &generation.packages {
            if there.as_str() == name
                && package.version.as_str() == version
                && !refs.values().any(|artifact| *artifact == package.artifact)
            {
                let preferred = PLATFORMS.iter().take(2).position(|p| *p == package.platform.as_str());
                orphans.insert((preferred.unwrap_or(2), package.artifact));
            }
        }
    }
    for (index, (_, artifact)) in orphans.iter().enumerate() {
        let takes_plain = index == 0 && refs.is_empty();
        let by_id = format!("{version}@{}", artifact.short());
        names.push((*artifact, if takes_plain { version.to_owned() } else { by_id }));
    }
    names
}

/// Every path there is.
fn deep(view: &View, trees: &HashMap<ArtifactId, Tree>) -> Paths {
    let mut paths = shallow(view);
    for (root, is) in paths.clone() {
        let Is::Version(artifact) = is else { continue };
        for (path, item) in &trees[&artifact] {
            for (at, _) in path.match_indices('/') {
                paths.insert(format!("{root}/{}", &path[..at]), Is::Dir);
            }
            let is = match item {
                Item::File(bytes, mode) => Is::File(bytes.clone(), u16::try_from(*mode).unwrap()),
                Item::Link(target) => Is::Link(target.clone()),
            };
            paths.insert(format!("{root}/{path}"), is);
        }
    }
    paths
}

#[derive(Debug, Clone)]
enum Change {
    AddRef {
        name: usize,
        version: usize,
        platform: usize,
        tree: usize,
    },
    RemoveRef(prop::sample::Index),
    /// Packages by name: which version, platform and tree.
    Use(BTreeMap<usize, (usize, usize, usize)>),
    Switch(prop::sample::Index),
    Prune(prop::sample::Index),
}

#[derive(Debug, Clone)]
enum Step {
    Publish(Vec<Change>),
    Walk(prop::sample::Index),
    /// Looks a name up, in a directory, that is there nowhere, or only elsewhere.
    Miss(prop::sample::Index, prop::sample::Index),
    List {
        dir: prop::sample::Index,
        plus: bool,
        room: usize,
    },
    Forget(prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (0..3usize, 0..2usize, 0..4usize, 0..5usize)
            .prop_map(|(name, version, platform, tree)| Change::AddRef { name, version, platform, tree }),
        2 => index().prop_map(Change::RemoveRef),
        3 => prop::collection::btree_map(0..3usize, (0..2usize, 0..4usize, 0..5usize), 0..3)
            .prop_map(Change::Use),
        1 => index().prop_map(Change::Switch),
        1 => index().prop_map(Change::Prune),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        2 => prop::collection::vec(change(), 1..3).prop_map(Step::Publish),
        4 => index().prop_map(Step::Walk),
        2 => (index(), index()).prop_map(|(dir, name)| Step::Miss(dir, name)),
        3 => (index(), any::<bool>(), 1..5usize)
            .prop_map(|(dir, plus, room)| Step::List { dir, plus, room }),
        2 => index().prop_map(Step::Forget),
    ]
}

fn apply(view: &mut View, change: &Change, ids: &[ArtifactId]) {
    let package_of = |(version, platform, tree): &(usize, usize, usize)| {
        // A package is one version on one platform, whatever it holds: the platform goes with the tree.
        package(
            VERSIONS[*version],
            PLATFORMS[(platform + tree) % 4 % PLATFORMS.len()],
            ids[*tree],
            &["x", "y"],
        )
    };
    view.seq += 1;
    let profile = view.profiles.entry(ProfileName::default()).or_default();
    match change {
        Change::AddRef { name, version, platform, tree } => {
            add_ref(view, NAMES[*name], VERSIONS[*version], PLATFORMS[*platform], ids[*tree]);
        }
        Change::RemoveRef(which) => {
            let keys: Vec<RefKey> = view.refs.keys().cloned().collect();
            if !keys.is_empty() {
                view.refs.remove(which.get(&keys));
            }
        }
        Change::Use(packages) => {
            // One artifact has one platform, as its canonical bytes say it.
            let packages: Vec<(&str, Arc<Package>)> = packages
                .iter()
                .map(|(name, (version, _, tree))| (NAMES[*name], package_of(&(*version, 0, *tree))))
                .collect();
            crate::testing::names::add_generation(view, &packages);
        }
        Change::Switch(which) => {
            let numbers: Vec<u64> = profile.generations.keys().copied().collect();
            if !numbers.is_empty() {
                profile.current = *which.get(&numbers);
            }
        }
        Change::Prune(which) => {
            let numbers: Vec<u64> =
                profile.generations.keys().copied().filter(|n| *n != profile.current).collect();
            if !numbers.is_empty() {
                profile.generations.remove(which.get(&numbers));
            }
        }
    }
}

/// What a kernel knows: how often it was given an inode, and what that is.
#[derive(Default)]
struct Kernel {
    known: BTreeMap<Ino, (u64, Attr, Option<Vec<u8>>)>,
}

impl Kernel {
    fn count(&mut self, fs: &Fs, attr: Attr) {
        let target = fs.readlink(attr.ino).ok();
        let known = self.known.entry(attr.ino).or_insert((0, attr, target.clone()));
        known.0 += 1;
        assert_eq!((known.1, &known.2), (attr, &target), "an inode changed what it is");
    }

    fn forget(&mut self, fs: &Fs, ino: Ino) {
        if let Some((count, ..)) = self.known.remove(&ino) {
            fs.forget(ino, count);
        }
    }

    fn walk(&mut self, fs: &Fs, path: &str) -> Option<Attr> {
        let mut attr = fs.attr(Ino::ROOT).unwrap();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            match fs.lookup(attr.ino, name.as_bytes()).unwrap() {
                Lookup::Found { attr: found, .. } => attr = found,
                Lookup::Absent { .. } => return None,
            }
            self.count(fs, attr);
        }
        Some(attr)
    }
}

fn kind_of(is: &Is) -> Kind {
    match is {
        Is::Dir | Is::Version(_) => Kind::Dir,
        Is::File(..) => Kind::File,
        Is::Link(_) => Kind::Symlink,
    }
}

fn check(fs: &Fs, kernel: &mut Kernel, path: &str, is: &Is) {
    let attr = kernel.walk(fs, path).unwrap_or_else(|| panic!("{path} is not there, but is {is:?}"));
    assert_eq!(attr.kind, kind_of(is), "{path}");
    assert_eq!(fs.attr(attr.ino), Ok(attr), "{path}");
    match is {
        Is::File(bytes, mode) => {
            assert_eq!((attr.mode, attr.size), (*mode, bytes.len() as u64), "{path}");
            assert_eq!(fs.file(attr.ino).unwrap().content, Content::Inline(bytes.clone()), "{path}");
        }
        Is::Link(target) => {
            assert_eq!(fs.readlink(attr.ino).unwrap(), target.as_bytes(), "{path}");
            assert_eq!(attr.size, target.len() as u64, "{path}");
        }
        Is::Dir | Is::Version(_) => {
            assert_eq!(fs.file(attr.ino), Err(Errno::ISDIR), "{path}");
            assert_eq!(fs.readlink(attr.ino), Err(Errno::INVAL), "{path}");
        }
    }
}

fn directories(paths: &Paths) -> Vec<String> {
    let dirs = paths.iter().filter(|(_, is)| kind_of(is) == Kind::Dir).map(|(path, _)| path.clone());
    std::iter::once(String::new()).chain(dirs).collect()
}

fn children(paths: &Paths, dir: &str) -> BTreeMap<String, Kind> {
    let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
    let below = paths.iter().filter_map(|(path, is)| Some((path.strip_prefix(&prefix)?, kind_of(is))));
    below.filter(|(name, _)| !name.contains('/')).map(|(name, kind)| (name.to_owned(), kind)).collect()
}

/// One call, with a buffer for so many entries; whether that was the end.
fn list_some(
    fs: &Fs,
    kernel: &mut Kernel,
    ino: Ino,
    from: &mut u64,
    (plus, room): (bool, usize),
    listed: &mut Vec<(String, Kind, Ino)>,
) -> bool {
    let (mut taken, mut refused) = (Vec::new(), false);
    let mut add = |entry: DirEntry<'_>| {
        refused = taken.len() == room;
        if !refused {
            let name = String::from_utf8(entry.name.into_owned()).unwrap();
            taken.push((entry.cookie, name, entry.kind, entry.ino, entry.attr));
        }
        refused
    };
    fs.readdir(ino, *from, plus, &mut add).unwrap();
    for (cookie, name, kind, ino, attr) in taken {
        assert!(cookie > *from, "cookies ascend");
        *from = cookie;
        assert!(attr.is_none() || plus);
        attr.into_iter().for_each(|attr| kernel.count(fs, attr));
        listed.push((name, kind, ino));
    }
    !refused
}

fn check_listing(fs: &Fs, kernel: &mut Kernel, paths: &Paths, dir: &str, (plus, room): (bool, usize)) {
    let colliding = fs.cookie_bits < COOKIE_BITS;
    let ino = kernel.walk(fs, dir).unwrap().ino;
    let (mut listed, mut from) = (Vec::new(), 0);
    while !list_some(fs, kernel, ino, &mut from, (plus, room), &mut listed) {}
    assert_eq!((&listed[0].0[..], listed[0].2), (".", ino), "{dir}");
    assert_eq!((&listed[1].0[..], listed[1].1), ("..", Kind::Dir), "{dir}");
    let parent = dir.rsplit_once('/').map_or("", |(parent, _)| parent);
    // A parent that was forgotten may come back under the next number, if numbers collide.
    let above = kernel.walk(fs, parent).unwrap().ino;
    assert!(listed[1].2 == above || colliding, "{dir}");
    for (name, kind, ino) in &listed[2..] {
        let attr = kernel.walk(fs, &format!("{dir}/{name}")).unwrap();
        assert_eq!(attr.kind, *kind, "{dir}/{name}");
        // Who has which of several colliding numbers is settled when they are looked up.
        assert!(attr.ino == *ino || (colliding && !plus), "{dir}/{name}");
    }
    let count = listed.len() - 2;
    let listed: BTreeMap<String, Kind> =
        listed.into_iter().skip(2).map(|(name, kind, _)| (name, kind)).collect();
    assert_eq!(listed.len(), count, "a name of {dir} came twice");
    assert_eq!(listed, children(paths, dir), "{dir}");
}

struct Run<'a> {
    fs: Fs,
    kernel: Kernel,
    view: View,
    ids: &'a [ArtifactId],
    trees: &'a HashMap<ArtifactId, Tree>,
    paths: Paths,
}

impl Run<'_> {
    fn publish(&mut self, changes: &[Change]) {
        let before = shallow(&self.view);
        let mut view = self.view.clone();
        changes.iter().for_each(|change| apply(&mut view, change, self.ids));
        let mut told = false;
        let said = self.fs.publish(Arc::new(view.clone()), || (), || told = true);
        assert_eq!(said, told);
        let after = shallow(&view);
        let untrue = before.iter().find(|(path, is)| after.get(*path) != Some(is));
        assert!(told || untrue.is_none(), "the kernel was not told of {untrue:?}");
        // Refs that change places may leave every name what it was; only additions are gone into that far.
        let same = |(key, record)| self.view.refs.get(key).is_none_or(|before| before == record);
        let added = changes.iter().all(|change| matches!(change, Change::AddRef { .. }))
            && view.refs.iter().all(same);
        assert!(!told || !added || untrue.is_some(), "the kernel was told of nothing");
        self.paths = deep(&view, self.trees);
        self.view = view;
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish(changes) => self.publish(changes),
            Step::Walk(which) => {
                let all: Vec<(&String, &Is)> = self.paths.iter().collect();
                let (path, is) = *which.get(&all);
                check(&self.fs, &mut self.kernel, path, is);
            }
            Step::Miss(dir, name) => {
                let dirs = directories(&self.paths);
                let elsewhere: Vec<&str> = self.paths.keys().filter_map(|p| p.rsplit('/').next()).collect();
                let (dir, name) = (dir.get(&dirs[..]), *name.get(&elsewhere));
                let ino = self.kernel.walk(&self.fs, dir).unwrap().ino;
                for name in [name, "01", "+1", "1.0@", "1.0@linux-x86_64", "1.0@0123456789ab", "A", "."] {
                    if children(&self.paths, dir).contains_key(name) {
                        continue;
                    }
                    let found = self.fs.lookup(ino, name.as_bytes()).unwrap();
                    let cacheable = self.fs.is_immutable_dir(ino).unwrap();
                    assert_eq!(found, Lookup::Absent { cacheable }, "{dir}/{name}");
                }
            }
            Step::List { dir, plus, room } => {
                let dirs = directories(&self.paths);
                let options = (*plus, *room);
                check_listing(&self.fs, &mut self.kernel, &self.paths, dir.get(&dirs).as_str(), options);
            }
            Step::Forget(which) => {
                let known: Vec<Ino> = self.kernel.known.keys().copied().collect();
                if !known.is_empty() {
                    let ino = *which.get(&known);
                    self.kernel.forget(&self.fs, ino);
                }
            }
        }
    }

    /// All paths at once, then none.
    fn finish(mut self) {
        for (path, is) in &self.paths {
            check(&self.fs, &mut self.kernel, path, is);
        }
        for dir in directories(&self.paths) {
            check_listing(&self.fs, &mut self.kernel, &self.paths, &dir, (true, 3));
        }
        assert_eq!(self.fs.stats().inodes, self.kernel.known.len() as u64);
        let known: Vec<Ino> = self.kernel.known.keys().copied().collect();
        known.into_iter().for_each(|ino| self.kernel.forget(&self.fs, ino));
        assert_eq!(self.fs.stats().inodes, 0);
    }
}

fn ingested(scratch: &Scratch) -> (Vec<ArtifactId>, HashMap<ArtifactId, Tree>) {
    let ids: Vec<ArtifactId> = trees().iter().map(|tree| scratch.artifact("any", "1", tree)).collect();
    let by_id = ids.iter().copied().zip(trees()).collect();
    (ids, by_id)
}

#[test]
fn the_name_space_is_the_models() {
    let scratch = Scratch::new();
    let (ids, trees) = ingested(&scratch);
    let config = ProptestConfig { cases: 150, ..ProptestConfig::default() };
    let widths = prop_oneof![
        Just(Widths::default()),
        // Numbers and cookies of a few bits collide.
        (10..12u32, 1..4u32).prop_map(|(ino_bits, cookie_bits)| Widths { ino_bits, cookie_bits }),
    ];
    proptest!(config, |(widths in widths, steps in prop::collection::vec(step(), 1..60))| {
        let view = View::default();
        let fs = scratch.fs_with(&view, widths);
        let paths = deep(&view, &trees);
        let mut run = Run { fs, kernel: Kernel::default(), view, ids: &ids, trees: &trees, paths };
        steps.iter().for_each(|step| run.step(step));
        run.finish();
    });
}

#[test]
fn a_listing_has_what_is_there_all_the_time_exactly_once() {
    let scratch = Scratch::new();
    let (ids, trees) = ingested(&scratch);
    let config = ProptestConfig { cases: 100, ..ProptestConfig::default() };
    let changes = || prop::collection::vec(change(), 1..4);
    proptest!(config, |(before in prop::collection::vec(change(), 0..20),
                        during in prop::collection::vec(changes(), 1..8),
                        which in any::<prop::sample::Index>(), room in 1..4usize, plus in any::<bool>())| {
        let mut view = View::default();
        before.iter().for_each(|change| apply(&mut view, change, &ids));
        let fs = scratch.fs(&view);
        let paths = deep(&view, &trees);
        let mut run = Run { fs, kernel: Kernel::default(), view, ids: &ids, trees: &trees, paths };
        let dirs = directories(&shallow(&run.view));
        let dir = which.get(&dirs[..]);
        let ino = run.kernel.walk(&run.fs, dir).unwrap().ino;
        let mut always: BTreeSet<String> = children(&run.paths, dir).into_keys().collect();
        let (mut listed, mut from, mut during) = (Vec::new(), 0, during.iter());
        // A listing that never ends would be one, too.
        for _ in 0..1000 {
            if list_some(&run.fs, &mut run.kernel, ino, &mut from, (plus, room), &mut listed) {
                break;
            }
            during.next().into_iter().for_each(|changes| run.publish(changes));
            let now = children(&run.paths, dir);
            always.retain(|name| now.contains_key(name));
        }
        let mut names: Vec<String> = listed.into_iter().map(|(name, ..)| name).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        prop_assert_eq!(names.len(), count, "a name of {} came twice", dir);
        for name in always {
            prop_assert!(names.contains(&name), "{} of {} was left out", name, dir);
        }
    });
}

/// The texts that the model is about are all that the file system would take.
#[test]
fn the_models_texts_are_valid() {
    NAMES.iter().for_each(|name| drop(name.parse::<Name>().unwrap()));
    VERSIONS.iter().for_each(|version| drop(version.parse::<Version>().unwrap()));
    PLATFORMS.iter().for_each(|platform| drop(platform.parse::<Platform>().unwrap()));
}
