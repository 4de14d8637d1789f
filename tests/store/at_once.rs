//! Several threads of one process that write one store at once, and one writer after another.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cairn_store::{Error, Progress, PublishOptions, Store, UseOptions, Writer, WriterOptions};
use harness::bytes::noise;
use harness::plan::{Folder, Plan, make};
use harness::scratch::Scratch;
use harness::stores::{add, assert_sound, at, options, writer, writer_options};

const THREADS: u64 = 4;
const ROUNDS: u64 = 6;

/// Stops after so many questions.
struct Patience(AtomicU64);

impl Progress for Patience {
    fn cancelled(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

/// Adds and uses a version per round, whose files the other threads add too; every other time a first attempt is
/// cancelled somewhere.
fn work(scratch: &Scratch, writer: &Writer, thread: u64) {
    for round in 0..ROUNDS {
        let source = scratch.join(format!("{thread}-{round}"));
        let file = |n: u64| (n.to_string().into_bytes(), Plan::Bytes(noise(round * 100 + n, 60_000)));
        let mut folder: Folder = (0..8).map(file).collect();
        folder.insert(b"own".to_vec(), Plan::Bytes(noise(10_000 + thread * 100 + round, 30_000)));
        make(&source, &folder);
        let package = options(&format!("app-{thread}"), &round.to_string());
        if round % 2 == 1 {
            let patience = Patience(AtomicU64::new(thread * 2 + round));
            match writer.ingest(at(&source), &package, &patience) {
                Ok(_) | Err(Error::Cancelled) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let ingested = writer.ingest(at(&source), &package, &()).unwrap();
        writer.publish(&ingested, &PublishOptions::default()).unwrap();
        let set = vec![(ingested.key.clone(), ingested.artifact)];
        let platform = Some("linux/x86_64".parse().unwrap());
        writer.use_packages(&UseOptions { set, platform, ..UseOptions::default() }).unwrap();
    }
}

#[test]
fn what_several_threads_add_and_use_at_once_is_all_there() {
    let scratch = Scratch::new();
    let first = writer(&scratch.join("store"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (scratch, writer) = (&scratch, &first);
                scope.spawn(move || work(scratch, writer, thread))
            })
            .collect();
        // Whatever is shown at any time is whole.
        scope.spawn(|| {
            let store = Store::open(&scratch.join("store")).unwrap();
            while !done.load(Ordering::Relaxed) {
                for artifact in store.view().unwrap().artifacts() {
                    assert!(store.missing(&artifact, &()).unwrap().is_nothing());
                }
            }
        });
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
    });
    let before = first.names();
    drop(first);
    let again = writer(&scratch.join("store"));
    assert_eq!(*again.names(), *before);
    let profile = before.profiles.values().next().unwrap();
    assert_eq!((before.refs.len() as u64, profile.last), (THREADS * ROUNDS, THREADS * ROUNDS));
    assert_eq!(profile.current().unwrap().packages.len() as u64, THREADS);
    assert_sound(&again);
    // All of it is there once.
    let known = add(&again, &scratch.join("0-0"), &options("again", "1"));
    assert_eq!(known.new_chunks, 0);
}

#[test]
fn who_waits_for_another_ingest_can_be_cancelled() {
    let scratch = Scratch::new();
    let writer = writer(&scratch.join("store"));
    let file = scratch.file("file", b"text");
    let (ready, begun) = std::sync::mpsc::channel();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    /// Reads nothing before it is told to.
    struct Slow(std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>);
    impl std::io::Read for Slow {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            let _ = self.0.send(());
            let _ = self.1.recv();
            Ok(0)
        }
    }
    std::thread::scope(|scope| {
        let slow = Slow(ready, gone);
        let first = scope.spawn(|| {
            let reader = Box::new(slow);
            let input = cairn_store::Input::Reader { name: "slow".to_owned(), executable: false, reader };
            writer.ingest(input, &options("slow", "1"), &()).map(drop)
        });
        begun.recv().unwrap();
        let patience = Patience(AtomicU64::new(3));
        let second = writer.ingest(at(&file), &options("app", "1"), &patience);
        drop(go);
        assert!(matches!(second, Err(Error::Cancelled)), "{second:?}");
        first.join().unwrap().unwrap();
    });
    add(&writer, &file, &options("app", "1"));
}

#[test]
fn a_writer_hands_the_store_over_and_nobody_slips_in_between() {
    let scratch = Scratch::new();
    let (path, tree) = (scratch.join("store"), scratch.folder("tree"));
    std::fs::write(tree.join("file"), b"bytes").unwrap();
    let first = writer(&path);
    add(&first, &tree, &options("node", "1"));
    let busy = || {
        let at_once = WriterOptions { wait: Duration::ZERO, ..writer_options() };
        matches!(Writer::open(&path, &at_once, &()), Err(Error::Busy { .. }))
    };
    let inherit = || {
        let lock = first.hand_over().unwrap().try_clone_to_owned().unwrap();
        Writer::inherit(&path, lock, &writer_options()).unwrap()
    };
    // One that comes to nothing: the first goes on.
    drop(inherit());
    first.resume();
    assert!(busy());
    add(&first, &tree, &options("node", "2"));
    let second = inherit();
    assert_eq!(second.names().seq, first.names().seq);
    second.succeed("the next");
    // The process that it was ends without giving the lock back.
    std::mem::forget(first);
    assert!(busy());
    add(&second, &tree, &options("node", "3"));
    assert_eq!(second.names().refs.len(), 3);
    drop(second);
    assert!(!busy());
    assert_sound(&writer(&path));
}
