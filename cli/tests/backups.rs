//! Copies of a store that is written meanwhile, by programs that know nothing of it, in the order that docs/operations.md
//! gives: each opens as a state that was acknowledged, none older than when the copy was begun, with all of its bytes.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test panics where it fails, and makes its trees as their owner would"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cairn_store::catalogue::Catalogue;
use cairn_store::io::Os;
use cairn_store::{CollectOptions, Journal, Store, View};
use harness::bytes::noise;
use harness::program::{command, finish, text, until};
use harness::scratch::Scratch;
use harness::seed::Chance;
use harness::stores::{add, options, verify, writer};
use rustix::process::{Pid, Signal, kill_process};

/// Copies of each kind.
const ROUNDS: u64 = 8;
/// Bytes of a group's head and end mark in the journal, and of a segment's header.
const GROUP_LEN: usize = 36;
const HEADER_LEN: usize = 24;

struct World {
    scratch: Scratch,
    daemon: Option<Child>,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

impl World {
    /// A store that a daemon has.
    fn new() -> Self {
        let mut world = Self { scratch: Scratch::new(), daemon: None };
        world.change(&mut Chance::new(0), 0);
        let daemon = world.command(&["daemon"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        world.daemon = Some(daemon);
        until("the daemon", || world.path("store/daemon.sock").exists());
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        command(env!("CARGO_BIN_EXE_cairn"), arguments, self.scratch.path(), &self.path("store"))
    }

    fn run(&self, arguments: &[&str]) -> Output {
        finish(self.command(arguments).spawn().unwrap())
    }

    /// Makes one change, of which some are refused.
    fn change(&self, chance: &mut Chance, number: u64) {
        let version = format!("1.{number}");
        let older = format!("app@1.{}", number.saturating_sub(1 + chance.below(6)));
        let arguments: Vec<&str> = match chance.below(11) {
            0..=4 => {
                let folder = self.path("tree");
                let _ = fs::remove_dir_all(&folder);
                fs::create_dir(&folder).unwrap();
                fs::write(folder.join("same"), noise(1, 200_000)).unwrap();
                let len = usize::try_from(20_000 + chance.below(400_000)).unwrap();
                fs::write(folder.join("own"), noise(1000 + number, len)).unwrap();
                fs::write(folder.join("text"), version.repeat(3000)).unwrap();
                vec!["add", "tree", "--name", "app", "--version", &version, "--channel", "edge"]
            }
            5 => vec!["rm", &older, "--force"],
            6 => vec!["tag", &older, "stable"],
            7 => vec!["use", &older],
            8 => vec!["rollback"],
            9 => vec!["gc"],
            _ => vec!["prune", "--keep", "3"],
        };
        let output = self.run(&arguments);
        // What is not there cannot be removed, tagged or used.
        assert!(
            matches!(output.status.code(), Some(0 | 2 | 3 | 5)),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
    }

    /// The number of the last change that is durable.
    fn seq(&self) -> u64 {
        Store::open(&self.path("store")).unwrap().view().unwrap().seq
    }

    /// Every state that the store ever had, by the number of its last change.
    fn states(&self) -> BTreeMap<u64, View> {
        let (journal, cut) = (self.path("store/journal"), self.path("cut"));
        let _ = fs::remove_dir_all(&cut);
        fs::create_dir(&cut).unwrap();
        let mut states = BTreeMap::new();
        for name in Scratch::names(&journal) {
            let bytes = fs::read(journal.join(&name)).unwrap();
            let mut end = HEADER_LEN;
            while end < bytes.len() {
                end += GROUP_LEN + u32::from_le_bytes(bytes[end + 4..end + 8].try_into().unwrap()) as usize;
                fs::write(cut.join(&name), &bytes[..end]).unwrap();
                let (view, _) = Journal::open_read(&Os, &cut).unwrap();
                states.insert(view.seq, view);
            }
        }
        states
    }

    /// Copies the store again and again while it is changed. Gives the copies, each with the number of the last change
    /// that was durable when it was begun.
    fn copies(&self, copy: &(dyn Fn(&Path, &Path) + Sync)) -> Vec<(PathBuf, u64)> {
        let (done, next) = (AtomicBool::new(false), AtomicU64::new(1));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut chance = Chance::new(self.seq());
                while !done.load(Ordering::Relaxed) {
                    let number = self.seq() * 10 + next.fetch_add(1, Ordering::Relaxed);
                    self.change(&mut chance, number);
                }
            });
            let round = |round| {
                let (from, to) = (self.path("store"), self.path(&format!("copy-{round}")));
                let began = self.seq();
                until("a change", || self.seq() > began);
                let began = self.seq();
                fs::create_dir(&to).unwrap();
                copy(&from, &to);
                (to, began)
            };
            let copies = (0..ROUNDS).map(round).collect();
            done.store(true, Ordering::Relaxed);
            copies
        })
    }

