//! The binary as a script or a person meets it: exit codes, JSON, signals, two at once, no terminal.
//!
//! Each test has a store and a tree of its own in a temporary folder; every wait has a deadline.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and makes its trees as their owner would"
)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use harness::bytes::noise;
use harness::program::{command, finish, text, until};
use serde_json::Value;

struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        world.file("one/bin/hello", b"#!/bin/sh\necho one\n");
        world.file("one/data", &noise(1, 300_000));
        world.file("two/bin/hello", b"#!/bin/sh\necho two\n");
        world.file("two/data", &noise(1, 300_000));
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        command(env!("CARGO_BIN_EXE_cairn"), arguments, self.dir.path(), &self.path("store"))
    }

    fn run(&self, arguments: &[&str]) -> Output {
        finish(self.command(arguments).spawn().unwrap())
    }

    /// Runs what has to succeed; gives its standard output.
    fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs what has to fail with `code`; gives its standard error.
    fn bad(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{arguments:?} printed {}", text(&output.stdout));
        text(&output.stderr)
    }

    fn add_both(&self) {
        self.good(&["add", "one", "--name", "hello", "--version", "1.9.0"]);
        self.good(&["add", "two", "--name", "hello", "--version", "1.10.0", "--channel", "stable"]);
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn what_is_added_is_listed_compared_and_restored() {
    let world = World::new();
    world.add_both();
    let listed = lines(&world.good(&["ls", "--json"]));
    let versions: Vec<_> = listed.iter().map(|row| row["version"].as_str().unwrap()).collect();
    assert_eq!(versions, ["1.9.0", "1.10.0"], "in the order of versions, not of letters");
    assert_eq!(listed[1]["channels"][0], "stable");
    assert!(listed[0]["unique_bytes"].as_u64().unwrap() < 1000, "the data is in both: {}", listed[0]);
    let diff = world.good(&["diff", "hello@1.9.0", "hello@stable", "--bytes"]);
    assert!(diff.contains("bin/hello") && !diff.contains("  data\n"), "{diff}");
    assert_eq!(world.good(&["cat", "hello@stable:bin/hello"]), "#!/bin/sh\necho two\n");
    world.good(&["export", "hello@1.9.0", "out"]);
    assert_eq!(fs::read(world.path("out/data")).unwrap(), fs::read(world.path("one/data")).unwrap());
    assert_eq!(fs::read(world.path("out/bin/hello")).unwrap(), b"#!/bin/sh\necho one\n");
    let shown: Value = serde_json::from_str(&world.good(&["show", "hello@stable", "--json"])).unwrap();
    let id = shown["artifact"].as_str().unwrap();
    assert_eq!(
        world.good(&["cat", &format!("{}:bin/hello", &id[..12])]),
        "#!/bin/sh\necho two\n",
        "by a prefix"
    );
    assert_eq!(lines(&world.good(&["log", "--json"])).len(), 3);
    world.good(&["verify"]);
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let world = World::new();
    world.bad(3, &["ls"]);
    world.add_both();
    world.bad(1, &["add", "nowhere", "--name", "a", "--version", "1"]);
    world.bad(2, &["add", "one", "--name", "a", "--version", "latest"]);
    world.bad(2, &["add", "one", "--name", "Upper", "--version", "1"]);
    world.bad(2, &["nonsense"]);
    world.bad(3, &["show", "hello@7"]);
    world.bad(3, &["cat", "hello@stable:no/such"]);
    world.bad(5, &["add", "two", "--name", "hello", "--version", "1.9.0"]);
    world.good(&["add", "two", "--name", "hello", "--version", "1.9.0", "--replace"]);
    world.file("there/already", b"x");
    world.bad(5, &["export", "hello@stable", "there"]);
    world.good(&["export", "hello@stable", "there", "--force"]);
    assert!(!world.path("there/already").exists());
    world.bad(5, &["rm", "hello@1.10.0"]);
    world.good(&["rm", "hello@1.10.0", "--force"]);
    world.bad(3, &["show", "hello@stable"]);
}

#[test]
fn errors_are_json_when_asked_and_carry_a_hint() {
    let world = World::new();
    world.add_both();
    let error: Value = serde_json::from_str(&world.bad(3, &["--json", "show", "hello@7"])).unwrap();
    assert_eq!(error["error"]["kind"], "not_found");
    assert!(error["error"]["message"].as_str().unwrap().contains("hello@7"), "{error}");
    assert!(error["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{error}");
}

#[test]
fn verify_reads_as_much_as_it_is_told_to() {
    let world = World::new();
    world.add_both();
    let report = |arguments: &[&str]| lines(&world.good(arguments)).remove(0);
    let full = report(&["verify", "--json"]);
    let fast = report(&["verify", "--fast", "--json"]);
    assert_eq!((&full["mode"], &fast["mode"], &fast["frames"]), (&"full".into(), &"fast".into(), &0.into()));
    assert_eq!(fast["artifacts"], full["artifacts"]);
    let sample = report(&["verify", "--sample", "30%", "--json"]);
    let seed = sample["seed"].as_u64().unwrap().to_string();
    let again = report(&["verify", "--sample", "30", "--seed", &seed, "--json"]);
    assert_eq!((&sample["chunks"], &sample["percent"]), (&again["chunks"], &30.0.into()));
    assert!(world.good(&["verify", "--sample", "100%"]).contains("--seed "));
    for wrong in ["0", "101%", "some", "-1%"] {
        world.bad(2, &["verify", "--sample", wrong]);
    }
    world.bad(2, &["verify", "--fast", "--sample", "5%"]);
    world.bad(2, &["verify", "--seed", "5"]);
}

#[test]
fn damage_is_code_four_and_names_pack_and_file() {
    let world = World::new();
    world.add_both();
    let packs = fs::read_dir(world.path("store/packs")).unwrap().map(|entry| entry.unwrap().path());
    let largest = packs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&largest, bytes).unwrap();
    let output = world.run(&["verify"]);
    assert_eq!(output.status.code(), Some(4));
    let said = text(&output.stdout);
    assert!(said.contains(largest.file_name().unwrap().to_str().unwrap()), "{said}");
    assert!(said.contains("hello@1.9.0") && said.contains("data"), "{said}");
    world.bad(4, &["export", "hello@stable", "out"]);
    assert!(!world.path("out").exists(), "nothing half done is left");
    assert_eq!(
        world.good(&["cat", "hello@stable:bin/hello"]),
        "#!/bin/sh\necho two\n",
        "the rest still reads"
    );
}

#[test]
fn standard_input_is_added_and_comes_out_again() {
    let world = World::new();
    let bytes = noise(7, 2_000_000);
    let mut command = world.command(&[
        "add",
        "-",
        "--file-name",
        "state.bin",
        "--name",
        "state",
        "--version",
        "1",
        "--platform",
        "any/any",
    ]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let written = bytes.clone();
    let feeder = std::thread::spawn(move || pipe.write_all(&written));
    let output = finish(child);
    feeder.join().unwrap().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = world.run(&["cat", "state@1:state.bin"]);
    assert!(output.stdout == bytes, "the bytes differ");
}

#[test]
fn a_second_writer_waits_and_then_says_who_is_there() {
    let world = World::new();
    world.add_both();
    // A writer that waits for its input holds the store.
    let mut holder = world
        .command(&["add", "-", "--file-name", "f", "--name", "held", "--version", "1"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = holder.id();
    let lock = world.path("store/lock");
    until("the first writer to hold the store", || {
        fs::read_to_string(&lock).is_ok_and(|text| text.contains(&format!("\"pid\":{pid}")))
    });
    let said = world.bad(5, &["--wait", "100ms", "tag", "hello@1.9.0", "old"]);
    assert!(said.contains(&format!("process {pid}")), "{said}");
    assert_eq!(lines(&world.good(&["ls", "--json"])).len(), 2, "reading never waits");
    let waiting = world.command(&["--wait", "50s", "tag", "hello@1.9.0", "old"]).spawn().unwrap();
    holder.stdin.take().unwrap().write_all(b"done").unwrap();
    assert!(finish(holder).status.success());
    assert!(finish(waiting).status.success());
    assert_eq!(lines(&world.good(&["ls", "--json"])).len(), 3);
}

#[test]
fn a_writer_that_is_stopped_or_killed_leaves_nothing_visible() {
    let world = World::new();
    world.add_both();
    for (signal, code) in [(rustix::process::Signal::INT, Some(130)), (rustix::process::Signal::KILL, None)] {
        let mut child = world
            .command(&["add", "-", "--file-name", "f", "--name", "cut", "--version", "1"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let bytes = noise(11, 3_000_000);
        pipe.write_all(&bytes).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        // It may be waiting for input when the signal comes: more lets it look up.
        let _ = pipe.write_all(&bytes);
        drop(pipe);
        assert_eq!(finish(child).status.code(), code);
        assert_eq!(lines(&world.good(&["ls", "--json"])).len(), 2);
        world.bad(3, &["show", "cut@1"]);
        world.good(&["verify"]);
    }
    world.good(&["add", "one", "--name", "after", "--version", "1"]);
    let left = fs::read_dir(world.path("store/packs")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(
        left.into_iter().all(|name| name.to_string_lossy().ends_with(".pack")),
        "the next writer cleans up"
    );
}

#[test]
fn adding_again_reads_nothing_and_changes_nothing() {
    let world = World::new();
    // Older than the clock's grain, so that their status can be trusted.
    let old = std::time::SystemTime::now() - Duration::from_secs(3600);
    for name in ["one/data", "one/bin/hello"] {
        fs::File::options().write(true).open(world.path(name)).unwrap().set_modified(old).unwrap();
    }
    let start = Instant::now();
    until("the change times to be past", || start.elapsed() > Duration::from_millis(50));
    world.good(&["add", "one", "--name", "hello", "--version", "1"]);
    let again: Value =
        serde_json::from_str(&world.good(&["--json", "add", "one", "--name", "hello", "--version", "1"]))
            .unwrap();
    assert_eq!(again["unchanged"], true, "{again}");
    assert_eq!(again["unchanged_files"], 2, "{again}");
    assert_eq!(lines(&world.good(&["log", "--json"])).len(), 1);
}

#[test]
fn a_reader_without_permission_to_write_reads() {
    let world = World::new();
    world.add_both();
    let store = world.path("store");
    set_modes(&store, 0o555, 0o444);
    assert_eq!(world.good(&["cat", "hello@stable:bin/hello"]), "#!/bin/sh\necho two\n");
    assert_eq!(lines(&world.good(&["ls", "--json"])).len(), 2);
    world.good(&["verify"]);
    set_modes(&store, 0o755, 0o644);
}

fn set_modes(path: &Path, folder: u32, file: u32) {
    if path.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        for entry in fs::read_dir(path).unwrap() {
            set_modes(&entry.unwrap().path(), folder, file);
        }
        fs::set_permissions(path, fs::Permissions::from_mode(folder)).unwrap();
    } else {
        fs::set_permissions(path, fs::Permissions::from_mode(file)).unwrap();
    }
}

#[test]
fn a_closed_pipe_ends_quietly_and_completions_are_made() {
    let world = World::new();
    world.add_both();
    let mut child = world.command(&["show", "hello@stable", "--files", "--json"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = finish(child);
    assert!(text(&output.stderr).is_empty(), "{}", text(&output.stderr));
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.good(&["completions", shell]).contains("cairn"));
    }
}

#[test]
fn the_demo_tells_its_story_to_the_end() {
    let world = World::new();
    let told = world.good(&["demo", "--from", "one", "two"]);
    assert!(told.contains("byte for byte"), "{told}");
    assert!(told.contains("damaged"), "{told}");
}
