//! States of networks by their rounds: what is told of them, to whom, and how long they stay.

use std::fs;

use cairn_net::wire::{SeriesList, SnapshotAnswer, SnapshotList};
use cairn_server::{Access, Scope};
use cairn_store::{
    ArtifactId, CollectOptions, IngestOptions, Name, PublishOptions, RefStatement, StateHash, Subject, Writer,
};
use harness::stores;

use crate::http::{Answer, ask, get, get_with};
use crate::served::{Folder, Setup, token};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn hash(round: u64) -> StateHash {
    StateHash::new(&round.to_le_bytes()).unwrap()
}

/// Stores the state of a network after a round; `latest` leads to it.
fn snapshot(
    folder: &Folder,
    writer: &Writer,
    of: &str,
    round: u64,
    state_hash: Option<&StateHash>,
) -> ArtifactId {
    let tree = folder.scratch.folder(&format!("state-{of}-{round}"));
    fs::write(tree.join("state"), format!("{of} after {round}\n").repeat(500)).unwrap();
    let options = IngestOptions::snapshot(name(of), round, state_hash);
    let ingested = writer.ingest(stores::at(&tree), &options, &()).unwrap();
    let channel = Some("latest".parse().unwrap());
    writer.publish(&ingested, &PublishOptions { channel, ..PublishOptions::default() }).unwrap();
    ingested.artifact
}

fn one(answer: &Answer) -> SnapshotAnswer {
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn snapshots_are_told_of_newest_first_with_what_they_say_of_themselves() {
    let folder = Folder::new();
    let writer = folder.writer();
    let ids = [9, 10, 120].map(|round| snapshot(&folder, &writer, "chain", round, Some(&hash(round))));
    snapshot(&folder, &writer, "other", 5, None);
    // Versions of digits are no snapshots by that.
    let tree = folder.scratch.folder("package");
    fs::write(tree.join("file"), "of a package").unwrap();
    let package =
        IngestOptions { platform: Some("any/any".parse().unwrap()), ..stores::options("chain", "500") };
    stores::add(&writer, &tree, &package);
    stores::add(&writer, &tree, &stores::options("tool", "7"));
    drop(writer);
    let served = folder.serve(Setup { writes: true, ..Setup::default() });
    let series: SeriesList = serde_json::from_slice(&get(served.address, "/v1/snapshots").body).unwrap();
    let told: Vec<_> =
        series.snapshots.iter().map(|one| (one.name.as_str(), one.rounds, one.latest)).collect();
    assert_eq!(told, [("chain", 3, 120), ("other", 1, 5)]);
    let answer = get(served.address, "/v1/snapshots/chain");
    let list: SnapshotList = serde_json::from_slice(&answer.body).unwrap();
    let told: Vec<_> =
        list.snapshots.iter().map(|one| (one.round, one.artifact.0, one.state_hash.clone())).collect();
    let expected =
        [(120, ids[2]), (10, ids[1]), (9, ids[0])].map(|(round, id)| (round, id, Some(hash(round))));
    assert_eq!(told, expected);
    assert!(
        list.snapshots
            .iter()
            .all(|one| one.files == 1 && one.bytes > 500 && one.chunks > 0 && one.time_ms > 0)
    );
    let again = get_with(served.address, "/v1/snapshots/chain", &[("if-none-match", answer.header("etag"))]);
    assert_eq!(again.status, 304);
    let latest = one(&get(served.address, "/v1/snapshots/chain/latest"));
    assert_eq!((latest.snapshot.round, latest.snapshot.artifact.0), (120, ids[2]));
    assert_eq!(latest.snapshot.name, Some(name("chain")));
    assert!(latest.channel.is_some());
    let older = one(&get(served.address, "/v1/snapshots/chain/9"));
    assert_eq!((older.snapshot.state_hash, older.channel), (Some(hash(9)), None));
    match RefStatement::of(&older.reference).unwrap().subject {
        Subject::Ref { key, artifact } => assert_eq!((key.version.as_str(), artifact), ("9", ids[0])),
        other => panic!("{other:?}"),
    }
    for (path, status) in [
        ("/v1/snapshots/tool", 404),
        ("/v1/snapshots/nothing", 404),
        ("/v1/snapshots/chain/11", 404),
        ("/v1/snapshots/chain/500", 404),
        ("/v1/snapshots/chain/09", 400),
        ("/v1/snapshots/chain/x", 400),
        ("/v1/snapshots/Chain", 400),
    ] {
        assert_eq!(get(served.address, path).status, status, "{path}");
    }
}

#[test]
fn who_was_told_of_one_can_take_it_when_its_name_has_gone() {
    let folder = Folder::new();
    let writer = folder.writer();
    let (told, other) =
        (snapshot(&folder, &writer, "chain", 1, None), snapshot(&folder, &writer, "chain", 2, None));
    snapshot(&folder, &writer, "chain", 3, None);
    drop(writer);
    let served = folder.serve(Setup { writes: true, ..Setup::default() });
    assert_eq!(one(&get(served.address, "/v1/snapshots/chain/1")).snapshot.artifact.0, told);
    let writer = served.api.writer().unwrap();
    for round in [1, 2] {
        let key = cairn_store::snapshots::key_of(&name("chain"), round);
        writer.remove_ref(&key, true).unwrap();
    }
    let options = CollectOptions::default();
    let plan = writer.plan_collection(&options, &()).unwrap();
    writer.collect(&plan, &options, &()).unwrap();
    assert_eq!(get(served.address, "/v1/snapshots/chain/1").status, 404);
    let store = folder.store();
    assert!(store.artifact(&told).is_ok(), "it was told of, and stays for a while");
    assert!(store.artifact(&other).is_err(), "nobody was told of that one");
}

#[test]
fn tokens_say_whose_states_are_told_of() {
    let folder = Folder::new();
    let writer = folder.writer();
    snapshot(&folder, &writer, "chain", 1, None);
    snapshot(&folder, &writer, "other", 2, None);
    drop(writer);
    let tokens = folder.tokens();
    let bearer = format!("Bearer {}", token(&tokens, Scope::Read, &["chain"]));
    let served = folder.serve(Setup { access: Access::by_tokens(tokens), writes: true, ..Setup::default() });
    let read = |path: &str| ask(served.address, "GET", path, &[("authorization", &bearer)], b"");
    let series: SeriesList = serde_json::from_slice(&read("/v1/snapshots").body).unwrap();
    assert_eq!(series.snapshots.len(), 1);
    assert_eq!(read("/v1/snapshots/chain/latest").status, 200);
    assert_eq!(read("/v1/snapshots/other").status, 403);
    assert_eq!(read("/v1/snapshots/other/2").status, 403);
    assert_eq!(get(served.address, "/v1/snapshots").status, 401);
}
