//! Writes what fuzzing begins with: a few small inputs for each target, made by the code that the targets test.
//!
//! `cargo run --release --example seeds -- corpus`, in this folder. Names are hashes of what they hold, as libFuzzer has
//! them, so that what did not change is written as it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cairn_delta::reloc::{self, Coder, Limits};
use cairn_delta::{Effort, bitcode, deflate, prefix};
use cairn_fuzz::join;
use cairn_fuzz::units::{self, Pair, executable, noise};
use cairn_net::wire::{End, EventItem, Head, Item, bitmap_to_bytes, ids_to_bytes};
use cairn_store::archive::ArchiveRequest;
use cairn_store::block::{BlockBuilder, Compressor};
use cairn_store::delta::{DeltaReader, UnitTools};
use cairn_store::io::{Io, Sim};
use cairn_store::pack::{PackKind, PackWriter};
use cairn_store::{
    ArtifactId, ChunkId, ChunkRef, Content, ContentBuilder, Entry, Event, FullMeta, IngestOptions, Input,
    MemoryObjects, Node, Origin, PublishOptions, RefStatement, StateHash, Store, StreamBounds, Streams,
    Subject, TreeBuilder, UseOptions, Writer, WriterOptions, index,
};
use cairn_trust::{Envelope, Signature};

struct Corpus(PathBuf);

impl Corpus {
    fn add(&self, target: &str, bytes: &[u8]) {
        assert!(bytes.len() <= 16 << 10, "{target}: a seed of {} bytes", bytes.len());
        let folder = self.0.join(target);
        fs::create_dir_all(&folder).expect("a folder");
        let name = blake3::hash(bytes).to_hex();
        fs::write(folder.join(&name[..16]), bytes).expect("a file");
    }
}

fn main() {
    let folder = std::env::args_os().nth(1).expect("usage: seeds FOLDER");
    let corpus = Corpus(folder.into());
    deltas(&corpus);
    told(&corpus);
    frames(&corpus);
    packs(&corpus);
    objects(&corpus);
    statements(&corpus);
    wire(&corpus);
    texts(&corpus);
    stores(&corpus);
    releases(&corpus);
}

fn deltas(corpus: &Corpus) {
    let text: Vec<u8> =
        (0..300u32).flat_map(|n| format!("line {} of {n}\n", n * n % 97).into_bytes()).collect();
    let newer = [&text[..2000], b"a line more\n", &text[2000..]].concat();
    for effort in [Effort::Fast, Effort::Max] {
        let payload = prefix::Encoder::new(effort).encode(&text, &newer);
        let len = u32::try_from(newer.len()).expect("small");
        corpus.add("prefix", &join([&text[..], &payload, &len.to_le_bytes()]));
    }
    for made in [
        &include_bytes!("../../delta/tests/deflate/made/gzip-1.gz")[..],
        include_bytes!("../../delta/tests/deflate/made/zlib-6.gz"),
        include_bytes!("../../delta/tests/deflate/made/zlib-fixed.gz"),
        include_bytes!("../../delta/tests/deflate/made/stored.gz"),
        include_bytes!("../../delta/tests/deflate/made/runs.gz"),
    ] {
        corpus.add("deflate", made);
        let unpacked = deflate::unpack(made).expect("gzip or zlib made it");
        corpus.add("deflate", &join([&unpacked.plain[..], &unpacked.recipe]));
    }
    for made in [
        &include_bytes!("../../delta/tests/bitcode/made/tool-1.bc")[..],
        include_bytes!("../../delta/tests/bitcode/made/index-1.bc"),
    ] {
        corpus.add("bitcode", made);
        corpus.add("bitcode", &bitcode::unpack(made).expect("LLVM made it"));
    }
    for (arm, fixed) in [(false, false), (false, true), (true, false)] {
        let old = executable(arm, fixed, 0);
        let new = executable(arm, fixed, 64);
        let map = reloc::map(&old, &new, Effort::Normal, &Limits::default(), &|| false)
            .expect("programs that are alike");
        let len = u32::try_from(new.len()).expect("small");
        for range in [0..u64::from(len), 1024..1300] {
            let plain = &new
                [usize::try_from(range.start).expect("small")..usize::try_from(range.end).expect("small")];
            let payload = Coder::new(&map)
                .encode(&old.as_slice(), &[range.clone()], plain, Effort::Normal)
                .expect("its own range");
            let told = [range.start, range.end - range.start]
                .map(|n| u32::try_from(n).expect("small").to_le_bytes())
                .concat();
            let map = [&map.to_bytes()[..4], &unpacked_streams(&map.to_bytes()[4..])].concat();
            for payload in [unpacked_streams(&payload), payload] {
                corpus.add("reloc", &join([&old[..], &map, &told, &payload]));
            }
        }
    }
}

