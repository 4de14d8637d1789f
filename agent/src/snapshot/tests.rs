//! Snapshots of real directories, with real commands.

#![expect(clippy::disallowed_methods, reason = "state directories are not a store's")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use cairn_store::snapshots::LATEST;
use cairn_store::{Error, Progress, Writer, WriterOptions};

use super::*;

struct World {
    scratch: tempfile::TempDir,
    writer: Writer,
}

fn name() -> Name {
    "state".parse().unwrap()
}

impl World {
    /// With a state of two directories, written a while ago.
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let options = WriterOptions { wait: Duration::ZERO, command: String::new(), who: String::new() };
        let writer = Writer::open(&scratch.path().join("store"), &options, &()).unwrap();
        let world = Self { scratch, writer };
        fs::create_dir_all(world.dir().join("sst")).unwrap();
        world.put("CURRENT", "1");
        world.put("sst/000001.sst", &"one".repeat(200_000));
        world.put("sst/000002.sst", &"two".repeat(200_000));
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn dir(&self) -> PathBuf {
        self.path("live")
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.dir().join(path);
        fs::write(&path, text).unwrap();
        let before = SystemTime::now() - Duration::from_secs(100);
        fs::File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
    }

    fn options(&self, round: u64) -> SnapshotOptions {
        SnapshotOptions::new(name(), self.dir(), RoundFrom::Given(round))
    }

    /// With commands that write down what they do.
    fn freezing(&self) -> Freezing {
        let log = self.path("log");
        let note = |word: &str| format!("echo {word} $CAIRN_NAME ${{CAIRN_ROUND:-?}} >> {}", log.display());
        Freezing { freeze: note("freeze"), thaw: note("thaw") }
    }

    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        log.lines().map(ToOwned::to_owned).collect()
    }

    fn checkpoint(&self) -> CheckpointOptions {
        CheckpointOptions { command: "cp -al \"$CAIRN_DIR\" \"$CAIRN_CHECKPOINT\"".to_owned(), within: None }
    }

    fn create(&self, options: &SnapshotOptions) -> Result<Snapshot, SnapshotError> {
        create(&self.writer, options, &())
    }

    fn rounds(&self) -> Vec<u64> {
        let all = self.writer.snapshots_of(&self.writer.names(), &name(), 100).unwrap();
        all.iter().map(|info| info.round).collect()
    }

    fn latest(&self) -> Option<String> {
        let view = self.writer.names();
        let found = view.channels.iter().find(|(key, _)| key.channel.as_str() == LATEST);
        found.map(|(_, version)| version.to_string())
    }

    fn frozen_markers(&self) -> usize {
        fs::read_dir(self.path("store/frozen")).map_or(0, Iterator::count)
    }
}

#[test]
fn a_snapshot_is_the_directory_under_its_round() {
    let world = World::new();
    let mut options = world.options(156);
    options.state_hash = Some("ab12".parse().unwrap());
    let made = world.create(&options).unwrap();
    assert_eq!((made.round, made.unchanged, made.ingested.files), (156, false, 3));
    let info = world.writer.latest_snapshot(&world.writer.names(), &name()).unwrap().unwrap();
    assert_eq!(
        (info.round, info.artifact, info.state_hash),
        (156, made.artifact, options.state_hash.clone())
    );
    assert_eq!(world.latest().as_deref(), Some("156"));
    let dest = world.path("out");
    world.writer.restore(&made.artifact, &dest, &Default::default(), &()).unwrap();
    assert_eq!(
        fs::read(dest.join("sst/000002.sst")).unwrap(),
        fs::read(world.dir().join("sst/000002.sst")).unwrap()
    );
    // The same once more is no change; nothing is even read.
    fs::remove_dir_all(&dest).unwrap();
    let again = world.create(&options).unwrap();
    assert!(again.unchanged && again.artifact == made.artifact);
}

#[test]
fn sockets_are_left_out_and_pipes_are_not() {
    let world = World::new();
    let _listening = std::os::unix::net::UnixListener::bind(world.dir().join("node.sock")).unwrap();
    let pipe = world.dir().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    let made = world.create(&world.options(1)).unwrap();
    let artifact = world.writer.artifact(&made.artifact).unwrap();
    let names: Vec<String> = artifact
        .walk(world.writer.store())
        .map(|entry| String::from_utf8(entry.unwrap().0).unwrap())
        .collect();
    assert_eq!(names, ["CURRENT", "pipe", "sst", "sst/000001.sst", "sst/000002.sst"]);
}

