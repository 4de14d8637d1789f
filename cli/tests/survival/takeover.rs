//! `cairn daemon --takeover`: one program after the other serves the same mounts.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use harness::bytes::noise;
use harness::program::{DEADLINE, finish, text, until};
use harness::seed::Chance;
use rustix::process::Signal;
use serde_json::json;

use crate::world::{Echo, LARGE, World, contents};

const EXCHANGES: usize = 50;

/// Answers each line with whether the mapping still holds what it held, or "bad"; each page is touched every time, and a
/// fresh mapping of the file is compared too.
const MAPPER: &str = "
import mmap, sys, hashlib
file = open(sys.argv[1], 'rb')
held = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
first = None
for line in sys.stdin:
    with open(sys.argv[1], 'rb') as again:
        fresh = mmap.mmap(again.fileno(), 0, prot=mmap.PROT_READ)
    sums = {hashlib.sha256(held).hexdigest(), hashlib.sha256(fresh).hexdigest()}
    first = first or sums
    print('good' if len(sums) == 1 and sums == first else 'bad', flush=True)
";

/// Lets users of a mount end also when the test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Works until told to stop; counts how often.
fn again(stop: &AtomicBool, count: &AtomicU64, work: impl Fn()) {
    while !stop.load(Ordering::SeqCst) {
        work();
        count.fetch_add(1, Ordering::SeqCst);
    }
}

/// Either version, whole.
fn is_whole(bytes: &[u8], large: bool) -> bool {
    static BOTH: LazyLock<[(Vec<u8>, Vec<u8>); 2]> = LazyLock::new(|| [contents(1), contents(2)]);
    BOTH.iter().any(|(small_bytes, large_bytes)| bytes == if large { large_bytes } else { small_bytes })
}

