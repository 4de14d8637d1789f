//! Whether all of an artifact is here, and what a store says whose packs are not.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cairn_store::{ArtifactId, Error, Missing, Store, Writer};
use harness::bytes::noise;
use harness::plan::{Fill, Folder, Plan, make};
use harness::scratch::Scratch;
use harness::stores::{add, options, writer};

/// A store with one artifact of a long file, many small ones and a deep one.
struct Setting {
    scratch: Scratch,
    writer: Writer,
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
        let artifact = add(&writer, &source, &options("app", "1.0")).artifact;
        Self { scratch, writer, artifact }
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
