//! How many bytes travel, beside `rsync` over the same server.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use cairn_sources::machine::{Ask, bring, look};

use crate::build::{Ear, Here, Machine, binaries};
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
