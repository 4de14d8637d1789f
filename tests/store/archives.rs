//! Archives of everything that trees hold, through files and pipes, on a real file system.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use cairn_store::archive::{ArchiveReader, ArchiveRequest, ImportOptions, Imported};
use cairn_store::{Error, IngestOptions, MetadataPolicy, Progress, Result, Writer};
use cairn_trust::{Envelope, Signature};
use harness::bytes::{noise, text};
use harness::compare::Snapshot;
use harness::plan::{Fill, Folder, Plan, any_folder, make};
use harness::scratch::Scratch;
use harness::seed::cases;
use harness::stores::{add, assert_sound, options, restore, writer};
use proptest::prelude::*;

fn archive(from: &Writer, specs: &[&str], to: &mut dyn Write) {
    from.origin().unwrap();
    let specs = specs.iter().map(|spec| spec.parse().unwrap()).collect();
    let request = ArchiveRequest { specs, ..ArchiveRequest::default() };
    let plan = from.plan_archive(&request, &()).unwrap();
    from.write_archive(&plan, to, Path::new("archive"), &()).unwrap();
}

fn import(to: &Writer, from: &mut dyn Read) -> Result<Imported> {
    to.import_archive(ArchiveReader::open(from, Path::new("archive"))?, &ImportOptions::default(), &())
}

fn full(name: &str, version: &str) -> IngestOptions {
    IngestOptions { policy: MetadataPolicy::Full, ..options(name, version) }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn any_tree_comes_back_from_an_archive(folder in any_folder(), is_full: bool) {
        let scratch = Scratch::in_memory();
        let (from, source) = (writer(&scratch.join("from")), scratch.join("source"));
        make(&source, &folder);
        let options = if is_full { full("app", "1") } else { options("app", "1") };
        let added = add(&from, &source, &options);
        let mut bytes = Vec::new();
        archive(&from, &["app@1"], &mut bytes);
        let to = writer(&scratch.join("to"));
        let imported = import(&to, &mut &bytes[..]).unwrap();
        prop_assert_eq!(imported.artifacts[0].artifact, added.artifact);
        assert_sound(&to);
        restore(&from, &added.artifact, &scratch.join("there"));
        restore(&to, &added.artifact, &scratch.join("here"));
        prop_assert_eq!(Snapshot::of(&scratch.join("here")), Snapshot::of(&scratch.join("there")));
    }
}

/// A tree with long files, so that there are many frames of both kinds.
fn large(path: &Path, seed: u64) {
    let mut folder = Folder::new();
    folder.insert(b"noise".to_vec(), Plan::File(Fill::Noise(seed), 9_000_000, 0o644));
    folder.insert(b"text".to_vec(), Plan::File(Fill::Text(seed), 5_000_000, 0o755));
    folder.insert(b"sparse".to_vec(), Plan::File(Fill::Sparse(seed), 40_000_000, 0o644));
    let many = (0..3000u64).map(|n| (format!("{n:05}").into_bytes(), Plan::Bytes(noise(n, 200))));
    folder.insert(b"many".to_vec(), Plan::Dir(many.collect(), 0o755));
    make(path, &folder);
}

#[test]
fn an_archive_goes_through_a_pipe_a_little_at_a_time() {
    /// Gives a few bytes at each call.
    struct Slow<R>(R);
    impl<R: Read> Read for Slow<R> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let len = buffer.len().min(4093);
            self.0.read(&mut buffer[..len])
        }
    }
    let scratch = Scratch::new();
    let (from, to) = (writer(&scratch.join("from")), writer(&scratch.join("to")));
    large(&scratch.join("source"), 1);
    let added = add(&from, &scratch.join("source"), &options("app", "1"));
    let (reader, mut pipe) = std::io::pipe().unwrap();
    let imported = std::thread::scope(|scope| {
        scope.spawn(|| {
            archive(&from, &["app@1"], &mut pipe);
            drop(pipe);
        });
        import(&to, &mut Slow(reader)).unwrap()
    });
    assert_eq!(imported.artifacts[0].artifact, added.artifact);
    assert!(imported.totals.data_frames > 10 && imported.totals.metadata_frames > 0);
    assert_sound(&to);
    restore(&to, &added.artifact, &scratch.join("back"));
    let taken = |name: &str| Snapshot::of(&scratch.join(name));
    restore(&from, &added.artifact, &scratch.join("there"));
    assert_eq!(taken("back"), taken("there"));
}

