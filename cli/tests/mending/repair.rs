//! `cairn repair`: from peers, from files, from what is sound; what stays damaged is said.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use cairn_store::index::Index;
use cairn_store::io::{Io, Os};
use harness::bytes::noise;
use serde_json::Value;

use crate::world::{Counter, World};

const LONG: usize = 3 << 20;

/// Two versions: a long file that both have, one that each has by itself, a small one.
fn world() -> World {
    let world = World::new();
    for version in 1..=2u64 {
        world.file(&format!("{version}/share/long"), &noise(100, LONG));
        world.file(&format!("{version}/own"), &noise(version, 400_000));
        world.file(&format!("{version}/sub/small"), &noise(10 + version, 9000));
        add(&world, version);
    }
    world
}

fn add(world: &World, version: u64) {
    let version = version.to_string();
    world.good(&["add", &version, "--name", "app", "--version", &version]);
}

/// That all is as it was made.
fn is_whole(world: &World) {
    for version in 1..=2u64 {
        for (path, bytes) in [("share/long", noise(100, LONG)), ("own", noise(version, 400_000))] {
            let cat = world.run(&["cat", &format!("app@{version}:{path}")]);
            assert!(cat.stdout == bytes, "{version} {path}");
        }
    }
    world.good(&["verify"]);
}

/// Writes over so many stretches of a file's middle.
fn rot(path: &Path, stretches: usize) {
    let mut bytes = fs::read(path).unwrap();
    let len = bytes.len();
    for n in 1..=stretches {
        let at = len / (stretches + 1) * n;
        bytes[at..at + 200].fill(0x55);
    }
    fs::write(path, bytes).unwrap();
}

fn last(mut lines: Vec<Value>) -> Value {
    lines.pop().unwrap()
}

#[test]
fn files_heal_whatever_they_are_called() {
    let world = world();
    rot(&world.packs()[0], 5);
    world.ends(4, &["verify"]);
    fs::create_dir_all(world.path("backup/deep/er")).unwrap();
    fs::rename(world.path("1"), world.path("backup/deep/er/old")).unwrap();
    fs::rename(world.path("backup/deep/er/old/share/long"), world.path("backup/other name")).unwrap();
    fs::remove_dir_all(world.path("2")).unwrap();
    let plan = world.json(4, &["repair", "--dry-run", "--from", "backup"]).remove(0);
    assert_eq!((&plan["type"], &plan["dry_run"]), (&"repair_plan".into(), &true.into()), "{plan}");
    assert!(plan["wanted_chunks"].as_u64().unwrap() > 0 && world.files("quarantine").is_empty(), "{plan}");
    let done = last(world.json(0, &["repair", "--from", "backup"]));
    assert!(done["found_chunks"].as_u64() >= plan["wanted_chunks"].as_u64(), "{done}");
    assert_eq!(done["still_damaged"], Value::Array(Vec::new()));
    assert_eq!(world.files("quarantine").len(), 1);
    is_whole(&world);
    assert!(world.good(&["repair"]).contains("everything is as it should be"));
}

#[test]
fn the_list_of_a_long_file_is_made_again_with_it() {
    let world = world();
    // Lists, directories, artifacts: all that is not files.
    let metadata: Vec<_> = world.packs().into_iter().filter(|pack| fs::read(pack).unwrap()[6] == 1).collect();
    let whole = world.copy();
    for pack in metadata {
        fs::remove_file(pack).unwrap();
    }
    // The directories come from a peer whose files are lost; then it is known what lacks of these.
    let data: Vec<_> = whole.packs().into_iter().filter(|pack| fs::read(pack).unwrap()[6] == 0).collect();
    for pack in data {
        fs::remove_file(pack).unwrap();
    }
    fs::remove_file(&world.packs()[0]).unwrap();
    let (daemon, url) = whole.serve();
    fs::create_dir(world.path("files")).unwrap();
    fs::write(world.path("files/a"), noise(100, LONG)).unwrap();
    fs::write(world.path("files/b"), noise(1, 400_000)).unwrap();
    fs::write(world.path("files/c"), noise(11, 9000)).unwrap();
    let done = last(world.json(0, &["repair", "--from", &url, "--from", "files"]));
    daemon.end();
    assert!(done["found_chunks"].as_u64() > Some(100) && done["healed_chunks"].as_u64() > Some(3), "{done}");
    is_whole(&world);
}

#[test]
fn what_stays_damaged_is_listed_with_names_and_paths() {
    let world = world();
    rot(&world.packs()[0], 3);
    let (out, _) = world.ends(4, &["repair"]);
    assert!(out.contains("still damaged app@1 ") && out.contains("share/long"), "{out}");
    assert!(out.contains("1 pack, which is in quarantine/") && out.contains("--from DIR"), "{out}");
    let done = last(world.json(4, &["repair"]));
    let still = done["still_damaged"].as_array().unwrap();
    assert!(!still.is_empty() && still.iter().all(|one| one["chunks"].as_u64() > Some(0)), "{done}");
    assert!(still[0]["paths"].to_string().contains("share/long"), "{done}");
    // Adding the files again heals too.
    add(&world, 1);
    add(&world, 2);
    is_whole(&world);
}