/// Units of all kinds, for each pair of versions: as they are made, and with streams that no compression hides.
fn told(corpus: &Corpus) {
    let all = units::pairs();
    for (number, pair) in (0u8..).zip(&all.pairs) {
        let add = |units: &[Vec<u8>]| {
            corpus.add("unit", &[&[number][..], &join(units.iter().map(Vec::as_slice))].concat())
        };
        add(&[all.objects(pair)]);
        let add = |units: &[Vec<u8>]| {
            assert!(hold(&all.store, pair, units), "pair {number}: units that do not hold");
            add(units);
        };
        let made = all.units(pair);
        if made.iter().map(Vec::len).sum::<usize>() < 15_000 {
            add(&made);
        }
        match number {
            0 | 1 => relocated(pair).iter().for_each(|units| add(units)),
            2 => add(&[unpacked_gzip(pair)]),
            _ => {}
        }
        if pair.new.len() < 15_000 {
            add(&[unit(0, pair.gap.chunks(), &pair.new)]);
        }
    }
}

/// Whether units are all that lacks of a pair.
fn hold(store: &Store, pair: &Pair, units: &[Vec<u8>]) -> bool {
    let (mut reader, mut tools) = (DeltaReader::new(Arc::clone(&pair.gap)), UnitTools::default());
    let mut holds = |unit: &Vec<u8>| match reader.take(unit.clone()) {
        Ok(job) => job.is_none_or(|job| job.run(store, &mut tools).is_ok()),
        Err(_) => false,
    };
    units.iter().all(&mut holds) && reader.finish().is_ok()
}

/// A unit that begins with one number.
fn unit(kind: u8, number: usize, rest: &[u8]) -> Vec<u8> {
    let mut unit = vec![kind];
    put_number(&mut unit, number);
    unit.extend(rest);
    unit
}

fn relocated(pair: &Pair) -> [[Vec<u8>; 2]; 2] {
    let map = reloc::map(&pair.old, &pair.new, Effort::Normal, &Limits::default(), &|| false)
        .expect("programs that are alike");
    let whole = 0..pair.new.len() as u64;
    let payload = Coder::new(&map)
        .encode(&pair.old.as_slice(), &[whole], &pair.new, Effort::Normal)
        .expect("its own range");
    let map = map.to_bytes();
    let plain_map = [&map[..4], &unpacked_streams(&map[4..])].concat();
    let chunks = pair.gap.chunks();
    [
        [unit(3, 0, &map), unit(2, chunks, &payload)],
        [unit(3, 0, &plain_map), unit(2, chunks, &unpacked_streams(&payload))],
    ]
}

fn unpacked_gzip(pair: &Pair) -> Vec<u8> {
    let (old, new) = (
        deflate::content(&pair.old).expect("made by zlib"),
        deflate::unpack(&pair.new).expect("made by gzip"),
    );
    let content = prefix::Encoder::new(Effort::Normal).encode(&old, &new.plain);
    let lens = [&new.recipe, &new.plain]
        .map(|part| u32::try_from(part.len()).expect("small").to_le_bytes())
        .concat();
    let rest = [&[0][..], &lens, &new.recipe, &content].concat();
    unit(5, pair.gap.chunks(), &rest)
}

