//! A folder with a `cairn.toml`, a store and a cache.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use harness::program::{command, finish, text};
use serde_json::Value;

/// A temporary folder in which commands run.
pub(crate) struct World {
    dir: tempfile::TempDir,
}

/// How a command ended.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    /// With this `cairn.toml`.
    pub(crate) fn new(config: &str) -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        world.write("cairn.toml", config.as_bytes());
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a file, and the folders that it is in.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Makes a program: a file that may be executed.
    pub(crate) fn program(&self, name: &str, bytes: &[u8]) {
        self.write(name, bytes);
        fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// A command of cairn, in the world's folder and with nothing of this process's settings.
    pub(crate) fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_cairn")), arguments, variables)
    }

    pub(crate) fn command_of(
        &self,
        program: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Command {
        let mut command = command(program, arguments, self.dir.path(), &self.path("store"));
        for name in ["GITHUB_TOKEN", "GH_TOKEN", "VM_NAME"] {
            command.env_remove(name);
        }
        command.env("CAIRN_CACHE", self.path("cache")).envs(variables.iter().copied());
        command
    }

    pub(crate) fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        Ran::of(&finish(self.command(arguments, variables).spawn().unwrap()))
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[])
    }

    /// What has to go well.
    pub(crate) fn good(&self, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.out, ran.err);
        ran
    }

    /// The only object that a command prints.
    pub(crate) fn object(&self, arguments: &[&str]) -> Value {
        let rows = self.rows(arguments);
        assert_eq!(rows.len(), 1, "{arguments:?}: {rows:?}");
        rows.into_iter().next().unwrap()
    }

    /// The objects that a command prints.
    pub(crate) fn rows(&self, arguments: &[&str]) -> Vec<Value> {
        self.good(&[arguments, &["--json"]].concat()).rows()
    }

    /// What `current` of the artifact has in `bin/NAME`.
    pub(crate) fn cat(&self, spec: &str, program: &str) -> Vec<u8> {
        let output = finish(self.command(&["cat", &format!("{spec}:bin/{program}")], &[]).spawn().unwrap());
        assert!(output.status.success(), "{}", text(&output.stderr));
        output.stdout
    }

    /// The names in a folder, sorted; none if it is not there.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(folder)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    pub(crate) fn rows(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Fails with this code, and says all of this.
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not said: {}", self.err);
        }
    }
}
