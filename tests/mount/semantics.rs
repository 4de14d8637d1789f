//! What docs/semantics.md says, sentence by sentence: each names the test here that holds it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cairn_store::{IngestOptions, Input, PublishOptions, RefKey};
use harness::bytes::noise;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::mounted::{LARGE, Mounted, SMALL, StopOnDrop};

/// Two versions of a package with a small and a large file, the first of them shown.
fn two_versions(test: &str) -> Option<Mounted> {
    let mounted = Mounted::new(test)?;
    for version in 1..=2 {
        mounted.add(
            "node",
            &format!("{version}.0"),
            &[
                ("bin/node", format!("#!/bin/sh\necho version {version}\n").as_bytes()),
                ("small", &noise(version, SMALL)),
                ("large", &noise(version, LARGE)),
                ("lib/deep/er", format!("{version}").as_bytes()),
            ],
        );
    }
    mounted.use_(&["node@1.0"]);
    Some(mounted)
}

fn link(mounted: &Mounted, path: &str) -> String {
    fs::read_link(mounted.at(path)).unwrap().into_os_string().into_string().unwrap()
}

#[test]
fn the_root_shows_current_generations_commands_and_every_version() {
    let Some(mounted) = two_versions("the tree of names") else { return };
    let mut names: Vec<_> = fs::read_dir(&mounted.dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["bin", "current", "generations", "node"]);
    assert_eq!(link(&mounted, "bin"), "current/bin");
    assert_eq!(link(&mounted, "current"), "generations/1");
    assert_eq!(link(&mounted, "node/current"), "1.0");
    assert_eq!(link(&mounted, "generations/1/node"), "../../node/1.0");
    assert_eq!(link(&mounted, "generations/1/bin/node"), "../node/bin/node");
    assert_eq!(fs::read(mounted.at("node/2.0/large")).unwrap(), noise(2, LARGE));
    let said = Command::new(mounted.at("bin/node")).output().unwrap();
    assert_eq!(said.stdout, b"version 1\n");
}

#[test]
fn a_profile_without_a_generation_has_no_current() {
    let Some(mounted) = Mounted::new("a profile without a generation") else { return };
    mounted.add("node", "1.0", &[("bin/node", b"#!/bin/sh\n")]);
    assert!(fs::symlink_metadata(mounted.at("current")).is_err());
    assert!(fs::symlink_metadata(mounted.at("bin")).is_err());
    assert!(fs::symlink_metadata(mounted.at("node/current")).is_err());
    assert!(mounted.at("node/1.0/bin/node").exists());
    mounted.use_(&["node@1.0"]);
    assert!(mounted.at("bin/node").exists());
}

#[test]
fn what_begins_after_the_flip_returned_sees_the_new_generation() {
    let Some(mounted) = two_versions("look-ups after a flip") else { return };
    for round in 0..200_u64 {
        let to = 1 + (round + 1) % 2;
        if round < 1 {
            mounted.use_(&["node@2.0"]);
        } else {
            mounted.switch(to);
        }
        assert_eq!(link(&mounted, "current"), format!("generations/{to}"));
        assert_eq!(link(&mounted, "node/current"), format!("{to}.0"));
        assert_eq!(fs::read(mounted.at("current/node/small")).unwrap(), noise(to, SMALL));
        assert_eq!(fs::read_to_string(mounted.at("node/current/lib/deep/er")).unwrap(), to.to_string());
        assert_eq!(fs::read(mounted.at("bin/../node/large")).unwrap(), noise(to, LARGE));
    }
}

