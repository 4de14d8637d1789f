//! How many bytes travel, beside `rsync` over the same server.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use cairn_sources::machine::{Ask, bring, look};

use crate::bring::sync;
use crate::build::{Ear, Here, Machine, Random, binaries, program};
use crate::look::find;
use crate::ssh_server::SshServer;

fn rsync(machine: &Machine, options: &[&str], old: &Path, scratch: &Path) -> u64 {
    let to = scratch.join("program");
    std::fs::copy(old, &to).unwrap();
    let output = Command::new("rsync")
        .args(options)
        .args(["--stats", "-I", "--no-whole-file", "-e", &machine.server.client().join(" ")])
        .arg(format!("{}:program", SshServer::HOST))
        .arg(&to)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let count = |what: &str| -> u64 {
        let line = said.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        line.replace(',', "").trim().parse().unwrap()
    };
    assert!(std::fs::read(&to).unwrap() == std::fs::read(machine.server.home().join("program")).unwrap());
    count("Total bytes sent:") + count("Total bytes received:")
}

/// Brings `new` where `old` is; bytes both ways.
fn cairn(machine: &Machine, old: &[u8], to: &str) -> u64 {
    let to = machine.empty(to);
    let brought = sync(&machine.source("{binary}"), &["program"], &to, &Here::one("program", old)).unwrap();
    assert!(same(&to.join("program"), &machine.server.home().join("program")));
    brought.wire_bytes
}

fn same(one: &Path, other: &Path) -> bool {
    std::fs::read(one).unwrap() == std::fs::read(other).unwrap()
}

#[test]
fn an_unchanged_program_is_a_few_bytes() {
    let Some(machine) = Machine::start() else { return };
    let program = program(1, 60_000_000);
    machine.put("program", &program);
    let bytes = cairn(&machine, &program, "to");
    assert!(bytes < 4 << 10, "{bytes}");
}

#[test]
fn less_travels_than_with_rsync() {
    if find("rsync").is_none() {
        eprintln!("SKIPPED: rsync is not installed");
        return;
    }
    let Some(machine) = Machine::start() else { return };
    let old = program(1, 8_000_000);
    let scratch = machine.empty("old");
    std::fs::write(scratch.join("program"), &old).unwrap();
    let mut inserted = old.clone();
    inserted.splice(4_000_001..4_000_001, program(2, 1024));
    let mut scattered = old.clone();
    let mut random = Random(7);
    for _ in 0..old.len() / 400 {
        let at = random.next() as usize % (old.len() / 4) * 4;
        scattered[at..at + 4].copy_from_slice(&random.next().to_le_bytes()[..4]);
    }
    for (what, new) in [("inserted", inserted), ("scattered", scattered), ("another", program(3, 8_000_000))]
    {
        machine.put("program", &new);
        let ours = cairn(&machine, &old, what);
        for options in [&["-z"][..], &["-z", "--zc=zlib"], &["-z", "--zc=zstd"]] {
            let to = machine.empty(&format!("{what}{}", options.concat()));
            let theirs = rsync(&machine, options, &scratch.join("program"), &to);
            eprintln!("{what}: {ours} bytes, rsync {options:?} {theirs}");
            assert!(ours < theirs, "{what}: {ours} bytes, rsync {options:?} {theirs}");
        }
    }
}

/// For tuning: `OLD=… NEW=… cargo test … -- --ignored --nocapture measure`.
#[test]
#[ignore = "measures the files that OLD and NEW name"]
fn measure() {
    let Some(machine) = Machine::start() else { return };
    let (old, new) = (std::env::var("OLD").unwrap(), std::env::var("NEW").unwrap());
    machine.put("program", &std::fs::read(&new).unwrap());
    let source = machine.source("{binary}");
    let names = binaries(&["program"]);
    let ask = Ask { package: "app", binaries: &names, source: &source };
    let here = Here::one("program", &std::fs::read(&old).unwrap());
    let begun = Instant::now();
    let build = look(&ask, &Ear::default()).unwrap();
    let looked = begun.elapsed();
    let brought = bring(&build, &ask, &machine.empty("to"), &here, &Ear::default()).unwrap();
    eprintln!(
        "cairn {} bytes, looked {looked:?}, all {:?}, {}",
        brought.wire_bytes,
        begun.elapsed(),
        brought.way
    );
    if std::env::var_os("RSYNC").is_some() {
        for options in [&["-z"][..], &["-z", "--zc=zlib"], &["-z", "--zc=zstd"]] {
            let begun = Instant::now();
            let scratch = machine.empty(&options.concat());
            let bytes = rsync(&machine, options, Path::new(&old), &scratch);
            eprintln!("rsync {options:?} {bytes} bytes, {:?}", begun.elapsed());
        }
    }
}
