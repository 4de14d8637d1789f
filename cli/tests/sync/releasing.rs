//! Official releases: from a server that plays GitHub, and from a tree of files such as bitcoincore.org has.

use std::path::Path;
use std::process::{Command, Stdio};

use cairn_sources::Sha256;
use harness::program::until;
use harness::release_server::{Answer, Fault, GitHub, Published, ReleaseServer};

use crate::world::World;

/// Where the fixtures of bitcoincore.org lie.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sources/tests/fixtures/bitcoincore");
const ARCHIVE: &str = "/bin/bitcoin-core-29.0/bitcoin-29.0-x86_64-linux-gnu.tar.gz";

/// A server with Bitcoin Core 29.0, as the fixtures have it.
fn bitcoincore() -> ReleaseServer {
    let server = ReleaseServer::start();
    let read = |name: &str| std::fs::read(Path::new(FIXTURES).join(name)).unwrap();
    server.answer("/bin/", Answer::new(200, read("index.html")).with("Content-Type", "text/html"));
    for name in ["bitcoin-29.0-x86_64-linux-gnu.tar.gz", "SHA256SUMS", "SHA256SUMS.asc"] {
        server.file(&format!("/bin/bitcoin-core-29.0/{name}"), read(name));
    }
    server
}

/// How often a file was downloaded.
fn downloads(server: &ReleaseServer, path: &str) -> usize {
    server.asked(path).iter().filter(|seen| seen.method == "GET").count()
}

/// Goes wrong with the next download of a file. How long it is is asked first, and what goes wrong with that is nothing.
fn spoil(server: &ReleaseServer, path: &str, faults: impl IntoIterator<Item = Fault>) {
    server.fail(path, Fault::IgnoreRange);
    faults.into_iter().for_each(|fault| server.fail(path, fault));
}

/// GitHub with three releases of `example/app`, each with its checksums.
fn github() -> GitHub {
    let github = GitHub::start("example/app", 2);
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        let programs: Vec<(String, Vec<u8>)> = ["validator", "local_validator", "validator-cli"]
            .map(|name| {
                let file = format!("{name}-linux-amd64");
                // The client is the same in all of them.
                let said = if name == "validator-cli" { "any" } else { version };
                (file, format!("#!/bin/sh\necho {name} {said}\n").into_bytes())
            })
            .to_vec();
        let sums: String =
            programs.iter().map(|(name, body)| format!("{}  {name}\n", Sha256::of(body))).collect();
        let mut files: Vec<(&str, &[u8])> =
            programs.iter().map(|(name, body)| (name.as_str(), body.as_slice())).collect();
        files.push(("SHA256SUMS", sums.as_bytes()));
        github.publish(Published::new(&format!("v{version}"), &files));
    }
    github
}

/// What `cairn init` writes, with other servers and this machine's platform.
fn world(bitcoin: &ReleaseServer, github: &GitHub) -> World {
    let world = World::new("");
    world.good(&["init", "--force"]);
    let text = std::fs::read_to_string(world.path("cairn.toml")).unwrap();
    let text = text.replace("https://bitcoincore.org", &bitcoin.url()).replace(
        "github = \"example/app\"",
        &format!("github = \"example/app\"\napi = \"{}\"", github.api.url()),
    );
    let text = text.replace("[packages.bitcoin]\n", "[packages.bitcoin]\nplatform = \"linux/x86_64\"\n");
    let text = text.replace("[packages.app]\n", "[packages.app]\nplatform = \"linux/x86_64\"\n");
    world.write("cairn.toml", text.as_bytes());
    world
}