/// Streams with what they hold as it is, which the decoder takes too: compressed ones would stop the fuzzer.
fn unpacked_streams(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let len = number(&mut bytes);
        put_number(&mut out, len);
        if len > 0 {
            let stored = number(&mut bytes);
            let (stream, behind) = bytes.split_at(stored);
            bytes = behind;
            put_number(&mut out, len);
            match stored == len {
                true => out.extend(stream),
                false => out.extend(zstd::bulk::decompress(stream, len).expect("a stream")),
            }
        }
    }
    out
}

fn number(bytes: &mut &[u8]) -> usize {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let (byte, behind) = bytes.split_first().expect("a number");
        *bytes = behind;
        number |= usize::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            break;
        }
    }
    number
}

fn put_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn frame(chunks: &[Vec<u8>]) -> cairn_store::block::Frame {
    let mut builder = BlockBuilder::default();
    chunks.iter().for_each(|bytes| builder.push(ChunkId::of(bytes), bytes));
    builder.finish(&mut Compressor::default()).0
}

fn frames(corpus: &Corpus) {
    corpus.add("frame", &frame(&[noise(1, 40)]).bytes);
    corpus.add("frame", &frame(&[noise(1, 300), vec![7; 2000], noise(2, 1)]).bytes);
    let many: Vec<_> = (0..20u8).map(|n| vec![n; 100]).collect();
    corpus.add("frame", &frame(&many).bytes);
}

fn packs(corpus: &Corpus) {
    for (kind, chunks) in [
        (PackKind::Data, vec![noise(1, 200), vec![3; 500]]),
        (PackKind::Metadata, (0..9u8).map(|n| vec![n; 60]).collect()),
    ] {
        let (sim, dir) = (Sim::new(0), Path::new("/packs"));
        sim.create_dir_all(dir).expect("a folder");
        let mut writer = PackWriter::create(Arc::new(sim.clone()), dir, kind).expect("a pack");
        for chunks in chunks.chunks(2) {
            writer.append(&frame(chunks)).expect("a frame");
        }
        corpus.add("pack", &sim.read(writer.path()).expect("a file"));
        let id = writer.seal().expect("a sealed pack");
        corpus.add("pack", &sim.read(&dir.join(format!("{id}.pack"))).expect("a file"));
    }
}

/// Nodes by the first byte of their ids: the root is 0.
fn numbered(objects: &MemoryObjects, root: ChunkId) -> Vec<Vec<u8>> {
    let mut ids: Vec<ChunkId> = objects.iter().map(|(id, _)| *id).collect();
    ids.retain(|id| *id != root);
    ids.insert(0, root);
    let bytes: BTreeMap<ChunkId, Vec<u8>> = objects.iter().map(|(id, bytes)| (*id, bytes.to_vec())).collect();
    ids.iter()
        .map(|id| {
            let mut node = bytes[id].clone();
            for (number, named) in (0u8..).zip(&ids) {
                let places: Vec<usize> =
                    node.windows(32).enumerate().filter(|(_, w)| *w == named.0).map(|(at, _)| at).collect();
                places.into_iter().for_each(|at| node[at] = number);
            }
            node
        })
        .collect()
}

fn entry(name: &str, node: Node, mode: u16) -> Entry {
    Entry { name: name.as_bytes().to_vec(), node, mode, full: None }
}

