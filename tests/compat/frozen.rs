//! Stores that earlier versions wrote, kept as they were: whatever comes later reads them, all of them, and goes on
//! writing them. `frozen/README.md` says how the next one is made.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_store::archive::{ArchiveReader, ImportOptions};
use cairn_store::catalogue::Catalogue;
use cairn_store::chunker::CdcBounds;
use cairn_store::index::Index;
use cairn_store::io::{Io, Os};
use cairn_store::tree::walk;
use cairn_store::{
    ArtifactId, Entry, FullMeta, IngestOptions, Journal, MetadataPolicy, Node, PublishOptions, PulledOptions,
    RestoreOptions, Store, UseOptions, View, Writer,
};
use cairn_trust::Signature;
use harness::bytes::noise;
use harness::neighbour::{copy_data, copy_metadata, statements};
use harness::plan::{date, label};
use harness::scratch::Scratch;
use harness::stores::{add, assert_sound, at, options, read_file, writer};
use harness::user::skip;
use serde_json::{Map, Value, json};

/// Entries of a directory that a manifest names one by one, at most.
const NAMED_MAX: usize = 40;
/// What each frozen store may come to, in bytes.
const BYTES_MAX: u64 = 100 << 10;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/frozen")
}

/// The frozen stores, by their names.
fn frozen() -> Vec<PathBuf> {
    let names = Scratch::names(&folder()).into_iter().map(|name| folder().join(name));
    let stores: Vec<_> = names.filter(|path| path.is_dir()).collect();
    assert!(!stores.is_empty());
    stores
}

/// Copies a frozen store to where it may be written.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in Scratch::names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

