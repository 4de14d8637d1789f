//! What processes use through a mount stays until they let go of it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use harness::program::until;

use crate::world::{OWN_BYTES, Place, Running, World};

const OWN: u64 = OWN_BYTES as u64;

#[test]
fn what_a_process_uses_through_a_mount_stays_until_it_ends() {
    let world = World::new();
    let Some(place) = Place::new(&world) else { return };
    world.good(&["use", "app@1"]);
    let _daemon = world.daemon(&["--mount", place.0.to_str().unwrap()]);
    let artifact = world.json(&["show", "app@1"])["artifact"].as_str().unwrap().to_owned();
    let mut sleep = Command::new("sleep");
    let inside = place.0.join("app/1/bin");
    let running = Running(sleep.arg("600").current_dir(&inside).stdout(Stdio::null()).spawn().unwrap());
    world.good(&["use", "app@3"]);
    world.good(&["prune", "--keep", "1"]);
    world.good(&["rm", "app@1"]);
    assert!(!inside.exists(), "its name is gone");
    let said = world.good(&["gc", "--explain", &artifact]);
    let process = format!("process {} (sleep) is in ", running.0.id());
    assert!(said.contains(&process), "{said}");
    world.good(&["gc"]);
    // A relative path still leads there: through the working directory of the process.
    let through = format!("/proc/{}/cwd/data", running.0.id());
    assert!(std::fs::read(&through).unwrap() == World::data("1"), "read after the collection");
    drop(running);
    until("nobody to use it", || world.good(&["gc", "--explain", &artifact]).starts_with("nothing keeps"));
    let before = world.packed();
    world.good(&["gc"]);
    assert!(world.packed() + OWN < before);
    world.verify();
}

#[test]
fn an_open_file_is_read_to_its_end() {
    let world = World::new();
    let Some(place) = Place::new(&world) else { return };
    world.good(&["use", "app@3"]);
    // Nothing whole is kept, so that each read asks the store.
    let _daemon = world.daemon(&["--mount", place.0.to_str().unwrap(), "--cache-max", "1K"]);
    let file = File::open(place.0.join("app/1/bin/data")).unwrap();
    let artifact = world.json(&["show", "app@1"])["artifact"].as_str().unwrap().to_owned();
    world.good(&["rm", "app@1"]);
    let said = world.good(&["gc", "--explain", &artifact]);
    assert!(said.contains(&format!("process {} ", std::process::id())), "{said}");
    world.good(&["gc"]);
    let mut bytes = vec![0; OWN_BYTES];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == World::data("1"));
    drop(file);
    let full = world.packed();
    until("its bytes to go", || {
        world.good(&["gc"]);
        world.packed() + OWN < full
    });
    world.verify();
}
