//! `snapshot create`, `ls`, `show`, `diff` and `export`, with and without a daemon.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use crate::world::World;

#[test]
fn a_snapshot_is_made_listed_shown_and_written_out() {
    let world = World::new();
    fs::set_permissions(world.path("live/large"), fs::Permissions::from_mode(0o640)).unwrap();
    for daemon in [None, Some(world.daemon(&[]))] {
        let round = if daemon.is_some() { "20" } else { "3" };
        world.set_round(round.parse().unwrap());
        let made =
            world.json(&["snapshot", "create", "state", "live", "--round", round, "--state-hash", "0xAB"]);
        let [made] = made.as_slice() else { panic!("{made:?}") };
        assert_eq!(made["round"].to_string(), round);
        assert_eq!((&made["state_hash"], &made["unchanged"]), (&"ab".into(), &false.into()));
        assert_eq!(made["frozen_ms"], serde_json::Value::Null);
        if daemon.is_some() {
            assert_eq!((&made["files"], &made["unchanged_files"]), (&2.into(), &1.into()), "{made}");
        }
        let out = world.export(&format!("state@{round}"));
        for file in ["large", "deep/small"] {
            let (live, out) = (world.path("live").join(file), out.join(file));
            assert!(fs::read(&live).unwrap() == fs::read(&out).unwrap());
            let (live, out) = (live.metadata().unwrap(), out.metadata().unwrap());
            assert_eq!(
                (live.mode(), live.mtime(), live.mtime_nsec()),
                (out.mode(), out.mtime(), out.mtime_nsec())
            );
        }
        world.export("state");
    }
    assert_eq!(world.rounds(), [20, 3]);
    let lines = world.json(&["snapshot", "ls", "state"]);
    assert_eq!((&lines[0]["latest"], &lines[1]["latest"]), (&true.into(), &false.into()));
    assert_eq!(lines[0]["whole"], true);
    let series = world.json(&["snapshot", "ls"]);
    assert_eq!(series, [serde_json::json!({"name": "state", "rounds": 2, "latest": 20})]);
    let shown = world.json(&["snapshot", "show", "state@3"]);
    assert_eq!((&shown[0]["kind"], &shown[0]["metadata"]), (&"snapshot".into(), &"full".into()));
    assert_eq!(shown[0]["provenance"], serde_json::json!({"round": "3", "state_hash": "ab"}));
    // People get as much.
    assert!(world.good(&["snapshot", "ls", "state"]).contains("latest"));
    assert!(world.good(&["snapshot", "show", "state"]).contains("state@20"));
}

