//! Who may ask a daemon, and for what.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use harness::program::{finish, text, until};

use crate::world::{World, skip};

/// A user and a group that have no account.
const STRANGER: u32 = 54_321;
const GROUP: u32 = 54_322;

fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skip(test, "only root can become somebody else");
    }
    is_root
}

/// Runs the binary as somebody else.
fn as_user(world: &World, uid: u32, gid: u32, arguments: &[&str]) -> Output {
    // A copy that everybody can reach, made by somebody else: children of other tests would hold it open for writing.
    let binary = world.path("cairn");
    if !binary.exists() {
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_cairn")).arg(&binary).status().unwrap();
        assert!(copied.success());
    }
    let mut command: Command = world.program(binary.to_str().unwrap(), arguments);
    command.uid(uid).gid(gid).env_remove("HOME").env_remove("XDG_DATA_HOME");
    finish(command.spawn().unwrap())
}

fn open_to_all(world: &World) {
    for folder in ["", "store"] {
        fs::set_permissions(world.path(folder), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn nobody_else_may_connect() {
    const TEST: &str = "a foreign user at the socket";
    if !is_root(TEST) {
        return;
    }
    let world = World::served(&[]);
    world.good(&["add", "one", "--name", "hello", "--version", "1"]);
    open_to_all(&world);
    let socket = fs::symlink_metadata(world.path("store/daemon.sock")).unwrap();
    assert_eq!(socket.mode() & 0o777, 0o600);
    // What only a daemon can do fails; what the files allow is done in a process of one's own, as without a daemon.
    fs::create_dir(world.path("somewhere")).unwrap();
    let mounted = as_user(&world, STRANGER, STRANGER, &["mount", "somewhere"]);
    assert!(!mounted.status.success());
    assert!(!text(&mounted.stderr).contains("somewhere"), "the folder is not why: {}", text(&mounted.stderr));
    let tagged = as_user(&world, STRANGER, STRANGER, &["tag", "hello@1", "beta"]);
    assert_eq!(tagged.status.code(), Some(1), "{}", text(&tagged.stderr));
    assert!(text(&tagged.stderr).contains("ermission denied"), "{}", text(&tagged.stderr));
    let log = world.good(&["log"]);
    assert_eq!(log.lines().count(), 1, "{log}");
}

#[test]
fn a_member_of_the_group_may_ask_and_names_no_files() {
    const TEST: &str = "a member of the socket's group";
    if !is_root(TEST) {
        return;
    }
    let world = World::served(&["--socket-group", &GROUP.to_string()]);
    world.good(&["add", "one", "--name", "hello", "--version", "1"]);
    open_to_all(&world);
    let socket = fs::symlink_metadata(world.path("store/daemon.sock")).unwrap();
    assert_eq!((socket.mode() & 0o777, socket.gid()), (0o660, GROUP));
    let member = |arguments: &[&str]| as_user(&world, STRANGER, GROUP, arguments);
    for arguments in
        [&["ls"][..], &["tag", "hello@1", "beta"], &["use", "hello@1"], &["cat", "hello@1:bin/hello"]]
    {
        let output = member(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    }
    // The change is theirs in the log, though the daemon made it.
    assert!(world.good(&["log"]).contains(&format!("uid-{STRANGER}@")), "{}", world.good(&["log"]));
    for arguments in [&["add", "one", "--name", "hello", "--version", "2"][..], &["export", "hello@1", "out"]]
    {
        let output = member(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = text(&output.stderr);
        assert!(
            said.contains("does nothing at paths that user 54321 names") && said.contains("cairn add -"),
            "{said}"
        );
    }
    assert!(!world.path("out").exists());
    let other = as_user(&world, STRANGER, STRANGER, &["tag", "hello@1", "gamma"]);
    assert_eq!(other.status.code(), Some(1));
}

#[test]
fn two_adds_at_once_both_end_well() {
    let world = World::served(&[]);
    // Both are under way before either can end: their input is still open.
    let add = |name: &str| {
        let mut command = world.command(&["add", "-", "--file-name", "f", "--name", name, "--version", "1"]);
        command.stdin(std::process::Stdio::piped());
        command.env("CAIRN_WAIT", "60s").spawn().unwrap()
    };
    let mut first = add("first");
    until("the first to run", || world.jobs() == Some(1));
    let mut second = add("second");
    until("both to run", || world.jobs() == Some(2));
    for (child, bytes) in [(&mut second, b"of the second"), (&mut first, b"of the first.")] {
        // Who of them is first waits for nothing but the end of its input.
        let mut input = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, bytes).unwrap();
    }
    for child in [first, second] {
        let output = finish(child);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    assert_eq!(world.good(&["cat", "first@1:f"]), "of the first.");
    assert_eq!(world.good(&["cat", "second@1:f"]), "of the second");
    world.good(&["verify"]);
}

#[test]
fn a_line_that_is_too_long_is_refused() {
    let world = World::served(&[]);
    let length = 9 << 20;
    let head = format!("POST /v1/control/run HTTP/1.1\r\nhost: c\r\ncontent-length: {length}\r\n\r\n");
    let line = [head.as_bytes(), &vec![b'x'; length]].concat();
    // It is refused before all of it was sent: the answer may be lost in what is still on its way.
    let answer = world.ask(&line).unwrap_or_default();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(world.jobs(), Some(0));
    assert_eq!(world.good(&["ls"]), "");
}
