//! What comes, and what of it travels.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use harness::program::{finish, text};

use crate::world::{World, noise};

#[test]
fn a_new_version_moves_what_is_new_and_the_same_one_nothing() {
    let world = World::new();
    let mut bytes = noise(1, 4 << 20);
    world.publish("tool-1.0.0-linux-x86_64", &bytes);
    world.publish("tool-1.1.0-rc.1-linux-x86_64", b"a prerelease");
    let platform = ["--platform", "linux/amd64"];
    let report = world.good("tool", "tool", &platform);
    assert!(report.has("\"version\":\"1.0.0\"") && report.has("\"changed\":true"), "{}", report.0);
    assert_eq!(report.number("size_bytes"), 4 << 20);
    assert!(report.number("wire_bytes") >= 4 << 20, "{}", report.0);
    assert!(fs::read(world.path("tool")).unwrap() == bytes, "other bytes");
    assert_eq!(world.path("tool").metadata().unwrap().mode() & 0o7777, 0o755);

    let inode = world.path("tool").metadata().unwrap().ino();
    let report = world.good("tool", "tool", &platform);
    assert!(report.has("\"changed\":false"), "{}", report.0);
    assert_eq!((report.number("wire_bytes"), world.path("tool").metadata().unwrap().ino()), (0, inode));
    let output =
        world.run(&["fetch", "tool", "--from", &world.url, "--to", "tool", "--platform", "linux/x64"]);
    assert!(text(&output.stdout).starts_with("already current"), "{}", text(&output.stdout));

    bytes[1 << 20..(1 << 20) + 1000].fill(7);
    world.publish("tool-1.2.0-linux-x86_64", &bytes);
    let report = world.good("tool", "tool", &platform);
    assert!(report.has("\"version\":\"1.2.0\""), "{}", report.0);
    assert!(report.number("wire_bytes") < 512 << 10, "{}", report.0);
    assert!(fs::read(world.path("tool")).unwrap() == bytes, "other bytes");

    // Both are in the cache: going back, and to another place, moves nothing.
    for (program, to) in [("tool@1.0.0", "tool"), ("tool@1.2.0", "other")] {
        let report = world.good(program, to, &[&platform[..], &["--mode", "700"]].concat());
        assert_eq!(report.number("wire_bytes"), 0, "{}", report.0);
        assert_eq!(world.path(to).metadata().unwrap().mode() & 0o7777, 0o700);
    }
    let report = world.good("tool@1.1.0-rc.1", "tool", &platform);
    assert_eq!(
        (fs::read(world.path("tool")).unwrap(), report.number("size_bytes")),
        (b"a prerelease".to_vec(), 12)
    );
}

#[test]
fn a_program_is_replaced_while_it_runs() {
    let world = World::new();
    let sleep = fs::read("/bin/sleep").unwrap();
    let platform = ["--platform", "linux/x86_64"];
    world.publish("nap-1.0.0-linux-x86_64", &sleep);
    world.good("nap", "nap", &platform);
    let mut running = Command::new(world.path("nap")).arg("600").stdout(Stdio::null()).spawn().unwrap();
    let newer = [&sleep[..], b"newer"].concat();
    world.publish("nap-2.0.0-linux-x86_64", &newer);
    world.good("nap", "nap", &platform);
    assert!(fs::read(world.path("nap")).unwrap() == newer, "other bytes");
    assert!(running.try_wait().unwrap().is_none(), "the old one ended");
    let status = Command::new(world.path("nap")).arg("0").status().unwrap();
    assert!(status.success());
    running.kill().unwrap();
    running.wait().unwrap();
}

