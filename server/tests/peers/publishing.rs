//! What can be published, by whom, and what is refused.

use cairn_net::wire::{ErrorBody, Item, KeptAnswer, RefAnswer};
use cairn_server::{Access, PeerLimits, Scope};
use cairn_store::pack::PackKind;
use cairn_store::{ArtifactId, ChunkId, Piece, Store};
use harness::stores;

use crate::http::{Answer, ask, get, get_with};
use crate::served::{Folder, Served, Setup, token};

/// A server that takes what is published, and the token of each scope.
struct Published {
    _folder: Folder,
    served: Served,
    reader: String,
    publisher: String,
    admin: String,
}

impl Published {
    fn new(limits: PeerLimits) -> Self {
        let folder = Folder::new();
        let tokens = folder.tokens();
        let bearer = |scope, names: &[&str]| format!("Bearer {}", token(&tokens, scope, names));
        let reader = bearer(Scope::Read, &[]);
        let publisher = bearer(Scope::Publish, &["tool*"]);
        let admin = bearer(Scope::Admin, &[]);
        let access = Access::by_tokens(tokens);
        let served = folder.serve(Setup { access, limits, writes: true, ..Setup::default() });
        Self { _folder: folder, served, reader, publisher, admin }
    }

    fn ask(&self, method: &str, path: &str, token: &str, body: &[u8]) -> Answer {
        ask(self.served.address, method, path, &[("authorization", token)], body)
    }

    fn upload(&self, body: &[u8]) -> Answer {
        self.ask("POST", "/v1/upload", &self.publisher, body)
    }

    fn put(&self, path: &str, token: &str, body: &RefAnswer) -> Answer {
        self.ask("PUT", path, token, &serde_json::to_vec(body).unwrap())
    }
}

/// All of an artifact as an upload, in two halves.
fn frames(store: &Store, artifact: &ArtifactId) -> [Vec<u8>; 2] {
    let objects = store.lacking_objects(None, artifact, &()).unwrap().chunks;
    let chunks = store.lacking_chunks(None, artifact, &()).unwrap().chunks;
    [objects, chunks].map(|list| {
        let ids: Vec<ChunkId> = list.iter().map(|chunk| chunk.id).collect();
        let (mut stream, mut end) = (Vec::new(), cairn_net::wire::End::default());
        for piece in store.sending(ids) {
            let Piece::Frame(kind, bytes) = piece.unwrap() else { panic!("all of it is there") };
            (end.frames, end.bytes) = (end.frames + 1, end.bytes + bytes.len() as u64);
            let item = if kind == PackKind::Metadata { Item::Metadata(bytes) } else { Item::Data(bytes) };
            item.encode(&mut stream);
        }
        Item::End(end).encode(&mut stream);
        stream
    })
}