#[test]
fn other_content_of_the_same_round_is_a_conflict_and_other_times_are_not() {
    let world = World::new();
    let first = world.create(&world.options(1)).unwrap();
    let file = fs::File::options().write(true).open(world.dir().join("CURRENT")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(500)).unwrap();
    let again = world.create(&world.options(1)).unwrap();
    assert!(again.unchanged && again.artifact == first.artifact);
    let hashed = SnapshotOptions { state_hash: Some("00".parse().unwrap()), ..world.options(2) };
    world.create(&hashed).unwrap();
    let other = SnapshotOptions { state_hash: Some("01".parse().unwrap()), ..world.options(2) };
    let error = world.create(&other).unwrap_err();
    assert!(matches!(error, SnapshotError::Store(Error::Conflict { .. })), "{error}");
    world.put("CURRENT", "2");
    let error = world.create(&world.options(1)).unwrap_err();
    assert!(matches!(error, SnapshotError::Store(Error::Conflict { .. })), "{error}");
    let replaced = world.create(&SnapshotOptions { replace: true, ..world.options(1) }).unwrap();
    assert_eq!(replaced.replaced, Some(first.artifact));
}

#[test]
fn latest_is_never_moved_to_an_older_round_and_only_so_many_stay() {
    let world = World::new();
    let keep = |round| SnapshotOptions { keep: NonZero::new(2), ..world.options(round) };
    for round in [10, 9, 100] {
        world.create(&world.options(round)).unwrap();
    }
    assert_eq!((world.rounds(), world.latest().as_deref()), (vec![100, 10, 9], Some("100")));
    let made = world.create(&keep(50)).unwrap();
    assert_eq!((made.kept.removed, world.rounds()), (vec![10, 9], vec![100, 50]));
    assert_eq!(world.latest().as_deref(), Some("100"));
}

#[test]
fn commands_run_in_order_and_know_what_they_are_about() {
    let world = World::new();
    let (log, live) = (world.path("log"), world.dir());
    let mut options = world.options(0);
    options.freezing = Some(world.freezing());
    options.round = RoundFrom::Command(format!(
        "test \"$CAIRN_SNAPSHOT_DIR\" = \"{}\" && echo round >> {} && echo 7 beef",
        live.canonicalize().unwrap().display(),
        log.display()
    ));
    let made = world.create(&options).unwrap();
    assert_eq!((made.round, made.state_hash.unwrap().to_string()), (7, "beef".to_owned()));
    assert_eq!(world.log(), ["freeze state ?", "round", "thaw state 7"]);
    assert!(made.frozen.is_some() && world.frozen_markers() == 0);
    options.state_hash = Some("dead".parse().unwrap());
    assert!(matches!(world.create(&options).unwrap_err(), SnapshotError::StateHash { .. }));
    assert_eq!(world.log()[3..], ["freeze state ?", "round", "thaw state ?"]);
}

#[test]
fn whatever_fails_thawing_comes_after_freezing() {
    let world = World::new();
    let frozen = SnapshotOptions { freezing: Some(world.freezing()), ..world.options(1) };
    let failing = |change: &dyn Fn(&mut SnapshotOptions)| {
        let mut options = frozen.clone();
        change(&mut options);
        let before = world.log().len();
        let error = world.create(&options).unwrap_err();
        assert!(world.log()[before..].last().unwrap().starts_with("thaw state"), "{error}");
        assert_eq!(world.frozen_markers(), 0);
        error
    };
    let note = world.freezing().thaw.clone();
    let error = failing(&|options| {
        let thaw = note.clone();
        options.freezing = Some(Freezing { freeze: "echo no such database >&2; exit 4".to_owned(), thaw });
    });
    assert!(error.to_string().contains("no such database"), "{error}");
    // Written to while it is frozen: who freezes does not.
    let live = world.dir().join("sst/000001.sst");
    let error = failing(&|options| {
        options.round = RoundFrom::Given(1);
        let freeze = format!(
            "(while echo x >> {0} && test -e {1}; do :; done) > /dev/null 2>&1 &",
            live.display(),
            world.dir().display()
        );
        let thaw = note.clone();
        options.freezing = Some(Freezing { freeze, thaw });
    });
    assert!(matches!(error, SnapshotError::Store(Error::Input { .. })), "{error}");
    fs::rename(world.dir(), world.path("moved")).unwrap();
    assert_eq!(world.rounds(), [0_u64; 0]);
}

struct Panics;