#[test]
fn what_the_store_of_the_server_does_not_have_comes_as_a_file() {
    let world = World::new();
    let bytes = noise(2, 700_000);
    // A name that no store takes.
    world.place("Tool-1.0.0-linux-x86_64", &bytes);
    let report = world.good("Tool", "tool", &["--platform", "linux/x86_64"]);
    assert_eq!(report.number("wire_bytes"), 700_000);
    assert!(fs::read(world.path("tool")).unwrap() == bytes, "other bytes");
    // A version that somebody else put into the store, with other content.
    let other = world.path("tree");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("twin"), b"#!/bin/sh\n").unwrap();
    fs::set_permissions(other.join("twin"), fs::Permissions::from_mode(0o755)).unwrap();
    let tree = other.to_str().unwrap();
    let add = ["add", tree, "--name", "twin", "--version", "1.0.0", "--platform", "linux/x86_64"];
    assert!(world.run(&add).status.success());
    world.place("twin-1.0.0-linux-x86_64", b"the twin");
    world.good("twin", "twin", &["--platform", "linux/x86_64"]);
    assert_eq!(fs::read(world.path("twin")).unwrap(), b"the twin");
}

#[test]
fn a_program_of_the_store_alone_comes_too() {
    let world = World::new();
    fs::create_dir_all(world.path("tree/bin")).unwrap();
    for (version, script) in [("1.0.0", "#!/bin/sh\necho one\n"), ("2.0.0-rc.1", "#!/bin/sh\necho two\n")] {
        fs::write(world.path("tree/bin/greet"), script).unwrap();
        fs::set_permissions(world.path("tree/bin/greet"), fs::Permissions::from_mode(0o755)).unwrap();
        let add = [
            "add",
            "tree",
            "--name",
            "greet",
            "--version",
            version,
            "--platform",
            "linux/x86_64",
            "--channel",
            "next",
        ];
        assert!(world.run(&add).status.success());
    }
    let platform = ["--platform", "linux/x86_64"];
    let said = |world: &World| {
        text(&finish(Command::new(world.path("greet")).stdout(Stdio::piped()).spawn().unwrap()).stdout)
    };
    let report = world.good("greet", "greet", &platform);
    assert!(report.has("\"version\":\"1.0.0\""), "{}", report.0);
    assert_eq!(said(&world), "one\n");
    assert!(world.good("greet", "greet", &platform).has("\"changed\":false"));
    let report = world.good("greet@next", "greet", &platform);
    assert!(report.has("\"version\":\"2.0.0-rc.1\""), "{}", report.0);
    assert_eq!(said(&world), "two\n");
}

#[test]
fn many_at_once_share_the_cache() {
    let world = World::new();
    let bytes = noise(3, 1 << 20);
    world.publish("tool-1.0.0-linux-x86_64", &bytes);
    let platform = ["--platform", "linux/x86_64"];
    let running: Vec<_> =
        (0..6).map(|number| world.begin("tool", &format!("tool-{}", number % 3), &platform)).collect();
    for child in running {
        let output = finish(child);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    for number in 0..3 {
        assert!(fs::read(world.path(&format!("tool-{number}"))).unwrap() == bytes, "other bytes");
    }
}

#[test]
fn a_cache_that_is_damaged_or_too_large_is_begun_anew() {
    let world = World::new();
    world.publish("tool-1.0.0-linux-x86_64", &noise(4, 1 << 20));
    world.publish("tool-1.1.0-linux-x86_64", &noise(5, 1 << 20));
    let platform = ["--platform", "linux/x86_64"];
    world.good("tool@1.0.0", "tool", &platform);
    for pack in world.path("cache/fetched/packs").read_dir().unwrap() {
        let path = pack.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    fs::remove_file(world.path("tool")).unwrap();
    let report = world.good("tool@1.0.0", "tool", &platform);
    assert!(report.number("wire_bytes") >= 1 << 20, "{}", report.0);
    // It has 1 MiB, and may have less.
    world.good("tool@1.1.0", "tool", &[&platform[..], &["--cache-max", "64K"]].concat());
    let report = world.good("tool@1.0.0", "tool", &platform);
    assert!(report.number("wire_bytes") >= 1 << 20, "{}", report.0);
}
