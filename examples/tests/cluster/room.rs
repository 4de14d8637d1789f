//! A joiner without room on its disk, and a snapshot that goes while it is on its way.

use std::fs;
use std::sync::Arc;

use harness::mount::Mount;

use crate::joins::{go_on, network};
use crate::proxy::{Gate, Proxy, Way};
use crate::world::{dump, replay_command};

#[test]
fn a_full_disk_leaves_what_was_there() {
    let mount = match Mount::tmpfs(64 << 20) {
        Ok(mount) => mount,
        Err(why) => {
            eprintln!("SKIPPED: a joiner's full disk: {why}");
            return;
        }
    };
    let (world, daemon, bootstrap) = network();
    let (state, store) = (mount.path().join("kv2"), mount.path().join("store"));
    let store = store.to_str().unwrap();
    let join = |more: &[&str]| world.join_to(&state, store, &[&daemon.url], &replay_command(), more);
    world.snapshot("a", &bootstrap, &[]);
    join(&[]).joined();
    let before = dump(&state);

    go_on(&world, &bootstrap, 200);
    world.snapshot("a", &bootstrap, &[]);
    mount.fill("ballast");
    let said = join(&["--retries", "1"]).refused();
    assert!(said.contains("space") || said.contains("full"), "{said}");
    assert!(dump(&state) == before, "the state that was there is another now");

    fs::remove_file(mount.path().join("ballast")).unwrap();
    join(&[]).joined();
    fs::create_dir(world.path("kv2")).unwrap();
    fs::copy(state.join("kv.redb"), world.path("kv2/kv.redb")).unwrap();
    world.all_are_equal(&daemon, vec![bootstrap], &["kv2"]);
}

#[test]
fn a_snapshot_that_goes_while_it_is_on_its_way() {
    let (world, daemon, bootstrap) = network();
    world.snapshot("a", &bootstrap, &[]);
    go_on(&world, &bootstrap, 20);
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let slow = Proxy::to(daemon.address(), move |request| {
        let is_of_chunks = request.contains("part=chunks") || request.contains("/v1/chunks");
        if is_of_chunks { Way::Wait(Arc::clone(&theirs)) } else { Way::Pass }
    });
    let join = world.join("kv2", &[&slow.url], &["--retries", "10"]);
    gate.has_somebody();
    for _ in 0..2 {
        go_on(&world, &bootstrap, 20);
        world.snapshot("a", &bootstrap, &["--keep", "1"]);
    }
    world.good("a", &["gc"]);
    assert_eq!(world.json("a", &["snapshot", "ls", "kv"]).len(), 1);
    gate.open();
    join.joined();
    world.all_are_equal(&daemon, vec![bootstrap], &["kv2"]);
}