#[test]
fn fifty_daemons_follow_each_other_and_no_operation_fails() {
    let Some(mut world) = World::mounted("fifty takeovers") else { return };
    let mut echo = Echo::start(&world.at("tool/1/bin/tool"));
    let held = File::open(world.at("current/tool/large")).unwrap();
    let held_bytes = contents(1).1;
    let mapper = Command::new("python3")
        .args(["-c", MAPPER])
        .arg(world.at("tool/1/large"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut mapper = mapper.map_err(|error| eprintln!("SKIPPED: mappings: no python3: {error}")).ok();
    let mut mapped = mapper.as_mut().map(|child| BufReader::new(child.stdout.take().unwrap()));
    let inode = fs::metadata(world.at("tool/1/large")).unwrap().ino();
    let (stop, counts) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 5]);
    let mut pauses = Vec::new();
    let current = world.at("current/tool");
    let commands: Vec<_> = [["status"], ["generations"]]
        .iter()
        .map(|arguments| (arguments, world.path("store"), world.path("")))
        .collect();
    std::thread::scope(|scope| {
        let stopped = StopOnDrop(&stop);
        let (current, stop, commands) = (&current, &stop, &commands);
        let [large, small, absent, execs, asked] = &counts;
        scope.spawn(move || {
            again(stop, large, || assert!(is_whole(&fs::read(current.join("large")).unwrap(), true)))
        });
        scope.spawn(move || {
            again(stop, small, || assert!(is_whole(&fs::read(current.join("small")).unwrap(), false)))
        });
        scope.spawn(move || {
            again(stop, absent, || {
                let error = fs::metadata(current.join("absent")).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
                assert_eq!(fs::read_dir(current).unwrap().count(), 4);
            })
        });
        scope.spawn(move || {
            again(stop, execs, || {
                let output =
                    Command::new(current.join("bin/tool")).arg(current.join("small")).output().unwrap();
                assert!(output.status.success() && is_whole(&output.stdout, false), "{}", output.status);
            })
        });
        scope.spawn(move || {
            again(stop, asked, || {
                for (arguments, store, dir) in commands {
                    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
                    command.args(**arguments).env("CAIRN_STORE", store).current_dir(dir);
                    let output = command.output().unwrap();
                    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
                    if arguments[0] == "status" {
                        assert!(
                            !text(&output.stdout).contains("none runs"),
                            "a daemon was there all the time"
                        );
                    }
                }
            })
        });
        for number in 0..EXCHANGES {
            world.exchange();
            let status = world.status();
            assert_eq!(status["daemon"]["pid"], json!(world.daemon.as_ref().unwrap().pid()));
            pauses.push(status["daemon"]["took_over"]["paused_us"].as_u64().unwrap());
            let version = if number % 2 == 0 {
                world.good(&["use", "tool@2"]);
                "2"
            } else {
                world.good(&["rollback", "--to", "1"]);
                "1"
            };
            for path in ["current/tool/version", "tool/current/version"] {
                assert_eq!(fs::read_to_string(world.at(path)).unwrap(), version, "after exchange {number}");
            }
            assert!(fs::read_link(world.at("tool/current")).unwrap().ends_with(version));
            assert_eq!(fs::metadata(world.at("tool/1/large")).unwrap().ino(), inode);
            echo.check();
            let mut bytes = [0; 1000];
            let at = (number * 7919) % (LARGE - 1000);
            held.read_exact_at(&mut bytes, at as u64).unwrap();
            assert!(bytes == held_bytes[at..][..1000], "the file that was open all the time");
            if let (Some(child), Some(mapped)) = (&mut mapper, &mut mapped) {
                child.stdin.as_mut().unwrap().write_all(b"look\n").unwrap();
                let mut said = String::new();
                mapped.read_line(&mut said).unwrap();
                assert_eq!(said, "good\n");
            }
        }
        drop(stopped);
    });
    if let Some(mut mapper) = mapper {
        drop(mapper.stdin.take());
        assert!(mapper.wait().unwrap().success());
    }
    pauses.sort_unstable();
    let counts = counts.map(|count| count.into_inner());
    eprintln!(
        "{EXCHANGES} takeovers: pause {} us median, {} us worst; meanwhile {} reads by the kernel, {} through \
         the page cache, {} listings, {} executions, {} commands",
        pauses[EXCHANGES / 2],
        pauses[EXCHANGES - 1],
        counts[0],
        counts[1],
        counts[2],
        counts[3],
        2 * counts[4]
    );
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

#[test]
fn a_command_that_comes_during_the_exchange_is_carried_out_with_its_input() {
    let Some(mut world) = World::mounted("commands during a takeover") else { return };
    let bytes = noise(5, 3 << 20);
    for round in 0..5 {
        let name = format!("stream-{round}");
        let arguments = ["add", "-", "--file-name", "file", "--name", &name, "--version", "1"];
        let mut adding = world.command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
        let input = adding.stdin.take().unwrap();
        std::thread::scope(|scope| {
            // The rest comes when it is read.
            scope.spawn(|| {
                let mut input = input;
                input.write_all(&bytes).unwrap();
            });
            world.exchange();
        });
        let output = finish(adding);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(fs::read(world.at(&format!("{name}/1/file"))).unwrap() == bytes);
    }
}

#[test]
fn what_a_daemon_runs_with_goes_on() {
    let Some(mut world) = World::new("settings across a takeover") else { return };
    let other = world.place("other");
    let socket = world.path("elsewhere.sock");
    let (mnt, socket_text) = (world.mnt.to_str().unwrap().to_owned(), socket.to_str().unwrap().to_owned());
    let first = ["--socket", &socket_text, "--mount", &mnt, "--cache-max", "3000000", "--socket-group", "0"];
    world.daemon = Some(world.start(&first));
    let status = |world: &World| world.json(&["--socket", &socket_text, "status"]).remove(0);
    assert_eq!(status(&world)["cache"]["bytes_max"], 3_000_000);
    world.exchange();
    let after = status(&world);
    assert_eq!(after["daemon"]["pid"], json!(world.daemon.as_ref().unwrap().pid()));
    assert_eq!(after["cache"]["bytes_max"], 3_000_000);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o660);
    // What the command line says is new; the same line twice mounts nothing twice.
    let wanted = [
        "--takeover",
        "--mount",
        &mnt,
        "--mount",
        &format!("{}=canary", other.display()),
        "--cache-max",
        "4000000",
    ];
    let next = world.start(&wanted);
    assert_eq!(world.daemon.replace(next).unwrap().ended(), Some(0));
    until("the new mount", || {
        status(&world)["mounts"].as_array().unwrap().len() >= 2 && other.join("tool").exists()
    });
    assert_eq!(status(&world)["cache"]["bytes_max"], 4_000_000);
    assert_eq!(fs::read_to_string(world.at("current/tool/version")).unwrap(), "1");
}

#[test]
fn a_takeover_that_cannot_be_leaves_the_daemon_as_it_was() {
    let Some(world) = World::mounted("a takeover that fails") else { return };
    let pid = world.daemon.as_ref().unwrap().pid();
    let mut held = File::open(world.at("tool/1/small")).unwrap();
    let elsewhere = format!("{}=other", world.mnt.display());
    let said = world.bad(1, &["daemon", "--takeover", "--mount", &elsewhere]);
    assert!(said.contains("shows the profile default"), "{said}");
    world.bad(1, &["--socket", "/nonexistent/daemon.sock", "daemon", "--takeover"]);
    // A command that does not end keeps the store.
    let mut adding = world.command(&["add", "-", "--file-name", "f", "--name", "slow", "--version", "1"]);
    let mut adding = adding.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = adding.stdin.take().unwrap();
    input.write_all(b"begun").unwrap();
    until("the command to run", || world.is_busy());
    let said = world.bad(1, &["daemon", "--takeover"]);
    assert!(said.contains("1 command did not end within 10.00 s"), "{said}");
    drop(input);
    assert!(finish(adding).status.success());
    assert_eq!(world.status()["daemon"]["pid"], json!(pid));
    let mut bytes = Vec::new();
    held.read_to_end(&mut bytes).unwrap();
    assert!(bytes == contents(1).0);
    world.good(&["use", "tool@2"]);
    assert_eq!(fs::read_to_string(world.at("current/tool/version")).unwrap(), "2");
}