fn objects(corpus: &Corpus) {
    let mut objects = MemoryObjects::new();
    let list: Vec<ChunkRef> =
        (0..3u32).map(|n| ChunkRef { id: ChunkId::of(&n.to_le_bytes()), len: 1000 }).collect();
    let full = FullMeta {
        uid: 1000,
        gid: 100,
        mtime_s: -5,
        mtime_ns: 7,
        link: 1,
        xattrs: [(b"user.a".to_vec(), b"b".to_vec())].into(),
    };
    let mut inner = TreeBuilder::new();
    inner
        .push(
            &entry("a", Node::File { size: 3, content: Content::Inline(b"abc".to_vec()) }, 0o644),
            &mut objects,
        )
        .expect("memory");
    let inner = inner.finish(&mut objects).expect("memory");
    let mut tree = TreeBuilder::new();
    for entry in [
        entry("chunks", Node::File { size: 3000, content: Content::Chunks(list) }, 0o755),
        entry("dir", Node::Dir { tree: inner }, 0o755),
        Entry {
            full: Some(full),
            ..entry("full", Node::File { size: 1, content: Content::Inline(vec![1]) }, 0o600)
        },
        entry("link", Node::Symlink { target: b"../there".to_vec() }, 0o777),
    ] {
        tree.push(&entry, &mut objects).expect("memory");
    }
    let tree = tree.finish(&mut objects).expect("memory");
    corpus.add("tree", &join(numbered(&objects, tree.into()).iter().map(Vec::as_slice)));

    let mut objects = MemoryObjects::new();
    let mut large = TreeBuilder::new();
    for number in 0..300u32 {
        let link = Node::Symlink { target: b"x".to_vec() };
        large.push(&entry(&format!("{number:04}"), link, 0o777), &mut objects).expect("memory");
    }
    let large = large.finish(&mut objects).expect("memory");
    corpus.add("tree", &join(numbered(&objects, large.into()).iter().map(Vec::as_slice)));

    for count in [33u32, 320] {
        let (mut objects, mut builder) = (MemoryObjects::new(), ContentBuilder::new());
        for number in 0..count {
            let chunk = if number % 7 == 6 {
                ChunkRef::hole(500)
            } else {
                ChunkRef { id: ChunkId::of(&number.to_le_bytes()), len: number + 1 }
            };
            builder.push(chunk, &mut objects).expect("memory");
        }
        let size = builder.bytes();
        let Content::Long { root, chunks } = builder.finish(&mut objects).expect("memory") else { continue };
        let head = [size.to_le_bytes(), chunks.to_le_bytes()].concat();
        let nodes = numbered(&objects, root.into());
        corpus.add("content", &[head, join(nodes.iter().map(Vec::as_slice))].concat());
    }
}

fn statements(corpus: &Corpus) {
    let key = || cairn_store::RefKey {
        name: "uv".parse().expect("a name"),
        version: "0.8.1-rc.1+b".parse().expect("a version"),
        platform: "linux/x86_64".parse().expect("a platform"),
    };
    let channel = cairn_store::ChannelKey {
        name: "uv".parse().expect("a name"),
        channel: "stable".parse().expect("a channel"),
        platform: "any/any".parse().expect("a platform"),
    };
    for subject in [
        Subject::Ref { key: key(), artifact: ArtifactId([7; 32]) },
        Subject::Channel { key: channel, version: key().version, artifact: ArtifactId([8; 32]) },
    ] {
        let statement =
            RefStatement { origin: Origin([9; 16]), seq: 300, time_ms: 1_763_700_000_000, subject };
        corpus.add("statement", &statement.encode());
        let mut envelope: Envelope = statement.to_envelope();
        corpus.add("envelope", envelope.to_json().as_bytes());
        envelope.signatures = vec![
            Signature { keyid: "one".to_owned(), sig: noise(1, 64) },
            Signature { keyid: "\u{e9}\\\"".to_owned(), sig: vec![0] },
        ];
        corpus.add("envelope", envelope.to_json().as_bytes());
    }
}

