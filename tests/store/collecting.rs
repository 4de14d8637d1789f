//! Collections beside all that a writer does, on a real file system.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cairn_store::collect::Verdict;
use cairn_store::{
    ArtifactId, CollectOptions, Error, Held, PublishOptions, PulledOptions, RefKey, Store, Writer,
};
use harness::bytes::noise;
use harness::neighbour::{copy_data, copy_metadata, statements};
use harness::scratch::Scratch;
use harness::stores::{add, assert_sound, at, options, read_file, with_threads, writer};

fn collect(writer: &Writer) -> cairn_store::Collected {
    let options = CollectOptions::default();
    let plan = writer.plan_collection(&options, &()).unwrap();
    writer.collect(&plan, &options, &()).unwrap()
}

fn key(name: &str, version: u64) -> RefKey {
    let (name, version) = (name.parse().unwrap(), version.to_string().parse().unwrap());
    RefKey { name, version, platform: "linux/x86_64".parse().unwrap() }
}

/// A tree that shares most of its files with its neighbours, and comes back after a while.
fn make_tree(scratch: &Scratch, name: &str, number: u64) -> std::path::PathBuf {
    let folder = scratch.folder(&format!("{name}-{number}"));
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    for file in 0..4 {
        let seed = (number + file) % 9;
        std::fs::write(
            folder.join(format!("{file}")),
            noise(seed, 5000 + 3000 * usize::try_from(seed).unwrap()),
        )
        .unwrap();
    }
    std::fs::write(folder.join("sub/all"), noise(77, 30_000)).unwrap();
    std::fs::write(folder.join("sub/long"), noise(100 + number % 3, 700_000)).unwrap();
    folder
}

const TREES: u64 = 12;

/// What each thread did last with each of its names.
type Named = Mutex<BTreeMap<RefKey, ArtifactId>>;

/// Adds versions and takes them away again.
fn add_and_remove(writer: &Writer, scratch: &Scratch, name: &str, named: &Named, stop: &AtomicBool) -> u64 {
    let mut done = 0;
    while !stop.load(Ordering::Acquire) {
        let number = done * 5 % TREES;
        let version = options(name, &number.to_string());
        let ingested = writer
            .ingest(at(&scratch.join(format!("tree-{number}"))), &with_threads(1, version), &())
            .unwrap();
        // What was ingested and not named is garbage.
        if !done.is_multiple_of(7) {
            writer.publish(&ingested, &PublishOptions { replace: true, channel: None }).unwrap();
            named.lock().unwrap().insert(ingested.key.clone(), ingested.artifact);
        }
        if done.is_multiple_of(3) {
            let gone = key(name, (number + 4) % TREES);
            if named.lock().unwrap().remove(&gone).is_some() {
                writer.remove_ref(&gone, true).unwrap();
            }
        }
        done += 1;
    }
    done
}

/// Pulls versions from another store and takes them away again.
fn pull_and_remove(writer: &Writer, from: &Writer, named: &Named, stop: &AtomicBool) -> u64 {
    let mut done = 0;
    while !stop.load(Ordering::Acquire) {
        let pulled = key("pulled", done % TREES);
        let artifact = from.names().refs[&pulled].artifact;
        let guard = writer.hold(Held::Artifact(artifact), format!("a pull of {pulled}"));
        copy_metadata(from, writer, &artifact);
        copy_data(from, writer, &artifact);
        let options = PulledOptions { replace: true, ..PulledOptions::default() };
        writer.publish_pulled(&artifact, &statements(from, &pulled), &options).unwrap();
        drop(guard);
        named.lock().unwrap().insert(pulled, artifact);
        let gone = key("pulled", (done + 3) % TREES);
        if named.lock().unwrap().remove(&gone).is_some() {
            writer.remove_ref(&gone, true).unwrap();
        }
        done += 1;
    }
    done
}

/// Reads what is named by a store of its own, holding it first and looking whether it is named after that.
fn read(path: &std::path::Path, stop: &AtomicBool) -> u64 {
    let (store, mut done) = (Store::open(path).unwrap(), 0u64);
    while !stop.load(Ordering::Acquire) {
        let view = store.view().unwrap();
        let Some(record) = view.refs.values().nth(usize::try_from(done).unwrap() % view.refs.len().max(1))
        else {
            continue;
        };
        let lease = store.lease(Held::Artifact(record.artifact), "a reader").unwrap().unwrap();
        if store.view().unwrap().names(&record.artifact) {
            let long = read_file(&store, &record.artifact, b"sub/long").unwrap();
            assert!((100..103).any(|seed| long == noise(seed, 700_000)));
            assert!(read_file(&store, &record.artifact, b"sub/all").unwrap() == noise(77, 30_000));
            done += 1;
        }
        drop(lease);
    }
    done
}