#[test]
fn without_a_daemon_a_takeover_begins_one() {
    let Some(mut world) = World::new("a takeover of nothing") else { return };
    let mnt = world.mnt.to_str().unwrap().to_owned();
    world.daemon = Some(world.start(&["--takeover", "--mount", &mnt]));
    assert!(world.log().contains("no daemon runs that could be taken over"), "{}", world.log());
    assert_eq!(world.status()["daemon"]["took_over"], serde_json::Value::Null);
    assert_eq!(fs::read_to_string(world.at("current/tool/version")).unwrap(), "1");
}

#[test]
fn a_daemon_of_a_mount_alone_is_taken_over_and_still_ends_with_it() {
    let Some(mut world) = World::new("a takeover of a daemon that a mount began") else { return };
    let mnt = world.mnt.to_str().unwrap().to_owned();
    let first = world.json(&["mount", &mnt]).remove(0)["pid"].as_u64().unwrap();
    let next = world.start(&["--takeover"]);
    until("the first to end", || !crate::world::lives(u32::try_from(first).unwrap()));
    assert_eq!(world.status()["daemon"]["pid"], json!(next.pid()));
    world.daemon = Some(next);
    world.good(&["use", "tool@2"]);
    assert_eq!(fs::read_to_string(world.at("current/tool/version")).unwrap(), "2");
    world.good(&["umount", &mnt]);
    assert_eq!(world.daemon.take().unwrap().ended(), Some(0));
}

#[test]
fn a_detached_takeover_is_ready_when_its_command_ends_and_says_who_it_is() {
    let Some(mut world) = World::mounted("a detached takeover") else { return };
    let socket = world.path("notify");
    let notified = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    notified.set_read_timeout(Some(DEADLINE)).unwrap();
    // A folder that is meant from here.
    let mut command = world.command(&["daemon", "--takeover", "--detach", "--mount", "mnt"]);
    // The daemon keeps standard error.
    command.stderr(File::create(world.path("errors")).unwrap());
    let output = finish(command.env("NOTIFY_SOCKET", &socket).spawn().unwrap());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(world.daemon.take().unwrap().ended(), Some(0));
    let pid = world.status()["daemon"]["pid"].as_i64().unwrap();
    let mut message = [0; 1000];
    let len = notified.recv(&mut message).unwrap();
    let message = text(&message[..len]);
    assert!(message.contains("READY=1") && message.contains(&format!("MAINPID={pid}")), "{message}");
    assert_eq!(fs::read_to_string(world.at("current/tool/version")).unwrap(), "1");
    let status = world.status();
    let mounts = status["mounts"].as_array().unwrap().iter().filter(|mount| mount["state"] == "mounted");
    assert_eq!(mounts.count(), 1, "{status}");
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"), "it keeps no folder busy");
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    assert_eq!(rustix::process::getsid(Some(pid)).unwrap(), pid, "no terminal's end is its own");
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    until("it to end", || rustix::process::test_kill_process(pid).is_err());
    assert!(!world.at("current").exists());
    let said = world.bad(2, &["daemon", "--takeover", "--detach", "--socket-group", "no-such-group"]);
    assert!(said.contains("no-such-group"), "{said}");
}

#[test]
fn a_mount_that_was_detached_and_mounted_again_goes_on_with_both() {
    let Some(mut world) = World::mounted("a takeover of a detached mount") else { return };
    let mnt = world.mnt.to_str().unwrap().to_owned();
    let mut inside = Command::new("sh");
    inside.args(["-c", "while read line; do cat current/tool/version; echo; done"]).current_dir(&world.mnt);
    let mut inside = inside.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut says) = (inside.stdin.take().unwrap(), BufReader::new(inside.stdout.take().unwrap()));
    let mut version_inside = || {
        input.write_all(b"look\n").unwrap();
        let mut said = String::new();
        says.read_line(&mut said).unwrap();
        said.trim().to_owned()
    };
    assert_eq!(version_inside(), "1");
    world.good(&["umount", &mnt, "--lazy"]);
    world.good(&["mount", &mnt]);
    world.good(&["use", "tool@2"]);
    assert_eq!(version_inside(), "2");
    world.exchange();
    assert_eq!(version_inside(), "2");
    world.good(&["rollback"]);
    assert_eq!(version_inside(), "1");
    assert_eq!(fs::read_to_string(world.at("current/tool/version")).unwrap(), "1");
    drop(input);
    assert!(inside.wait().unwrap().success());
    until("the detached one to end", || {
        let status = world.status();
        let mounts = status["mounts"].as_array().unwrap().iter();
        mounts.filter(|one| one["path"] == mnt.as_str()).count() == 1
    });
}

