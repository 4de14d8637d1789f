//! Snapshots that a daemon takes by itself.

use std::fs;

use harness::program::until;

use crate::world::World;

/// The lines of a configuration with the round of the file beside the state.
fn lines(world: &World, more: &str) -> String {
    format!("round_cmd = {:?}\n{more}", world.round_cmd())
}

#[test]
fn snapshots_come_by_themselves_and_the_newest_stay() {
    let world = World::new();
    world.configure(&lines(&world, "every = \"20ms\"\nkeep = 2"));
    let daemon = world.daemon(&[]);
    for round in [1, 2, 5] {
        world.set_round(round);
        until("a snapshot", || world.rounds().first() == Some(&round));
    }
    until("the oldest to go", || world.rounds() == [5, 2]);
    let status = world.status();
    assert_eq!(
        (&status["name"], &status["failure"]),
        (&"state".into(), &serde_json::Value::Null),
        "{status}"
    );
    let printed = world.good(&["status"]);
    assert!(printed.contains("state every 20 ms: round 5"), "{printed}");
    let latest = world.json(&["snapshot", "ls", "state"]);
    assert_eq!((&latest[0]["round"], &latest[0]["latest"]), (&5.into(), &true.into()));
    // A state that goes on without a new round is no failure, and no new snapshot.
    world.put("live/deep/small", b"compacted\n");
    let out = world.export("state@5");
    assert_eq!(fs::read_to_string(out.join("deep/small")).unwrap(), "state of 5\n");
    assert_eq!(daemon.stop(), Some(0));
    // The next daemon goes on.
    world.set_round(6);
    let _daemon = world.daemon(&[]);
    until("a snapshot", || world.rounds() == [6, 5]);
}

#[test]
fn so_many_rounds_have_to_pass() {
    let world = World::new();
    let round_cmd = format!("{}; {}", world.note("looked"), world.round_cmd());
    world.configure(&format!("rounds = 10\nlook_every = \"10ms\"\nround_cmd = {round_cmd:?}"));
    let _daemon = world.daemon(&[]);
    until("the first", || world.rounds() == [1]);
    world.set_round(10);
    let looked = world.log().len();
    until("three looks", || world.log().len() > looked + 3);
    assert_eq!(world.rounds(), [1]);
    world.set_round(11);
    until("the next", || world.rounds() == [11, 1]);
}

#[test]
fn one_that_fails_is_told_and_the_next_one_comes() {
    let world = World::new();
    fs::write(world.path("broken"), "").unwrap();
    let (broken, hang) = (world.at("broken"), world.at("hang"));
    let freeze =
        format!("test ! -e {broken} || {{ echo no database >&2; exit 9; }}; test ! -e {hang} || sleep 1000");
    let thaw = world.note("thaw");
    world.configure(&lines(
        &world,
        &format!("every = \"20ms\"\nhook_time = \"500ms\"\nfreeze = {freeze:?}\nthaw = {thaw:?}"),
    ));
    let _daemon = world.daemon(&[]);
    let failure = || world.status()["failure"].as_str().unwrap_or_default().to_owned();
    until("two failures", || world.status()["failures"].as_u64() >= Some(2));
    assert!(failure().contains("exited with status 9; it said: no database"), "{}", failure());
    assert!(world.log().len() >= 2, "each thawed");
    assert!(world.good(&["status"]).contains("no database"));
    fs::remove_file(world.path("broken")).unwrap();
    until("a snapshot", || world.rounds() == [1]);
    until("that all is well", || failure().is_empty());
    fs::write(world.path("hang"), "").unwrap();
    until("a command to be killed", || failure().contains("and was killed"));
    fs::remove_file(world.path("hang")).unwrap();
    world.set_round(2);
    until("another snapshot", || world.rounds() == [2, 1]);
}

#[test]
fn two_of_one_name_never_run_at_a_time() {
    let world = World::new();
    let lock = world.at("lock");
    let freeze = format!("mkdir {lock} || {}; {}", world.note("overlap"), world.note("freeze"));
    // Takes longer than the time between two of them.
    let round = format!("sleep 0.05; {}", world.round_cmd());
    let thaw = format!("rmdir {lock}");
    world.configure(&format!("every = \"5ms\"\nround_cmd = {round:?}\nfreeze = {freeze:?}\nthaw = {thaw:?}"));
    let _daemon = world.daemon(&[]);
    until("ten of them", || world.log().len() >= 10);
    // By hand as well: one of them is told that the other runs, or waits for its turn.
    let by_hand =
        ["snapshot", "create", "state", "live", "--round", "1", "--freeze", &freeze, "--thaw", &thaw];
    let _ = harness::program::finish(world.command(&by_hand).spawn().unwrap());
    until("five more", || world.log().len() >= 15);
    assert!(!world.log().contains(&"overlap".to_owned()), "{:?}", world.log());
}

#[test]
fn who_takes_over_goes_by_the_file_as_it_is_then() {
    let world = World::new();
    world.configure(&lines(&world, "every = \"20ms\""));
    let first = world.daemon(&[]);
    until("a snapshot", || world.rounds() == [1]);
    let more = format!(
        "[snapshots.other]\ndir = {:?}\nevery = \"20ms\"\nround_cmd = \"echo 70\"\n",
        world.at("live/deep")
    );
    let mut file = fs::read_to_string(world.path("store/cairn.toml")).unwrap();
    file += &more;
    world.put("store/cairn.toml", file.as_bytes());
    let second = world.daemon(&["--takeover"]);
    world.set_round(2);
    until("a snapshot by the new daemon", || world.rounds() == [2, 1]);
    until("one of what the file names now", || {
        world.json(&["snapshot", "ls"]).iter().any(|series| series["name"] == "other")
    });
    // One that does not hold keeps the daemon that runs.
    world.put("store/cairn.toml", b"[snapshots.state]\nevry = 1\n");
    let said = world.bad(2, &["daemon", "--takeover"]);
    assert!(said.contains("cairn.toml, line 2 (evry = 1): unknown field `evry`"), "{said}");
    world.set_round(3);
    until("a snapshot all the same", || world.rounds() == [3, 2, 1]);
    drop(first);
    assert_eq!(second.stop(), Some(0));
    let said = world.bad(2, &["daemon"]);
    assert!(said.contains("line 2"), "{said}");
    let said = world.bad(1, &["daemon", "--config", "nowhere.toml"]);
    assert!(said.contains("nowhere.toml"), "{said}");
}