#[test]
fn a_damaged_pack_costs_its_damage_and_no_more() {
    let world = World::new();
    world.file("tree/file", &noise(1, 66 << 20));
    world.good(&["add", "tree", "--name", "big", "--version", "1"]);
    let whole = world.copy();
    let pack = &world.packs()[0];
    assert!(fs::metadata(pack).unwrap().len() > 60 << 20);
    rot(pack, 40);
    let (daemon, url) = whole.serve();
    let counter = Counter::before(&url);
    let report = world.json(4, &["verify"]).remove(0);
    let frames = report["damage"].as_array().unwrap().len() as u64;
    let done = last(world.json(0, &["repair", "--from", &counter.url]));
    daemon.end();
    let (came, chunks) = (counter.bytes(), done["healed_chunks"].as_u64().unwrap());
    eprintln!("{frames} damaged frames, {chunks} chunks: {came} bytes came");
    assert!(frames >= 35 && chunks >= frames, "{done}");
    // A frame of such data has 512 KiB; a chunk of it at most 64.
    assert!(came < chunks * (66 << 10) + (1 << 20), "{came} bytes for {chunks} chunks");
    assert!(came < frames * (512 << 10) + (1 << 20), "{came} bytes for {frames} frames");
    world.good(&["verify"]);
}

#[test]
fn index_and_catalogue_are_made_again() {
    let world = world();
    let io: Arc<dyn Io> = Arc::new(Os);
    let rot_index = || {
        Index::open(&io, &world.store).unwrap().persist(&*io, &world.store, true).unwrap();
        rot(&world.files("index")[0], 1);
    };
    // A catalogue that says something else.
    world.good(&["repair"]);
    fs::remove_dir_all(world.store.join("catalogue")).unwrap();
    let other = World::new();
    other.file("tree/file", b"of another");
    other.good(&["add", "tree", "--name", "other", "--version", "1"]);
    other.good(&["repair"]);
    fs::rename(other.store.join("catalogue"), world.store.join("catalogue")).unwrap();
    rot_index();
    let report = world.json(0, &["verify"]).remove(0);
    assert_eq!(report["derived"].as_array().unwrap().len(), 1, "{report}");
    // Who meets it removes it.
    rot_index();
    let (out, err) = world.ends(0, &["repair"]);
    assert!(err.contains("the catalogue was not usable"), "{err}");
    assert!(out.contains("make the index again"), "{out}");
    let report = world.json(0, &["verify"]).remove(0);
    assert_eq!(report["derived"].as_array().unwrap().len(), 0, "{report}");
    assert_eq!(world.good(&["repair"]), "everything is as it should be\n");
    is_whole(&world);
}

#[test]
fn a_store_that_does_not_say_what_it_is_is_one_again() {
    let world = world();
    let file = world.store.join("cairn-store");
    let was = fs::read(&file).unwrap();
    world.file("store/daemon.log", b"of somebody else");
    for lost in [None, Some(&b"garbage"[..])] {
        match lost {
            None => fs::remove_file(&file).unwrap(),
            Some(bytes) => fs::write(&file, bytes).unwrap(),
        }
        world.ends(4, &["repair", "--dry-run"]);
        let (out, _) = world.ends(0, &["repair"]);
        assert!(out.contains("cairn-store"), "{out}");
        assert_eq!(fs::read(&file).unwrap(), was);
        is_whole(&world);
    }
    fs::create_dir(world.path("no-store")).unwrap();
    world.ends(3, &["--store", "no-store", "repair"]);
}

#[test]
fn a_damaged_journal_goes_back_only_when_asked_to() {
    let world = world();
    let journal = world.files("journal").pop().unwrap();
    let (before, len) = (fs::read(&journal).unwrap(), fs::metadata(&journal).unwrap().len());
    add_named(&world, "later");
    add_named(&world, "last");
    let mut bytes = fs::read(&journal).unwrap();
    let at = usize::try_from(len).unwrap() + 60;
    bytes[at] ^= 1;
    fs::write(&journal, &bytes).unwrap();
    world.ends(4, &["ls"]);
    let (out, _) = world.ends(4, &["repair"]);
    assert!(out.contains("newest whole state is change ") && out.contains("--yes"), "{out}");
    assert_eq!(fs::read(&journal).unwrap(), bytes);
    let found = world.json(4, &["repair"]).remove(0);
    assert_eq!((&found["journal"]["refs"], &found["done"]), (&2.into(), &false.into()), "{found}");
    world.good(&["repair", "--yes"]);
    assert!(fs::read(&journal).unwrap().starts_with(&before));
    let kept = world.files("quarantine");
    assert_eq!(kept.len(), 1);
    assert_eq!(fs::read(&kept[0]).unwrap(), bytes);
    assert_eq!(world.good(&["ls", "--json"]).lines().count(), 2);
    is_whole(&world);
    // It goes on, and what was lost can be added again.
    add_named(&world, "later");
    world.good(&["log"]);
    world.good(&["verify"]);
}

fn add_named(world: &World, name: &str) {
    world.good(&["add", "1", "--name", name, "--version", "1"]);
}
