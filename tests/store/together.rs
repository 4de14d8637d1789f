//! Several at once: two writers, readers beside a writer, two ingests of one writer.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cairn_store::{Error, Kind, Progress, Store, Writer, WriterOptions};
use harness::bytes::noise;
use harness::compare::Snapshot;
use harness::scratch::Scratch;
use harness::stores::{add, assert_sound, options, read_file, restore, writer, writer_options};

fn waiting(wait: Duration) -> WriterOptions {
    WriterOptions { wait, ..writer_options() }
}

#[test]
fn the_second_writer_is_told_who_holds_the_store() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let first = writer(&path);
    let refused = Writer::open(&path, &waiting(Duration::ZERO), &()).map(drop).unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict);
    match &refused {
        Error::Busy { path: named, pid, since } => {
            assert_eq!((named, *pid), (&path, std::process::id()));
            assert!(since.ends_with('Z'), "{since}");
        }
        other => panic!("{other:?}"),
    }
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
    drop(first);
    assert!(Writer::open(&path, &waiting(Duration::ZERO), &()).is_ok());
}

/// Notes that it was asked whether to stop, and says so from a given moment on.
#[derive(Default)]
struct Asked {
    asked: AtomicBool,
    stop: AtomicBool,
}

impl Progress for Asked {
    fn cancelled(&self) -> bool {
        self.asked.store(true, Ordering::SeqCst);
        self.stop.load(Ordering::SeqCst)
    }
}

#[test]
fn the_second_writer_waits_for_the_first() {
    let scratch = Scratch::new();
    let (path, source) = (scratch.join("store"), scratch.folder("source"));
    fs::write(source.join("file"), noise(1, 100_000)).unwrap();
    let first = writer(&path);
    let progress = Asked::default();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let second = Writer::open(&path, &waiting(Duration::from_secs(60)), &progress).unwrap();
            // What the first wrote while this waited is there.
            assert_eq!(second.view().unwrap().refs.len(), 1);
            add(&second, &source, &options("app", "2"));
        });
        while !progress.asked.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        assert!(!second.is_finished());
        add(&first, &source, &options("app", "1"));
        drop(first);
    });
    let store = Store::open(&path).unwrap();
    assert_eq!(store.view().unwrap().refs.len(), 2);
    assert_sound(&store);
}

#[test]
fn a_writer_that_waits_can_be_stopped() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let _first = writer(&path);
    let progress = Asked::default();
    std::thread::scope(|scope| {
        let second =
            scope.spawn(|| Writer::open(&path, &waiting(Duration::from_secs(60)), &progress).map(drop));
        while !progress.asked.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        progress.stop.store(true, Ordering::SeqCst);
        assert!(matches!(second.join().unwrap(), Err(Error::Cancelled)));
    });
}

#[test]
fn readers_see_whole_versions_while_a_writer_adds() {
    const VERSIONS: u64 = 40;
    let scratch = Scratch::in_memory();
    let path = scratch.join("store");
    let source = scratch.folder("source");
    fs::write(source.join("same"), noise(0, 50_000)).unwrap();
    let store = writer(&path);
    let done = AtomicBool::new(false);
    let read = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for opens_anew in [true, false] {
            let (path, done, read) = (&path, &done, &read);
            scope.spawn(move || {
                let mut reader = Store::open(path).unwrap();
                let mut last = 0;
                loop {
                    let ends = done.load(Ordering::SeqCst);
                    if opens_anew {
                        reader = Store::open(path).unwrap();
                    }
                    let view = reader.view().unwrap();
                    assert!(view.seq >= last, "time runs forward");
                    last = view.seq;
                    for (key, record) in &view.refs {
                        let number: u64 = key.version.as_str().parse().unwrap();
                        let bytes = read_file(&reader, &record.artifact, b"changes").unwrap();
                        assert!(bytes == noise(number, 20_000), "{key}");
                        read.fetch_add(1, Ordering::SeqCst);
                    }
                    if ends {
                        assert_eq!(view.refs.len() as u64, VERSIONS);
                        break;
                    }
                }
                assert_sound(&reader);
            });
        }
        for number in 1..=VERSIONS {
            fs::write(source.join("changes"), noise(number, 20_000)).unwrap();
            add(&store, &source, &options("app", &number.to_string()));
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(read.load(Ordering::SeqCst) >= 2 * VERSIONS);
}

#[test]
fn one_writer_ingests_several_trees_at_once() {
    let scratch = Scratch::in_memory();
    let store = writer(&scratch.join("store"));
    let sources: Vec<_> = (0..4u64)
        .map(|number| {
            let source = scratch.folder(&number.to_string());
            // Some of it is the same, and whoever comes first stores it.
            fs::write(source.join("shared"), noise(100, 600_000)).unwrap();
            fs::write(source.join("own"), noise(number, 300_000)).unwrap();
            source
        })
        .collect();
    let added: Vec<_> = std::thread::scope(|scope| {
        let adding: Vec<_> = (0..)
            .zip(&sources)
            .map(|(number, source)| {
                let store = &store;
                scope.spawn(move || add(store, source, &options(&format!("app-{number}"), "1")))
            })
            .collect();
        adding.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_sound(&store);
    for (number, (source, added)) in sources.iter().zip(&added).enumerate() {
        let dest = scratch.join(format!("restored-{number}"));
        restore(&store, &added.artifact, &dest);
        Snapshot::of(source).assert_restored(&dest, cairn_store::MetadataPolicy::Portable);
    }
}