/// Readers of both names while the generations go up: nobody goes back, by whatever name.
#[test]
fn nobody_sees_the_old_generation_after_the_new_one() {
    let Some(mounted) = Mounted::new("readers during flips") else { return };
    const GENERATIONS: u64 = 60;
    for version in 1..=GENERATIONS {
        let text = version.to_string();
        mounted.add("node", &text, &[("number", text.as_bytes()), ("padded", &padded(version))]);
        mounted.add("twin", &text, &[("number", text.as_bytes())]);
    }
    mounted.use_(&["node@1", "twin@1"]);
    let (done, shown) = (AtomicBool::new(false), AtomicU64::new(1));
    let looks = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // The others end with the first that fails.
                let _stop = StopOnDrop(&done);
                let mut last = 0;
                while !done.load(Ordering::SeqCst) {
                    for step in 0..6 {
                        // Whatever had returned before this look-up began must be seen by it.
                        let least = shown.load(Ordering::SeqCst);
                        let seen = match step {
                            0 => number(&link(&mounted, "current")),
                            1 => number(&link(&mounted, "node/current")),
                            2 => number(&link(&mounted, "twin/current")),
                            3 => number(&fs::read_to_string(mounted.at("current/twin/number")).unwrap()),
                            4 => whole(&fs::read(mounted.at("current/node/padded")).unwrap()),
                            _ => number(&fs::read_to_string(mounted.at("node/current/number")).unwrap()),
                        };
                        assert!(seen >= least, "stale: saw {seen} after {least} was shown");
                        assert!(seen >= last, "backwards: saw {seen} after {last}");
                        last = seen;
                        looks.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let _stop = StopOnDrop(&done);
        for version in 2..=GENERATIONS {
            let before = looks.load(Ordering::Relaxed);
            while looks.load(Ordering::Relaxed) < before + 50 && !done.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            mounted.use_(&[&format!("node@{version}"), &format!("twin@{version}")]);
            shown.store(version, Ordering::SeqCst);
        }
    });
    assert!(looks.load(Ordering::Relaxed) > 50 * (GENERATIONS - 1));
}

fn padded(version: u64) -> Vec<u8> {
    version.to_le_bytes().repeat(20_000)
}

/// The one number that a padded file repeats.
fn whole(file: &[u8]) -> u64 {
    let mut numbers = file.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    let first = numbers.next().unwrap();
    assert!(numbers.all(|number| number == first), "torn");
    assert_eq!(file.len(), 160_000);
    first
}

fn number(text: &str) -> u64 {
    text.trim_start_matches("generations/").parse().unwrap()
}

#[test]
fn an_open_file_keeps_its_bytes() {
    let Some(mounted) = two_versions("open files across a flip") else { return };
    for (name, len) in [("small", SMALL), ("large", LARGE)] {
        mounted.switch(1);
        let mut before = File::open(mounted.at("current/node").join(name)).unwrap();
        let mut half = vec![0; len / 2];
        before.read_exact(&mut half).unwrap();
        mounted.use_(&["node@2.0"]);
        let mut rest = Vec::new();
        before.read_to_end(&mut rest).unwrap();
        half.extend(rest);
        assert!(half == noise(1, len), "{name}");
        before.seek(SeekFrom::Start(0)).unwrap();
        let mut again = Vec::new();
        before.read_to_end(&mut again).unwrap();
        assert!(again == noise(1, len), "{name}");
        assert!(fs::read(mounted.at("current/node").join(name)).unwrap() == noise(2, len), "{name}");
    }
}