fn wire(corpus: &Corpus) {
    let ids: Vec<ChunkId> = (0..5u8).map(|n| ChunkId::of(&[n])).collect();
    corpus.add("ids", &ids_to_bytes(&ids));
    let bits = [true, false, true, true, false, false, false, true, true];
    corpus.add("ids", &[&9u16.to_le_bytes()[..], &bitmap_to_bytes(&bits)].concat());
    let bytes = frame(&[noise(1, 100)]).bytes;
    let end = End { frames: 2, bytes: 2 * bytes.len() as u64 };
    let head = Head { objects: 1, object_bytes: 100, chunks: 300, plain_bytes: 1 << 40, stored_bytes: 9 };
    let items = [
        Item::Head(head),
        Item::Metadata(bytes.clone().into()),
        Item::Absent(ids),
        Item::Data(bytes.into()),
        Item::End(end),
    ];
    let mut stream = Vec::new();
    items.iter().for_each(|item| item.encode(&mut stream));
    corpus.add("stream", &stream);
    let event = |round| Event { round, state_hash: StateHash::new(&[7; 20]).ok(), payload: noise(round, 90) };
    let items = [
        EventItem::Span { first: 3, next: 9 },
        EventItem::Event(event(4)),
        EventItem::Head(event(5).head()),
        EventItem::End { items: 2 },
    ];
    corpus.add("events", &items.iter().flat_map(EventItem::to_bytes).collect::<Vec<u8>>());
    for text in [
        r#"{"refs":[{"name":"uv","version":"1","platform":"any/any","artifact":"0000000000000000000000000000000000000000000000000000000000000000","time_ms":1}]}"#,
        r#"{"error":{"kind":"not_found","message":"no","missing":[]}}"#,
        r#"{"kept":1,"chunks":2,"plain_bytes":3}"#,
        r#"{"url":"http://a:7001","lies":0}"#,
    ] {
        corpus.add("messages", text.as_bytes());
    }
}

fn texts(corpus: &Corpus) {
    for text in [
        "uv@0.8.1\nuv@stable\nabcd1234\nuv",
        "1.0.0\n1.0.0-rc.1\n1.0.0-rc.10\n1.0\nv2\n20240101\n1.0.0+b\n1~2",
        "linux/x86_64\nany/any\nstable\n0-a_b+c.d\nA.B",
        "99999999999999999999.1\n099.1\n99.01\n1..2\n1.\n\u{e9}",
    ] {
        corpus.add("names", text.as_bytes());
    }
    let peers = br#"{"version":1,"peers":[{"url":"http://127.0.0.1:7001/","token":"x","added_ms":1,"rate":7,"failures":1,"failure":{"time_ms":1,"detail":"no"},"lies":0,"lie":null}]}"#;
    corpus.add("config", &[&[0][..], peers].concat());
    let folder = cairn_fuzz::folder();
    let file = cairn_server::TokenFile::open(&folder.join("tokens.json")).expect("a file of tokens");
    corpus.add("config", b"\x01{\"version\":1,\"tokens\":[]}");
    drop(file);
    let token = br#"{"version":1,"tokens":[{"id":"0123456789ab","scope":"publish","names":["uv-*"],"created_ms":1,"expires_ms":2,"used_ms":null,"blake3":"0000000000000000000000000000000000000000000000000000000000000000"}]}"#;
    corpus.add("config", &[&[1][..], token].concat());
    for text in [
        "https://user@host.example:8443/a/b?c",
        "http://[::1]:7001",
        "uv-*\nuv-nightly",
        "*a*b?c\nxxaxxbxc",
        "admin",
    ] {
        corpus.add("config", &[&[2][..], text.as_bytes()].concat());
    }
    fs::remove_dir_all(folder).expect("the folder that was just made");
}