/// What another store says of a ref.
fn stated(folder: &Folder, name: &str, version: &str) -> RefAnswer {
    let served = folder.serve(Setup { writes: true, ..Setup::default() });
    let path = format!("/v1/refs/{name}/{version}?platform=linux/x86_64");
    let answer = get(served.address, &path);
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn what_was_uploaded_or_said_to_be_here_outlives_a_collection_until_it_is_named() {
    let (other, published) = (Folder::new(), Published::new(PeerLimits::default()));
    let artifact = other.add("tool", "1.0", 1, 3_000_000);
    let [objects, chunks] = frames(&other.store(), &artifact);
    for body in [&objects, &chunks] {
        assert_eq!(published.upload(body).status, 200);
    }
    let writer = published.served.api.writer().unwrap();
    // Sealed, and so of those that a collection looks at.
    writer.intake().flush().unwrap();
    let packs = writer.packs().unwrap().len();
    let options = cairn_store::CollectOptions::default();
    let plan = writer.plan_collection(&options, &()).unwrap();
    let collected = writer.collect(&plan, &options, &()).unwrap();
    assert!(collected.dropped.is_empty() && !collected.kept_back.is_empty(), "{collected:?}");
    assert_eq!(writer.packs().unwrap().len(), packs);
    let given = stated(&other, "tool", "1.0");
    let path = "/v1/refs/tool/1.0?platform=linux/x86_64";
    let put = published.put(path, &published.publisher, &given);
    assert_eq!(put.status, 201, "{}", put.text());
}

#[test]
fn a_ref_is_put_when_all_of_it_is_there() {
    let (other, published) = (Folder::new(), Published::new(PeerLimits::default()));
    let artifact = other.add("tool", "1.0", 1, 3_000_000);
    let [objects, chunks] = frames(&other.store(), &artifact);
    let given = stated(&other, "tool", "1.0");
    let path = "/v1/refs/tool/1.0?platform=linux/x86_64";
    let missing = |answer: &Answer| -> Vec<String> {
        assert_eq!((answer.status, answer.kind().as_str()), (422, "incomplete"), "{}", answer.text());
        let body: ErrorBody = serde_json::from_slice(&answer.body).unwrap();
        body.error.missing.iter().map(|id| id.0.to_string()).collect()
    };
    assert_eq!(missing(&published.put(path, &published.publisher, &given)), [artifact.to_string()]);
    let kept = published.upload(&objects);
    assert_eq!(kept.status, 200, "{}", kept.text());
    let lacks = missing(&published.put(path, &published.publisher, &given));
    assert!(lacks.len() > 10 && !lacks.contains(&artifact.to_string()));
    let absent =
        get_with(published.served.address, "/v1/refs/tool", &[("authorization", &published.publisher)]);
    assert_eq!(absent.status, 404);
    let kept: KeptAnswer = serde_json::from_slice(&published.upload(&chunks).body).unwrap();
    assert!(kept.kept > 10 && kept.plain_bytes > 3_000_000);
    let again: KeptAnswer = serde_json::from_slice(&published.upload(&chunks).body).unwrap();
    assert_eq!(again, KeptAnswer::default());
    let put = published.put(path, &published.publisher, &given);
    assert_eq!(put.status, 201, "{}", put.text());
    assert_eq!(published.put(path, &published.publisher, &given).status, 200);
    // It is passed on as it came.
    let passed = published.ask("GET", path, &published.reader, b"");
    assert_eq!(serde_json::from_slice::<RefAnswer>(&passed.body).unwrap(), given);
    let out = other.scratch.join("out");
    stores::restore(published.served.api.store(), &artifact, &out);
    assert_eq!(
        std::fs::read(out.join("large")).unwrap(),
        std::fs::read(other.scratch.join("tool-1.0/large")).unwrap()
    );
}

#[test]
fn who_may_publish_what() {
    let (other, published) = (Folder::new(), Published::new(PeerLimits::default()));
    let first = other.add("tool", "1.0", 1, 1000);
    let given = stated(&other, "tool", "1.0");
    for part in frames(&other.store(), &first) {
        assert_eq!(published.upload(&part).status, 200);
    }
    let path = "/v1/refs/tool/1.0";
    for (token, status) in [(&published.reader, 403), (&"Bearer cairn_x".to_owned(), 401)] {
        let refused = published.put(path, token, &given);
        assert_eq!((refused.status, refused.kind().as_str()), (status, "refused"));
        assert_eq!(published.ask("POST", "/v1/upload", token, b"").status, status);
    }
    assert_eq!(published.put("/v1/refs/other/1.0", &published.publisher, &given).status, 403);
    for (path, token) in [
        ("/v1/refs/tool/1.1", &published.publisher),
        ("/v1/refs/tool2/1.0", &published.publisher),
        ("/v1/refs/tool/1.0?platform=linux/aarch64", &published.publisher),
        ("/v1/refs/tool/1.0?replace=2", &published.publisher),
    ] {
        assert_eq!(published.put(path, token, &given).status, 400, "{path}");
    }
    assert_eq!(published.put(path, &published.publisher, &given).status, 201);
    // The same version with other content, by another store.
    let third = Folder::new();
    let second = third.add("tool", "1.0", 2, 1000);
    let changed = stated(&third, "tool", "1.0");
    for part in frames(&third.store(), &second) {
        assert_eq!(published.upload(&part).status, 200);
    }
    let conflict = published.put(path, &published.publisher, &changed);
    assert_eq!((conflict.status, conflict.kind().as_str()), (409, "conflict"));
    assert_eq!(published.put("/v1/refs/tool/1.0?replace=1", &published.publisher, &changed).status, 403);
    assert_eq!(published.put("/v1/refs/tool/1.0?replace=1", &published.admin, &changed).status, 201);
    // The log says whose word it was.
    let log: Vec<_> = published.served.api.store().log().unwrap().map(Result::unwrap).collect();
    assert!(log.iter().any(|record| record.who.starts_with("token ")), "{log:?}");
}

#[test]
fn a_server_that_only_reads_says_so() {
    let folder = Folder::new();
    let tokens = folder.tokens();
    let admin = format!("Bearer {}", token(&tokens, Scope::Admin, &[]));
    let served = folder.serve(Setup { access: Access::by_tokens(tokens), ..Setup::default() });
    for (method, path) in [("PUT", "/v1/refs/tool/1.0"), ("POST", "/v1/upload")] {
        let refused = ask(served.address, method, path, &[("authorization", &admin)], b"");
        assert_eq!((refused.status, refused.kind().as_str()), (405, "refused"));
        assert_eq!(refused.header("allow"), "GET, HEAD");
    }
    // And one without tokens lets nobody publish.
    let folder = Folder::new();
    let served = folder.serve(Setup { writes: true, ..Setup::default() });
    assert_eq!(ask(served.address, "POST", "/v1/upload", &[], b"").status, 401);
}

#[test]
fn nothing_is_kept_of_what_does_not_verify() {
    let (other, published) = (Folder::new(), Published::new(PeerLimits::default()));
    let artifact = other.add("tool", "1.0", 1, 1_000_000);
    let [_, good] = frames(&other.store(), &artifact);
    let mut wrong_payload = good.clone();
    wrong_payload[200_000] ^= 1;
    let mut wrong_id = good.clone();
    wrong_id[5 + 24] ^= 1;
    let garbage = harness::bytes::noise(3, 100_000);
    let mut no_frame = Vec::new();
    Item::Data(garbage.clone()).encode(&mut no_frame);
    for (what, body) in [
        ("a flipped bit", &wrong_payload[..]),
        ("another id", &wrong_id),
        ("no end", &good[..good.len() - 21]),
        ("half a frame", &good[..good.len() / 2]),
        ("bytes behind the end", &[&good[..], b"x"].concat()),
        ("no stream", &garbage),
        ("no frame", &no_frame),
        ("nothing", b""),
        ("absent chunks", &Item::Absent(vec![ChunkId([1; 32])]).to_bytes()),
        ("a failure", &Item::Failure("no".to_owned()).to_bytes()),
    ] {
        let answer = published.upload(body);
        assert_eq!((answer.status, answer.kind().as_str()), (400, "usage"), "{what}: {}", answer.text());
    }
    stores::assert_sound(published.served.api.store());
    assert_eq!(published.upload(&good).status, 200);
}

#[test]
fn uploads_are_bounded() {
    let (other, published) =
        (Folder::new(), Published::new(PeerLimits { upload_bytes_max: 100_000, ..PeerLimits::default() }));
    let artifact = other.add("tool", "1.0", 1, 1_000_000);
    let [objects, chunks] = frames(&other.store(), &artifact);
    assert_eq!(published.upload(&objects).status, 200);
    assert_eq!(published.upload(&chunks).status, 413);
    let published = Published::new(PeerLimits { uploads: 0, ..PeerLimits::default() });
    let refused = published.upload(&objects);
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
}