    /// Whether a copy is what it has to be, also for who writes it.
    fn check(&self, copy: &Path, began: u64, states: &BTreeMap<u64, View>) {
        let name = copy.display();
        let store = Store::open(copy).unwrap_or_else(|error| panic!("{name}: {error}"));
        let view = store.view().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(view.seq >= began, "{name}: change {began} was acknowledged, and the copy has {}", view.seq);
        let state =
            states.get(&view.seq).unwrap_or_else(|| panic!("{name}: there was no state {}", view.seq));
        assert_eq!(*view, *state, "{name}");
        let report = verify(&store);
        assert!(report.is_clean(), "{name}: {:?} {:?}", report.damage, report.affected);
        // The catalogue that came along was in use: it follows from here, or is made anew.
        let journal = Journal::open_write(std::sync::Arc::new(Os), &copy.join("journal")).unwrap();
        let mut catalogue = Catalogue::open(&copy.join("catalogue"), &journal).unwrap();
        for (key, record) in &view.refs {
            assert_eq!(catalogue.get(&journal, key).unwrap().as_ref(), Some(record), "{name}: {key}");
        }
        drop((catalogue, journal));
        for arguments in [
            &["add", "tree", "--name", "other", "--version", "1"][..],
            &["ls", "--json"],
            &["stats"],
            &["verify"],
            &["export", "other@1", "out", "--force", "--no-sync"],
        ] {
            let mut command = self.command(arguments);
            let output = finish(command.env("CAIRN_STORE", copy).spawn().unwrap());
            assert!(output.status.success(), "{name}: {arguments:?}: {}", text(&output.stderr));
        }
    }

    fn check_all(&self, copy: &(dyn Fn(&Path, &Path) + Sync)) {
        let copies = self.copies(copy);
        let states = self.states();
        let mut seqs = Vec::new();
        for (path, began) in &copies {
            self.check(path, *began, &states);
            seqs.push(*began);
        }
        assert!(
            seqs.windows(2).all(|pair| pair[0] < pair[1]),
            "the store was changed between copies: {seqs:?}"
        );
    }
}

/// Runs a program that copies, in the folder of a store and with that held, to its end; vanishing files and such that
/// change are what it may complain of.
fn tool(program: &str, folder: &Path, arguments: &[&str]) {
    let held = [&["hold", "--", program], arguments].concat();
    let output = finish(command(env!("CARGO_BIN_EXE_cairn"), &held, folder, folder).spawn().unwrap());
    let code = output.status.code();
    let may = match program {
        // Some files vanished.
        "rsync" => [Some(0), Some(24)],
        // Some files changed or vanished.
        "tar" => [Some(0), Some(1)],
        _ => [Some(0), Some(0)],
    };
    assert!(may.contains(&code), "{program} {arguments:?}: {code:?} {}", text(&output.stderr));
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("SKIPPED: there is no {program}");
    }
    found
}

/// Names in the order in which they are copied: what says what is named, then whatever else is there, packs last.
fn in_order(from: &Path) -> Vec<String> {
    let last = |name: &String| match name.as_str() {
        "cairn-store" => 0,
        "journal" => 1,
        "packs" => 3,
        _ => 2,
    };
    let mut names = Scratch::names(from);
    names.retain(|name| !name.ends_with(".sock"));
    names.sort_by_key(last);
    names
}

#[test]
fn cp_in_order_copies_a_state_that_was() {
    World::new().check_all(&|from, to| {
        // Whatever is there, in one command: what is derived comes and goes meanwhile, and is made anew.
        let script =
            r#"to=$1; shift; cp -a "$@" "$to" 2>&1 | grep -v "No such file" >&2; test -d "$to/packs""#;
        let names = in_order(from);
        let mut arguments = vec!["-c", script, "sh", to.to_str().unwrap()];
        arguments.extend(names.iter().map(String::as_str));
        tool("sh", from, &arguments);
    });
}

#[test]
fn one_cp_of_what_counts_copies_a_state_that_was() {
    World::new().check_all(&|from, to| {
        let to = to.to_str().unwrap();
        // A pack that is being filled gets its name meanwhile.
        let script = r#"cp -a cairn-store journal packs "$1" 2>&1 | grep -v "\.open': No such file" >&2; test -d "$1/packs""#;
        tool("sh", from, &["-c", script, "sh", to]);
    });
}

