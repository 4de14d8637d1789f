//! A store with builds of one program, each a little different from the last in every chunk.

use std::fs;
use std::path::Path;

use harness::bytes::noise;
use serde_json::Value;

use crate::world::World;

/// Bytes of a build.
const BYTES: usize = 600_000;

impl World {
    /// `tool` 1 to `count`.
    pub(crate) fn of_builds(count: u64) -> Self {
        let world = Self::empty();
        (1..=count).for_each(|number| world.add_build(number));
        world
    }

    /// Adds one.
    pub(crate) fn add_build(&self, number: u64) {
        let dir = format!("tool-{number}");
        fs::create_dir_all(self.path(&dir).join("bin")).unwrap();
        fs::write(self.path(&dir).join("bin/tool"), build(number)).unwrap();
        fs::write(self.path(&dir).join("VERSION"), number.to_string()).unwrap();
        self.good(&["add", &dir, "--name", "tool", "--version", &number.to_string()]);
    }

    /// These builds come back byte for byte.
    pub(crate) fn check_builds(&self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            let out = self.path("out");
            self.good(&["export", &format!("tool@{number}"), "out"]);
            let is = |name: &str, bytes: &[u8]| assert!(read(&out, name) == bytes, "{name} of {number}");
            is("bin/tool", &build(number));
            is("VERSION", number.to_string().as_bytes());
            fs::remove_dir_all(&out).unwrap();
        }
    }

    /// What `stats` says of one codec.
    pub(crate) fn codec(&self, name: &str) -> Value {
        self.json(&["stats"])["codecs"][name].clone()
    }

    /// Plain bytes that are told in terms of others.
    pub(crate) fn told(&self) -> u64 {
        let codecs = self.json(&["stats"])["codecs"].clone();
        let plain = |name: &str| codecs[name]["plain_bytes"].as_u64().unwrap_or(0);
        codecs
            .as_object()
            .unwrap()
            .keys()
            .filter(|name| !["raw", "zstd"].contains(&name.as_str()))
            .map(|name| plain(name))
            .sum()
    }
}

fn read(dir: &Path, name: &str) -> Vec<u8> {
    fs::read(dir.join(name)).unwrap()
}

/// A program in which some places change with each build, as addresses do.
fn build(number: u64) -> Vec<u8> {
    let mut program = noise(1, BYTES);
    for (count, at) in (0u64..).zip((500..program.len()).step_by(3000)) {
        program[at] = u8::try_from((number * 7 + count) % 256).unwrap();
    }
    program
}
