//! Whether all of an artifact is here, and what a store says whose packs are not.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_store::index::Index;
use cairn_store::io::{Io, Os};
use cairn_store::{ArtifactId, Error, Missing, PackId, RefKey, RestoreOptions, Store, Writer};
use harness::bytes::noise;
use harness::plan::{Fill, Folder, Plan, make};
use harness::scratch::Scratch;
use harness::stores::{add, options, writer};

/// A store with one artifact of a long file, many small ones and a deep one.
struct Setting {
    scratch: Scratch,
    writer: Writer,
    key: RefKey,
    artifact: ArtifactId,
}

const LONG: usize = 3 << 20;

impl Setting {
    fn new() -> Self {
        let scratch = Scratch::new();
        let source = scratch.join("source");
        let small = (0..2000u32).map(|n| (n.to_string().into_bytes(), Plan::Bytes(noise(n.into(), 200))));
        make(
            &source,
            &Folder::from([
                (b"long".to_vec(), Plan::File(Fill::Noise(7), LONG, 0o644)),
                (b"small".to_vec(), Plan::Dir(small.collect(), 0o755)),
                (b"sparse".to_vec(), Plan::File(Fill::Sparse(3), 1 << 20, 0o644)),
            ]),
        );
        let writer = writer(&scratch.join("store"));
        let added = add(&writer, &source, &options("app", "1.0"));
        Self { scratch, writer, key: added.key, artifact: added.artifact }
    }

    /// The packs with files' bytes, or with what leads to them.
    fn packs(&self, metadata: bool) -> Vec<PathBuf> {
        let packs = self.writer.packs().unwrap().into_iter().filter(|pack| pack.metadata == metadata);
        packs.map(|pack| self.scratch.join("store/packs").join(format!("{}.pack", pack.id))).collect()
    }

    fn open(&self) -> Store {
        Store::open(&self.scratch.join("store")).unwrap()
    }
}

#[test]
fn nothing_is_missing_of_what_was_added() {
    let setting = Setting::new();
    assert!(setting.writer.missing(&setting.artifact, &()).unwrap().is_nothing());
    assert!(setting.open().missing(&setting.artifact, &()).unwrap().is_nothing());
    let unknown = ArtifactId([7; 32]);
    assert!(matches!(setting.writer.missing(&unknown, &()), Err(Error::Absent { .. })));
}

#[test]
fn a_pack_that_is_gone_is_noticed_and_so_is_its_return() {
    let setting = Setting::new();
    let (writer, artifact) = (&setting.writer, &setting.artifact);
    assert!(writer.missing(artifact, &()).unwrap().is_nothing());
    let aside = setting.scratch.folder("aside");
    let packs = setting.packs(false);
    for pack in &packs {
        std::fs::rename(pack, aside.join(pack.file_name().unwrap())).unwrap();
    }
    let all = writer.artifact(artifact).unwrap();
    for store in [writer.store(), &setting.open()] {
        let Missing { objects, chunks, bytes } = store.missing(artifact, &()).unwrap();
        assert_eq!(objects, 0);
        // Holes are chunks of the list and nowhere in packs.
        assert!(chunks > 2000 && chunks < all.chunks, "{chunks} of {}", all.chunks);
        assert!(bytes >= LONG as u64 + 400_000 && bytes <= all.bytes, "{bytes}");
    }
    for pack in &packs {
        std::fs::rename(aside.join(pack.file_name().unwrap()), pack).unwrap();
    }
    assert!(writer.missing(artifact, &()).unwrap().is_nothing());
}

#[test]
fn what_leads_to_files_may_be_missing_itself() {
    let setting = Setting::new();
    for pack in setting.packs(true) {
        std::fs::remove_file(pack).unwrap();
    }
    assert!(setting.open().missing(&setting.artifact, &()).is_err());
}

/// The pack that an error blames.
fn blamed<T>(result: Result<T, Error>) -> Option<PackId> {
    match result {
        Err(Error::Damaged { chunk: Some(_), pack, .. }) => pack,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("it could be read"),
    }
}

#[test]
fn what_an_artifact_lost_with_a_pack_is_damage_and_not_absent() {
    for metadata in [false, true] {
        for with_run in [false, true] {
            let setting = Setting::new();
            let (path, artifact) = (setting.scratch.join("store"), &setting.artifact);
            if with_run {
                let io: Arc<dyn Io> = Arc::new(Os);
                Index::open(&io, &path).unwrap().persist(&*io, &path, true).unwrap();
            }
            // One store has the index in memory and no pack open; the other opens it when the packs are gone.
            let before = setting.open();
            before.index_summary().unwrap();
            let packs = setting.packs(metadata);
            for pack in &packs {
                std::fs::remove_file(pack).unwrap();
            }
            let gone = |pack: PackId| packs.iter().any(|path| path.ends_with(format!("{pack}.pack")));
            for (store, knows) in [(before, true), (setting.open(), with_run)] {
                let context = format!("metadata {metadata}, with a run {with_run}, known before {knows}");
                let read =
                    store.open_file(artifact, b"long").and_then(|mut file| file.read_at(0, &mut [0; 9]));
                // What the index in memory does not know any more it may still know of a run.
                assert_eq!(blamed(read).is_some_and(gone), knows, "{context}");
                let dest = setting.scratch.join("restored");
                let restored = store.restore(artifact, &dest, &RestoreOptions::default(), &());
                blamed(restored);
                assert!(!dest.exists());
                if metadata {
                    blamed(store.artifact(artifact).map(drop));
                    blamed(store.missing(artifact, &()));
                }
                // Nothing names this one.
                let unknown = store.artifact(&ArtifactId([7; 32]));
                assert!(matches!(unknown, Err(Error::Absent { .. })), "{context}");
            }
            setting.writer.remove_ref(&setting.key, true).unwrap();
            if metadata {
                let removed = setting.open().artifact(artifact);
                assert!(matches!(removed, Err(Error::Absent { .. })), "{removed:?}");
            }
        }
    }
}

#[test]
fn twenty_thousand_files_are_looked_up_quickly() {
    let scratch = Scratch::new();
    let folder = |of: u32| -> Folder {
        let file = |n: u32| (n.to_string().into_bytes(), Plan::Bytes(noise(u64::from(of * 1000 + n), 150)));
        (0..200).map(file).collect()
    };
    let folders: Folder =
        (0..100).map(|n| (n.to_string().into_bytes(), Plan::Dir(folder(n), 0o755))).collect();
    make(&scratch.join("source"), &folders);
    let writer = writer(&scratch.join("store"));
    let artifact = add(&writer, &scratch.join("source"), &options("app", "1.0")).artifact;
    let time = |store: &Store| {
        let begun = Instant::now();
        assert!(store.missing(&artifact, &()).unwrap().is_nothing());
        begun.elapsed()
    };
    let store = Store::open(&scratch.join("store")).unwrap();
    let (first, again) = (time(&store), time(&store));
    println!("20,000 files: {first:?}, again {again:?}");
    // The bound leaves room for a build without optimisation on a busy machine.
    assert!(first < Duration::from_secs(2) && again < first, "{first:?}, {again:?}");
}
