//! docs/format.md is enough to read a store: a reader in another language, written from it alone, gives the same trees.

mod frozen;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cairn_store::index::Index;
use cairn_store::io::{Io, Os};
use cairn_store::{
    ArchiveRequest, ChannelKey, IngestOptions, Ingested, Journal, MetadataPolicy, Op, OptimiseOptions,
    Platform, ProfileName, PublishOptions, PulledOptions, RefKey, RefRecord, Store, UseOptions, Version,
    View, Writer,
};
use cairn_trust::Envelope;
use harness::bytes::{noise, sqlite};
use harness::compare::Snapshot;
use harness::neighbour::{copy_data, copy_metadata, statements};
use harness::plan::{Fill, Folder, Plan, make};
use harness::scratch::Scratch;
use harness::stores::{add, at, options, writer};
use harness::user::skip;

/// Whether what the reader needs is here.
fn can_run() -> bool {
    let missing = ["python3", "zstd"].into_iter().find(|program| {
        !Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
    });
    if let Some(program) = missing {
        skip("the reader in Python", &format!("there is no {program}"));
    }
    missing.is_none()
}

fn read(store: &Path, spec: &str, dest: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/cairn_reader.py");
    let arguments = [&script, store, Path::new(spec), dest, Path::new("linux/x86_64")];
    Command::new("python3").args(arguments).output().unwrap()
}

/// A store with every kind of object in it. The reader hashes slowly: there are few bytes.
struct Setting {
    scratch: Scratch,
    writer: Writer,
    source: PathBuf,
}

impl Setting {
    fn new() -> Self {
        let scratch = Scratch::new();
        let source = scratch.join("source");
        let mut many = Folder::new();
        for number in 0..700u32 {
            many.insert(format!("{number:x}").into_bytes(), Plan::Bytes(number.to_le_bytes().to_vec()));
        }
        make(
            &source,
            &Folder::from([
                (b"database".to_vec(), Plan::Bytes(sqlite(1, 40))),
                (b"empty".to_vec(), Plan::Bytes(Vec::new())),
                (b"holes".to_vec(), Plan::File(Fill::Sparse(1), 1 << 20, 0o644)),
                (b"inline".to_vec(), Plan::File(Fill::Text(1), 128, 0o600)),
                (b"link".to_vec(), Plan::Link(b"nowhere/\xff".to_vec())),
                (b"many".to_vec(), Plan::Dir(many, 0o700)),
                (b"program".to_vec(), Plan::File(Fill::Noise(2), 90_000, 0o755)),
                (b"text".to_vec(), Plan::File(Fill::Text(3), 40_000, 0o644)),
                (b"\xff\xfe".to_vec(), Plan::Bytes(b"no text".to_vec())),
            ]),
        );
        let writer = writer(&scratch.join("store"));
        Self { scratch, writer, source }
    }
}

#[test]
fn the_reader_from_the_documentation_gives_the_same_tree() {
    if !can_run() {
        return;
    }
    let setting = Setting::new();
    add(&setting.writer, &setting.source, &options("app", "1.0"));
    std::fs::write(setting.source.join("text"), noise(4, 5000)).unwrap();
    let second = setting.writer.ingest(at(&setting.source), &options("app", "1.1"), &()).unwrap();
    let channel = Some("stable".parse().unwrap());
    setting.writer.publish(&second, &PublishOptions { channel, ..PublishOptions::default() }).unwrap();
    let (path, dest) = (setting.scratch.join("store"), setting.scratch.join("read"));
    let output = read(&path, "app@stable", &dest);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Times are the reader's own affair.
    let found = Snapshot::of(&dest).without_times();
    let lines = Snapshot::of(&setting.source).without_times().differences(&found, MetadataPolicy::Full);
    let odd: Vec<_> = lines.iter().filter(|line| !line.starts_with("\"\" ")).collect();
    assert!(odd.is_empty(), "{odd:?}");
}

