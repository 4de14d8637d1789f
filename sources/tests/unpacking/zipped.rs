//! Zip archives: what `zip` makes, and what is done to that.

use cairn_sources::Error;
use cairn_sources::archive::{self, Bounds, Format, Member};

use crate::{Bench, Stop, has, noise, refused, run};

/// A folder with programs in it.
fn bench() -> Bench {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("xx")).unwrap();
    std::fs::write(bench.path("xx/one"), b"one").unwrap();
    std::fs::write(bench.path("xx/two"), noise(2, 3000)).unwrap();
    bench
}

/// Makes an archive of `xx`, and gives its bytes.
fn zip(bench: &Bench, args: &[&str]) -> Vec<u8> {
    let _ = std::fs::remove_file(bench.path("a.zip"));
    run(bench.folder.path(), "zip", &[args, &["-qr", "a.zip", "xx"]].concat());
    std::fs::read(bench.path("a.zip")).unwrap()
}

/// With every occurrence of some bytes replaced by as many others.
fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut bytes = bytes.to_vec();
    let found: Vec<usize> = (0..bytes.len() - old.len()).filter(|at| bytes[*at..].starts_with(old)).collect();
    assert!(!found.is_empty());
    for at in found {
        bytes[at..at + old.len()].copy_from_slice(new);
    }
    bytes
}

fn position(bytes: &[u8], of: &[u8]) -> usize {
    (0..bytes.len()).find(|at| bytes[*at..].starts_with(of)).unwrap()
}

#[test]
fn paths_that_lead_out_are_an_attack() {
    if !has("zip") {
        return;
    }
    let bench = bench();
    let good = zip(&bench, &["-0"]);
    bench.put("a.zip", &replaced(&good, b"xx/two", b"../two"));
    assert!(refused(bench.unpack("a.zip", 0, &["xx/one"])).contains("leads out by ..: this is an attack"));
    bench.put("a.zip", &replaced(&good, b"xx/two", b"/x/two"));
    assert!(refused(bench.unpack("a.zip", 0, &["xx/one"])).contains("is absolute: this is an attack"));
    bench.check_nothing();
}

#[test]
fn what_could_be_read_otherwise_is_refused() {
    if !has("zip") {
        return;
    }
    let bench = bench();
    let good = zip(&bench, &["-0"]);
    let try_it = |bytes: &[u8]| {
        bench.put("a.zip", bytes);
        let reason = refused(bench.unpack("a.zip", 0, &["xx/one"]));
        bench.check_nothing();
        reason
    };
    assert!(try_it(&replaced(&good, b"xx/two", b"xx/one")).contains("duplicate"));
    // In the header of the member alone.
    let mut other = good.clone();
    let at = position(&other, b"xx/one");
    other[at..at + 6].copy_from_slice(b"xx/six");
    assert!(try_it(&other).contains("inconsistency"));
    assert_eq!(try_it(&[&good[..], b"more"].concat()), "it goes on behind its end");
    let prefixed = try_it(&[b"#!/bin/sh\n", &good[..]].concat());
    assert_eq!(prefixed, "there is something in front of its first member");
    // Both members lie where the first does.
    let directory = position(&good, b"PK\x01\x02");
    let mut overlapping = good.clone();
    let entries: Vec<usize> =
        (directory..good.len() - 4).filter(|at| good[*at..].starts_with(b"PK\x01\x02")).collect();
    assert_eq!(entries.len(), 3);
    let (from, to) = (entries[1] + 42, entries[2] + 42);
    overlapping.copy_within(from..from + 4, to);
    assert!(try_it(&overlapping).contains("damaged in its directory"));
}

#[test]
fn damage_is_noticed() {
    if !has("zip") {
        return;
    }
    let bench = bench();
    let good = zip(&bench, &["-0"]);
    let two = noise(2, 3000);
    for at in [position(&good, b"onePK"), position(&good, &two), position(&good, &two) + 2999] {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        bench.put("a.zip", &flipped);
        let both = bench.unpack("a.zip", 0, &["xx/one", "xx/two"]);
        refused(both);
        bench.check_nothing();
    }
    for len in 0..good.len() {
        bench.put("a.zip", &good[..len]);
        refused(bench.unpack("a.zip", 0, &["xx/one"]));
        bench.check_nothing();
    }
    for bytes in [&b""[..], b"PK\x05\x06", &[0; 100]] {
        bench.put("a.zip", bytes);
        refused(bench.unpack("a.zip", 0, &["xx/one"]));
    }
}

#[test]
fn encrypted_and_unknown_ones_are_refused() {
    if !has("zip") {
        return;
    }
    let bench = bench();
    zip(&bench, &["-P", "secret"]);
    assert_eq!(refused(bench.unpack("a.zip", 0, &["xx/one"])), "xx/one is encrypted");
    std::fs::write(bench.path("xx/two"), [7; 30_000]).unwrap();
    zip(&bench, &["-Z", "bzip2"]);
    let reason = refused(bench.unpack("a.zip", 0, &["xx/two"]));
    assert!(reason.starts_with("xx/two is compressed by"), "{reason}");
    bench.check_nothing();
}

#[test]
fn links_are_followed_within_the_archive() {
    if !has("zip") {
        return;
    }
    let bench = bench();
    let link =
        |name: &str, to: &str| std::os::unix::fs::symlink(to, bench.path(&format!("xx/{name}"))).unwrap();
    link("near", "one");
    link("far", "../xx/two");
    link("out", "../../etc/passwd");
    link("root", "/etc/passwd");
    link("gone", "nothing");
    zip(&bench, &["-y"]);
    let two = noise(2, 3000);
    bench.check(&bench.unpack("a.zip", 1, &["near", "far", "one"]).unwrap(), &[b"one", &two, b"one"]);
    assert!(refused(bench.unpack("a.zip", 1, &["out"])).contains("which leads out by .."));
    assert!(refused(bench.unpack("a.zip", 1, &["root"])).contains("which is absolute"));
    assert!(refused(bench.unpack("a.zip", 1, &["gone"])).contains("which is no file in it"));
    bench.check_nothing();
}

#[test]
fn it_stops_when_it_is_told_to() {
    if !has("zip") {
        return;
    }
    let bench = bench();
    std::fs::write(bench.path("xx/one"), noise(3, 1_000_000)).unwrap();
    zip(&bench, &[]);
    let to = bench.to().join("0");
    let members = [Member { path: "xx/one", to: &to }];
    let unpack = |looks| {
        let archive = bench.path("a.zip");
        archive::unpack(&archive, "a.zip", Format::Zip, 0, &members, &Bounds::default(), &Stop::after(looks))
    };
    for looks in 0..20 {
        let stopped = unpack(looks);
        assert!(matches!(stopped, Err(Error::Cancelled)), "{looks}: {stopped:?}");
        bench.check_nothing();
    }
    bench.check(&unpack(10_000).unwrap(), &[&noise(3, 1_000_000)]);
}