fn manifest(frozen: &Path) -> Value {
    serde_json::from_slice(&fs::read(frozen.join("manifest.json")).unwrap()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All that a store says: names, statements, profiles, and of each artifact every entry with its bytes.
fn describe(store: &Store) -> Value {
    let view = store.view().unwrap();
    let texts = |texts: Vec<String>| Value::from(texts);
    let refs = view.refs.iter().map(|(key, record)| {
        let stated = view.statement_of(key).map(|envelope| envelope.to_json());
        let counts = [
            record.files,
            record.bytes,
            record.chunks,
            record.new_bytes,
            record.stored_bytes,
            record.time_ms,
        ];
        (
            key.to_string(),
            json!({"artifact": record.artifact.to_string(), "counts": counts, "stated": stated}),
        )
    });
    let channels = view.channels.iter().map(|(key, version)| {
        let stated = view.channel_statement_of(key).map(|envelope| envelope.to_json());
        (key.to_string(), json!({"version": version.to_string(), "stated": stated}))
    });
    let artifacts = view.artifacts().into_iter().map(|id| {
        let is_partial = view.partial.contains(&id);
        (id.to_string(), describe_artifact(store, &id, is_partial))
    });
    let log: Vec<String> = store
        .log()
        .unwrap()
        .map(|record| record.unwrap())
        .map(|it| format!("{} {}", it.seq, it.who))
        .collect();
    json!({
        "seq": view.seq,
        "origin": view.origin.map(|(origin, change)| json!([origin.to_string(), change])),
        "log": log,
        "refs": Map::from_iter(refs),
        "channels": Map::from_iter(channels),
        "partial": texts(view.partial.iter().map(ToString::to_string).collect()),
        "witnessed": texts(view.witnessed.iter().map(|word| word.envelope.to_json()).collect()),
        "profiles": describe_profiles(&view),
        "artifacts": Map::from_iter(artifacts),
    })
}

fn describe_profiles(view: &View) -> Value {
    let profiles = view.profiles.iter().map(|(name, profile)| {
        let generations = profile.generations.iter().map(|(number, generation)| {
            let packages = generation.packages.iter().map(|(name, package)| {
                let commands: Vec<String> = package
                    .commands
                    .iter()
                    .map(|(name, path)| format!("{} {}", name.escape_ascii(), path.escape_ascii()))
                    .collect();
                let of = [package.version.to_string(), package.platform.to_string(), package.artifact.to_string()];
                (name.to_string(), json!({"of": of, "commands": commands}))
            });
            let preferred: Vec<String> = generation.preferred.iter().map(ToString::to_string).collect();
            let packages = Map::from_iter(packages);
            (number.to_string(), json!({"parent": generation.parent, "time_ms": generation.time_ms, "preferred": preferred, "packages": packages}))
        });
        let pins: Vec<u64> = profile.pins.iter().copied().collect();
        let generations = Map::from_iter(generations);
        (name.to_string(), json!({"current": profile.current, "last": profile.last, "pins": pins, "generations": generations}))
    });
    Value::Object(Map::from_iter(profiles))
}

fn describe_artifact(store: &Store, id: &ArtifactId, is_partial: bool) -> Value {
    let artifact = store.artifact(id).unwrap();
    // By their directories.
    let mut entries: BTreeMap<Vec<u8>, Vec<(String, String)>> = BTreeMap::new();
    for entry in walk(&artifact.root, store) {
        let (path, entry) = entry.unwrap();
        let bytes = match &entry.node {
            Node::File { .. } if is_partial => None,
            Node::File { .. } => Some(blake3::hash(&read_file(store, id, &path).unwrap()).to_string()),
            _ => None,
        };
        let above = path.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |at| &path[..at]);
        let described = (path.escape_ascii().to_string(), describe_entry(&entry, bytes));
        entries.entry(above.to_vec()).or_default().push(described);
    }
    let entries = entries.into_iter().flat_map(|(above, entries)| {
        if entries.len() <= NAMED_MAX {
            return entries;
        }
        let all = entries.iter().map(|(path, what)| format!("{path} {what}\n")).collect::<String>();
        let what = format!("{} entries {}", entries.len(), blake3::hash(all.as_bytes()));
        vec![(format!("{}/*", above.escape_ascii()), what)]
    });
    let entries = Map::from_iter(entries.map(|(path, what)| (path, Value::from(what))));
    let root_full = artifact.root_meta.full.as_ref().map(describe_full);
    json!({
        "what": format!("{:?} {}@{} for {}", artifact.kind, artifact.name, artifact.version, artifact.platform),
        "policy": format!("{:?}", artifact.policy),
        "root": [json!(artifact.root.to_string()), json!(artifact.root_meta.mode), json!(root_full)],
        "counts": [artifact.entries, artifact.files, artifact.bytes, artifact.chunks],
        "provenance": artifact.provenance,
        "entries": entries,
    })
}

fn describe_entry(entry: &Entry, bytes: Option<String>) -> String {
    let what = match &entry.node {
        Node::File { size, .. } => format!("file {size} {}", bytes.as_deref().unwrap_or("not here")),
        Node::Dir { tree } => format!("directory {tree}"),
        Node::Symlink { target } => format!("link {}", target.escape_ascii()),
        Node::Fifo => "pipe".to_owned(),
        Node::Char { major, minor } => format!("character device {major} {minor}"),
        Node::Block { major, minor } => format!("block device {major} {minor}"),
    };
    let full = entry.full.as_ref().map(describe_full).unwrap_or_default();
    format!("{what} {:o}{full}", entry.mode)
}

fn describe_full(full: &FullMeta) -> String {
    let FullMeta { uid, gid, mtime_s, mtime_ns, link, xattrs } = full;
    let xattrs: String =
        xattrs.iter().map(|(name, value)| format!(" {}={}", name.escape_ascii(), hex(value))).collect();
    format!(" {uid}:{gid} {mtime_s}.{mtime_ns:09} {link}{xattrs}")
}

fn assert_same(found: &Value, kept: &Value, what: &str) {
    let (Value::Object(found_of), Value::Object(kept_of)) = (found, kept) else {
        assert_eq!(found, kept, "{what}");
        return;
    };
    let keys = |of: &Map<String, Value>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(found_of), keys(kept_of), "{what}");
    for (key, kept) in kept_of {
        assert_same(&found_of[key], kept, &format!("{what}, {key}"));
    }
}

#[test]
fn a_frozen_store_is_small() {
    for frozen in frozen() {
        let files = harness::plan::all_below(&frozen);
        let bytes: u64 = files
            .iter()
            .map(|path| path.symlink_metadata().unwrap())
            .filter(fs::Metadata::is_file)
            .map(|it| it.len())
            .sum();
        assert!(bytes <= BYTES_MAX, "{}: {bytes}", frozen.display());
    }
}