/// What a small store holds: its journal, index, artifact and archive.
fn stores(corpus: &Corpus) {
    let (sim, root) = (Sim::new(0), Path::new("/store"));
    let options =
        WriterOptions { wait: Duration::ZERO, command: "seeds".to_owned(), who: "seeds@here".to_owned() };
    let writer = Writer::open_with(Arc::new(sim.clone()), root, &options).expect("a store");
    let add = |version: &str, bytes: Vec<u8>| {
        let input = Input::Reader {
            name: "tool".to_owned(),
            executable: true,
            reader: Box::new(std::io::Cursor::new(bytes)),
        };
        let platform = Some("linux/x86_64".parse().expect("a platform"));
        let provenance = BTreeMap::from([("from".to_owned(), "seeds".to_owned())]);
        let options = IngestOptions {
            platform,
            provenance,
            ..IngestOptions::package("tool".parse().expect("a name"), version.parse().expect("a version"))
        };
        let ingested = writer.ingest(input, &options, &()).expect("it can be stored");
        let channel = Some("stable".parse().expect("a channel"));
        writer
            .publish(&ingested, &PublishOptions { channel, ..PublishOptions::default() })
            .expect("it can be named");
        corpus.add("artifact", &writer.chunk(&ingested.artifact.into()).expect("it is there"));
        ingested
    };
    let first = add("1.0", noise(1, 700));
    let second = add("2.0", [noise(1, 700), noise(2, 90)].concat());
    // A journal with everything that it can say, as far as one store says it.
    let profile = Default::default();
    for ingested in [&first, &second] {
        let set = vec![(ingested.key.clone(), ingested.artifact)];
        let platform = Some("linux/x86_64".parse().expect("a platform"));
        writer.use_packages(&UseOptions { set, platform, ..UseOptions::default() }).expect("it can be shown");
    }
    writer.pin(&profile, 1).expect("it is there");
    writer.rollback(&profile, None).expect("there is an earlier one");
    writer.unpin(&profile, 1).expect("it is pinned");
    writer.origin().expect("the journal can be written");
    let foreign = RefStatement {
        origin: Origin([3; 16]),
        seq: 5,
        time_ms: 1,
        subject: Subject::Ref { key: first.key.clone(), artifact: first.artifact },
    };
    writer
        .publish_pulled(&first.artifact, &[foreign.to_envelope()], &Default::default())
        .expect("it is whole");
    let archive = |specs: &[&str], since: &[&str]| {
        let parse = |specs: &[&str]| specs.iter().map(|spec| spec.parse().expect("a spec")).collect();
        let platform = Some("linux/x86_64".parse().expect("a platform"));
        let request = ArchiveRequest { specs: parse(specs), since: parse(since), platform };
        let plan = writer.plan_archive(&request, &()).expect("it is there");
        let mut bytes = Vec::new();
        writer.write_archive(&plan, &mut bytes, Path::new("archive"), &()).expect("memory takes everything");
        bytes
    };
    corpus.add("archive", &archive(&["tool@1.0", "tool@stable"], &[]));
    corpus.add("archive", &archive(&["tool@2.0"], &["tool@1.0"]));
    writer.remove_ref(&second.key, true).expect("it is there");
    let dir = root.join("journal");
    for found in sim.list(&dir).expect("a folder") {
        corpus.add("journal", &sim.read(&dir.join(&found.name)).expect("a file"));
    }
    let streams = Streams::open(&writer, StreamBounds::default()).expect("the writer's store");
    let log = streams.make(&"chain".parse().expect("a name")).expect("there is room");
    let event = |round: u64| Event {
        round,
        state_hash: StateHash::new(&[7; 20]).ok().filter(|_| round.is_multiple_of(2)),
        payload: noise(round, 200 * usize::try_from(round).expect("it is small")),
    };
    for rounds in [3..4, 4..7, 7..9] {
        log.append(&rounds.map(event).collect::<Vec<_>>()).expect("there is room");
    }
    let dir = root.join("streams/chain");
    for found in sim.list(&dir).expect("a folder") {
        corpus.add("events", &sim.read(&dir.join(&found.name)).expect("a file"));
    }
    let io: Arc<dyn Io> = Arc::new(sim.clone());
    index::Index::open(&io, root).and_then(|index| index.persist(&*io, root, true)).expect("an index");
    for found in sim.list(&root.join("index")).expect("a folder") {
        corpus.add("index", &sim.read(&root.join("index").join(&found.name)).expect("a file"));
    }
    let key = b"tool\x001.0\0linux/x86_64";
    let record = writer.names().refs.values().next().expect("one is left").clone();
    let record = postcard::to_stdvec(&record).expect("memory takes everything");
    corpus.add("catalogue", &[&[0][..], &join([&key[..], &record])].concat());
    let mut usage = b"CUSE\x01\0\0\0".to_vec();
    usage.extend([7; 40]);
    usage.extend([1, 0, 0, 0]);
    usage.extend([9; 40]);
    corpus.add("catalogue", &[&[2][..], &usage].concat());
    corpus.add("catalogue", &[&[1][..], &stat_cache()].concat());
}