#[test]
fn a_mount_that_is_being_made_when_a_takeover_begins_is_taken_over_too() {
    let Some(mut world) = World::mounted("a mount during a takeover") else { return };
    let Some(slow) = World::mounted("a mount on a mount") else { return };
    // Whoever mounts there has to look there first, and that takes as long as its daemon likes.
    let place = slow.at("tool/2/bin");
    let slow = slow.daemon.as_ref().unwrap();
    slow.stop();
    let mounting = world.command(&["mount", place.to_str().unwrap()]).spawn().unwrap();
    until("the command to run", || world.is_busy());
    let mut next = world.begin(&["--takeover"]);
    until("the takeover to begin", || world.log().contains("another process asks to take over"));
    slow.signal(Signal::CONT);
    assert!(next.is_ready(), "{}", world.log());
    let mounted = finish(mounting);
    assert!(mounted.status.success(), "{}", text(&mounted.stderr));
    assert_eq!(world.daemon.replace(next).unwrap().ended(), Some(0));
    assert_eq!(fs::read_to_string(place.join("current/tool/version")).unwrap(), "1");
    world.good(&["use", "tool@2"]);
    assert_eq!(fs::read_to_string(place.join("current/tool/version")).unwrap(), "2");
    world.good(&["umount", place.to_str().unwrap()]);
}

#[test]
fn a_daemon_that_is_told_to_stop_at_any_moment_of_a_takeover_ends() {
    let Some(mut world) = World::new("SIGTERM during a takeover") else { return };
    let mnt = world.mnt.to_str().unwrap().to_owned();
    let mut chance = Chance::new(harness::seed::seed());
    let mut taken_over = 0;
    for round in 0..16 {
        if world.daemon.is_none() {
            world.daemon = Some(world.start(&["--mount", &mnt]));
        }
        let old = world.daemon.take().unwrap();
        // At the end it has handed everything over and waits; before that it may be anywhere.
        let moment = ["another process asks to take over", "another process has taken over"][round % 2];
        let before = world.log().matches(moment).count();
        let mut next = world.begin(&["--takeover"]);
        until(moment, || world.log().matches(moment).count() > before);
        if round % 2 == 0 {
            (0..chance.below(10_000)).for_each(|_| std::thread::yield_now());
        }
        old.signal(Signal::TERM);
        assert_eq!(old.ended(), Some(0), "round {round}");
        // If it was too early, the other one found nobody any more, or was told nothing.
        let is_ready = next.is_ready();
        // Somebody serves it, or it is gone.
        if fs::read_dir(&world.mnt).unwrap().next().is_some() {
            assert_eq!(fs::read_to_string(world.at("current/tool/version")).unwrap(), "1");
            assert!(is_ready);
            world.daemon = Some(next);
            taken_over += 1;
        } else if is_ready {
            next.signal(Signal::TERM);
            assert_eq!(next.ended(), Some(0));
        } else {
            assert_eq!(next.ended(), Some(1));
        }
    }
    assert!(taken_over >= 8, "whoever has handed everything over does not take it back");
}

#[test]
fn a_daemon_that_was_taken_over_waits_for_no_client_once_it_is_told_to_stop() {
    let Some(mut world) = World::mounted("SIGTERM after a takeover") else { return };
    let mut client = UnixStream::connect(world.path("store/daemon.sock")).unwrap();
    let body = r#"{"command":{"cat":{"file":{"spec":"tool@1","path":"large"}}}}"#;
    let head = format!("POST /v1/control/run HTTP/1.1\r\nhost: c\r\ncontent-length: {}\r\n\r\n", body.len());
    client.write_all((head + body).as_bytes()).unwrap();
    let mut first = [0; 12];
    client.read_exact(&mut first).unwrap();
    assert_eq!(text(&first), "HTTP/1.1 200");
    // All of the answer is on its way, and is more than fits between the two.
    until("the command to end", || !world.is_busy());
    let next = world.start(&["--takeover"]);
    let old = world.daemon.replace(next).unwrap();
    until("it to wait", || world.log().contains("another process has taken over"));
    old.signal(Signal::TERM);
    assert_eq!(old.ended(), Some(0));
    assert_eq!(fs::read_to_string(world.at("current/tool/version")).unwrap(), "1");
}
