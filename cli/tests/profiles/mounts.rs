//! Mounts from the command line: real ones, in folders of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use harness::program::until;
use serde_json::{Value, json};

use crate::world::World;

/// A folder that something may be mounted at; nothing is when it goes out of scope.
struct Place {
    dir: PathBuf,
}

impl Place {
    /// None, with a word about it, where this machine or this user cannot mount.
    fn new(world: &World) -> Option<Self> {
        if !Path::new("/dev/fuse").exists() || !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: this takes /dev/fuse and root");
            return None;
        }
        let dir = world.path("mnt");
        fs::create_dir(&dir).unwrap();
        Some(Self { dir })
    }

    fn text(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    fn says(&self) -> String {
        let output = Command::new(self.dir.join("bin/hello")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Without a mount it says so.
        let _ = Command::new("umount").arg("--lazy").arg(&self.dir).stderr(Stdio::null()).status();
    }
}

/// A process of a test's own, killed when it goes out of scope.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_mount_shows_what_is_used_until_it_is_unmounted() {
    let world = World::new();
    let Some(place) = Place::new(&world) else { return };
    world.good(&["use", "hello@1"]);
    let mounted = &world.json(&["mount", place.text()])[0];
    assert_eq!((&mounted["profile"], &mounted["generation"]), (&json!("default"), &json!(1)));
    assert_eq!(place.says(), "hello 1\n");
    world.good(&["use", "hello@2"]);
    assert_eq!(place.says(), "hello 2\n");
    world.good(&["rollback"]);
    assert_eq!(place.says(), "hello 1\n");
    let status = &world.json(&["status"])[0];
    assert_eq!(status["daemon"]["pid"], mounted["pid"]);
    assert_eq!(
        (&status["mounts"][0]["state"], &status["mounts"][0]["generation"]),
        (&json!("mounted"), &json!(1))
    );
    assert_eq!(status["profiles"][0]["generations"], 2);
    world.bad(5, &["mount", place.text()]);
    world.good(&["umount", place.text()]);
    assert!(!place.dir.join("bin").exists());
    world.bad(3, &["umount", place.text()]);
}

#[test]
fn a_mount_in_use_stays_and_ps_tells_who_runs_what_is_old() {
    let world = World::new();
    let Some(place) = Place::new(&world) else { return };
    world.good(&["use", "hello@1"]);
    world.good(&["mount", place.text()]);
    let inside = place.dir.join("hello/1");
    let mut sleep = Command::new("sleep");
    let running = Running(sleep.arg("600").current_dir(inside).stdout(Stdio::null()).spawn().unwrap());
    let of = |lines: Vec<Value>| lines.into_iter().find(|one| one["pid"] == running.0.id()).unwrap();
    let used = of(world.json(&["ps"]));
    assert_eq!(
        (&used["package"], &used["version"], &used["current"]),
        (&json!("hello"), &json!("1"), &json!(true))
    );
    assert_eq!((&used["command"], &used["uses"]), (&json!("sleep"), &json!(["cwd"])));
    world.good(&["use", "hello@2"]);
    assert_eq!(of(world.json(&["ps", "hello"]))["current"], false);
    let said = world.bad(5, &["umount", place.text()]);
    assert!(said.contains(&format!("by {} (sleep: cwd hello/1)", running.0.id())), "{said}");
    assert!(said.contains("hint: ") && said.contains("--lazy"), "{said}");
    assert_eq!(place.says(), "hello 2\n", "it is as it was");
    world.good(&["umount", place.text(), "--lazy"]);
    assert!(!place.dir.join("bin").exists());
}

#[test]
fn a_mount_whose_daemon_was_killed_is_mounted_again_and_unmounted() {
    let world = World::new();
    let Some(place) = Place::new(&world) else { return };
    world.good(&["use", "hello@1"]);
    for _ in 0..2 {
        let mounted = &world.json(&["mount", place.text()])[0];
        let pid = i32::try_from(mounted["pid"].as_i64().unwrap()).unwrap();
        assert_eq!(place.says(), "hello 1\n");
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        // Its descriptors go one after the other.
        until("the daemon's end", || {
            let socket = world.path("store/daemon.sock");
            fs::read_dir(&place.dir).is_err() && std::os::unix::net::UnixStream::connect(socket).is_err()
        });
        // There may be mounts of others on this machine.
        let status = world.json(&["status"]).remove(0);
        let mounts = status["mounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["path"] == place.text()).unwrap();
        assert_eq!(mount["state"], "dead");
    }
    world.good(&["umount", place.text()]);
    assert_eq!(fs::read_dir(&place.dir).unwrap().count(), 0);
}

#[test]
fn without_a_daemon_nothing_is_mounted_and_status_says_so() {
    let world = World::new();
    let status = &world.json(&["status"])[0];
    assert_eq!((&status["daemon"], &status["cache"]), (&Value::Null, &Value::Null));
    assert!(world.good(&["status"]).contains("none runs"));
    let Some(_place) = Place::new(&world) else { return };
    let said = world.bad(3, &["mount", "nowhere"]);
    assert!(said.contains("nowhere"), "{said}");
    until("the daemon that had nothing to do", || world.json(&["status"])[0]["daemon"].is_null());
}
