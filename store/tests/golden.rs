//! Ids that are the same on every machine, on every run and in every version of this code. A failure here means that
//! the format changed: old stores would no longer share anything with new ones.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use cairn_store::artifact::{Chunking, RootMeta};
use cairn_store::tree::SYMLINK_MODE;
use cairn_store::{
    Artifact, ArtifactId, ArtifactKind, ChannelKey, ChunkId, ChunkRef, Content, ContentBuilder, ContentId,
    Entry, FullMeta, MemoryObjects, MetadataPolicy, Node, Origin, RefKey, RefStatement, Subject, TreeBuilder,
    TreeId,
};

fn chunk(n: u64) -> ChunkRef {
    let len = 4096 + u32::try_from(n * 7919 % 61_441).unwrap();
    ChunkRef { id: ChunkId::of(&n.to_le_bytes()), len }
}

/// A list with a hole at every hundredth place.
fn content(count: u64, objects: &mut MemoryObjects) -> Node {
    let mut builder = ContentBuilder::new();
    for n in 0..count {
        let chunk = if n % 100 == 99 { ChunkRef::hole(65_536) } else { chunk(n) };
        builder.push(chunk, objects).unwrap();
    }
    let size = builder.bytes();
    Node::File { size, content: builder.finish(objects).unwrap() }
}

fn entry(name: impl AsRef<[u8]>, mode: u16, node: Node) -> Entry {
    Entry { name: name.as_ref().to_vec(), node, mode, full: None }
}

fn tree(entries: &[Entry], objects: &mut MemoryObjects) -> TreeId {
    let mut builder = TreeBuilder::new();
    for entry in entries {
        builder.push(entry, objects).unwrap();
    }
    builder.finish(objects).unwrap()
}

/// Every kind of entry and every form of content, under the portable policy.
fn portable(objects: &mut MemoryObjects) -> TreeId {
    let bin = tree(&[entry("tool", 0o755, content(9, objects))], objects);
    let inline =
        |bytes: &[u8]| Node::File { size: bytes.len() as u64, content: Content::Inline(bytes.to_vec()) };
    tree(
        &[
            entry("README", 0o644, inline(b"read me\n")),
            entry("bin", 0o755, Node::Dir { tree: bin }),
            entry("empty", 0o600, inline(b"")),
            entry("long", 0o644, content(5_000, objects)),
            entry([0xff, 0xfe], 0o644, content(32, objects)),
        ],
        objects,
    )
}

/// The rest, under the full policy.
fn full(objects: &mut MemoryObjects) -> TreeId {
    let meta = |link| FullMeta {
        uid: 1000,
        gid: 4_000_000_000,
        mtime_s: -1,
        mtime_ns: 999_999_999,
        link,
        xattrs: BTreeMap::from([
            (b"security.capability".to_vec(), vec![1, 0, 0, 2]),
            (b"user.note".to_vec(), Vec::new()),
        ]),
    };
    let node = |name: &str, mode, link, node| Entry { full: Some(meta(link)), ..entry(name, mode, node) };
    tree(
        &[
            node("block", 0o660, 0, Node::Block { major: 8, minor: 1 }),
            node("char", 0o666, 0, Node::Char { major: 1, minor: 1_048_575 }),
            node("fifo", 0o600, 0, Node::Fifo),
            node("hard-a", 0o4755, 1, content(1, objects)),
            node("hard-b", 0o4755, 1, content(1, objects)),
            node("link", SYMLINK_MODE, 0, Node::Symlink { target: b"../gone".to_vec() }),
        ],
        objects,
    )
}

fn artifact(kind: ArtifactKind, policy: MetadataPolicy, root: TreeId) -> Artifact {
    let full = (policy == MetadataPolicy::Full).then(FullMeta::default);
    Artifact {
        kind,
        name: "golden".parse().unwrap(),
        version: "1.0.0-rc.1".parse().unwrap(),
        platform: "linux/x86_64".parse().unwrap(),
        policy,
        chunking: Chunking { min: 4096, avg: 16_384, max: 65_536, paged: true },
        root,
        root_meta: RootMeta { mode: 0o755, full },
        entries: 6,
        files: 5,
        bytes: 1 << 40,
        chunks: 5_041,
        provenance: BTreeMap::from([("url".to_owned(), "https://example.org/golden".to_owned())]),
    }
}

fn check(what: &str, id: impl ToString, golden: &str) {
    assert_eq!(id.to_string(), golden, "{what}");
}

#[test]
fn trees_have_the_ids_they_always_had() {
    let objects = &mut MemoryObjects::new();
    check("no entries", tree(&[], objects), EMPTY_TREE);
    check("portable", portable(objects), PORTABLE_TREE);
    check("full", full(objects), FULL_TREE);
    let many: Vec<Entry> =
        (0..100_000).map(|n| entry(format!("{n:06}"), 0o644, content(n % 3, objects))).collect();
    check("100,000 entries", tree(&many, objects), LARGE_TREE);
    // Entries of 1,152 bytes of chunk list: the length of nodes ends them before a name does.
    let wide: Vec<Entry> =
        (0..2_000).map(|n| entry(format!("{n:06}"), 0o644, content(32, objects))).collect();
    check("2,000 wide entries", tree(&wide, objects), WIDE_TREE);
}

