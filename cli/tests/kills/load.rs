//! Everybody who works on two stores at once, until one of their daemons dies or both do.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File};
use std::ops::AddAssign;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use harness::program::finish;
use harness::seed::Chance;

use crate::model::{Key, Profile};
use crate::node::{Node, PACKAGES, VERSIONS};

/// Exit codes of what may well not be there, or not be reached.
const NOT_FOUND: i32 = 3;
const CONFLICT: i32 = 5;
const UNAVAILABLE: i32 = 6;

/// Files that one client keeps open.
const OPEN_MAX: usize = 4;

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    acknowledged: u64,
    refused: u64,
    cut_off: u64,
    read: u64,
    collected: u64,
}

impl AddAssign for Done {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.cut_off += other.cut_off;
        self.read += other.read;
        self.collected += other.collected;
    }
}

impl fmt::Display for Done {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, refused, cut_off, read, collected } = self;
        write!(
            out,
            "{acknowledged} commands acknowledged ({collected} of them collections), {refused} refused and {cut_off} cut off, \
             {read} files read through mounts"
        )
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Acknowledged,
    /// It has changed nothing.
    Refused,
    /// Nobody knows.
    CutOff,
}

/// Who works, and what they count.
pub(crate) struct Load<'a> {
    nodes: &'a [Node<'a>; 2],
    is_over: AtomicBool,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    cut_off: AtomicU64,
    read: AtomicU64,
    collected: AtomicU64,
}

