//! A store with three versions of a package that share nothing but a small file, and the binary that works on it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use harness::bytes::noise;
use harness::program::{command, finish, text, until};
use serde_json::Value;

/// Bytes that a version has alone.
pub(crate) const OWN_BYTES: usize = 700_000;

/// A temporary folder with a store in it.
pub(crate) struct World {
    dir: tempfile::TempDir,
}

/// A process of a test's own, killed when it goes out of scope.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder that something may be mounted at; nothing is when it goes out of scope.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    /// None, with a word about it, where this machine or this user cannot mount.
    pub(crate) fn new(world: &World) -> Option<Self> {
        if !Path::new("/dev/fuse").exists() || !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: this takes /dev/fuse and root");
            return None;
        }
        let dir = world.path("mnt");
        fs::create_dir(&dir).unwrap();
        Some(Self(dir))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Without a mount it says so.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).stderr(Stdio::null()).status();
    }
}

impl World {
    /// No store.
    pub(crate) fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// `app` 1, 2 and 3; `stable` is 3.
    pub(crate) fn new() -> Self {
        let world = Self::empty();
        for version in ["1", "2", "3"] {
            world.release(version);
            world.good(&["add", &format!("app-{version}"), "--name", "app", "--version", version]);
        }
        world.good(&["tag", "app@3", "stable"]);
        world
    }

    /// Writes a release.
    pub(crate) fn release(&self, version: &str) {
        let bin = self.path(&format!("app-{version}/bin"));
        fs::create_dir_all(&bin).unwrap();
        let program = bin.join("app");
        fs::write(&program, "#!/bin/sh\nexec sleep 600\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(bin.join("data"), Self::data(version)).unwrap();
    }

    /// What a version has alone.
    pub(crate) fn data(version: &str) -> Vec<u8> {
        noise(version.parse().unwrap(), OWN_BYTES)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        command(env!("CARGO_BIN_EXE_cairn"), arguments, self.dir.path(), &self.path("store"))
    }

    /// Runs what has to succeed; gives its standard output.
    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        let output = finish(self.command(arguments).spawn().unwrap());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs what has to fail with `code`; gives its standard error.
    pub(crate) fn bad(&self, code: i32, arguments: &[&str]) -> String {
        let output = finish(self.command(arguments).spawn().unwrap());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stderr)
    }

    /// Runs what has to succeed with `--json`; gives its only line.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let printed = self.good(&[arguments, &["--json"]].concat());
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    /// A daemon, once it answers.
    pub(crate) fn daemon(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(&[&["daemon"], arguments].concat());
        let daemon = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("the daemon", || !self.json(&["status"])["daemon"].is_null());
        daemon
    }

    /// Bytes of all packs.
    pub(crate) fn packed(&self) -> u64 {
        let packs = fs::read_dir(self.path("store/packs")).unwrap();
        packs.map(|pack| pack.unwrap().metadata().map_or(0, |metadata| metadata.len())).sum()
    }

    /// Everything that is named is whole.
    pub(crate) fn verify(&self) {
        assert_eq!(self.json(&["verify"])["clean"], true);
    }
}