#[test]
fn what_init_writes_brings_both_projects_in_one_generation() {
    let (bitcoin, github) = (bitcoincore(), github());
    let world = world(&bitcoin, &github);
    let variables = [("BITCOIN_VERSION", "29.0"), ("APP_VERSION", "v1.2.0")];
    let ran = world.run_with(&["sync", "--use", "--json"], &variables);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let rows = ran.rows();
    assert_eq!((&rows[0]["package"], &rows[0]["version"]), (&"app".into(), &"1.2.0".into()));
    assert_eq!((&rows[1]["status"], &rows[1]["generation"]), (&"added".into(), &1.into()));
    assert_eq!(rows[1]["verified"], "SHA256SUMS");
    assert_eq!(rows[0]["facts"]["source"], "release");
    // Lines on standard error are for machines too.
    assert!(
        ran.err.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
        "{}",
        ran.err
    );
    assert_eq!(world.cat("app@1.2.0", "validator"), b"#!/bin/sh\necho validator 1.2.0\n");
    assert!(!world.good(&["show", "app@1.2.0", "--files"]).out.contains("local_validator"));
    // Once more: checksums are asked for, and no file.
    github.assets.forget();
    bitcoin.forget();
    let again = world.run_with(&["sync", "--use", "--json"], &variables);
    assert!(
        again.rows().iter().all(|row| row["status"] == "current" && row["generation"] == 1),
        "{}",
        again.out
    );
    assert_eq!(downloads(&bitcoin, ARCHIVE), 0);
    let fetched: Vec<_> =
        github.assets.seen().into_iter().filter(|seen| seen.path.contains("validator")).collect();
    assert!(fetched.is_empty(), "{fetched:?}");
    assert!(world.run_with(&["sync"], &variables).out.contains("already current"));
    // Of the next version only what is new comes: the client is the same.
    let older = world.run_with(&["sync", "app", "--version", "1.1.0", "--json"], &[]);
    assert_eq!(older.code, 0, "{}", older.err);
    let fetched = github.assets.seen();
    assert!(fetched.iter().any(|seen| seen.path.contains("validator-linux-amd64")));
    assert!(!fetched.iter().any(|seen| seen.path.contains("validator-cli")), "{fetched:?}");
}

#[test]
fn signatures_are_counted_and_named() {
    let (bitcoin, github) = (bitcoincore(), github());
    let world = world(&bitcoin, &github);
    let text =
        std::fs::read_to_string(world.path("cairn.toml")).unwrap().replace("#: signatures", "signatures");
    let text = text.replace("#: keys", "keys");
    world.write("cairn.toml", text.as_bytes());
    let arguments = ["sync", "bitcoin", "--version", "29.0"];
    world.run(&arguments).refused(1, &["keys/bitcoin"]);
    for name in ["alice", "bob", "carol"] {
        let key = std::fs::read(Path::new(FIXTURES).join(format!("builder-keys/{name}.gpg"))).unwrap();
        world.write(&format!("keys/bitcoin/{name}.gpg"), &key);
    }
    let row = world.object(&arguments);
    assert_eq!(row["verified"], "SHA256SUMS signed by 3 keys");
    assert_eq!(row["facts"]["signed-by"].as_str().unwrap().split(' ').count(), 3);
    std::fs::remove_file(world.path("keys/bitcoin/alice.gpg")).unwrap();
    world.run(&arguments).refused(2, &["3 signatures are required, and 2 keys are trusted"]);
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    let (bitcoin, github) = (bitcoincore(), github());
    let world = world(&bitcoin, &github);
    world.run(&["sync", "app"]).refused(2, &["never guessed", "APP_VERSION=V", "1.2.0, 1.1.0, 1.0.0"]);
    world.run(&["sync", "bitcoin", "--version", "latest"]).refused(2, &["latest", "29.0, 28.1"]);
    world
        .run(&["sync", "app", "--version", "9.9"])
        .refused(3, &["app has no release 9.9", "1.2.0, 1.1.0, 1.0.0"]);
    let text = std::fs::read_to_string(world.path("cairn.toml")).unwrap();
    let text = text.replace("[\"validator\", \"validator-cli\"]", "[\"valdator\"]");
    world.write("cairn.toml", text.as_bytes());
    let ran = world.run(&["sync", "app", "--version", "1.2.0"]);
    ran.refused(3, &["1.2.0", "valdator-linux-amd64"]);
    // Closest first.
    let at = |name: &str| ran.err.find(name).unwrap();
    assert!(at(" validator-linux-amd64") < at("SHA256SUMS"), "{}", ran.err);
}

