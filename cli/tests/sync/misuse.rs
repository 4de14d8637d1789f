//! What is asked for and cannot be: each error says what there is instead.

use crate::world::World;

const CONFIG: &str = "
[packages.my-app]
binaries = [\"app\"]
strategy = \"dir\"
platforms = { \"linux/x86_64\" = \"linux-amd64\", \"linux/aarch64\" = \"linux-arm64\" }
release = { github = \"owner/app\", api = \"http://127.0.0.1:9\", asset = \"{binary}-{platform}\", checksums = \"SHA256SUMS\" }
dir = { path = \"app\" }

[packages.local]
binaries = [\"local\"]
dir = { path = \"local\" }
";

#[test]
fn without_a_file_it_says_how_to_get_one() {
    let world = World::new(CONFIG);
    std::fs::remove_file(world.path("cairn.toml")).unwrap();
    world.run(&["sync"]).refused(2, &["cairn.toml", "cairn init"]);
    world.run(&["sync", "--config", "none.toml"]).refused(1, &["none.toml"]);
}

#[test]
fn what_is_wrong_in_the_file_is_named_with_its_line() {
    let world = World::new("[packages.a]\nbinaries = [\"a\"]\ndri = { path = \"a\" }\n");
    world.run(&["sync"]).refused(2, &["line 3", "dri"]);
}

#[test]
fn an_unknown_package_or_strategy_is_told_with_what_there_is() {
    let world = World::new(CONFIG);
    world.run(&["sync", "other"]).refused(2, &["other", "local, my-app"]);
    world
        .run(&["sync", "my-app", "--strategy", "scp"])
        .refused(2, &["release, vm, ssh, dir, peer", "release, dir"]);
    world
        .run_with(&["sync", "my-app"], &[("SYNC_STRATEGY_MY_APP", "vm")])
        .refused(2, &["my-app has no strategy vm", "release, dir"]);
    world
        .run(&["sync", "local", "--strategy", "release"])
        .refused(2, &["no release of local", "--strategy dir"]);
}

#[test]
fn a_version_is_of_one_package() {
    let world = World::new(CONFIG);
    world.run(&["sync", "--version", "1.0"]).refused(2, &["--version"]);
}

#[test]
fn a_release_without_a_version_is_never_guessed() {
    let world = World::new(CONFIG);
    for arguments in [
        &["sync", "my-app", "--strategy", "release"][..],
        &["sync", "my-app", "--strategy", "release", "--version", "latest"],
    ] {
        // Nobody answers there either, and that is said too.
        world
            .run(arguments)
            .refused(2, &["never guessed", "MY_APP_VERSION=V", "--version V", "could not be asked"]);
    }
}

#[test]
fn a_server_that_is_not_there_is_said() {
    let world = World::new(CONFIG);
    world
        .run(&["sync", "my-app", "--strategy", "release", "--version", "1.0"])
        .refused(6, &["my-app: ", "127.0.0.1:9"]);
}