#[test]
fn an_import_that_breaks_off_goes_on_from_there() {
    let scratch = Scratch::new();
    let (from, to) = (writer(&scratch.join("from")), writer(&scratch.join("to")));
    large(&scratch.join("source"), 2);
    add(&from, &scratch.join("source"), &options("app", "1"));
    let path = scratch.join("archive");
    archive(&from, &["app@1"], &mut File::create(&path).unwrap());
    let whole = path.metadata().unwrap().len();
    // Cut off, as by a medium that is pulled out.
    let half = &mut File::open(&path).unwrap().take(whole / 2);
    assert!(matches!(import(&to, half), Err(Error::Archive { offset, .. }) if offset == whole / 2));
    assert!(to.names().refs.is_empty());
    drop(to);
    // Stopped by whoever asked for it, and from another process.
    struct Impatient(std::sync::atomic::AtomicU64);
    impl Progress for Impatient {
        fn advance(&self, bytes: u64, _: u64) {
            self.0.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        }
        fn cancelled(&self) -> bool {
            self.0.load(std::sync::atomic::Ordering::Relaxed) > 8_000_000
        }
    }
    let to = writer(&scratch.join("to"));
    let mut file = File::open(&path).unwrap();
    let reader = ArchiveReader::open(&mut file, &path).unwrap();
    let stopped = to.import_archive(reader, &ImportOptions::default(), &Impatient(0.into()));
    assert!(matches!(stopped, Err(Error::Cancelled)));
    assert!(to.names().refs.is_empty());
    drop(to);
    let to = writer(&scratch.join("to"));
    let imported = import(&to, &mut BufReader::new(File::open(&path).unwrap())).unwrap();
    let new = imported.artifacts[0].new.plain_bytes;
    assert!(new > 0 && new < imported.totals.plain_bytes / 2, "{new} of {}", imported.totals.plain_bytes);
    assert_sound(&to);
}

#[test]
fn what_others_signed_travels_byte_for_byte() {
    let scratch = Scratch::in_memory();
    let from = writer(&scratch.join("from"));
    let file = scratch.file("file", &text(1, 5000));
    let added = add(&from, &file, &options("app", "1"));
    from.origin().unwrap();
    let mut signed = from.names().statement_of(&added.key).unwrap();
    signed.signatures = vec![
        Signature { keyid: "one".to_owned(), sig: noise(1, 64) },
        Signature { keyid: "another".to_owned(), sig: noise(2, 8000) },
    ];
    let middle = writer(&scratch.join("middle"));
    let mut bytes = Vec::new();
    archive(&from, &["app@1"], &mut bytes);
    import(&middle, &mut &bytes[..]).unwrap();
    // From now on it has somebody's signatures.
    middle.publish_pulled(&added.artifact, std::slice::from_ref(&signed), &Default::default()).unwrap();
    let mut bytes = Vec::new();
    archive(&middle, &["app@1"], &mut bytes);
    let to = writer(&scratch.join("to"));
    import(&to, &mut &bytes[..]).unwrap();
    assert_eq!(to.names().statement_of(&added.key), Some(signed.clone()));
    assert!(signed.to_json() == Envelope::from_json(signed.to_json().as_bytes()).unwrap().to_json());
}

#[test]
fn what_is_not_whole_or_has_no_name_goes_into_no_archive() {
    let scratch = Scratch::in_memory();
    let from = writer(&scratch.join("from"));
    let added = add(&from, &scratch.file("file", &noise(1, 50_000)), &options("app", "1"));
    let plan = |writer: &Writer, spec: &str| {
        let request = ArchiveRequest { specs: vec![spec.parse().unwrap()], ..ArchiveRequest::default() };
        writer.plan_archive(&request, &()).map(drop)
    };
    assert!(matches!(plan(&from, "app@1"), Err(Error::Unavailable { .. })), "it has no origin yet");
    from.origin().unwrap();
    plan(&from, "app@1").unwrap();
    assert!(matches!(plan(&from, "app@2"), Err(Error::Absent { .. })));
    let nothing = ArchiveRequest::default();
    assert!(matches!(from.plan_archive(&nothing, &()), Err(Error::Invalid { .. })));
    let to = writer(&scratch.join("to"));
    harness::neighbour::copy_metadata(&from, &to, &added.artifact);
    let partial = cairn_store::PulledOptions { partial: true, ..Default::default() };
    to.publish_pulled(&added.artifact, &harness::neighbour::statements(&from, &added.key), &partial).unwrap();
    assert!(matches!(plan(&to, "app@1"), Err(Error::Incomplete { .. })));
    from.remove_ref(&added.key, true).unwrap();
    assert!(matches!(plan(&from, &added.artifact.to_string()), Err(Error::Absent { .. })));
}

#[test]
fn a_reader_that_fails_is_no_damage() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from_raw_os_error(5))
        }
    }
    let scratch = Scratch::in_memory();
    let to = writer(&scratch.join("to"));
    assert!(matches!(import(&to, &mut Broken), Err(Error::Tree { action: "read", .. })));
    let from = writer(&scratch.join("from"));
    add(&from, &scratch.file("file", &noise(1, 5000)), &options("app", "1"));
    let mut bytes = Vec::new();
    archive(&from, &["app@1"], &mut bytes);
    let cut = &bytes[..bytes.len() / 2];
    assert!(matches!(import(&to, &mut cut.chain(Broken)), Err(Error::Tree { action: "read", .. })));
    assert!(to.names().refs.is_empty());
}