#[test]
fn differences_are_told_by_range_and_metadata_apart() {
    let world = World::new();
    world.good(&["snapshot", "create", "state", "live", "--round", "1"]);
    let large = fs::File::options().write(true).open(world.path("live/large")).unwrap();
    large.write_all_at(b"changed", 1_500_000).unwrap();
    fs::set_permissions(world.path("live/deep/small"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(world.path("live/new"), "new").unwrap();
    world.good(&["snapshot", "create", "state", "live", "--round", "2"]);
    let lines = world.json(&["snapshot", "diff", "state@1", "state", "--metadata"]);
    let summary = lines.last().unwrap();
    assert_eq!(
        (&summary["added"], &summary["changed"], &summary["same_content"]),
        (&1.into(), &1.into(), &false.into())
    );
    let of = |path: &str| lines.iter().find(|line| line["path"] == path).unwrap();
    let [range] = of("large")["ranges"].as_array().unwrap().as_slice() else {
        panic!("one: {}", of("large"))
    };
    let (from, to) = (range[0].as_u64().unwrap(), range[1].as_u64().unwrap());
    assert!(from <= 1_500_000 && 1_500_007 <= to && to - from < 300_000, "{range}");
    assert_eq!(
        (&of("deep/small")["change"], &of("deep/small")["metadata"]),
        (&"metadata".into(), &serde_json::json!(["mode"]))
    );
    assert_eq!(of("new")["change"], "added");
    // Without being asked for, metadata is only counted.
    let lines = world.json(&["snapshot", "diff", "state@1", "state@2"]);
    assert!(!lines.iter().any(|line| line["path"] == "deep/small"));
    let told = world.good(&["snapshot", "diff", "state@1", "state@2"]);
    assert!(
        told.contains("~ large") && told.contains("in metadata alone") && told.contains("bytes "),
        "{told}"
    );
    let same = world.good(&["snapshot", "diff", "state@2", "state@2"]);
    assert_eq!(same, "state@2 and state@2 hold the same state\n");
}

#[test]
fn a_round_names_one_state() {
    let world = World::new();
    let create = ["snapshot", "create", "state", "live", "--round", "1"];
    world.good(&create);
    assert!(world.good(&create).starts_with("unchanged state@1\n"));
    fs::write(world.path("live/deep/small"), "other\n").unwrap();
    let said = world.bad(5, &create);
    assert!(said.contains("--replace"), "{said}");
    assert!(world.good(&[&create[..], &["--replace"]].concat()).starts_with("replaced state@1\n"));
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_named() {
    let world = World::new();
    world.bad(2, &["snapshot", "create", "state", "live"]);
    world.bad(2, &["snapshot", "create", "state", "live", "--round", "01"]);
    world.bad(2, &["snapshot", "create", "state", "live", "--round", "1", "--freeze", "true"]);
    world.bad(2, &["snapshot", "create", "state", "live/large", "--round", "1"]);
    world.bad(1, &["snapshot", "create", "state", "nowhere", "--round", "1"]);
    let said = world.bad(1, &["snapshot", "create", "state", "live", "--round-cmd", "echo height 12"]);
    assert!(said.contains("\"height 12\"") && said.contains("ROUND STATE_HASH"), "{said}");
    let said =
        world.bad(1, &["snapshot", "create", "state", "live", "--round-cmd", "echo no node >&2; exit 3"]);
    assert!(said.contains("exited with status 3; it said: no node"), "{said}");
    let hung = ["snapshot", "create", "state", "live", "--round-cmd", "sleep 1000", "--hook-time", "200ms"];
    assert!(world.bad(1, &hung).contains("and was killed"));
    let said = world
        .bad(5, &["snapshot", "create", "state", "live", "--round-cmd", "echo 1 aa", "--state-hash", "bb"]);
    assert!(said.contains("aa") && said.contains("bb"), "{said}");
    for command in [["snapshot", "show", "state"], ["snapshot", "ls", "state"]] {
        world.bad(3, &command);
    }
    world.bad(3, &["snapshot", "diff", "state", "state@1"]);
    world.bad(2, &["snapshot", "diff", "state"]);
}

/// While it is "frozen" somebody writes all the same.
#[test]
fn a_state_that_changes_is_no_snapshot() {
    let world = World::new();
    let file = world.at("live/deep/small");
    let freeze = format!("(while test -e {file}; do echo x >> {file}; done) > /dev/null 2>&1 & ");
    let thaw = world.note("thaw");
    let create =
        ["snapshot", "create", "state", "live", "--round", "1", "--freeze", &freeze, "--thaw", &thaw];
    let said = world.bad(1, &create);
    assert!(said.contains("deep/small") && said.contains("snapshot"), "{said}");
    fs::rename(world.path("live/deep/small"), world.path("gone")).unwrap();
    assert_eq!(world.log(), ["thaw"]);
    world.bad(3, &["snapshot", "ls", "state"]);
}

#[test]
fn checkpoints_of_hard_links_are_read_and_go() {
    let world = World::new();
    let create = |round: &str| {
        let command = "cp -al \"$CAIRN_DIR\" \"$CAIRN_CHECKPOINT\"";
        world
            .json(&["snapshot", "create", "state", "live", "--round", round, "--checkpoint-cmd", command])
            .remove(0)
    };
    create("1");
    world.set_round(2);
    let second = create("2");
    assert_eq!((&second["files"], &second["unchanged_files"]), (&2.into(), &1.into()));
    let names = fs::read_dir(world.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().contains("checkpoint")));
    let out = world.export("state@2");
    assert_eq!(fs::read_to_string(out.join("deep/small")).unwrap(), "state of 2\n");
}