#[test]
fn a_frozen_store_is_read_in_full() {
    for frozen in frozen() {
        let (scratch, kept) = (Scratch::new(), manifest(&frozen));
        let path = scratch.join("store");
        copy(&frozen.join("store"), &path);
        let store = Store::open(&path).unwrap();
        assert_same(&describe(&store), &kept, &frozen.display().to_string());
        let report = store.verify(&Default::default(), &()).unwrap();
        assert!(report.is_clean(), "{:?} {:?}", report.damage, report.affected);
        assert_eq!(report.partial.len(), 1);
        // Its index serves, and what it would be without one is the same.
        assert!(store.index_summary().unwrap().runs > 0);
        fs::remove_dir_all(path.join("index")).unwrap();
        assert_same(&describe(&Store::open(&path).unwrap()), &kept, "without an index");
        assert_eq!(Scratch::names(&path.join("quarantine")).len(), 1);
    }
}

#[test]
fn a_frozen_store_goes_on() {
    for frozen in frozen() {
        let (scratch, kept) = (Scratch::new(), manifest(&frozen));
        let path = scratch.join("store");
        copy(&frozen.join("store"), &path);
        let to = writer(&path);
        assert_same(&describe(to.store()), &kept, "opened to be written");
        let view = to.names();
        for artifact in view.artifacts().into_iter().filter(|id| !view.partial.contains(id)) {
            let dest = scratch.join(artifact.to_string());
            let restored =
                to.restore(&artifact, &dest, &RestoreOptions { no_sync: true, ..Default::default() }, &());
            match restored {
                Ok(_) => fs::remove_dir_all(dest).unwrap(),
                // Owners are for root to set.
                Err(error) if !rustix::process::geteuid().is_root() => skip("a restore", &error.to_string()),
                Err(error) => panic!("{error}"),
            }
        }
        // All that a store is asked to do once it is in use.
        let added = add(&to, &scratch.file("new", &noise(1, 70_000)), &options("new", "1"));
        to.tag(&added.key, &"stable".parse().unwrap()).unwrap();
        let (profile, platform) = (Default::default(), Some("linux/x86_64".parse().unwrap()));
        let set = vec![(added.key.clone(), added.artifact)];
        to.use_packages(&UseOptions { set, platform, ..UseOptions::default() }).unwrap();
        to.rollback(&profile, None).unwrap();
        drop(to);
        let mut journal = Journal::open_write(Arc::new(Os), &path.join("journal")).unwrap();
        let mut catalogue = Catalogue::open(&path.join("catalogue"), &journal).unwrap();
        for (key, record) in &view.refs {
            assert_eq!(catalogue.get(&journal, key).unwrap().as_ref(), Some(record));
        }
        drop(catalogue);
        let mut rolled = journal.rolling_at(1);
        let record = view.refs.values().next().unwrap().clone();
        let key = cairn_store::RefKey { version: "0".parse().unwrap(), ..added.key.clone() };
        rolled.append(vec![cairn_store::Op::SetRef { key, old: None, record }], "w", 1).unwrap();
        journal = rolled;
        assert!(
            Scratch::names(&path.join("journal")).len() > 1,
            "a checkpoint of all that it says was written"
        );
        drop(journal);
        let again = describe(&Store::open(&path).unwrap());
        for (name, artifact) in kept["artifacts"].as_object().unwrap() {
            assert_same(&again["artifacts"][name], artifact, name);
        }
        assert_same(&again["witnessed"], &kept["witnessed"], "witnessed");
    }
}

#[test]
fn a_frozen_archive_is_imported() {
    for frozen in frozen() {
        let (scratch, kept) = (Scratch::new(), manifest(&frozen));
        let to = writer(&scratch.join("store"));
        let path = frozen.join("archive.cairn");
        let mut file = fs::File::open(&path).unwrap();
        let reader = ArchiveReader::open(&mut file, &path).unwrap();
        let imported = to.import_archive(reader, &ImportOptions::default(), &()).unwrap();
        assert!(!imported.artifacts.is_empty());
        assert_sound(&to);
        for about in &imported.artifacts {
            let id = about.artifact.to_string();
            assert_same(&describe_artifact(to.store(), &about.artifact, false), &kept["artifacts"][&id], &id);
            let stated = to.names().statement_of(&about.key).unwrap().to_json();
            assert_eq!(Value::from(stated), kept["refs"][about.key.to_string()]["stated"]);
        }
    }
}

