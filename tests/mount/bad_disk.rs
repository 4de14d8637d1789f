//! A disk below the store that panics, as any code may that answers the kernel, and one that does not answer for a while.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use cairn_store::Writer;
use cairn_store::io::{Bytes, Io, Listed, Os, ReadFile, WriteFile};
use harness::bytes::noise;
use rustix::io::Errno;

use crate::mounted::{LARGE, Mounted, SMALL};

/// Longer than an answer can take that waits for nothing.
const FAR_TOO_LONG: Duration = Duration::from_secs(60);

/// The disk of this machine, until it is to panic or to stall wherever a file is read.
#[derive(Clone, Default)]
struct Shaky {
    panics: Arc<AtomicBool>,
    /// Whether it stalls, and how many wait for it.
    stall: Arc<(Mutex<(bool, u32)>, Condvar)>,
}

impl Shaky {
    fn shake(&self) {
        let (stall, changed) = &*self.stall;
        let mut state = stall.lock().unwrap();
        if state.0 {
            state.1 += 1;
            changed.notify_all();
            state = changed.wait_while(state, |state| state.0).unwrap();
            state.1 -= 1;
        }
        drop(state);
        assert!(!self.panics.load(Ordering::SeqCst), "the disk panics, as this test wants it");
    }
}

impl Io for Shaky {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        self.shake();
        Ok(Arc::new(ShakyFile { disk: self.clone(), file: Os.open(path)? }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn WriteFile>> {
        Os.create(path)
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn WriteFile>> {
        Os.open_write(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Os.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Os.remove(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        Os.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        Os.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        self.shake();
        Os.list(path)
    }
}

struct ShakyFile {
    disk: Shaky,
    file: Arc<dyn ReadFile>,
}

impl ReadFile for ShakyFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.shake();
        self.file.read_exact_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.shake();
        self.file.len()
    }

    fn map(&self) -> io::Result<Bytes> {
        self.disk.shake();
        self.file.map()
    }
}

#[test]
fn a_panic_is_an_error_for_whoever_asked_and_the_mount_lives_on() {
    let disk = Shaky::default();
    let opened = disk.clone();
    let test = "a panic in a handler";
    let mounted =
        Mounted::over(test, |folder, options| Writer::open_with(Arc::new(opened), folder, options).unwrap());
    let Some(mounted) = mounted else { return };
    let (small, large) = (noise(1, SMALL), noise(2, LARGE));
    mounted.add("node", "1", &[("small", &small), ("large", &large), ("deep/er/file", b"x")]);
    mounted.add("node", "2", &[("small", b"2")]);
    mounted.use_(&["node@2"]);
    mounted.use_(&["node@1"]);
    let failed = |path: &str| {
        let error = fs::read(mounted.at(path)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()), "{path}: {error}");
    };
    disk.panics.store(true, Ordering::SeqCst);
    // Before its directory is known: the look-up panics. More often than there are threads.
    for _ in 0..20 {
        failed("node/1/small");
    }
    disk.panics.store(false, Ordering::SeqCst);
    let names = |path: &str| fs::read_dir(mounted.at(path)).unwrap().count();
    assert_eq!((names("node/1"), names("node/1/deep")), (3, 1));
    disk.panics.store(true, Ordering::SeqCst);
    // Afterwards what reads the content does: at once, on the pool, and for the whole file.
    for _ in 0..20 {
        failed("node/1/small");
        failed("current/node/large");
    }
    mounted.switch(1);
    assert_eq!(fs::read_link(mounted.at("node/current")).unwrap(), Path::new("2"), "flips go on");
    disk.panics.store(false, Ordering::SeqCst);
    assert!(fs::read(mounted.at("node/1/small")).unwrap() == small);
    assert!(fs::read(mounted.at("node/1/large")).unwrap() == large);
    assert_eq!(fs::read(mounted.at("node/1/deep/er/file")).unwrap(), b"x");
    assert_eq!(fs::read(mounted.at("current/node/small")).unwrap(), b"2");
}

/// Lets the disk answer again, also when the test fails.
struct Stalled<'a>(&'a Shaky);

impl<'a> Stalled<'a> {
    fn new(disk: &'a Shaky) -> Self {
        disk.stall.0.lock().unwrap().0 = true;
        Self(disk)
    }

    /// Waits until somebody waits for the disk.
    fn wait(&self) {
        let (stall, changed) = &*self.0.stall;
        let waited = changed.wait_timeout_while(stall.lock().unwrap(), FAR_TOO_LONG, |state| state.1 == 0);
        assert!(!waited.unwrap().1.timed_out(), "nobody reads");
    }
}

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        let (stall, changed) = &*self.0.stall;
        stall.lock().unwrap().0 = false;
        changed.notify_all();
    }
}

#[test]
fn who_waits_for_the_disk_keeps_nobody_else_waiting() {
    let Some(mounted) = Mounted::new("a disk that does not answer") else { return };
    let small = noise(1, SMALL);
    mounted.add("node", "1", &[("small", &small), ("deep/file", b"x")]);
    mounted.add("node", "2", &[("small", b"2")]);
    mounted.use_(&["node@1"]);
    mounted.use_(&["node@2"]);
    let disk = Shaky::default();
    let mounted = mounted.anew_over(Arc::new(disk.clone()));
    assert_eq!(fs::read_dir(mounted.at("node/2")).unwrap().count(), 1);
    assert_eq!(fs::read(mounted.at("node/2/small")).unwrap(), b"2");
    let stalled = Stalled::new(&disk);
    let (found, cold) = mpsc::channel();
    std::thread::scope(|scope| {
        let path = mounted.at("node/1/deep/file");
        scope.spawn(move || found.send(fs::read(path).unwrap()).unwrap());
        stalled.wait();
        let (answered, others) = mpsc::channel();
        let at = |path: &str| mounted.at(path);
        let (known, content, current) = (at("node/2/small"), at("node/2/small"), at("node/current"));
        let mounted = &mounted;
        scope.spawn(move || {
            let len = fs::metadata(known).unwrap().len();
            let absent = fs::metadata(mounted.at("node/3")).is_err();
            let bytes = fs::read(content).unwrap();
            mounted.switch(1);
            answered.send((len, absent, bytes, fs::read_link(current).unwrap())).unwrap();
        });
        let answer = others.recv_timeout(FAR_TOO_LONG);
        assert!(cold.try_recv().is_err(), "the disk did answer");
        drop(stalled);
        assert_eq!(answer.unwrap(), (1, true, b"2".to_vec(), Path::new("1").to_owned()));
        assert_eq!(cold.recv_timeout(FAR_TOO_LONG).unwrap(), b"x");
    });
}