impl Load<'_> {
    /// Works on both stores for a while, then kills one of their daemons or both, and waits for all clients.
    pub(crate) fn run(nodes: &mut [Node<'_>; 2], seed: u64, delay: Duration, who: [bool; 2]) -> Done {
        let load = Load {
            nodes,
            is_over: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            cut_off: AtomicU64::new(0),
            read: AtomicU64::new(0),
            collected: AtomicU64::new(0),
        };
        thread::scope(|scope| {
            for at in 0..2 {
                let chance =
                    move |salt: u64| Chance::new(seed.wrapping_mul(31).wrapping_add(salt * 2 + at as u64));
                let load = &load;
                scope.spawn(move || load.add(at, chance(1)));
                scope.spawn(move || load.pull(at, chance(2)));
                scope.spawn(move || load.flip(at, chance(3)));
                scope.spawn(move || load.read(at, chance(4)));
                scope.spawn(move || load.collect(at, chance(5)));
                scope.spawn(move || load.keep_open(at, chance(6)));
            }
            thread::sleep(delay);
            load.nodes.iter().zip(who).filter(|(_, killed)| *killed).for_each(|(node, _)| node.strike());
            load.is_over.store(true, Ordering::SeqCst);
        });
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let done = Done {
            acknowledged: count(&load.acknowledged),
            refused: count(&load.refused),
            cut_off: count(&load.cut_off),
            read: count(&load.read),
            collected: count(&load.collected),
        };
        for (node, _) in nodes.iter_mut().zip(who).filter(|(_, killed)| *killed) {
            node.bury();
        }
        done
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Gives a command; whoever gives it goes on while it is known how it ended.
    fn tell(&self, at: usize, arguments: &[&str], refusals: &[i32]) -> End {
        let node = &self.nodes[at];
        let output = finish(node.command(arguments).spawn().unwrap());
        let (end, count) = match output.status.code() {
            Some(0) => (End::Acknowledged, &self.acknowledged),
            _ if node.killed.load(Ordering::SeqCst) => (End::CutOff, &self.cut_off),
            Some(code) if refusals.contains(&code) => (End::Refused, &self.refused),
            code => panic!(
                "{arguments:?} ended with {code:?}: {}\n{}",
                String::from_utf8_lossy(&output.stderr),
                node.log()
            ),
        };
        count.fetch_add(1, Ordering::SeqCst);
        end
    }

    /// Adds and removes versions of the store's own package.
    fn add(&self, at: usize, mut chance: Chance) {
        let node = &self.nodes[at];
        while !self.is_over() {
            let key = (PACKAGES[at], chance.below(VERSIONS));
            let tree = node.trees.path(key);
            let (tree, version) = (tree.to_str().unwrap(), key.1.to_string());
            let add = ["add", tree, "--name", key.0, "--version", &version];
            if !self.change(at, key, &mut chance, &add, &[]) {
                return;
            }
        }
    }

    /// Pulls versions of the other store's package, and removes them.
    fn pull(&self, at: usize, mut chance: Chance) {
        let url = self.nodes[1 - at].url();
        while !self.is_over() {
            let key = (PACKAGES[1 - at], chance.below(VERSIONS));
            let spec = format!("{}@{}", key.0, key.1);
            let pull = ["pull", &spec, "--from", &url];
            if !self.change(at, key, &mut chance, &pull, &[NOT_FOUND, UNAVAILABLE]) {
                return;
            }
        }
    }

    /// Makes a version be there by a command, or removes it if it is; false when it is not known how that ended.
    fn change(&self, at: usize, key: Key, chance: &mut Chance, make: &[&str], refusals: &[i32]) -> bool {
        let node = &self.nodes[at];
        let is_there = node.model().of(key).is_there;
        // More are to be there than not.
        if is_there && chance.below(3) > 0 {
            return true;
        }
        node.model().begin(key);
        let spec = format!("{}@{}", key.0, key.1);
        let end = if is_there { self.tell(at, &["rm", &spec], &[]) } else { self.tell(at, make, refusals) };
        match end {
            End::Acknowledged => node.model().ended(key, !is_there),
            End::Refused => node.model().ended(key, is_there),
            End::CutOff => {}
        }
        end != End::CutOff
    }

    /// Changes what the profile shows.
    fn flip(&self, at: usize, mut chance: Chance) {
        let node = &self.nodes[at];
        while !self.is_over() {
            let before = node.model().profile();
            let choice = chance.below(8);
            let (after, arguments, refusals) = match choice {
                0 => {
                    let mut generations = before.generations.clone();
                    let newest = generations.keys().rev().take(2).copied().collect::<Vec<_>>();
                    generations.retain(|number, _| newest.contains(number) || *number == before.current);
                    let after = Profile { generations, ..before.clone() };
                    (after, vec!["prune".to_owned(), "--keep".to_owned(), "2".to_owned()], &[NOT_FOUND][..])
                }
                1 => {
                    let earlier = before.generations.range(..before.current).next_back();
                    let Some((number, _)) = earlier else { continue };
                    let after = Profile { current: *number, ..before.clone() };
                    (after, vec!["rollback".to_owned()], &[][..])
                }
                2 => {
                    let Some(number) = nth(before.generations.keys(), &mut chance) else { continue };
                    let after = Profile { current: *number, ..before.clone() };
                    (after, vec!["switch".to_owned(), number.to_string()], &[][..])
                }
                _ => {
                    let certain = node.model().certain();
                    let Some((package, number)) = nth(certain.iter(), &mut chance) else {
                        thread::sleep(Duration::from_millis(2));
                        continue;
                    };
                    // Its own client may be removing it.
                    (
                        used(&before, package, *number),
                        vec!["use".to_owned(), format!("{package}@{number}")],
                        &[NOT_FOUND, CONFLICT, UNAVAILABLE][..],
                    )
                }
            };
            node.model().begin_profile(after);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            match self.tell(at, &arguments, refusals) {
                End::Acknowledged => node.model().profile_ended(true),
                End::Refused => node.model().profile_ended(false),
                End::CutOff => return,
            }
        }
    }

    /// Reads through the mount what is there.
    fn read(&self, at: usize, mut chance: Chance) {
        let node = &self.nodes[at];
        while !self.is_over() {
            let certain = node.model().certain();
            let Some(key) = nth(certain.iter(), &mut chance).copied() else {
                thread::sleep(Duration::from_millis(2));
                continue;
            };
            let before = node.model().of(key);
            for (name, bytes) in node.trees.files(key) {
                let path = node.mnt().join(key.0).join(key.1.to_string()).join(name);
                let read = fs::read(&path);
                let is_alive = !node.killed.load(Ordering::SeqCst);
                match read {
                    Ok(read) => assert!(read == *bytes, "{} has other bytes", path.display()),
                    Err(error) if is_alive && before.is_certain() && node.model().of(key) == before => {
                        panic!("{}: {error}\n{}", path.display(), node.log());
                    }
                    Err(_) => break,
                }
                self.read.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

impl Load<'_> {
    /// Collects what nobody needs, again and again.
    fn collect(&self, at: usize, mut chance: Chance) {
        while !self.is_over() {
            let ratio = ["0.3", "0.6", "1"][usize::try_from(chance.below(3)).unwrap()];
            let mut arguments = vec!["gc", "--live-ratio", ratio];
            if chance.below(4) == 0 {
                arguments.extend(["--max-time", "5ms"]);
            }
            if self.tell(at, &arguments, &[]) == End::CutOff {
                return;
            }
            self.collected.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Keeps files open through the mount and reads them now and then: what is open stays, whatever is removed and
    /// collected meanwhile.
    fn keep_open(&self, at: usize, mut chance: Chance) {
        let node = &self.nodes[at];
        let mut open: VecDeque<(Key, File)> = VecDeque::new();
        while !self.is_over() {
            thread::sleep(Duration::from_millis(3));
            let certain = node.model().certain();
            if let Some(key) = nth(certain.iter(), &mut chance) {
                let path = node.mnt().join(key.0).join(key.1.to_string()).join("own");
                open.extend(File::open(path).ok().map(|file| (*key, file)));
            }
            if open.len() > OPEN_MAX {
                open.pop_front();
            }
            for (key, file) in &open {
                let bytes = &node.trees.files(*key)["own"];
                let from = usize::try_from(chance.below(bytes.len() as u64)).unwrap();
                let mut part = vec![0; (bytes.len() - from).min(5000)];
                let read = file.read_exact_at(&mut part, from as u64);
                let is_alive = !node.killed.load(Ordering::SeqCst);
                match read {
                    Ok(()) => {
                        assert!(part == bytes[from..from + part.len()], "{key:?} has other bytes at {from}")
                    }
                    Err(error) => assert!(!is_alive, "{key:?}, which is open: {error}\n{}", node.log()),
                }
            }
        }
    }
}

/// What using a version makes of a profile.
fn used(before: &Profile, package: &str, number: u64) -> Profile {
    let mut after = before.clone();
    let mut packages = before.generations.get(&before.current).cloned().unwrap_or_default();
    packages.insert(package.to_owned(), number.to_string());
    if before.generations.get(&before.current) != Some(&packages) {
        after.last += 1;
        after.current = after.last;
        after.generations.insert(after.last, packages);
    }
    after
}

fn nth<I: ExactSizeIterator>(mut all: I, chance: &mut Chance) -> Option<I::Item> {
    let count = u64::try_from(all.len()).unwrap();
    if count == 0 { None } else { all.nth(usize::try_from(chance.below(count)).unwrap()) }
}
