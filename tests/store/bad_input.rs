//! Input that cannot be stored: an error that names the path, and the store as it was.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_store::{
    Error, IngestOptions, Ingested, Input, MetadataPolicy, Progress, Result, Store, View, Writer,
};
use harness::bytes::noise;
use harness::compare::Snapshot;
use harness::plan::special;
use harness::scratch::Scratch;
use harness::stores::{add, assert_sound, at, options, restore, writer, writer_options};
use harness::user::{give, is_root, skip, unprivileged};
use harness::watch::OnFirstFile;
use rustix::fs::FileType;

/// A store with one artifact, and a tree that is to be refused.
struct Setting {
    scratch: Scratch,
    writer: Writer,
    before: View,
    source: PathBuf,
}

impl Setting {
    fn new() -> Self {
        let scratch = Scratch::new();
        let writer = writer(&scratch.join("store"));
        let first = scratch.folder("first");
        fs::write(first.join("file"), noise(1, 10_000)).unwrap();
        add(&writer, &first, &options("first", "1"));
        let before = View::clone(&*writer.view().unwrap());
        let source = scratch.folder("source");
        fs::write(source.join("a"), noise(2, 20_000)).unwrap();
        fs::write(source.join("z"), noise(3, 500_000)).unwrap();
        Self { scratch, writer, before, source }
    }

    fn ingest(&self, progress: &dyn Progress) -> Result<Ingested> {
        self.writer.ingest(at(&self.source), &options("second", "1"), progress)
    }

    /// The store is as it was, and takes the tree once what was wrong is gone.
    fn expect_as_before(self, mend: impl FnOnce(&Path)) {
        self.expect_untouched();
        mend(&self.source);
        let added = add(&self.writer, &self.source, &options("second", "1"));
        let dest = self.scratch.join("second");
        restore(&self.writer, &added.artifact, &dest);
        Snapshot::of(&self.source).assert_restored(&dest, MetadataPolicy::Portable);
        drop(self.writer);
        let again = writer(&self.scratch.join("store"));
        assert_sound(&again);
        let left = Scratch::names(&self.scratch.join("store/packs"));
        assert!(left.iter().all(|name| name.ends_with(".pack")), "{left:?}");
    }

    fn expect_untouched(&self) {
        assert_eq!(*self.writer.view().unwrap(), self.before);
        let reader = Store::open(&self.scratch.join("store")).unwrap();
        assert_eq!(*reader.view().unwrap(), self.before);
        assert_sound(&reader);
        let artifact = self.before.refs.values().next().unwrap().artifact;
        let dest = self.scratch.join("restored");
        restore(&reader, &artifact, &dest);
        Snapshot::of(&self.scratch.join("first")).assert_restored(&dest, MetadataPolicy::Portable);
    }
}

/// The path that an error is about.
fn named(error: &Error) -> &Path {
    match error {
        Error::Tree { path, .. } | Error::Input { path, .. } | Error::Io { path, .. } => path,
        other => panic!("{other:?} names no path"),
    }
}