#[test]
fn long_contents_have_the_ids_they_always_had() {
    let objects = &mut MemoryObjects::new();
    let mut root = |count| match content(count, objects) {
        Node::File { content: Content::Long { root, .. }, .. } => root,
        other => panic!("not long: {other:?}"),
    };
    check("33 chunks", root(33), CONTENT_33);
    check("200,000 chunks", root(200_000), CONTENT_200_000);
    // A chunk that never ends a node, so that their greatest length does.
    let mut builder = ContentBuilder::new();
    for _ in 0..10_000 {
        builder.push(ChunkRef { id: ChunkId([7; 32]), len: 65_536 }, objects).unwrap();
    }
    let Content::Long { root, .. } = builder.finish(objects).unwrap() else {
        panic!("10,000 chunks are long")
    };
    check("one chunk repeated", root, CONTENT_REPEATED);
    let _: ContentId = root;
}

#[test]
fn artifacts_have_the_ids_they_always_had() {
    let objects = &mut MemoryObjects::new();
    let package = artifact(ArtifactKind::Package, MetadataPolicy::Portable, portable(objects));
    check("package", package.put(objects).unwrap(), PACKAGE);
    let snapshot = artifact(ArtifactKind::Snapshot, MetadataPolicy::Full, full(objects));
    check("snapshot", snapshot.put(objects).unwrap(), SNAPSHOT);
}

#[test]
fn statements_have_the_bytes_they_always_had() {
    let key = RefKey {
        name: "golden".parse().unwrap(),
        version: "1.0.0-rc.1".parse().unwrap(),
        platform: "linux/x86_64".parse().unwrap(),
    };
    let channel = ChannelKey {
        name: key.name.clone(),
        channel: "stable".parse().unwrap(),
        platform: key.platform.clone(),
    };
    let (version, artifact) = (key.version.clone(), ArtifactId([0xcd; 32]));
    let of =
        |subject| RefStatement { origin: Origin([0xab; 16]), seq: 300, time_ms: 1_700_000_000_000, subject };
    let of_ref = of(Subject::Ref { key, artifact });
    let of_channel = of(Subject::Channel { key: channel, version, artifact });
    for (statement, golden) in [(of_ref, REF_STATEMENT), (of_channel, CHANNEL_STATEMENT)] {
        let hex: String = statement.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden);
        assert_eq!(RefStatement::decode(&statement.encode()).unwrap(), statement);
    }
}

const REF_STATEMENT: &str = concat!(
    "4352454601abababababababababababababababab",
    "ac0280d095ffbc31",
    "00",
    "06676f6c64656e",
    "0a312e302e302d72632e31",
    "0c6c696e75782f7838365f3634",
    "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
);
const CHANNEL_STATEMENT: &str = concat!(
    "4352454601abababababababababababababababab",
    "ac0280d095ffbc31",
    "01",
    "06676f6c64656e",
    "06737461626c65",
    "0c6c696e75782f7838365f3634",
    "0a312e302e302d72632e31",
    "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
);
const EMPTY_TREE: &str = "b1a8ab23e6a9fd8e2233839c380e4710af4481a20f75af95d75adfda7b779e62";
const PORTABLE_TREE: &str = "6cf991617a41d5a737e44043f56aff36b5de0aba54c5e001b2bef170546fec8a";
const FULL_TREE: &str = "1acbe00202f103bf8551840a3e498be9787ba36486bb833d0f611df10eab0da2";
const LARGE_TREE: &str = "c311e095af777e4375de6d872d8b2b6ec45de5dbc9cf5b91cf1f4469e19fd4a6";
const WIDE_TREE: &str = "04f156432323bc77b9e9204d1b60c6e208ae0db7ed0721b368194f87ff053a90";
const CONTENT_33: &str = "e519cc34b6719137917e1b0fd70d17fe54d33bb8e5bb3c0003271c4a68a4e06a";
const CONTENT_200_000: &str = "dd4b027634ab5eecea2e03b9d7e2d7aeab1dd035e371409afa829eb08ec54aa7";
const CONTENT_REPEATED: &str = "29a276d46c46b3341e9629f96dd34a76e800bbed9046ee95b523ef4b899cfef7";
const PACKAGE: &str = "2a850f50f09a1bebae2e29fce14500ac6981edd1a06690cbe6066201853f09a1";
const SNAPSHOT: &str = "3cb4c031476040cdeeacfd92c34cf927a3ab1ba96a093f318312fa4a331dda38";