/// What an ingest of files remembers of them.
fn stat_cache() -> Vec<u8> {
    let folder = cairn_fuzz::folder();
    let (store, file) = (folder.join("store"), folder.join("file"));
    fs::write(&file, noise(1, 300)).expect("a file");
    let options = WriterOptions { wait: Duration::ZERO, command: String::new(), who: String::new() };
    let writer = Writer::open(&store, &options, &()).expect("a store");
    let package = IngestOptions::package("a".parse().expect("a name"), "1".parse().expect("a version"));
    writer.ingest(Input::Paths(vec![file]), &package, &()).expect("it can be stored");
    let kept =
        fs::read_dir(store.join("cache/stat")).expect("a folder").next().expect("a cache").expect("a name");
    let bytes = fs::read(kept.path()).expect("a file");
    drop(writer);
    fs::remove_dir_all(folder).expect("the folder that was just made");
    bytes
}

/// What real programs made: archives, keys, signatures; and checksums as several write them.
fn releases(corpus: &Corpus) {
    let archives: [(u8, &[u8]); 7] = [
        (0, include_bytes!("../../sources/tests/fixtures/archives/app.tar")),
        (5, include_bytes!("../../sources/tests/fixtures/archives/pax.tar")),
        (1, include_bytes!("../../sources/tests/fixtures/archives/app.tar.gz")),
        (2, include_bytes!("../../sources/tests/fixtures/archives/app.tar.xz")),
        (3, include_bytes!("../../sources/tests/fixtures/archives/app.tar.zst")),
        (4, include_bytes!("../../sources/tests/fixtures/archives/app.zip")),
        (4, include_bytes!("../../sources/tests/fixtures/archives/streamed.zip")),
    ];
    for (format, bytes) in archives {
        // The first folder left out; two programs, or links.
        for wanted in [1, 2] {
            corpus.add("release_archive", &[&[format + 6 + 18 * wanted], bytes].concat());
        }
    }
    let sums: &[u8] = include_bytes!("../../sources/tests/fixtures/signing/SHA256SUMS");
    let clear: &[u8] = include_bytes!("../../sources/tests/fixtures/signing/clear.asc");
    let ann: &[u8] = include_bytes!("../../sources/tests/fixtures/signing/ann.asc");
    let ben: &[u8] = include_bytes!("../../sources/tests/fixtures/signing/ben.gpg");
    let mini: &[u8] = include_bytes!("../../sources/tests/fixtures/signing/mini.pub");
    let signatures: [(&[u8], &[u8]); 5] = [
        (include_bytes!("../../sources/tests/fixtures/signing/SHA256SUMS.asc"), ann),
        (include_bytes!("../../sources/tests/fixtures/signing/SHA256SUMS.asc"), ben),
        (include_bytes!("../../sources/tests/fixtures/signing/SHA256SUMS.sig"), ben),
        (include_bytes!("../../sources/tests/fixtures/signing/SHA256SUMS.minisig"), mini),
        (clear, ann),
    ];
    for (signature, keys) in signatures {
        corpus.add("release_signature", &join([signature, keys, sums]));
    }
    corpus.add("checksums", sums);
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let bsd = format!("SHA256 (a b) = {hash}\nMD5 (a) = d41d8cd98f00b204e9800998ecf8427e\n");
    let escaped = format!("{hash} *bin/app\n\\{hash}  a\\nb\\\\c\n# a comment\n");
    for text in [hash.to_owned(), bsd, escaped, format!("SHA2-256(app)= {hash}\r\n")] {
        corpus.add("checksums", text.as_bytes());
    }
}
