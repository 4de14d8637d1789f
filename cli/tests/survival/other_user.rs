//! Everything that an ordinary user can do, as an ordinary user: if the tests run as root, with another's rights.
//!
//! `/dev/fuse` is everybody's on most systems. Where it is not, root runs the tests in a mount namespace in which it is.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::bytes::noise;
use harness::program::{command, finish, text, until};
use serde_json::{Value, json};

use crate::world::Sleeper;

const NOBODY: u32 = 65_534;
const PERMISSION_DENIED: i32 = 13;

/// Says that the test already runs in a namespace of its own.
const WITHIN: &str = "CAIRN_TEST_NAMESPACE";
/// `$0` is this program, `$1` a folder for the device, `$2` the test.
const BEGIN: &str = "mknod \"$1/fuse\" c 10 229 && chmod 666 \"$1/fuse\" \
    && mount --bind \"$1/fuse\" /dev/fuse && exec \"$0\" --exact \"$2\" --nocapture";

/// Runs a test in a namespace of its own if it takes one; whether it did.
fn ran_elsewhere(test: &str) -> bool {
    let everybodys =
        fs::metadata("/dev/fuse").is_ok_and(|device| device.permissions().mode() & 0o006 == 0o006);
    if everybodys || !rustix::process::geteuid().is_root() || std::env::var_os(WITHIN).is_some() {
        return false;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", BEGIN]);
    command.arg(std::env::current_exe().unwrap()).arg(dir.path()).arg(format!("other_user::{test}"));
    let output = command.env(WITHIN, "yes").stdin(Stdio::null()).output().unwrap();
    let (said, warned) = (text(&output.stdout), text(&output.stderr));
    eprint!("{warned}");
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    true
}

/// A folder of an ordinary user, with the program and a store in it.
struct Home {
    dir: tempfile::TempDir,
    uid: u32,
}

impl Home {
    fn new(test: &str) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let has_helper = std::env::split_paths(&path).any(|dir| dir.join("fusermount3").exists());
        if !has_helper || !Path::new("/dev/fuse").exists() {
            eprintln!("SKIPPED: {test}: it takes fusermount3 and /dev/fuse");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("cairn-user-").tempdir().unwrap();
        let own = rustix::process::geteuid();
        let uid = if own.is_root() { NOBODY } else { own.as_raw() };
        let home = Self { dir, uid };
        for version in 1..=2 {
            let tree = home.path(&format!("tree-{version}"));
            fs::create_dir_all(tree.join("bin")).unwrap();
            fs::write(tree.join("large"), noise(version, 700_000)).unwrap();
            fs::write(tree.join("version"), version.to_string()).unwrap();
            fs::copy("/bin/cat", tree.join("bin/tool")).unwrap();
            fs::set_permissions(tree.join("bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::create_dir(home.mnt()).unwrap();
        // Where it was built only its builder may look.
        fs::copy(env!("CARGO_BIN_EXE_cairn"), home.path("cairn")).unwrap();
        if own.is_root() {
            chown(home.dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            chown(home.mnt(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Some(home)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn mnt(&self) -> PathBuf {
        self.path("mnt")
    }

    /// A program that this user runs.
    fn program(&self, program: &Path) -> Command {
        let mut command = command(program, &[], self.dir.path(), &self.path("store"));
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn good(&self, arguments: &[&str]) -> String {
        // A daemon would keep standard error.
        let errors = self.path("errors");
        let mut command = self.program(&self.path("cairn"));
        command.args(arguments).stderr(fs::File::create(&errors).unwrap());
        let output = finish(command.spawn().unwrap());
        let said = fs::read_to_string(errors).unwrap();
        let log = fs::read_to_string(self.path("store/daemon.log")).unwrap_or_default();
        assert!(output.status.success(), "{arguments:?}: {said}\n{log}");
        text(&output.stdout)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let printed = self.good(&[arguments, &["--json"]].concat());
        serde_json::from_str(printed.lines().next().unwrap()).unwrap()
    }

    /// What a program of the mount prints.
    fn says(&self, tool: &str, file: &str) -> Vec<u8> {
        let output = self.program(&self.mnt().join(tool)).arg(self.mnt().join(file)).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        output.stdout
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Without a mount it says so. Its daemon ends with it.
        let _ = self.program(Path::new("fusermount3")).args(["-u", "-z", "mnt"]).status();
    }
}

#[test]
fn an_ordinary_user_mounts_flips_takes_over_and_unmounts() {
    if ran_elsewhere("an_ordinary_user_mounts_flips_takes_over_and_unmounts") {
        return;
    }
    let Some(home) = Home::new("an ordinary user's mount") else { return };
    for version in ["1", "2"] {
        home.good(&["add", &format!("tree-{version}"), "--name", "tool", "--version", version]);
    }
    home.good(&["use", "tool@1"]);
    let mounted = home.json(&["mount", "mnt"]);
    assert_eq!((&mounted["passthrough"], &mounted["generation"]), (&json!(false), &json!(1)));
    assert!(home.says("bin/tool", "current/tool/large") == noise(1, 700_000));
    assert_eq!(home.says("bin/tool", "current/tool/version"), b"1");
    home.good(&["use", "tool@2"]);
    assert_eq!(home.says("bin/tool", "tool/current/version"), b"2");
    assert!(home.says("tool/1/bin/tool", "current/tool/large") == noise(2, 700_000));
    // Nobody else looks in, not even root.
    if home.uid != rustix::process::geteuid().as_raw() {
        let error = fs::read_dir(home.mnt()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(PERMISSION_DENIED), "{error}");
    }
    // Who starts it may not get in, so a shell of the user's goes there.
    let mut inside = home.program(Path::new("sh"));
    let mut inside = Sleeper::start(inside.args(["-c", "cd mnt/tool/1 && echo there && exec sleep 600"]));
    let mut said = [0; 6];
    std::io::Read::read_exact(inside.child.stdout.as_mut().unwrap(), &mut said).unwrap();
    home.good(&["daemon", "--takeover", "--detach"]);
    let status = home.json(&["status"]);
    assert_eq!(status["daemon"]["took_over"]["pid"], mounted["pid"]);
    home.good(&["rollback"]);
    assert_eq!(home.says("bin/tool", "current/tool/version"), b"1");
    let mut busy = home.program(&home.path("cairn"));
    let busy = finish(busy.args(["umount", "mnt"]).spawn().unwrap());
    let (said, inside_pid) = (text(&busy.stderr), inside.pid());
    drop(inside);
    assert_eq!(busy.status.code(), Some(5), "{said}");
    assert!(said.contains(&format!("{} (sleep: cwd tool/1", inside_pid)), "{said}");
    home.good(&["umount", "mnt"]);
    assert_eq!(fs::read_dir(home.mnt()).unwrap().count(), 0);
    // The daemon began for this mount, and ends with it.
    until("the daemon to end", || !home.path("store/daemon.sock").exists());
}

#[test]
fn an_ordinary_users_dead_mount_is_mounted_over() {
    if ran_elsewhere("an_ordinary_users_dead_mount_is_mounted_over") {
        return;
    }
    let Some(home) = Home::new("an ordinary user's dead mount") else { return };
    home.good(&["add", "tree-1", "--name", "tool", "--version", "1"]);
    home.good(&["use", "tool@1"]);
    for _ in 0..2 {
        let pid = home.json(&["mount", "mnt"])["pid"].as_i64().unwrap();
        assert_eq!(home.says("bin/tool", "current/tool/version"), b"1");
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let socket = home.path("store/daemon.sock");
        until("its end", || std::os::unix::net::UnixStream::connect(&socket).is_err());
    }
    home.good(&["umount", "mnt"]);
    assert_eq!(fs::read_dir(home.mnt()).unwrap().count(), 0);
}
