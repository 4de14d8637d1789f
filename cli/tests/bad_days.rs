//! The pages for bad days in docs/operations.md: each is played as it is written, the commands and what they print.
//!
//! A page's blocks of type `console` are run one after the other in a world that the page's test has brought about. A line
//! that begins with `$ ` is a command; what follows is what it prints, on both outputs together. `…` stands for anything
//! within a line, and alone on a line for any lines. `/var/lib/cairn`, `/opt/bins` and their like are folders of the test.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test panics where it fails, and makes its trees as their owner would"
)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cairn_store::block::{Codec, FrameHeader};
use harness::bytes::noise;
use harness::program::{command, finish, text, until};
use harness::scratch::Scratch;
use rustix::process::{Pid, Signal, kill_process};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
/// What the document says, and what it is called here.
const FOLDERS: [(&str, &str); 4] =
    [("/var/lib/cairn", "store"), ("/opt/bins", "mnt"), ("/backup/cairn", "backup"), ("/srv/uv", "uv")];

/// A step of a page.
struct Step {
    line: usize,
    command: String,
    printed: Vec<String>,
}

/// The steps of the page with this title.
fn page(title: &str) -> Vec<Step> {
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let mut steps: Vec<Step> = Vec::new();
    let (mut on_page, mut in_block) = (false, false);
    for (number, line) in (1..).zip(document.lines()) {
        if line.starts_with("## ") || line.starts_with("### ") {
            on_page = line.trim_start_matches('#').trim() == title;
        }
        if !on_page {
            continue;
        }
        if line.starts_with("```") {
            in_block = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| in_block) {
            steps.push(Step { line: number, command: command.to_owned(), printed: Vec::new() });
        } else if in_block {
            steps.last_mut().expect("a block begins with a command").printed.push(line.to_owned());
        }
    }
    assert!(!steps.is_empty(), "there is no page {title:?} with commands");
    steps
}

/// Whether a line is what the document says, in which `…` stands for anything.
fn fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The same for lines, of which `…` alone stands for any number.
fn all_fit(patterns: &[String], lines: &[&str]) -> bool {
    match patterns.split_first() {
        None => lines.is_empty(),
        Some((pattern, rest)) if pattern.trim() == "…" => {
            (0..=lines.len()).any(|at| all_fit(rest, &lines[at..]))
        }
        Some((pattern, rest)) => {
            lines.split_first().is_some_and(|(line, lines)| fits(pattern, line) && all_fit(rest, lines))
        }
    }
}

struct World {
    scratch: Scratch,
    children: Vec<Child>,
}

impl Drop for World {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = Command::new("umount").args(["--lazy"]).arg(self.path("mnt")).stderr(Stdio::null()).status();
    }
}