#[test]
fn tar_in_order_copies_a_state_that_was() {
    if !has("tar") {
        return;
    }
    World::new().check_all(&|from, to| {
        let names = in_order(from);
        let archive = to.join("backup.tar");
        let mut arguments = vec!["--create", "--file", archive.to_str().unwrap()];
        arguments.extend(names.iter().map(String::as_str));
        tool("tar", from, &arguments);
        let output =
            Command::new("tar").args(["--extract", "--file", "backup.tar"]).current_dir(to).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        fs::remove_file(archive).unwrap();
    });
}

#[test]
fn rsync_copies_a_state_that_was_if_packs_come_in_a_second_run() {
    if !has("rsync") {
        return;
    }
    World::new().check_all(&|from, to| {
        let to = to.to_str().unwrap();
        tool("rsync", from, &["-a", "--no-specials", "--exclude=/packs", "./", to]);
        tool("rsync", from, &["-a", "packs", to]);
    });
}

#[test]
fn rsync_brings_a_copy_up_to_date() {
    if !has("rsync") {
        return;
    }
    let world = World::new();
    let backup = world.path("backup");
    fs::create_dir(&backup).unwrap();
    let copies = world.copies(&|from, to| {
        let path = backup.to_str().unwrap();
        tool("rsync", from, &["-a", "--delete", "--no-specials", "--exclude=/packs", "./", path]);
        tool("rsync", from, &["-a", "packs", path]);
        // What it is at this moment, to be looked at later.
        let copied = Command::new("cp").args(["-a", "."]).arg(to).current_dir(&backup).output().unwrap();
        assert!(copied.status.success(), "{}", text(&copied.stderr));
    });
    let states = world.states();
    copies.iter().for_each(|(path, began)| world.check(path, *began, &states));
}

#[test]
fn a_daemon_is_not_disturbed_and_ends_well() {
    let mut world = World::new();
    let copies =
        world.copies(&|from, to| tool("cp", from, &["-a", "cairn-store", "journal", to.to_str().unwrap()]));
    assert_eq!(copies.len() as u64, ROUNDS);
    let mut daemon = world.daemon.take().unwrap();
    kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
    assert!(daemon.wait().unwrap().success());
    let report = verify(&Store::open(&world.path("store")).unwrap());
    assert!(report.is_clean(), "{:?}", report.damage);
}

#[test]
fn a_command_runs_while_everything_is_held() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let hold = |arguments: &[&str]| {
        let arguments = [&["hold", "--"], arguments].concat();
        command(env!("CARGO_BIN_EXE_cairn"), &arguments, scratch.path(), &path)
    };
    let run = |arguments: &[&str]| finish(hold(arguments).spawn().unwrap());
    let ended = run(&["true"]);
    assert_eq!(ended.status.code(), Some(3), "there is no store: {}", text(&ended.stderr));
    drop(writer(&path));
    // Its exit code, and what it prints, are the command's.
    let ended = run(&["sh", "-c", "ls $CAIRN_STORE/leases; echo said >&2; exit 7"]);
    assert_eq!((ended.status.code(), text(&ended.stderr).as_str()), (Some(7), "said\n"));
    assert_eq!(text(&ended.stdout).lines().count(), 1);
    assert_eq!(run(&["sh", "-c", "kill -9 $$"]).status.code(), Some(137));
    let ended = run(&["no such command"]);
    assert_eq!(ended.status.code(), Some(127));
    assert!(text(&ended.stderr).contains("there is no command no such command"), "{}", text(&ended.stderr));
    assert_eq!(run(&["/dev/null"]).status.code(), Some(126));
    assert_eq!(Scratch::names(&path.join("leases")).len(), 0);

    // What nothing needs stays as long as it runs, and it is told what this process is told.
    let to = writer(&path);
    let added = add(&to, &scratch.file("file", &noise(1, 300_000)), &options("app", "1"));
    to.remove_ref(&added.key, true).unwrap();
    let collect = || {
        let options = CollectOptions::default();
        to.collect(&to.plan_collection(&options, &()).unwrap(), &options, &()).unwrap();
        to.packs().unwrap().len()
    };
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done";
    let mut holding = hold(&["sh", "-c", script]).spawn().unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(holding.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let packs = to.packs().unwrap().len();
    assert_eq!(collect(), packs);
    kill_process(Pid::from_child(&holding), Signal::TERM).unwrap();
    assert_eq!(finish(holding).status.code(), Some(9));
    assert_eq!((packs, collect()), (2, 0));
}