impl Progress for Panics {
    fn cancelled(&self) -> bool {
        panic!("as a bug would")
    }
}

struct Cancelled(AtomicBool);

impl Progress for Cancelled {
    fn expect(&self, _: u64, _: u64) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn who_panics_or_stops_in_the_middle_thaws() {
    let world = World::new();
    let options = SnapshotOptions { freezing: Some(world.freezing()), ..world.options(1) };
    let cancelled = create(&world.writer, &options, &Cancelled(AtomicBool::new(false))).unwrap_err();
    assert!(matches!(cancelled, SnapshotError::Store(Error::Cancelled)), "{cancelled}");
    assert_eq!(world.log(), ["freeze state 1", "thaw state 1"]);
    let run = std::panic::AssertUnwindSafe(|| create(&world.writer, &options, &Panics));
    std::panic::catch_unwind(run).unwrap_err();
    assert_eq!(world.log()[2..].last().unwrap(), "thaw state ?");
    assert_eq!(world.frozen_markers(), 0);
    world.create(&options).unwrap();
}

#[test]
fn who_cannot_thaw_says_so_and_the_next_one_tries_again() {
    let world = World::new();
    let gate = world.path("gate");
    let mut freezing = world.freezing();
    freezing.thaw = format!("test -e {} && {}", gate.display(), freezing.thaw);
    let options = SnapshotOptions { freezing: Some(freezing), ..world.options(1) };
    for _ in 0..2 {
        let error = world.create(&options).unwrap_err();
        assert!(matches!(error, SnapshotError::Thaw { .. }), "{error}");
        assert_eq!(world.frozen_markers(), 1);
    }
    // The second found it frozen and went no further.
    assert_eq!(world.log(), ["freeze state 1"]);
    fs::write(&gate, "").unwrap();
    assert_eq!(thaw_left(&world.writer).unwrap(), [name()]);
    assert_eq!(world.log(), ["freeze state 1", "thaw state ?"]);
    assert_eq!(thaw_left(&world.writer).unwrap(), []);
    world.create(&options).unwrap();
    assert_eq!(world.log()[2..], ["freeze state 1", "thaw state 1"]);
}

#[test]
fn checkpoints_are_read_after_thawing_and_their_linked_files_are_not_read_again() {
    let world = World::new();
    let mut options = SnapshotOptions { checkpoint: Some(world.checkpoint()), ..world.options(1) };
    options.freezing = Some(world.freezing());
    let first = world.create(&options).unwrap();
    assert_eq!(first.ingested.unchanged_files, 0);
    let beside: Vec<_> =
        fs::read_dir(world.scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!beside.iter().any(|name| name.to_string_lossy().contains("checkpoint")), "{beside:?}");
    // Links came and went, which changes change times.
    world.put("sst/000003.sst", &"three".repeat(100_000));
    let left = world.scratch.path().canonicalize().unwrap().join(".live.state.cairn-checkpoint");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("left"), "by a process that was killed").unwrap();
    options.round = RoundFrom::Given(2);
    let second = world.create(&options).unwrap();
    assert_eq!((second.ingested.files, second.ingested.unchanged_files), (4, 3));
    assert_eq!(fs::metadata(world.dir().join("CURRENT")).unwrap().nlink(), 1);
    // The same state by another checkpoint.
    let again = world.create(&options).unwrap();
    assert!(again.unchanged, "times of directories differ alone");
    assert_eq!(again.ingested.unchanged_files, 4);
}

#[test]
fn several_states_that_are_snapshotted_in_turn_are_not_read_again() {
    let world = World::new();
    let other = world.path("other");
    fs::create_dir(&other).unwrap();
    fs::copy(world.dir().join("sst/000001.sst"), other.join("copy")).unwrap();
    // Its own time is as young as the copy.
    let before = SystemTime::now() - Duration::from_secs(100);
    fs::File::options().write(true).open(other.join("copy")).unwrap().set_modified(before).unwrap();
    for round in 1..=3 {
        let made = world.create(&world.options(round)).unwrap();
        let second = SnapshotOptions::new("other".parse().unwrap(), other.clone(), RoundFrom::Given(round));
        let second = world.create(&second).unwrap();
        let linked = SnapshotOptions { checkpoint: Some(world.checkpoint()), ..world.options(round) };
        let linked = SnapshotOptions { name: "linked".parse().unwrap(), ..linked };
        let linked = world.create(&linked).unwrap();
        let read = [made, second, linked].map(|made| made.ingested.files - made.ingested.unchanged_files);
        // Links change the change times of the files that the first one knows, and nobody else's.
        let expected = if round == 1 { [3, 1, 3] } else { [3, 0, 0] };
        assert_eq!(read, expected, "{round}");
    }
}

