//! A store of a test's own, with two releases of one package and others beside it, and the binary that works on it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use harness::program::{command, finish, text};
use serde_json::Value;

/// A temporary folder with a store in it.
pub(crate) struct World {
    dir: tempfile::TempDir,
}

impl World {
    /// `hello` 1 and 2, with a command `hello`; `world` 1 with `world`; `rival` 1 with a `hello` of its own.
    pub(crate) fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        for (name, version, command) in [
            ("hello", "1", "hello"),
            ("hello", "2", "hello"),
            ("world", "1", "world"),
            ("rival", "1", "hello"),
        ] {
            let tree = format!("{name}-{version}");
            world.program(&format!("{tree}/bin/{command}"), &format!("echo {name} {version}"));
            world.good(&["add", &tree, "--name", name, "--version", version]);
        }
        world.good(&["tag", "hello@2", "stable"]);
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a shell script.
    fn program(&self, name: &str, script: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
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
        assert!(output.stdout.is_empty(), "{arguments:?} printed {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// Runs what has to succeed with `--json`; gives its lines.
    pub(crate) fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let printed = self.good(&[arguments, &["--json"]].concat());
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        printed.lines().map(parse).collect()
    }
}