fn expect_named<T: std::fmt::Debug>(result: Result<T>, path: &Path) {
    let error = result.unwrap_err();
    assert_eq!(named(&error), path, "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn pipes_sockets_and_devices() {
    let kinds =
        [("pipe", FileType::Fifo), ("char", FileType::CharacterDevice), ("block", FileType::BlockDevice)];
    for (name, kind) in kinds {
        if kind != FileType::Fifo && !is_root() {
            skip(name, "only root may make devices");
            continue;
        }
        for policy in [MetadataPolicy::Portable, MetadataPolicy::Full] {
            let setting = Setting::new();
            let path = setting.source.join(name);
            special(&path, kind, 1, 3);
            let options = IngestOptions { policy, ..options("second", "1") };
            let refused = setting.writer.ingest(at(&setting.source), &options, &());
            assert!(matches!(refused, Err(Error::Input { .. })), "{refused:?}");
            expect_named(refused, &path);
            // By its own name it is no better.
            expect_named(setting.writer.ingest(at(&path), &options, &()), &path);
            setting.expect_as_before(|_| fs::remove_file(&path).unwrap());
        }
    }
}

#[test]
fn sockets_even_where_pipes_are_kept() {
    let setting = Setting::new();
    let path = setting.source.join("socket");
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let policy = MetadataPolicy::Full;
    let options = IngestOptions { policy, special_files: true, ..options("second", "1") };
    expect_named(setting.writer.ingest(at(&setting.source), &options, &()), &path);
    setting.expect_as_before(|_| fs::remove_file(&path).unwrap());
}

#[test]
fn paths_that_are_not_there() {
    let setting = Setting::new();
    let path = setting.source.join("nothing");
    expect_named(setting.writer.ingest(at(&path), &options("second", "1"), &()), &path);
    let below = setting.source.join("a/below");
    expect_named(setting.writer.ingest(at(&below), &options("second", "1"), &()), &below);
    symlink("nowhere", setting.source.join("dangling")).unwrap();
    let dangling = setting.source.join("dangling");
    expect_named(setting.writer.ingest(at(&dangling), &options("second", "1"), &()), &dangling);
    setting.expect_as_before(|_| ());
}

#[test]
fn paths_that_cannot_be_one_artifact() {
    let setting = Setting::new();
    let other = setting.scratch.folder("other");
    fs::write(other.join("a"), b"another").unwrap();
    let [a, z] = ["a", "z"].map(|name| setting.source.join(name));
    let choices = [
        vec![],
        vec![setting.source.clone(), other.clone()],
        vec![a.clone(), other.clone()],
        vec![a.clone(), other.join("a")],
        vec![z.clone(), a.clone(), z],
    ];
    for paths in choices {
        let refused = setting.writer.ingest(Input::Paths(paths), &options("second", "1"), &());
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
    setting.expect_as_before(|_| ());
}

type Act<'a> = &'a (dyn Fn(&Path) + Sync);

#[test]
fn files_that_change_while_they_are_read() {
    // Lengths of a small file, a long one, and one of many windows.
    for len in [10_000, 400_000, 20 << 20] {
        let changes: [(&str, Act<'_>); 7] = [
            ("shrinks", &|path| OpenOptions::new().write(true).open(path).unwrap().set_len(len / 2).unwrap()),
            ("is emptied", &|path| drop(fs::File::create(path).unwrap())),
            ("grows", &|path| {
                OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
            }),
            ("is written over", &|path| {
                OpenOptions::new().write(true).open(path).unwrap().write_all(b"other").unwrap();
            }),
            ("is removed", &|path| fs::remove_file(path).unwrap()),
            ("becomes a link", &|path| {
                fs::remove_file(path).unwrap();
                symlink("a", path).unwrap();
            }),
            ("becomes a pipe", &|path| {
                fs::remove_file(path).unwrap();
                special(path, FileType::Fifo, 0, 0);
            }),
        ];
        for (what, change) in changes {
            let setting = Setting::new();
            fs::remove_file(setting.source.join("a")).unwrap();
            fs::remove_file(setting.source.join("z")).unwrap();
            let path = setting.source.join("changing");
            fs::write(&path, noise(4, usize::try_from(len).unwrap())).unwrap();
            setting.scratch.let_grain_pass(&path);
            let refused = setting.ingest(&OnFirstFile::new(|| change(&path)));
            println!("{what}, {len} bytes: {refused:?}");
            expect_named(refused, &path);
            setting.expect_as_before(|_| {
                let _ = fs::remove_file(&path);
                fs::write(&path, noise(5, 1000)).unwrap();
            });
        }
    }
}

#[test]
fn a_file_that_keeps_growing() {
    let setting = Setting::new();
    let path = setting.source.join("z");
    let (written, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            while !stop.load(Ordering::SeqCst) {
                file.write_all(b"a line of a log\n").unwrap();
                written.store(true, Ordering::SeqCst);
            }
        });
        let wait = OnFirstFile::new(|| {
            // What is seen of the file after this is written to.
            written.store(false, Ordering::SeqCst);
            while !written.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        });
        let refused = setting.ingest(&wait);
        stop.store(true, Ordering::SeqCst);
        expect_named(refused, &path);
    });
    setting.expect_as_before(|_| ());
}

#[test]
fn a_folder_that_vanishes() {
    let setting = Setting::new();
    // Enough before it that the walk is not there yet when the first file is met.
    for number in 0..3000 {
        fs::write(setting.source.join(format!("b{number}")), b"x").unwrap();
    }
    let folder = setting.source.join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), b"x").unwrap();
    let refused = setting.ingest(&OnFirstFile::new(|| fs::remove_dir_all(&folder).unwrap()));
    expect_named(refused, &folder);
    setting.expect_as_before(|_| ());
}

