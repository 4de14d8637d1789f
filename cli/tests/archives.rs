//! Artifacts that travel as a file: `export --archive` and `import`, as a script or a person has them.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and makes its trees as their owner would"
)]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use harness::bytes::noise;
use harness::program::{command, finish, text, until};
use harness::scratch::Scratch;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

struct World {
    scratch: Scratch,
}

impl World {
    /// Two versions in the store `from`, the second with the channel `stable`.
    fn new() -> Self {
        let world = Self { scratch: Scratch::new() };
        for (version, more) in [("1.0", &b"one"[..]), ("2.0", b"two")] {
            let folder = world.scratch.folder(version);
            fs::write(folder.join("tool"), more.repeat(50)).unwrap();
            fs::write(folder.join("data"), noise(1, 700_000)).unwrap();
            world.good("from", &["add", version, "--name", "app", "--version", version]);
        }
        world.good("from", &["tag", "app@2.0", "stable"]);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    fn command(&self, store: &str, arguments: &[&str]) -> Command {
        command(env!("CARGO_BIN_EXE_cairn"), arguments, self.scratch.path(), &self.path(store))
    }

    fn run(&self, store: &str, arguments: &[&str]) -> Output {
        finish(self.command(store, arguments).spawn().unwrap())
    }

    fn good(&self, store: &str, arguments: &[&str]) -> String {
        let output = self.run(store, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn bad(&self, store: &str, code: i32, arguments: &[&str]) -> String {
        let output = self.run(store, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stderr)
    }

    fn artifacts(&self, store: &str) -> Vec<(String, String)> {
        let rows = json(&self.good(store, &["ls", "--json"]));
        let of = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
        rows.iter().map(|row| (of(row, "version"), of(row, "artifact"))).collect()
    }

    /// Nothing but what was there lies in the folder.
    fn assert_nothing_left(&self) {
        let names = Scratch::names(self.scratch.path());
        assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
    }
}

fn json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_archive_brings_versions_channels_and_bytes_to_another_store() {
    let world = World::new();
    let told = world.good("from", &["export", "--archive", "app.cairn", "app@1.0", "app@stable"]);
    assert!(told.starts_with("archived 2 artifacts in ") && told.contains("(stable)"), "{told}");
    assert_eq!(world.path("app.cairn").metadata().unwrap().mode() & 0o111, 0);
    let told = world.good("to", &["import", "app.cairn", "--dry-run"]);
    assert!(told.contains("would import app@2.0") && told.contains("every byte holds"), "{told}");
    assert!(world.artifacts("to").is_empty());
    let told = world.good("to", &["import", "app.cairn"]);
    assert!(told.contains("imported app@1.0") && told.contains("imported app@2.0"), "{told}");
    assert_eq!(world.artifacts("to"), world.artifacts("from"));
    world.good("to", &["verify"]);
    world.good("to", &["export", "app@stable", "out"]);
    assert_eq!(fs::read(world.path("out/data")).unwrap(), noise(1, 700_000));
    assert!(world.good("to", &["import", "app.cairn"]).contains("nothing: all of it is here"));
    // It is another store's word that is passed on from there.
    world.good("to", &["export", "--archive", "again.cairn", "app@1.0", "app@stable"]);
    assert!(fs::read(world.path("again.cairn")).unwrap() == fs::read(world.path("app.cairn")).unwrap());
    world.assert_nothing_left();
}

#[test]
fn json_says_what_went_in_and_what_came() {
    let world = World::new();
    let rows =
        json(&world.good("from", &["export", "--archive", "a", "app@2.0", "--since", "app@1.0", "--json"]));
    let bytes = world.path("a").metadata().unwrap().len();
    assert_eq!(
        (rows.len(), rows[0]["archive_bytes"].as_u64(), rows[0]["path"].as_str()),
        (1, Some(bytes), world.path("a").to_str())
    );
    assert_eq!(rows[0]["artifacts"][0]["version"], "2.0");
    assert_eq!(rows[0]["since"][0]["version"], "1.0");
    assert!(bytes < 20_000, "what the version before has is left out: {bytes}");
    let told = world.bad("to", 3, &["import", "a", "--json"]);
    assert!(told.contains("app@1.0") && told.contains("which the archive leaves out"), "{told}");
    world.good("from", &["export", "--archive", "base", "app@1.0"]);
    world.good("to", &["import", "base"]);
    let rows = json(&world.good("to", &["import", "a", "--json"]));
    assert_eq!((rows[0]["type"].as_str(), rows[0]["unchanged"].as_bool()), (Some("artifact"), Some(false)));
    assert!(rows[0]["new_chunks"].as_u64().unwrap() > 0 && rows[0]["new_bytes"].as_u64().unwrap() < 20_000);
    assert_eq!((rows[1]["type"].as_str(), rows[1]["archive_bytes"].as_u64()), (Some("archive"), Some(bytes)));
    assert_eq!(rows[1]["since"][0]["version"], "1.0");
    assert_eq!(world.artifacts("to"), world.artifacts("from"));
}

#[test]
fn a_pipe_carries_an_archive() {
    let world = World::new();
    let mut export = world.command("from", &["export", "--archive", "-", "app@stable"]).spawn().unwrap();
    let mut import = world.command("to", &["import", "-"]);
    import.stdin(Stdio::from(export.stdout.take().unwrap()));
    let import = finish(import.spawn().unwrap());
    let export = finish(export);
    assert!(
        export.status.success() && import.status.success(),
        "{}{}",
        text(&export.stderr),
        text(&import.stderr)
    );
    assert_eq!(world.artifacts("to"), world.artifacts("from")[1..]);
    assert!(world.good("to", &["show", "app@stable"]).contains("2.0"));
    // A reader that goes away ends it quietly.
    let mut export = world.command("from", &["export", "--archive", "-", "app@stable"]).spawn().unwrap();
    drop(export.stdout.take());
    let export = finish(export);
    assert!(export.status.success() && export.stderr.is_empty(), "{}", text(&export.stderr));
    // One that is cut says so.
    world.good("from", &["export", "--archive", "whole", "app@1.0"]);
    let whole = fs::read(world.path("whole")).unwrap();
    let mut import = world.command("to", &["import", "-"]);
    let mut import = import.stdin(Stdio::piped()).spawn().unwrap();
    import.stdin.take().unwrap().write_all(&whole[..whole.len() / 2]).unwrap();
    let import = finish(import);
    assert_eq!(import.status.code(), Some(4));
    assert!(text(&import.stderr).contains("cut short"), "{}", text(&import.stderr));
}

#[test]
fn what_is_wrong_is_said() {
    let world = World::new();
    world.bad("from", 2, &["export", "app@1.0"]);
    world.bad("from", 2, &["export", "app@1.0", "one", "two"]);
    world.bad("from", 2, &["export", "app@1.0", "out", "--since", "app@2.0"]);
    world.bad("from", 2, &["export", "--archive", "a"]);
    world.bad("from", 2, &["export", "--archive", "a", "app@1.0", "not a spec"]);
    world.bad("from", 3, &["export", "--archive", "a", "app@1.0", "app@9"]);
    world.bad("from", 2, &["export", "--archive", "1.0", "app@1.0"]);
    world.bad("from", 1, &["export", "--archive", "no/such/folder/a", "app@1.0"]);
    assert!(!world.path("a").exists());
    world.good("from", &["export", "--archive", "a", "app@stable"]);
    let before = fs::read(world.path("a")).unwrap();
    let told = world.bad("from", 5, &["export", "--archive", "a", "app@1.0"]);
    assert!(told.contains("--force") && fs::read(world.path("a")).unwrap() == before, "{told}");
    world.good("from", &["export", "--archive", "older", "app@1.0"]);
    world.good("from", &["export", "--archive", "a", "app@1.0", "--force"]);
    assert_ne!(fs::read(world.path("a")).unwrap(), before);
    world.assert_nothing_left();

    world.bad("to", 1, &["import", "nowhere"]);
    assert!(world.bad("to", 1, &["import", "1.0"]).contains("folder"));
    assert!(world.bad("to", 1, &["import", "1.0/data"]).contains("no cairn archive"));
    assert!(!world.path("to").exists(), "nothing was to be written");
    let mut bytes = fs::read(world.path("a")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(world.path("flipped"), &bytes).unwrap();
    let told = world.bad("to", 4, &["import", "flipped"]);
    assert!(told.contains("damaged archive") && told.contains("copied again"), "{told}");
    assert!(world.artifacts("to").is_empty());
    // The same version, made elsewhere with other content.
    world.good("to", &["add", "2.0", "--name", "app", "--version", "1.0"]);
    assert!(world.bad("to", 5, &["import", "a"]).contains("cairn import --replace"));
    world.good("to", &["import", "a", "--replace"]);
    assert_eq!(world.artifacts("to")[0], world.artifacts("from")[0]);
    // A channel that has moved on since.
    world.good("from", &["export", "--archive", "old", "app@stable"]);
    world.good("from", &["tag", "app@1.0", "stable"]);
    world.good("from", &["export", "--archive", "new", "app@stable"]);
    world.good("to", &["import", "new"]);
    let told = world.bad("to", 5, &["import", "old"]);
    assert!(told.contains("rolled back") && told.contains("older than what is here"), "{told}");
}

#[test]
fn an_import_that_is_killed_goes_on() {
    let world = World::new();
    let folder = world.scratch.folder("large");
    fs::write(folder.join("data"), noise(7, 30_000_000)).unwrap();
    world.good("from", &["add", "large", "--name", "large", "--version", "1"]);
    world.good("from", &["export", "--archive", "a", "large@1"]);
    let bytes = fs::read(world.path("a")).unwrap();
    let mut import = world.command("to", &["import", "-"]);
    let mut import = import.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = import.stdin.take().unwrap();
    stdin.write_all(&bytes[..20_000_000]).unwrap();
    // What is in a pack under way by then is found there again.
    until("some of it", || written(&world.path("to/packs")) > 10_000_000);
    kill_process(Pid::from_child(&import), Signal::KILL).unwrap();
    assert!(!finish(import).status.success());
    drop(stdin);
    assert!(world.artifacts("to").is_empty());
    let rows = json(&world.good("to", &["import", "a", "--json"]));
    let new = rows[0]["new_bytes"].as_u64().unwrap();
    assert!(new < 25_000_000, "{new} bytes came again");
    world.good("to", &["verify"]);
    assert_eq!(world.artifacts("to")[0].1, rows[0]["artifact"]);
}

fn written(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().metadata().map_or(0, |about| about.len())).sum()
}

#[test]
fn a_daemon_takes_archives_from_a_pipe_and_from_a_path() {
    let world = World::new();
    world.good("from", &["export", "--archive", "a", "app@stable"]);
    world.good("from", &["export", "--archive", "b", "app@1.0"]);
    let mut daemon =
        world.command("to", &["daemon"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the daemon", || world.path("to/daemon.sock").exists());
    let mut import = world.command("to", &["import", "-"]);
    let import = finish(import.stdin(File::open(world.path("a")).unwrap()).spawn().unwrap());
    assert!(import.status.success(), "{}", text(&import.stderr));
    world.good("to", &["import", "b"]);
    world.good("to", &["export", "--archive", "c", "app@stable"]);
    let export = finish(world.command("to", &["export", "--archive", "-", "app@1.0"]).spawn().unwrap());
    fs::write(world.path("d"), export.stdout).unwrap();
    for archive in ["c", "d"] {
        world.good("third", &["import", archive]);
    }
    assert_eq!(world.artifacts("third"), world.artifacts("from"));
    kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
    assert!(daemon.wait().unwrap().success());
    assert_eq!(world.artifacts("to"), world.artifacts("from"));
}