/// An older version that is told in terms of a newer one.
#[test]
fn the_reader_reads_what_stands_on_other_chunks() {
    if !can_run() {
        return;
    }
    let setting = Setting::new();
    let program = setting.source.join("program");
    let old = Snapshot::of(&setting.source).without_times();
    add(&setting.writer, &setting.source, &options("app", "1.0"));
    let mut bytes = std::fs::read(&program).unwrap();
    bytes.iter_mut().step_by(3000).for_each(|byte| *byte ^= 1);
    std::fs::write(&program, bytes).unwrap();
    add(&setting.writer, &setting.source, &options("app", "1.1"));
    let plan = setting.writer.plan_optimise(&()).unwrap();
    let done = setting.writer.optimise(&plan, &OptimiseOptions::default(), &()).unwrap();
    assert!(done.complete && done.prefix.plain_bytes >= 90_000, "{done:?}");
    let (path, dest) = (setting.scratch.join("store"), setting.scratch.join("read"));
    let output = read(&path, "app@1.0", &dest);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = old.differences(&Snapshot::of(&dest).without_times(), MetadataPolicy::Full);
    let odd: Vec<_> = lines.iter().filter(|line| !line.starts_with("\"\" ")).collect();
    assert!(odd.is_empty(), "{odd:?}");
}

/// Writes artifacts into an archive.
fn archive(writer: &Writer, specs: &[&str], since: &[&str], path: &Path) {
    writer.origin().unwrap();
    let parsed = |specs: &[&str]| specs.iter().map(|spec| spec.parse().unwrap()).collect();
    let platform = Some("linux/x86_64".parse().unwrap());
    let request = ArchiveRequest { specs: parsed(specs), since: parsed(since), platform };
    let plan = writer.plan_archive(&request, &()).unwrap();
    writer.write_archive(&plan, &mut std::fs::File::create(path).unwrap(), path, &()).unwrap();
}

#[test]
fn the_reader_takes_archives() {
    if !can_run() {
        return;
    }
    let setting = Setting::new();
    add(&setting.writer, &setting.source, &options("app", "1.0"));
    std::fs::write(setting.source.join("text"), noise(4, 5000)).unwrap();
    let second = add(&setting.writer, &setting.source, &options("app", "1.1"));
    setting.writer.tag(&second.key, &"stable".parse().unwrap()).unwrap();
    let (path, dest) = (setting.scratch.join("archive"), setting.scratch.join("read"));
    archive(&setting.writer, &["app@1.0", "app@stable"], &[], &path);
    let output = read(&path, "app@1.1", &dest);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), second.artifact.to_string());
    let found = Snapshot::of(&dest).without_times();
    let lines = Snapshot::of(&setting.source).without_times().differences(&found, MetadataPolicy::Full);
    let odd: Vec<_> = lines.iter().filter(|line| !line.starts_with("\"\" ")).collect();
    assert!(odd.is_empty(), "{odd:?}");
    // What is left out is not there, and what was changed is noticed.
    archive(&setting.writer, &["app@1.1"], &["app@1.0"], &path);
    let output = read(&path, "app@1.1", &setting.scratch.join("rest"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not in the archive"));
    let whole = std::fs::read(&path).unwrap();
    for at in [17, whole.len() / 3, whole.len() - 70, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(!read(&path, "app@1.1", &setting.scratch.join("changed")).status.success(), "{at}");
    }
}

/// The journal's newest segment is a checkpoint with profiles, and changes of profiles after it.
#[test]
fn the_reader_follows_profiles() {
    if !can_run() {
        return;
    }
    let scratch = Scratch::new();
    let file = scratch.file("program", b"first");
    let mut writer = writer(&scratch.join("store"));
    let first = add(&writer, &file, &options("app", "1.0"));
    let tool = add(&writer, &file, &options("tool", "1.0"));
    std::fs::write(&file, "second").unwrap();
    let second = add(&writer, &file, &options("app", "2.0"));
    let (profile, platform) = (ProfileName::default(), Some("linux/x86_64".parse().unwrap()));
    let change = |writer: &Writer, set: &[&Ingested], remove: &[&str]| {
        let set = set.iter().map(|ingested| (ingested.key.clone(), ingested.artifact)).collect();
        let remove = remove.iter().map(|name| name.parse().unwrap()).collect();
        let options = UseOptions { set, remove, platform: platform.clone(), ..UseOptions::default() };
        writer.use_packages(&options).unwrap();
    };
    let shows = |expected: &str| {
        let dest = scratch.join("read");
        let output = read(&scratch.join("store"), "app@current", &dest);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(std::fs::read_to_string(dest.join("program")).unwrap(), expected);
        std::fs::remove_dir_all(dest).unwrap();
    };
    for round in 0..2 {
        change(&writer, &[&first, &tool], &[]);
        writer.pin(&profile, writer.names().profiles[&profile].current).unwrap();
        shows("first");
        change(&writer, &[&second], &["tool"]);
        shows("second");
        writer.rollback(&profile, Some(1)).unwrap();
        shows("first");
        writer.prune(&writer.plan_prune(&profile, 1).unwrap()).unwrap();
        writer.unpin(&profile, *writer.names().profiles[&profile].pins.first().unwrap()).unwrap();
        shows("first");
        if round == 0 {
            drop(writer);
            begin_segment(&scratch.join("store"));
            writer = harness::stores::writer(&scratch.join("store"));
            shows("first");
        }
    }
}

/// What the reader makes of all names: a line for each.
fn names(store: &Path) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/cairn_reader.py");
    let output = Command::new("python3").arg(script).arg(store).arg("--names").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(ToOwned::to_owned).collect()
}