#[test]
fn another_package_of_the_same_archive_needs_no_download() {
    let (bitcoin, github) = (bitcoincore(), github());
    let world = world(&bitcoin, &github);
    let text = std::fs::read_to_string(world.path("cairn.toml")).unwrap();
    let only = text.replace("[\"bitcoind\", \"bitcoin-cli\"]", "[\"bitcoind\"]");
    let begin = only.find("[packages.bitcoin]").unwrap();
    let end = only.find("[packages.app]").unwrap();
    let client = only[begin..end]
        .replace("packages.bitcoin", "packages.client")
        .replace("[\"bitcoind\"]", "[\"bitcoin-cli\"]");
    world.write("cairn.toml", format!("{only}\n{client}").as_bytes());
    world.good(&["sync", "bitcoin", "--version", "29.0"]);
    assert_eq!(downloads(&bitcoin, ARCHIVE), 1);
    let row = world.object(&["sync", "client", "--version", "29.0"]);
    assert_eq!((&row["status"], &row["wire_bytes"]), (&"added".into(), &0.into()));
    assert_eq!(downloads(&bitcoin, ARCHIVE), 1);
}

#[test]
fn what_is_not_what_its_checksum_says_never_gets_into_the_store() {
    let (bitcoin, github) = (bitcoincore(), github());
    let world = world(&bitcoin, &github);
    spoil(&bitcoin, ARCHIVE, [Fault::Corrupt, Fault::Corrupt]);
    world
        .run(&["sync", "bitcoin", "--version", "29.0"])
        .refused(4, &["bitcoin-29.0-x86_64-linux-gnu.tar.gz"]);
    world.run(&["show", "bitcoin@29.0"]).refused(3, &["no store"]);
    assert_eq!(world.names("cache/sources/staged"), [""; 0]);
    // A single fault is mended by asking again.
    spoil(&bitcoin, ARCHIVE, [Fault::Corrupt]);
    assert_eq!(world.object(&["sync", "bitcoin", "--version", "29.0"])["status"], "added");
}

#[test]
fn a_release_that_was_changed_after_it_was_synced_is_refused() {
    let (bitcoin, github) = (bitcoincore(), github());
    let world = world(&bitcoin, &github);
    let arguments = ["sync", "app", "--version", "1.2.0"];
    world.good(&arguments);
    let (validator, client) =
        (b"#!/bin/sh\necho other\n".to_vec(), b"#!/bin/sh\necho validator-cli any\n".to_vec());
    let sums = format!(
        "{}  validator-linux-amd64\n{}  validator-cli-linux-amd64\n",
        Sha256::of(&validator),
        Sha256::of(&client)
    );
    let changed = GitHub::start("example/app", 100);
    changed.publish(Published::new(
        "v1.2.0",
        &[
            ("validator-linux-amd64", &validator),
            ("validator-cli-linux-amd64", &client),
            ("SHA256SUMS", sums.as_bytes()),
        ],
    ));
    let text = std::fs::read_to_string(world.path("cairn.toml")).unwrap();
    world.write("cairn.toml", text.replace(&github.api.url(), &changed.api.url()).as_bytes());
    world.run(&arguments).refused(5, &["app@1.2.0", "--replace"]);
    assert_eq!(world.cat("app@1.2.0", "validator"), b"#!/bin/sh\necho validator 1.2.0\n");
    world.good(&["sync", "app", "--version", "1.2.0", "--replace"]);
    assert_eq!(world.cat("app@1.2.0", "validator"), validator);
}

