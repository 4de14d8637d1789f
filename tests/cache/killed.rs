//! A process that fills the cache is killed at any moment: whatever has a file's name afterwards is that file.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cairn_fusefs::FileId;
use harness::scratch::Scratch;

use super::{open, reopen, store, whole};

const STORE: &str = "CAIRN_TEST_STORE";
const BYTES_MAX: u64 = 6 << 20;
const ROUNDS: u64 = 40;

/// What the killed process does: nothing, unless it is told where.
#[test]
fn child() {
    let Ok(path) = std::env::var(STORE) else { return };
    let (store, specs) = reopen(Path::new(&path));
    let files = open(&store, &Path::new(&path).join("cache/files"), BYTES_MAX);
    println!("ready");
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (files, specs) = (&files, &specs);
            scope.spawn(move || {
                for round in 0.. {
                    let _ = files.materialise(&specs[(round * 5 + thread * 3) % specs.len()], None);
                }
            });
        }
    });
}

#[test]
fn whatever_has_a_name_is_whole() {
    let scratch = Scratch::new();
    let (store, specs, plain) = store(&scratch, 12, 1_500_000);
    let path = scratch.join("store");
    let dir = path.join("cache/files");
    let (mut found, mut torn) = (0, 0);
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::child", "--nocapture"])
            .env(STORE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.ends_with("ready")), "the child did not begin");
        // Some moment; which one does not matter.
        let moment = Instant::now() + Duration::from_micros(round * 997 % 30_000);
        while Instant::now() < moment {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it leaves depends on the moment; a part of one that died earlier is always there.
        std::fs::write(dir.join("part/0-0"), "torn").unwrap();
        torn += std::fs::read_dir(dir.join("part")).unwrap().count();
        let files = open(&store, &dir, BYTES_MAX);
        assert_eq!(std::fs::read_dir(dir.join("part")).unwrap().count(), 0);
        assert!(files.status().bytes <= BYTES_MAX);
        for (spec, plain) in specs.iter().zip(&plain) {
            if let Some(file) = files.open_materialised(&FileId::of(spec)) {
                found += 1;
                assert!(whole(file) == *plain, "round {round}");
            }
        }
    }
    println!("{found} whole files found, {torn} torn ones removed");
    assert!(found > 0);
}