#[test]
fn a_frozen_store_is_read_from_the_documentation() {
    if !super::can_run() {
        return;
    }
    for frozen in frozen() {
        let (scratch, kept) = (Scratch::new(), manifest(&frozen));
        for (from, spec) in [(frozen.join("store"), "app@stable"), (frozen.join("archive.cairn"), "app@2.0")]
        {
            let output = super::read(&from, spec, &scratch.join("read"));
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
            let entries = kept["artifacts"][&id]["entries"].as_object().unwrap();
            let mut compared = 0;
            for (path, entry) in entries {
                let Some(rest) = entry.as_str().unwrap().strip_prefix("file ") else { continue };
                let bytes = fs::read(scratch.join("read").join(path)).unwrap();
                assert!(
                    rest.starts_with(&format!("{} {} ", bytes.len(), blake3::hash(&bytes))),
                    "{path}: {rest}"
                );
                compared += 1;
            }
            assert!(compared > 8, "{compared}");
            fs::remove_dir_all(scratch.join("read")).unwrap();
        }
    }
}

/// Makes a store with everything in it that a store can hold, and what is to be read from it, in the folder that
/// `CAIRN_FREEZE` names: see `frozen/README.md`.
#[test]
#[ignore = "it makes the next frozen store, when there is a new format"]
fn freeze() {
    let to = PathBuf::from(std::env::var_os("CAIRN_FREEZE").expect("CAIRN_FREEZE names the folder to make"));
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let here = writer(&path);
    make_names(&scratch, &here);
    drop(here);
    let io: Arc<dyn Io> = Arc::new(Os);
    Index::open(&io, &path).unwrap().persist(&*io, &path, true).unwrap();
    fs::create_dir_all(path.join("quarantine")).unwrap();
    fs::write(
        path.join("quarantine").join(format!("{}.pack", ArtifactId::of(b"damaged"))),
        b"CPK1 and damage",
    )
    .unwrap();
    fs::create_dir_all(to.join("store")).unwrap();
    for name in ["cairn-store", "journal", "packs", "index", "quarantine"] {
        let (from, to) = (path.join(name), to.join("store").join(name));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
    let store = Store::open(&to.join("store")).unwrap();
    let specs = ["app@2.0", "full@1"].map(|spec| spec.parse().unwrap()).to_vec();
    let platform = Some("linux/x86_64".parse().unwrap());
    let request = cairn_store::ArchiveRequest { specs, platform, ..Default::default() };
    let plan = store.plan_archive(&request, &()).unwrap();
    let archive = to.join("archive.cairn");
    store.write_archive(&plan, &mut fs::File::create(&archive).unwrap(), &archive, &()).unwrap();
    let text = serde_json::to_string_pretty(&describe(&store)).unwrap();
    fs::write(to.join("manifest.json"), text + "\n").unwrap();
}

fn small_chunks(name: &str, version: &str) -> IngestOptions {
    let provenance = BTreeMap::from([("built-by".to_owned(), "a test".to_owned())]);
    IngestOptions { bounds: CdcBounds { min: 64, avg: 256, max: 1024 }, provenance, ..options(name, version) }
}

/// A tree with every form that a file's bytes have, and small and large directories.
fn portable(root: &Path) {
    for dir in ["bin", "deep/er", "empty", "many"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    let write = |name: &str, bytes: &[u8]| fs::write(root.join(name), bytes).unwrap();
    write("none", b"");
    write("inline", &noise(1, 128));
    write("one-chunk", &noise(2, 129));
    write("some-chunks", &noise(3, 4000));
    write("long", &noise(4, 12_000));
    // Nodes above nodes, of few chunks.
    write("longer", &noise(5, 4000).repeat(180));
    write("deep/er/text", "all work and no play\n".repeat(900).as_bytes());
    for name in ["bin/tool", "bin/other"] {
        write(name, format!("#!/bin/sh\necho {name}\n").as_bytes());
        fs::set_permissions(root.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    for number in 0..700u32 {
        write(&format!("many/{number:03x}"), &number.to_le_bytes()[..1]);
    }
    write("many/\u{e4}", b"not ASCII");
    let mut sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.write_all(b"begins").unwrap();
    sparse.seek(SeekFrom::Start(300_000)).unwrap();
    sparse.write_all(b"ends").unwrap();
    symlink("bin/tool", root.join("link")).unwrap();
    symlink("../nowhere", root.join("dangling")).unwrap();
}

/// What the `full` policy keeps besides.
fn with_metadata(root: &Path) {
    fs::create_dir_all(root.join("dir")).unwrap();
    fs::write(root.join("dir/file"), b"linked").unwrap();
    fs::hard_link(root.join("dir/file"), root.join("another")).unwrap();
    fs::write(root.join("labelled"), noise(6, 300)).unwrap();
    label(&root.join("labelled"), "user.note", b"a value\xff");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    symlink("dir", root.join("link")).unwrap();
    fs::set_permissions(root.join("labelled"), std::os::unix::fs::PermissionsExt::from_mode(0o4711)).unwrap();
    for (number, name) in (0..).zip(["labelled", "pipe", "link", "dir/file", "dir"]) {
        date(&root.join(name), 1_700_000_000 - number * 1_999_999_999, 123_456_789);
    }
}

/// Names of every kind.
fn make_names(scratch: &Scratch, here: &Writer) {
    let tree = scratch.join("app");
    portable(&tree);
    let first = add(here, &tree, &small_chunks("app", "1.0"));
    fs::write(tree.join("one-chunk"), noise(7, 200)).unwrap();
    let ingested = here.ingest(at(&tree), &small_chunks("app", "2.0"), &()).unwrap();
    let channel = Some("stable".parse().unwrap());
    here.publish(&ingested, &PublishOptions { channel, ..PublishOptions::default() }).unwrap();
    let tree = scratch.join("full");
    with_metadata(&tree);
    let full =
        IngestOptions { policy: MetadataPolicy::Full, special_files: true, ..small_chunks("full", "1") };
    let full = add(here, &tree, &full);
    // Gone again: what it held stays.
    let gone = add(here, &scratch.file("gone", &noise(8, 500)), &options("gone", "1"));
    here.remove_ref(&gone.key, true).unwrap();
    here.origin().unwrap();
    // Pulled ones: whole with signatures, and partial.
    let there = writer(&scratch.join("there"));
    for (version, len, partial) in [("1.0", 900, false), ("1.1", 1900, true)] {
        let added = add(&there, &scratch.file(version, &noise(9, len)), &small_chunks("pulled", version));
        there.tag(&added.key, &"edge".parse().unwrap()).unwrap();
        copy_metadata(&there, here, &added.artifact);
        if !partial {
            copy_data(&there, here, &added.artifact);
        }
        let mut words = statements(&there, &added.key);
        for word in &mut words {
            word.signatures = vec![Signature { keyid: "somebody".to_owned(), sig: noise(10, 64) }];
        }
        let options =
            PulledOptions { partial, new_bytes: 900, stored_bytes: 901, ..PulledOptions::default() };
        here.publish_pulled(&added.artifact, &words, &options).unwrap();
    }
    let (profile, platform) = (Default::default(), Some("linux/x86_64".parse().unwrap()));
    let show = |set: &[&cairn_store::Ingested], remove: &[&str], prefer: &[&str]| {
        let set = set.iter().map(|ingested| (ingested.key.clone(), ingested.artifact)).collect();
        let parse = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let options = UseOptions {
            set,
            remove: parse(remove),
            prefer: parse(prefer),
            platform: platform.clone(),
            ..UseOptions::default()
        };
        here.use_packages(&options).unwrap();
    };
    show(&[&first], &[], &[]);
    here.pin(&profile, 1).unwrap();
    show(&[&ingested, &full], &[], &["app"]);
    show(&[], &["full"], &[]);
    show(&[&first], &[], &[]);
    here.prune(&here.plan_prune(&profile, 2).unwrap()).unwrap();
    here.rollback(&profile, None).unwrap();
}