#[test]
fn collections_beside_ingests_pulls_removals_and_readers_lose_nothing() {
    let scratch = Scratch::new();
    let (writer, from) = (writer(&scratch.join("store")), writer(&scratch.join("from")));
    for number in 0..TREES {
        let tree = make_tree(&scratch, "tree", number);
        add(&from, &tree, &options("pulled", &number.to_string()));
    }
    let (stop, named) = (AtomicBool::new(false), [(); 3].map(|()| Named::default()));
    let (went, merged, kept) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let counts = std::thread::scope(|scope| {
        let (writer, from, stop, named, scratch) = (&writer, &from, &stop, &named, &scratch);
        let busy = [
            scope.spawn(|| add_and_remove(writer, scratch, "a", &named[0], stop)),
            scope.spawn(|| add_and_remove(writer, scratch, "b", &named[1], stop)),
            scope.spawn(|| pull_and_remove(writer, from, &named[2], stop)),
            scope.spawn(|| read(&scratch.join("store"), stop)),
        ];
        let begun = Instant::now();
        let mut collections = 0;
        let seconds = std::env::var("CAIRN_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
        while begun.elapsed() < Duration::from_secs(seconds) || collections < 5 {
            let collected = collect(writer);
            collections += 1;
            went.fetch_add(collected.dropped.len() as u64, Ordering::Relaxed);
            merged.fetch_add(collected.rewritten.len() as u64, Ordering::Relaxed);
            kept.fetch_add(collected.kept_back.len() as u64, Ordering::Relaxed);
            assert!(busy.iter().all(|thread| !thread.is_finished()), "somebody has failed");
            assert!(begun.elapsed() < Duration::from_secs(seconds + 120));
        }
        stop.store(true, Ordering::Release);
        let counts: Vec<u64> = busy.into_iter().map(|thread| thread.join().unwrap()).collect();
        println!("{collections} collections beside {counts:?}");
        counts
    });
    let [went, merged, kept] = [went, merged, kept].map(AtomicU64::into_inner);
    println!("{went} packs went, {merged} were written again, {kept} were kept back");
    assert!(counts.iter().all(|count| *count > 3) && went > 0 && merged > 0, "{counts:?} {went} {merged}");
    let all: BTreeMap<RefKey, ArtifactId> =
        named.into_iter().flat_map(|named| named.into_inner().unwrap()).collect();
    let check = |store: &Store| {
        let view = store.view().unwrap();
        let refs: BTreeMap<RefKey, ArtifactId> =
            view.refs.iter().map(|(key, record)| (key.clone(), record.artifact)).collect();
        assert_eq!(refs, all);
        assert_sound(store);
    };
    check(&writer);
    check(&Store::open(&scratch.join("store")).unwrap());
    // Nobody is busy any more, so nothing is kept back, and only what is needed is left.
    let left = collect(&writer);
    assert!(left.complete && left.kept_back.is_empty(), "{left:?}");
    check(&writer);
    let options = CollectOptions::default();
    let plan = writer.plan_collection(&options, &()).unwrap();
    assert!(plan.packs.iter().all(|pack| matches!(pack.verdict, Verdict::Keep(_))), "{plan:?}");
    for key in all.keys() {
        writer.remove_ref(key, true).unwrap();
    }
    collect(&writer);
    assert!(writer.packs().unwrap().is_empty());
}

#[test]
fn what_another_process_reads_stays_until_it_has_read_it() {
    let scratch = Scratch::new();
    let writer = writer(&scratch.join("store"));
    let tree = make_tree(&scratch, "tree", 0);
    let ingested = add(&writer, &tree, &options("app", "1"));
    let reader = Store::open(&scratch.join("store")).unwrap();
    let lease = reader.lease(Held::Artifact(ingested.artifact), "cairn export app@1").unwrap().unwrap();
    writer.remove_ref(&ingested.key, false).unwrap();
    let holds = writer.what_is_held().unwrap();
    assert_eq!(holds.len(), 1);
    assert_eq!(holds[0].by, format!("process {} reads it: cairn export app@1", std::process::id()));
    let collected = collect(&writer);
    assert!(collected.dropped.is_empty() && collected.rewritten.is_empty(), "{collected:?}");
    assert!(read_file(&reader, &ingested.artifact, b"sub/all").unwrap() == noise(77, 30_000));
    drop(lease);
    assert_eq!(collect(&writer).dropped.len(), 2);
    // Who has it open may go on reading it.
    let later = Store::open(&scratch.join("store")).unwrap();
    assert!(matches!(later.artifact(&ingested.artifact), Err(Error::Absent { .. })));
    // While somebody makes a copy of the whole store, nothing goes.
    let unnamed = add(&writer, &tree, &options("app", "2"));
    let all = reader.lease(Held::Everything, "a backup").unwrap().unwrap();
    writer.remove_ref(&unnamed.key, false).unwrap();
    let plan = writer.plan_collection(&CollectOptions::default(), &()).unwrap();
    assert!(plan.is_nothing() && plan.packs.len() == 2, "{plan:?}");
    drop(all);
    assert_eq!(collect(&writer).dropped.len(), 2);
}