/// What is remembered of unchanged files rests on packs. When one of these goes, everything is looked for again.
#[test]
fn unchanged_files_whose_packs_are_lost_or_collected_are_whole_in_the_next_snapshot() {
    let world = World::new();
    world.create(&world.options(1)).unwrap();
    let second = world.create(&world.options(2)).unwrap();
    assert_eq!(second.ingested.unchanged_files, 3);
    // What the first had alone goes, and with it packs are written again.
    world.put("CURRENT", &"2".repeat(9_000));
    let keep = SnapshotOptions { keep: NonZero::new(1), ..world.options(3) };
    world.create(&keep).unwrap();
    let options = cairn_store::CollectOptions { grace: Duration::ZERO, ..Default::default() };
    let plan = world.writer.plan_collection(&options, &()).unwrap();
    world.writer.collect(&plan, &options, &()).unwrap();
    let fourth = world.create(&world.options(4)).unwrap();
    assert_eq!(fourth.ingested.unchanged_files, 3);
    assert!(world.writer.missing(&fourth.artifact, &()).unwrap().is_nothing());
    let dest = world.path("out");
    let check = |artifact| {
        world.writer.restore(&artifact, &dest, &Default::default(), &()).unwrap();
        for file in ["CURRENT", "sst/000001.sst", "sst/000002.sst"] {
            assert!(fs::read(dest.join(file)).unwrap() == fs::read(world.dir().join(file)).unwrap());
        }
        fs::remove_dir_all(&dest).unwrap();
    };
    check(fourth.artifact);
    // The packs of data, which are the largest, are lost.
    let packs = || fs::read_dir(world.path("store/packs")).unwrap().map(|pack| pack.unwrap().path());
    let largest = packs().max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();
    fs::remove_file(largest).unwrap();
    let options = WriterOptions { wait: Duration::ZERO, command: String::new(), who: String::new() };
    let World { scratch, writer } = world;
    drop(writer);
    let writer = Writer::open(&scratch.path().join("store"), &options, &()).unwrap();
    let world = World { scratch, writer };
    let fifth = world.create(&world.options(5)).unwrap();
    assert!(fifth.ingested.unchanged_files < 3, "what was lost was read again");
    assert!(world.writer.missing(&fifth.artifact, &()).unwrap().is_nothing());
    world.writer.restore(&fifth.artifact, &world.path("out"), &Default::default(), &()).unwrap();
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let world = World::new();
    let error = |command: &str, within: Option<&Path>| {
        let within = within.map(Path::to_owned);
        let checkpoint = Some(CheckpointOptions { command: command.to_owned(), within });
        world.create(&SnapshotOptions { checkpoint, ..world.options(1) }).unwrap_err().to_string()
    };
    assert!(error("true", None).contains("the command made none"));
    assert!(error("touch \"$CAIRN_CHECKPOINT\"", None).contains("something else than a directory"));
    assert!(error("true", Some(&world.dir())).contains("it is in the state directory"));
    assert!(error("true", Some(Path::new("/proc"))).contains("another file system"));
    assert!(error("exit 1", None).contains("exited with status 1"));
    let links = SnapshotOptions {
        checkpoint: Some(CheckpointOptions {
            within: Some(world.scratch.path().to_owned()),
            ..world.checkpoint()
        }),
        ..world.options(1)
    };
    world.create(&links).unwrap();
}

#[test]
fn commands_that_hang_are_ended_and_the_state_is_thawed() {
    let world = World::new();
    let mut freezing = world.freezing();
    freezing.freeze += "; sleep 1000";
    let mut options = SnapshotOptions { freezing: Some(freezing), ..world.options(1) };
    options.hook_time = Duration::from_millis(300);
    let error = world.create(&options).unwrap_err();
    assert!(matches!(error, SnapshotError::Hook(HookError::Late { .. })), "{error}");
    assert_eq!(world.log(), ["freeze state 1", "thaw state ?"]);
}

#[test]
fn two_of_one_name_are_not_made_at_a_time() {
    let world = World::new();
    let _one = frozen::Alone::of(world.writer.path(), &name()).unwrap();
    let error = world.create(&world.options(1)).unwrap_err();
    assert!(matches!(error, SnapshotError::Running { .. }), "{error}");
}