#[test]
fn files_and_folders_that_may_not_be_read() {
    for (name, is_dir) in [("file", false), ("folder", true)] {
        let scratch = Scratch::new();
        scratch.open_to_all();
        let source = scratch.folder("source");
        fs::write(source.join("a"), noise(1, 1000)).unwrap();
        let path = source.join(name);
        if is_dir {
            fs::create_dir(&path).unwrap();
        } else {
            fs::write(&path, b"secret").unwrap();
        }
        fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        let place = scratch.folder("store");
        give(&place);
        unprivileged(|| {
            let writer = writer(&place);
            let refused = writer.ingest(at(&source), &options("secret", "1"), &());
            let error = refused.unwrap_err();
            assert_eq!(named(&error), path, "{error}");
            assert!(
                matches!(&error, Error::Tree { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied)
            );
            assert!(writer.view().unwrap().refs.is_empty());
            assert_sound(&writer);
        });
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        unprivileged(|| drop(add(&writer(&place), &source, &options("secret", "1"))));
    }
}

#[test]
fn a_store_that_may_be_read_and_not_written() {
    let scratch = Scratch::new();
    scratch.open_to_all();
    let source = scratch.folder("source");
    fs::write(source.join("a"), noise(1, 300_000)).unwrap();
    let place = scratch.join("store");
    let artifact = add(&writer(&place), &source, &options("read", "1")).artifact;
    if !is_root() {
        for path in harness::plan::all_below(&place).into_iter().chain([place.clone()]) {
            let mode = path.metadata().unwrap().permissions().mode() & 0o555;
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
    }
    let dest = scratch.folder("dest");
    give(&dest);
    unprivileged(|| {
        let store = Store::open(&place).unwrap();
        assert_sound(&store);
        restore(&store, &artifact, &dest.join("restored"));
        let refused = Writer::open(&place, &writer_options(), &()).map(drop).unwrap_err();
        assert!(named(&refused).starts_with(&place), "{refused}");
    });
    Snapshot::of(&source).assert_restored(&dest.join("restored"), MetadataPolicy::Portable);
}

#[test]
fn paths_that_are_too_long_for_the_system() {
    let setting = Setting::new();
    let name = "n".repeat(200);
    let mut folder = fs::File::open(&setting.source).unwrap();
    for _ in 0..30 {
        rustix::fs::mkdirat(&folder, &name, rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        folder = rustix::fs::openat(&folder, &name, flags, rustix::fs::Mode::empty()).unwrap().into();
    }
    let error = setting.ingest(&()).unwrap_err();
    assert!(named(&error).starts_with(&setting.source), "{error}");
    setting.expect_as_before(|source| fs::remove_dir_all(source.join(&name)).unwrap());
}

/// Gives some bytes, and then fails.
struct Failing(usize);

impl Read for Failing {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.0 == 0 {
            return Err(std::io::Error::other("the line is dead"));
        }
        let len = buf.len().min(self.0);
        buf[..len].fill(7);
        self.0 -= len;
        Ok(len)
    }
}

#[test]
fn streams_that_fail_or_have_no_name() {
    let setting = Setting::new();
    let stream = |name: &str, len| Input::Reader {
        name: name.to_owned(),
        executable: false,
        reader: Box::new(Failing(len)),
    };
    for len in [0, 100, 100_000, 5 << 20] {
        let refused = setting.writer.ingest(stream("stream", len), &options("second", "1"), &());
        expect_named(refused, Path::new("stream"));
    }
    for name in ["", ".", "..", "a/b", "a\0b", &"n".repeat(256)] {
        let refused = setting.writer.ingest(stream(name, 100), &options("second", "1"), &());
        assert!(refused.is_err(), "{name}");
    }
    setting.expect_as_before(|_| ());
}

#[test]
fn a_stop_on_request_leaves_the_store_as_it_was() {
    for asked in [0, 1, 2, 3, 5] {
        let setting = Setting::new();
        let cancel = harness::watch::CancelAt::new(asked);
        let stopped = setting.ingest(&cancel);
        if !cancel.reached() {
            assert!(stopped.is_ok());
            continue;
        }
        assert!(matches!(stopped, Err(Error::Cancelled)) || asked > 2, "{stopped:?}");
        setting.expect_as_before(|_| ());
    }
}

#[test]
fn stores_of_a_newer_format_or_none() {
    let scratch = Scratch::new();
    let place = scratch.join("store");
    drop(writer(&place));
    let marker = place.join("cairn-store");
    let before = Snapshot::of(&place);
    fs::write(&marker, "cairn store\nformat 2\n").unwrap();
    let both = || [Store::open(&place).map(drop), Writer::open(&place, &writer_options(), &()).map(drop)];
    for opened in both() {
        let newer = |error: &Error| matches!(error, Error::NewerFormat { path, found: 2, supported: 1 } if *path == marker);
        assert!(opened.as_ref().is_err_and(newer), "{opened:?}");
    }
    for garbage in ["", "cairn store\nformat one\n", "cairn store\nformat 1", "\0\0\0\0", "another thing"] {
        fs::write(&marker, garbage).unwrap();
        for opened in both() {
            assert!(matches!(opened, Err(Error::Damaged { .. })), "{garbage:?}: {opened:?}");
        }
    }
    fs::write(&marker, "cairn store\nformat 1\n").unwrap();
    let differences = before.differences(&Snapshot::of(&place), MetadataPolicy::Portable);
    assert!(differences.iter().all(|line| line.contains("mtime")), "{differences:?}");
    assert!(both().iter().all(Result::is_ok));
}

#[test]
fn folders_that_hold_something_else() {
    let scratch = Scratch::new();
    let place = scratch.folder("home");
    fs::write(place.join("letter"), b"dear all").unwrap();
    let before = Snapshot::of(&place);
    let refused = Writer::open(&place, &writer_options(), &()).map(drop).unwrap_err();
    assert!(matches!(refused, Error::Invalid { .. }), "{refused}");
    assert_eq!(Snapshot::of(&place), before);
    let file = scratch.file("file", b"no folder");
    let refused = Writer::open(&file, &writer_options(), &()).map(drop).unwrap_err();
    assert_eq!(named(&refused), file, "{refused}");
    assert!(matches!(Store::open(&file), Err(Error::Absent { .. })));
}