/// A program that maps a file, says so, waits for a line, and then says whether the bytes are still the same.
const MAPPER: &str = "
import mmap, sys, hashlib
file = open(sys.argv[1], 'rb')
held = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
file.close()
print(hashlib.sha256(held[:len(held) // 2]).hexdigest(), flush=True)
sys.stdin.readline()
print(hashlib.sha256(held[:len(held) // 2]).hexdigest(), hashlib.sha256(held[len(held) // 2:]).hexdigest(), flush=True)
";

#[test]
fn a_mapping_keeps_its_bytes() {
    let Some(mounted) = two_versions("mappings across a flip") else { return };
    for (name, len) in [("small", SMALL), ("large", LARGE)] {
        mounted.switch(1);
        let mut mapper = Waiting::start(
            Command::new("python3").args(["-c", MAPPER]).arg(mounted.at("current/node").join(name)),
        );
        let first = mapper.line();
        mounted.use_(&["node@2.0"]);
        let after = mapper.go_on();
        let halves: Vec<_> = after.split(' ').collect();
        assert_eq!(halves[0], first);
        assert_eq!(halves[1], sha256(&noise(1, len)[len / 2..]), "{name}");
    }
}

fn sha256(bytes: &[u8]) -> String {
    let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn a_running_program_goes_on_as_the_version_that_was_started() {
    let Some(mounted) = Mounted::new("programs across a flip") else { return };
    let shell = fs::read("/bin/sh").unwrap();
    for version in ["1.0", "2.0"] {
        mounted.add("shell", version, &[("bin/shell", &shell), ("version", version.as_bytes())]);
    }
    mounted.use_(&["shell@1.0"]);
    let script = "echo ready; read line; echo \"$line\"; readlink /proc/$$/exe";
    let mut program = Waiting::start(Command::new(mounted.at("bin/shell")).args(["-c", script]));
    assert_eq!(program.line(), "ready");
    mounted.use_(&["shell@2.0"]);
    assert_eq!(program.go_on(), "on");
    assert_eq!(program.line(), mounted.at("shell/1.0/bin/shell").to_str().unwrap());
    // What a script starts by name after the flip is the new version.
    let mut program = Waiting::start(Command::new(mounted.at("bin/shell")).args(["-c", script]));
    program.line();
    program.go_on();
    assert_eq!(program.line(), mounted.at("shell/2.0/bin/shell").to_str().unwrap());
}

#[test]
fn a_working_directory_stays_in_its_version() {
    let Some(mounted) = two_versions("working directories across a flip") else { return };
    let script = "cd \"$1\" && echo ready && read line && cat small | head -c 8 | od -An -tx1 && cat lib/deep/er && echo && cd -P lib/deep && cat er && echo && pwd -P && cd -P ../../.. && pwd -P";
    let mut shell =
        Waiting::start(Command::new("sh").args(["-c", script, "sh"]).arg(mounted.at("current/node")));
    assert_eq!(shell.line(), "ready");
    mounted.use_(&["node@2.0"]);
    // Names are looked up anew, so that the kernel has dropped what it knew.
    assert_eq!(link(&mounted, "current"), "generations/2");
    let first: Vec<String> = noise(1, 8).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(shell.go_on().trim(), first.join(" "));
    assert_eq!(shell.line(), "1");
    assert_eq!(shell.line(), "1");
    assert_eq!(shell.line(), mounted.at("node/1.0/lib/deep").to_str().unwrap());
    assert_eq!(shell.line(), mounted.at("node").to_str().unwrap());
}

#[test]
fn an_open_directory_stays_in_its_version() {
    let Some(mounted) = two_versions("open directories across a flip") else { return };
    let held = File::open(mounted.at("current/node")).unwrap();
    let generation = File::open(mounted.at("current")).unwrap();
    mounted.use_(&["node@2.0"]);
    let open = |dir: &File, path: &str| {
        let file = openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes).unwrap();
        bytes
    };
    assert!(open(&held, "large") == noise(1, LARGE));
    assert!(open(&held, "lib/deep/er") == b"1");
    assert!(open(&generation, "node/small") == noise(1, SMALL));
}

#[test]
fn readlink_then_open_may_straddle_a_flip_and_one_resolved_directory_does_not() {
    let Some(mounted) = two_versions("readlink, then open") else { return };
    let resolved = mounted.dir.join(link(&mounted, "current"));
    mounted.use_(&["node@2.0"]);
    // What was resolved once goes on meaning what it meant.
    assert!(fs::read(resolved.join("node/small")).unwrap() == noise(1, SMALL));
    assert!(fs::read(mounted.at("current/node/small")).unwrap() == noise(2, SMALL));
}

#[test]
fn a_rollback_shows_the_generation_before_as_it_was() {
    let Some(mounted) = two_versions("rollback") else { return };
    mounted.use_(&["node@2.0"]);
    let number = fs::metadata(mounted.at("generations/1/node/large")).unwrap().ino();
    // Nothing is read: there is nothing to read from.
    let (packs, away) = (mounted.scratch.join("store/packs"), mounted.scratch.join("away"));
    fs::rename(&packs, &away).unwrap();
    let back = mounted.writer.rollback(&Default::default(), None);
    fs::rename(&away, &packs).unwrap();
    let back = back.unwrap();
    assert_eq!((back.from, back.to), (Some(2), 1));
    assert_eq!(link(&mounted, "current"), "generations/1");
    assert_eq!(fs::metadata(mounted.at("current/node/large")).unwrap().ino(), number);
}

#[test]
fn a_version_for_another_platform_is_shown_with_its_name_and_both_are_read() {
    let Some(mounted) = two_versions("another platform") else { return };
    let tree = mounted.scratch.folder("foreign");
    fs::write(tree.join("small"), b"foreign").unwrap();
    let options = IngestOptions {
        platform: Some("plan9/mips".parse().unwrap()),
        ..IngestOptions::package("node".parse().unwrap(), "1.0".parse().unwrap())
    };
    let ingested = mounted.writer.ingest(Input::Paths(vec![tree]), &options, &()).unwrap();
    mounted.writer.publish(&ingested, &PublishOptions::default()).unwrap();
    assert_eq!(fs::read(mounted.at("node/1.0@plan9-mips/small")).unwrap(), b"foreign");
    assert_ne!(fs::read(mounted.at("node/1.0/small")).unwrap(), b"foreign");
    let listed: Vec<_> =
        fs::read_dir(mounted.at("node")).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert!(listed.iter().any(|name| name == "1.0@plan9-mips"), "{listed:?}");
}

#[test]
fn adding_a_version_shows_it_at_once_and_disturbs_nothing() {
    let Some(mounted) = two_versions("adding while mounted") else { return };
    assert!(!mounted.at("node/3.0").exists());
    assert!(!mounted.at("other").exists());
    mounted.add("node", "3.0", &[("small", b"3")]);
    mounted.add("other", "1", &[("x", b"y")]);
    assert_eq!(fs::read(mounted.at("node/3.0/small")).unwrap(), b"3");
    assert_eq!(fs::read(mounted.at("other/1/x")).unwrap(), b"y");
    assert_eq!(link(&mounted, "current"), "generations/1");
}

#[test]
fn a_removed_version_is_gone_for_new_look_ups_and_stays_in_its_generations() {
    let Some(mounted) = two_versions("removing while mounted") else { return };
    mounted.add("other", "1", &[("x", &noise(9, LARGE))]);
    let held = File::open(mounted.at("other/1/x")).unwrap();
    let key = |name: &str, version: &str| -> RefKey {
        mounted
            .writer
            .names()
            .resolve(&format!("{name}@{version}").parse().unwrap(), None)
            .unwrap()
            .0
            .unwrap()
    };
    mounted.writer.remove_ref(&key("other", "1"), false).unwrap();
    assert!(!mounted.at("other/1").exists());
    assert!(!mounted.at("other").exists());
    let mut start = vec![0; 1000];
    held.read_exact_at(&mut start, (LARGE - 1000) as u64).unwrap();
    assert!(start == noise(9, LARGE)[LARGE - 1000..]);
    // A generation still names this one.
    mounted.writer.remove_ref(&key("node", "1.0"), false).unwrap();
    assert!(fs::read(mounted.at("current/node/large")).unwrap() == noise(1, LARGE));
    assert!(fs::read(mounted.at("node/1.0/large")).unwrap() == noise(1, LARGE));
}

#[test]
fn a_replaced_version_shows_its_new_content_and_generations_keep_the_old() {
    let Some(mounted) = two_versions("replacing while mounted") else { return };
    mounted.add("node", "1.0", &[("small", b"replaced")]);
    assert_eq!(fs::read(mounted.at("node/1.0/small")).unwrap(), b"replaced");
    assert!(fs::read(mounted.at("current/node/small")).unwrap() == noise(1, SMALL));
    let target = link(&mounted, "current/node");
    assert!(target.starts_with("../../node/1.0@"), "{target}");
}

#[test]
fn nothing_can_be_written() {
    let Some(mounted) = two_versions("writing") else { return };
    let node = mounted.at("node/1.0");
    let errno = |result: std::io::Result<()>| result.unwrap_err().raw_os_error().unwrap();
    let rofs = Errno::ROFS.raw_os_error();
    let open = |path: &Path| File::options().write(true).open(path).map(drop);
    assert_eq!(errno(open(&node.join("small"))), rofs);
    assert_eq!(errno(File::create(node.join("new")).map(drop)), rofs);
    assert_eq!(errno(File::options().append(true).open(node.join("large")).map(drop)), rofs);
    assert_eq!(errno(fs::remove_file(node.join("small"))), rofs);
    assert_eq!(errno(fs::remove_file(mounted.at("current"))), rofs);
    assert_eq!(errno(fs::remove_dir(node.join("lib"))), rofs);
    assert_eq!(errno(fs::create_dir(mounted.at("new"))), rofs);
    assert_eq!(errno(fs::rename(node.join("small"), node.join("other"))), rofs);
    assert_eq!(errno(fs::hard_link(node.join("small"), node.join("other"))), rofs);
    assert_eq!(errno(std::os::unix::fs::symlink("x", node.join("other"))), rofs);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    assert_eq!(errno(fs::set_permissions(node.join("small"), mode)), rofs);
    assert_eq!(errno(std::os::unix::fs::chown(node.join("small"), Some(1), None)), rofs);
    let touched = File::open(node.join("small")).unwrap().set_modified(std::time::SystemTime::now());
    assert_eq!(errno(touched), rofs);
}

/// A child that speaks lines and waits for one.
struct Waiting {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Waiting {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    fn go_on(&mut self) -> String {
        self.child.stdin.as_mut().unwrap().write_all(b"on\n").unwrap();
        self.line()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