#[test]
fn one_that_was_killed_goes_on_where_it_was() {
    let server = ReleaseServer::start();
    let program: Vec<u8> =
        (0..3_000_000_u32).map(|nth| u8::try_from(nth.wrapping_mul(2_654_435_761) >> 24).unwrap()).collect();
    server.file("/v1/tool", program.clone());
    server.file("/v1/SHA256SUMS", format!("{}  tool\n", Sha256::of(&program)));
    spoil(&server, "/v1/tool", [Fault::Stall(2_000_000)]);
    let url = server.url();
    let world = World::new(&format!(
        "[packages.tool]\nbinaries = [\"tool\"]\nrelease = {{ url = \"{url}/v{{version}}/tool\", checksums = \"SHA256SUMS\" }}\n"
    ));
    let arguments = ["sync", "tool", "--version", "1"];
    let mut sync = world.command(&arguments, &[]);
    let mut sync = sync.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("most of the download", || longest(&world.path("cache/sources/downloads")) >= 1_900_000);
    sync.kill().unwrap();
    sync.wait().unwrap();
    world.run(&["ls", "tool"]).refused(3, &[]);
    let row = world.object(&arguments);
    assert_eq!(row["status"], "added");
    assert!(row["wire_bytes"].as_u64().unwrap() < 1_200_000, "{row}");
    assert!(server.asked("/v1/tool").last().unwrap().headers.contains_key("range"));
    assert_eq!(world.cat("tool@1", "tool"), program);
    assert_eq!(world.names("cache/sources/staged"), [""; 0]);
}

fn longest(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).max().unwrap_or(0)
}

#[test]
fn ctrl_c_ends_it_in_order() {
    let server = ReleaseServer::start();
    server.file("/v1/tool", vec![7; 100_000]);
    server.file("/v1/SHA256SUMS", format!("{}  tool\n", Sha256::of(&vec![7; 100_000])));
    spoil(&server, "/v1/tool", [Fault::Stall(50_000)]);
    let url = server.url();
    let world = World::new(&format!(
        "[packages.tool]\nbinaries = [\"tool\"]\nrelease = {{ url = \"{url}/v{{version}}/tool\", checksums = \"SHA256SUMS\" }}\n"
    ));
    let sync = world.command(&["sync", "tool", "--version", "1"], &[]).spawn().unwrap();
    until("the download", || downloads(&server, "/v1/tool") > 0);
    let kill = Command::new("kill").args(["-INT", &sync.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let ran = crate::world::Ran::of(&harness::program::finish(sync));
    ran.refused(130, &["tool: interrupted"]);
    assert_eq!(world.names("cache/sources/staged"), [""; 0]);
}

#[test]
fn a_dry_run_says_what_would_come() {
    let (bitcoin, github) = (bitcoincore(), github());
    let world = world(&bitcoin, &github);
    let row = world.object(&["sync", "bitcoin", "--version", "29.0", "--dry-run"]);
    let plan = row["plan"][0].as_str().unwrap();
    assert!(
        plan.contains("bitcoin-29.0-x86_64-linux-gnu.tar.gz") && plan.contains("bitcoind, bitcoin-cli"),
        "{plan}"
    );
    assert_eq!(downloads(&bitcoin, ARCHIVE), 0);
}

#[test]
fn a_peer_is_a_source_too() {
    let (bitcoin, github) = (bitcoincore(), github());
    let world = world(&bitcoin, &github);
    world.good(&["sync", "app", "--version", "1.2.0"]);
    let neighbour = World::new("");
    let mut serve = world.command(&["serve", "--listen", "127.0.0.1:0"], &[]);
    let mut serve = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut url = String::new();
    until("the server", || {
        let status = world.run(&["status", "--json"]).out;
        url = status
            .split("\"url\":\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .unwrap_or_default()
            .to_owned();
        !url.is_empty()
    });
    neighbour.write(
        "cairn.toml",
        format!("[packages.app]\nbinaries = [\"validator\"]\npeer = {{ from = [\"{url}\"] }}\n").as_bytes(),
    );
    let without = neighbour.run(&["sync", "app"]);
    let row = neighbour.run(&[
        "sync",
        "app",
        "--version",
        "1.2.0",
        "--platform",
        "linux/x86_64",
        "--use",
        "--json",
    ]);
    let _ = serve.kill();
    let _ = serve.wait();
    without.refused(2, &["neither a version nor a channel"]);
    assert_eq!(row.code, 0, "{}", row.err);
    let row = &row.rows()[0];
    assert_eq!(
        (&row["status"], &row["strategy"], &row["generation"]),
        (&"added".into(), &"peer".into(), &1.into())
    );
    assert_eq!(neighbour.cat("app@1.2.0", "validator"), b"#!/bin/sh\necho validator 1.2.0\n");
}