impl World {
    /// A store with two versions of `uv`, of which the second is stable.
    fn new() -> Self {
        let world = Self { scratch: Scratch::new(), children: Vec::new() };
        for (version, seed) in [("0.8.1", 1), ("0.8.2", 2)] {
            let tree = world.path("uv").join(version);
            fs::create_dir_all(tree.join("bin")).unwrap();
            fs::write(tree.join("bin/uv"), format!("#!/bin/sh\necho uv {version}\n")).unwrap();
            fs::set_permissions(tree.join("bin/uv"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .unwrap();
            fs::write(tree.join("data"), noise(seed, 3_000_000)).unwrap();
            world.good(&[
                "add",
                tree.to_str().unwrap(),
                "--name",
                "uv",
                "--version",
                version,
                "--channel",
                "stable",
                "--platform",
                "linux/x86_64",
            ]);
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        command(env!("CARGO_BIN_EXE_cairn"), arguments, self.scratch.path(), &self.path("store"))
    }

    fn good(&self, arguments: &[&str]) -> String {
        let output = finish(self.command(arguments).spawn().unwrap());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Starts a process that lives as long as this does.
    fn start(&mut self, arguments: &[&str]) -> Pid {
        let log = fs::File::create(self.path("log")).unwrap();
        let child = self.command(arguments).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let pid = Pid::from_child(&child);
        self.children.push(child);
        pid
    }

    /// Runs what the document has, and holds what is printed against it; `names` are put in for words of the document.
    fn play(&self, steps: &[Step], names: &[(&str, &str)]) {
        let here = |text: &str| {
            let mut text = text.to_owned();
            for (said, name) in FOLDERS {
                text = text.replace(said, self.path(name).to_str().unwrap());
            }
            names.iter().for_each(|(said, name)| text = text.replace(said, name));
            text
        };
        let bin = Path::new(env!("CARGO_BIN_EXE_cairn")).parent().unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let mut wrong = String::new();
        for step in steps {
            let mut shell =
                command("bash", &["-c", &here(&step.command)], self.scratch.path(), &self.path("store"));
            shell.env("PATH", &path).env("CAIRN_PLATFORM", "linux/x86_64");
            // Both outputs into one pipe, in the order in which they are printed.
            let (reader, writer) = std::io::pipe().unwrap();
            shell.stdout(writer.try_clone().unwrap()).stderr(writer).process_group(0);
            let child = shell.spawn().unwrap();
            drop(shell);
            let printed = std::thread::spawn(move || std::io::read_to_string(reader).unwrap());
            finish(child);
            let printed = printed.join().unwrap();
            // What the document has to say, for who writes it.
            println!("$ {}\n{printed}", step.command);
            let lines: Vec<&str> = printed.lines().collect();
            let patterns: Vec<String> = step.printed.iter().map(|line| here(line)).collect();
            if !all_fit(&patterns, &lines) {
                wrong += &format!(
                    "line {}: $ {}\n--- said:\n{}\n--- printed:\n{printed}\n",
                    step.line,
                    step.command,
                    step.printed.join("\n")
                );
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    }

    /// The largest pack.
    fn pack(&self, store: &str) -> PathBuf {
        let packs = self.path(store).join("packs");
        let names = Scratch::names(&packs).into_iter().map(|name| packs.join(name));
        names.max_by_key(|path| path.metadata().unwrap().len()).unwrap()
    }
}

fn is_root(test: &str) -> bool {
    let may = rustix::process::geteuid().is_root() && Path::new("/dev/fuse").exists();
    if !may {
        eprintln!("SKIPPED: {test}: it takes root and /dev/fuse");
    }
    may
}

#[test]
fn disk_full() {
    if !is_root("a full disk") {
        return;
    }
    let world = World { scratch: Scratch::new(), children: Vec::new() };
    let store = world.path("store");
    fs::create_dir(&store).unwrap();
    fs::create_dir_all(world.path("uv/0.8.3")).unwrap();
    fs::write(world.path("uv/0.8.3/data"), noise(9, 12_000_000)).unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "none"]).arg(&store).status().unwrap();
    assert!(mounted.success());
    for (version, seed) in [("0.8.1", 1), ("0.8.2", 2)] {
        fs::write(world.path("tree"), noise(seed, 8_000_000)).unwrap();
        world.good(&["add", "tree", "--name", "uv", "--version", version, "--platform", "linux/x86_64"]);
    }
    let played = std::panic::catch_unwind(|| world.play(&page("The disk is full"), &[]));
    assert!(Command::new("umount").arg(&store).status().unwrap().success());
    played.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn power_cut() {
    let world = World::new();
    fs::write(world.path("large"), noise(5, 60_000_000)).unwrap();
    let mut add = world.command(&["add", "large", "--name", "large", "--version", "1"]).spawn().unwrap();
    until("some of it", || {
        Scratch::names(&world.path("store/packs")).iter().any(|name| name.ends_with(".open"))
    });
    add.kill().unwrap();
    add.wait().unwrap();
    world.play(&page("After a power cut"), &[]);
}

#[test]
fn damaged_pack() {
    let mut world = World::new();
    // A peer that has all of it.
    let copied =
        Command::new("cp").arg("-a").arg(world.path("store")).arg(world.path("peer")).status().unwrap();
    assert!(copied.success());
    let url = serve(&mut world, "peer");
    let pack = world.pack("store");
    let file = fs::File::options().write(true).open(&pack).unwrap();
    file.write_all_at(b"rotten", 1_000_000).unwrap();
    world.play(&page("A pack is damaged"), &[("http://10.0.0.5:7001", &url)]);
}

#[test]
fn lying_peer() {
    let mut world = World::new();
    let data = world.path("uv/0.8.2");
    world.good(&[
        "add",
        data.to_str().unwrap(),
        "--name",
        "other",
        "--version",
        "1",
        "--platform",
        "linux/x86_64",
    ]);
    for peer in ["honest", "liar"] {
        assert!(
            Command::new("cp")
                .arg("-a")
                .arg(world.path("store"))
                .arg(world.path(peer))
                .status()
                .unwrap()
                .success()
        );
    }
    // A byte of a file is another, and every checksum holds.
    let path = world.pack("liar");
    let mut bytes = fs::read(&path).unwrap();
    let (header, len) = FrameHeader::decode(&bytes[16..]).unwrap();
    assert_eq!(header.codec, Codec::Raw, "what does not compress is stored as it is");
    let payload = 16 + len..16 + header.frame_len();
    bytes[payload.start + 1000] ^= 1;
    let put =
        |bytes: &mut Vec<u8>, at: usize, crc: u32| bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[payload]);
    put(&mut bytes, 16 + 20, crc);
    let crc = crc32c::crc32c(&bytes[16..16 + len - 4]);
    put(&mut bytes, 16 + len - 4, crc);
    fs::write(&path, bytes).unwrap();
    let (liar, honest) = (serve(&mut world, "liar"), serve(&mut world, "honest"));
    fs::remove_dir_all(world.path("store")).unwrap();
    world.play(&page("A peer lies"), &[("http://10.0.0.6:7001", &liar), ("http://10.0.0.5:7001", &honest)]);
}

/// Serves a store; gives its address.
fn serve(world: &mut World, store: &str) -> String {
    let (store, log) = (world.path(store), world.path("served"));
    let arguments = ["serve", "--listen", "127.0.0.1:0"];
    let child = command(env!("CARGO_BIN_EXE_cairn"), &arguments, world.scratch.path(), &store)
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    world.children.push(child);
    let mut url = None;
    until("the server", || {
        let said = fs::read_to_string(&log).unwrap();
        url = said.split('"').find(|word| word.starts_with("http://127.0.0.1:")).map(ToOwned::to_owned);
        url.is_some() && said.contains("INFO ready")
    });
    url.unwrap().trim_end_matches('/').to_owned()
}

#[test]
fn lost_catalogue() {
    let world = World::new();
    let catalogue = world.path("store/catalogue");
    let _ = fs::remove_dir_all(&catalogue);
    fs::write(&catalogue, b"no database").unwrap();
    world.play(&page("The catalogue or the index is lost"), &[]);
}

#[test]
fn stuck_mount() {
    if !is_root("a stuck mount") {
        return;
    }
    let mut world = World::new();
    fs::create_dir(world.path("mnt")).unwrap();
    world.good(&["use", "uv@0.8.2", "--platform", "linux/x86_64"]);
    let daemon = world.start(&["daemon", "--mount", world.path("mnt").to_str().unwrap()]);
    until("the mount", || world.path("mnt/current").exists());
    kill_process(daemon, Signal::STOP).unwrap();
    // Who has read a request answers it yet.
    until("all of its threads to stop", || {
        let threads = fs::read_dir(format!("/proc/{}/task", daemon.as_raw_nonzero())).unwrap();
        let mut states =
            threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")).unwrap());
        states.all(|stat| stat.rsplit(") ").next().unwrap().starts_with('T'))
    });
    let pid = daemon.as_raw_nonzero().to_string();
    world.play(&page("A mount hangs"), &[("4711", &pid)]);
    let _ = world.good(&["umount", world.path("mnt").to_str().unwrap()]);
}

#[test]
fn wrong_release() {
    let world = World::new();
    world.good(&["use", "uv@0.8.1", "--platform", "linux/x86_64"]);
    world.good(&["use", "uv@0.8.2", "--platform", "linux/x86_64"]);
    world.play(&page("The wrong release was flipped"), &[]);
}

#[test]
fn what_stands_for_anything_does() {
    let fit = |pattern: &str, text: &str| {
        let patterns: Vec<String> = pattern.lines().map(ToOwned::to_owned).collect();
        all_fit(&patterns, &text.lines().collect::<Vec<_>>())
    };
    assert!(
        fit("a…c\nd", "abc\nd")
            && fit("a…c…e", "acce")
            && fit("…\nd", "a\nb\nd")
            && fit("…", "")
            && fit("a\n…", "a")
    );
    assert!(!fit("a…c", "abcd") && !fit("a", "a\nb") && !fit("a…b…c", "acb") && !fit("d\n…", "a"));
}