/// The same lines, from a view.
fn expected_names(view: &View) -> Vec<String> {
    let stated = |envelope: Option<Envelope>| {
        let payload = envelope.map(|envelope| envelope.payload).unwrap_or_default();
        payload.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let of_ref = |(key, record): (&RefKey, &RefRecord)| {
        let RefKey { name, version, platform } = key;
        format!("ref {name} {version} {platform} {} {}", record.artifact, stated(view.statement_of(key)))
    };
    let of_channel = |(key, version): (&ChannelKey, &Version)| {
        let ChannelKey { name, channel, platform } = key;
        format!("channel {name} {channel} {platform} {version} {}", stated(view.channel_statement_of(key)))
    };
    let refs = view.refs.iter().map(of_ref);
    let channels = view.channels.iter().map(of_channel);
    refs.chain(channels).chain(view.partial.iter().map(|artifact| format!("partial {artifact}"))).collect()
}

/// Names made here, before and after the store had an origin, and names from elsewhere, in several segments.
#[test]
fn the_reader_states_what_the_store_states() {
    if !can_run() {
        return;
    }
    let scratch = Scratch::new();
    let file = scratch.file("program", b"first");
    let (here, path) = (writer(&scratch.join("store")), scratch.join("store"));
    let check = |writer: &Writer| {
        // The reader lists by name and version as texts.
        let mut expected = expected_names(&writer.names());
        let mut found = names(&path);
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
    };
    let early = add(&here, &file, &options("early", "1.0"));
    check(&here);
    here.origin().unwrap();
    check(&here);
    here.tag(&early.key, &"stable".parse().unwrap()).unwrap();
    add(&here, &file, &options("late", "1.0"));
    check(&here);

    let there = writer(&scratch.join("there"));
    for (version, bytes, partial) in [("1.0", "one", false), ("1.1", "two", true)] {
        std::fs::write(&file, bytes.repeat(1000)).unwrap();
        let ingested = there.ingest(at(&file), &options("pulled", version), &()).unwrap();
        let channel = Some("stable".parse().unwrap());
        there.publish(&ingested, &PublishOptions { channel, ..PublishOptions::default() }).unwrap();
        copy_metadata(&there, &here, &ingested.artifact);
        if !partial {
            copy_data(&there, &here, &ingested.artifact);
        }
        let words = statements(&there, &ingested.key);
        let pulled = PulledOptions { partial, ..PulledOptions::default() };
        here.publish_pulled(&ingested.artifact, &words, &pulled).unwrap();
        check(&here);
    }
    assert_eq!(here.names().partial.len(), 1);
    // What was pulled is replaced here, and goes.
    std::fs::write(&file, "another").unwrap();
    let ingested = here.ingest(at(&file), &options("pulled", "1.0"), &()).unwrap();
    here.publish(&ingested, &PublishOptions { replace: true, channel: None }).unwrap();
    check(&here);
    let view = here.names();
    drop(here);
    begin_segment(&path);
    let here = writer(&path);
    assert_eq!(here.names().witnessed, view.witnessed);
    check(&here);
    here.remove_ref(&ingested.key, true).unwrap();
    check(&here);
}

/// Makes the journal of a store, which has one segment and knows neither profiles nor other stores, what an earlier version
/// of the format has.
fn make_version(version: u8, store: &Path) {
    let path = store.join("journal/0000000000000001.journal");
    let mut bytes = std::fs::read(&path).unwrap();
    // The header's version.
    bytes[4] = version;
    let crc = crc32c::crc32c(&bytes[..20]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    // The checkpoint: its last bytes say that there are no profiles, no origin, no statements and no partial artifacts.
    let later = if version == 1 { 4 } else { 3 };
    let len = u32::from_le_bytes(bytes[28..32].try_into().unwrap());
    let end = 56 + len as usize;
    assert!(bytes.drain(end - later..end).all(|byte| byte == 0));
    bytes[28..32].copy_from_slice(&(len - u32::try_from(later).unwrap()).to_le_bytes());
    let crc = crc32c::crc32c(&bytes[56..end - later]);
    bytes[44..48].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[24..52]);
    bytes[52..56].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn stores_of_earlier_releases_are_read_and_go_on() {
    for version in [1, 2] {
        a_store_is_read_and_goes_on(version);
    }
}

fn a_store_is_read_and_goes_on(version: u8) {
    let scratch = Scratch::new();
    let (path, file) = (scratch.join("store"), scratch.file("program", b"text"));
    let first = writer(&path);
    let app = add(&first, &file, &options("app", "1.0"));
    let before = first.names();
    drop(first);
    make_version(version, &path);
    let old = std::fs::read(path.join("journal/0000000000000001.journal")).unwrap();
    assert_eq!(*Store::open(&path).unwrap().view().unwrap(), *before);
    if can_run() {
        let output = read(&path, "app@1.0", &scratch.join("read"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let writer = writer(&path);
    let platform = Some("linux/x86_64".parse().unwrap());
    let set = vec![(app.key.clone(), app.artifact)];
    writer.use_packages(&UseOptions { set, platform, ..UseOptions::default() }).unwrap();
    drop(writer);
    assert_eq!(std::fs::read(path.join("journal/0000000000000001.journal")).unwrap(), old);
    let store = Store::open(&path).unwrap();
    let view = store.view().unwrap();
    assert_eq!((&view.refs, view.profiles[&ProfileName::default()].current), (&before.refs, 1));
    assert_eq!(store.log().unwrap().count(), 3);
    if can_run() {
        let output = read(&path, "app@current", &scratch.join("read again"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Makes the journal go on in a new segment.
fn begin_segment(store: &Path) {
    let io: std::sync::Arc<dyn Io> = std::sync::Arc::new(Os);
    let mut journal = Journal::open_write(io, &store.join("journal")).unwrap().rolling_at(1);
    let mut last = None;
    while Scratch::names(&store.join("journal")).len() < 2 {
        let key = RefKey {
            name: "filler".parse().unwrap(),
            version: "1".parse().unwrap(),
            platform: Platform::any(),
        };
        let mut record = journal.view().refs.values().next().unwrap().clone();
        record.time_ms += 1;
        let op = Op::SetRef { key, old: last.replace(record.artifact), record };
        journal.append(vec![op], "w", 0).unwrap();
    }
}

#[test]
fn the_reader_takes_full_metadata_and_index_runs_as_they_come() {
    if !can_run() {
        return;
    }
    let setting = Setting::new();
    std::fs::hard_link(setting.source.join("inline"), setting.source.join("another")).unwrap();
    let policy = MetadataPolicy::Full;
    add(&setting.writer, &setting.source, &IngestOptions { policy, ..options("app", "1.0") });
    let path = setting.scratch.join("store");
    let io: std::sync::Arc<dyn Io> = std::sync::Arc::new(Os);
    Index::open(&io, &path).unwrap().persist(&*io, &path, true).unwrap();
    let dest = setting.scratch.join("read");
    let output = read(&path, "app@1.0", &dest);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in ["database", "holes", "another", "many/2bb", "text"] {
        assert!(std::fs::read(dest.join(name)).unwrap() == std::fs::read(setting.source.join(name)).unwrap());
    }
}

#[test]
fn the_reader_notices_damage() {
    if !can_run() {
        return;
    }
    let setting = Setting::new();
    add(&setting.writer, &setting.source, &options("app", "1.0"));
    let path = setting.scratch.join("store");
    for name in Scratch::names(&path.join("packs")) {
        let pack = path.join("packs").join(name);
        let bytes = std::fs::read(&pack).unwrap();
        let mut bad = bytes.clone();
        bad[bytes.len() / 2] ^= 4;
        std::fs::write(&pack, bad).unwrap();
        let output = read(&path, "app@1.0", &setting.scratch.join("read"));
        assert!(!output.status.success(), "{}", pack.display());
        std::fs::write(&pack, bytes).unwrap();
        let _ = std::fs::remove_dir_all(setting.scratch.join("read"));
    }
}
