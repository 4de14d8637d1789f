//! Mounts that go from process to process while others use them. The processes that serve are this test program, run
//! again with a folder in its environment.

#![expect(clippy::disallowed_methods, reason = "what is mounted is used as any program would")]

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use cairn_store::generation::UseOptions;
use cairn_store::{IngestOptions, Input, ProfileName, PublishOptions, Store, Writer, WriterOptions};

use super::wire::{Word, receive, send};
use super::*;
use crate::files::{CacheOptions, Files};
use crate::mount::{Mount, MountError, MountOptions};
use crate::testing::noise;

const FOLDER: &str = "CAIRN_TAKEOVER_TEST";
const FIRST: &str = "CAIRN_TAKEOVER_TEST_FIRST";
/// Packs that are not in the store, but can be fetched once there is a file of the other name.
const ASIDE: &str = "aside";
const ANSWER: &str = "answer";
const EXCHANGES: usize = 50;
/// What the kernel knows while mounts change hands.
const INODES: usize = 20_000;
const GREAT: usize = 3 << 20;

/// Not a test: what a serving process does.
#[test]
fn serve() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let store = Store::open(&folder.join("store")).unwrap();
    let view = store.view().unwrap();
    if folder.join(ASIDE).exists() {
        store.set_fetch(Some(Arc::new(Aside(folder.clone()))));
    }
    let files = Files::open(store.clone(), CacheOptions::new(folder.join("cache"))).unwrap();
    let socket = folder.join("socket");
    let (mount, lock, paused) = if std::env::var_os(FIRST).is_some() {
        let options = MountOptions::new(folder.join("mnt"), ProfileName::default());
        let mount = Mount::new(store, view, files, options).unwrap();
        (mount, std::fs::File::open(folder.join("lock")).unwrap().into(), Duration::ZERO)
    } else {
        let mut offering = ask(UnixStream::connect(&socket).unwrap()).unwrap();
        assert_eq!(offering.extra(), b"extra");
        assert_eq!((offering.take_sockets().len(), offering.take_sockets().len()), (1, 0));
        let lock = offering.lock().try_clone_to_owned().unwrap();
        let Taken { mut mounts, paused, .. } = offering.take(&store, &view, &files).unwrap();
        (mounts.pop().unwrap(), lock, paused)
    };
    let fresh = folder.join(format!("socket.{}", std::process::id()));
    let listener = UnixListener::bind(&fresh).unwrap();
    std::fs::rename(&fresh, &socket).unwrap();
    println!("\nserving {}", paused.as_micros());
    loop {
        let (stream, _) = listener.accept().unwrap();
        let sockets = vec![listener.as_fd()];
        let belongings = Belongings { lock: lock.as_fd(), sockets, extra: b"extra".to_vec() };
        match offer(stream, &[&mount], belongings) {
            Ok(handed) => handed.exit(),
            Err(error) => println!("\nstayed: {error}"),
        }
    }
}

/// Fetches packs that were put aside, when it may. Says by a file that it was asked.
struct Aside(PathBuf);

impl cairn_store::Fetch for Aside {
    fn fetch(&self, _: &[cairn_store::ChunkRef], _: cairn_store::Why) -> cairn_store::Result<()> {
        std::fs::write(self.0.join(format!("asked.{}", std::process::id())), "").unwrap();
        wait_for(&self.0.join(ANSWER));
        for pack in std::fs::read_dir(self.0.join(ASIDE)).unwrap() {
            let pack = pack.unwrap();
            let _ = std::fs::hard_link(pack.path(), self.0.join("store/packs").join(pack.file_name()));
        }
        Ok(())
    }
}

fn wait_for(file: &Path) {
    let end = Instant::now() + Duration::from_secs(60);
    while !file.exists() {
        assert!(Instant::now() < end, "{} does not come", file.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A serving process and what it says.
struct Server {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Server {
    fn start(folder: &Path, first: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "takeover::tests::serve", "--nocapture"]).env(FOLDER, folder);
        if first {
            command.env(FIRST, "yes");
        }
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        Self { child, says }
    }

    /// What follows the word in the next line that begins with it.
    fn hear(&mut self, word: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.says.read_line(&mut line).unwrap(), 0, "it ended without saying {word:?}");
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
    }

    fn paused(&mut self) -> Duration {
        Duration::from_micros(self.hear("serving").parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends the last server and unmounts, however the test ends.
struct World {
    folder: tempfile::TempDir,
    server: Server,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.mnt(), rustix::mount::UnmountFlags::DETACH);
        let _ = self.server.child.kill();
        let _ = self.server.child.wait();
    }
}

impl World {
    fn new() -> Self {
        Self::with_packs(|_, _| ())
    }

    /// Does something with the store's packs before it is served.
    fn with_packs(work: impl FnOnce(&Path, &[cairn_store::store::PackSummary])) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        std::fs::create_dir_all(tree.join("bin")).unwrap();
        std::fs::create_dir(folder.path().join("mnt")).unwrap();
        std::fs::write(folder.path().join("lock"), "").unwrap();
        std::fs::write(tree.join("great"), noise(1, GREAT)).unwrap();
        std::fs::write(tree.join("small"), noise(2, 20_000)).unwrap();
        std::fs::copy("/bin/cat", tree.join("bin/tool")).unwrap();
        std::fs::set_permissions(tree.join("bin/tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
        for dir in 0..INODES / 1000 {
            let dir = tree.join(format!("many/{dir}"));
            std::fs::create_dir_all(&dir).unwrap();
            (0..1000).for_each(|file| std::fs::write(dir.join(file.to_string()), "x").unwrap());
        }
        let options =
            WriterOptions { wait: Duration::from_secs(10), command: "test".into(), who: "test".into() };
        let writer = Writer::open(&folder.path().join("store"), &options, &()).unwrap();
        let package = IngestOptions::package("tool".parse().unwrap(), "1".parse().unwrap());
        let ingested = writer.ingest(Input::Paths(vec![tree]), &package, &()).unwrap();
        writer.publish(&ingested, &PublishOptions::default()).unwrap();
        let view = writer.names();
        let (key, record) = view.refs.iter().next().unwrap();
        let set = vec![(key.clone(), record.artifact)];
        writer.use_packages(&UseOptions { set, ..UseOptions::default() }).unwrap();
        let packs = writer.packs().unwrap();
        drop(writer);
        work(folder.path(), &packs);
        let mut server = Server::start(folder.path(), true);
        server.paused();
        Self { folder, server }
    }

    fn mnt(&self) -> PathBuf {
        self.folder.path().join("mnt")
    }

    fn exchange(&mut self) -> Duration {
        let mut next = Server::start(self.folder.path(), false);
        let paused = next.paused();
        let status = self.server.child.wait().unwrap();
        assert!(status.success(), "{status}");
        self.server = next;
        paused
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.folder.path().join("socket")).unwrap()
    }
}

fn can_mount() -> bool {
    let can = rustix::process::geteuid().is_root() && Path::new("/dev/fuse").exists();
    if !can {
        eprintln!("SKIPPED: takeovers: they need root and /dev/fuse");
    }
    can
}

/// Uses the mount until told to stop; the longest that one operation took, in microseconds, is kept.
fn use_it(tool: &Path, stop: &AtomicBool, longest_us: &AtomicU64, work: impl Fn(&Path)) {
    while !stop.load(Ordering::SeqCst) {
        let begun = Instant::now();
        work(tool);
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap();
        longest_us.fetch_max(took, Ordering::SeqCst);
    }
}

#[test]
fn fifty_processes_serve_one_after_the_other_and_nobody_notices() {
    if !can_mount() {
        return;
    }
    let mut world = World::new();
    let tool = world.mnt().join("current/tool");
    let mut known = 0;
    for dir in 0..INODES / 1000 {
        for file in 0..1000 {
            assert_eq!(std::fs::metadata(tool.join(format!("many/{dir}/{file}"))).unwrap().len(), 1);
            known += 1;
        }
    }
    // A program that runs from the mount all the time, its pages mapped from there.
    let mut cat =
        Command::new(tool.join("bin/tool")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut echo = BufReader::new(cat.stdout.take().unwrap());
    let held = std::fs::File::open(tool.join("great")).unwrap();
    let (stop, longest_us, ignored) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mut pauses = Vec::new();
    let (great, small) = (noise(1, GREAT), noise(2, 20_000));
    std::thread::scope(|scope| {
        let stopped = StopOnDrop(&stop);
        let (tool, stop, longest_us, ignored) = (&tool, &stop, &longest_us, &ignored);
        scope.spawn(|| {
            use_it(tool, stop, ignored, |tool| {
                assert!(std::fs::read(tool.join("great")).unwrap() == great);
            })
        });
        scope.spawn(|| {
            use_it(tool, stop, longest_us, |tool| {
                assert!(std::fs::read(tool.join("small")).unwrap() == small);
                assert!(std::fs::metadata(tool.join("many/absent")).is_err());
            })
        });
        scope.spawn(|| {
            use_it(tool, stop, ignored, |tool| {
                let output =
                    Command::new(tool.join("bin/tool")).arg("small").current_dir(tool).output().unwrap();
                assert!(output.status.success() && output.stdout == small);
            })
        });
        for number in 0..EXCHANGES {
            pauses.push(world.exchange());
            let line = format!("line {number}\n");
            cat.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
            let mut answer = String::new();
            echo.read_line(&mut answer).unwrap();
            assert_eq!(answer, line);
            let mut bytes = [0; 1000];
            rustix::io::pread(&held, &mut bytes, 4096 * number as u64).unwrap();
            assert_eq!(bytes, great[4096 * number..][..1000]);
        }
        drop(stopped);
    });
    drop(cat.stdin.take());
    assert!(cat.wait().unwrap().success());
    pauses.sort();
    let (median, worst) = (pauses[pauses.len() / 2], pauses[pauses.len() - 1]);
    let longest = Duration::from_micros(longest_us.load(Ordering::SeqCst));
    eprintln!(
        "{EXCHANGES} takeovers, {known} inodes: pause {median:?} median, {worst:?} worst; longest operation {longest:?}"
    );
}

/// Lets the users of a mount end also when the test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn who_waits_for_a_fetch_is_answered_by_the_next_process() {
    if !can_mount() {
        return;
    }
    let mut world = World::with_packs(|folder, packs| {
        std::fs::create_dir(folder.join(ASIDE)).unwrap();
        for pack in packs.iter().filter(|pack| !pack.metadata) {
            let name = format!("{}.pack", pack.id);
            std::fs::rename(folder.join("store/packs").join(&name), folder.join(ASIDE).join(&name)).unwrap();
        }
    });
    let asked = |server: &Server, folder: &Path| folder.join(format!("asked.{}", server.child.id()));
    let great = world.mnt().join("tool/1/great");
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || std::fs::read(great));
        for _ in 0..3 {
            wait_for(&asked(&world.server, world.folder.path()));
            world.exchange();
        }
        wait_for(&asked(&world.server, world.folder.path()));
        assert!(!reader.is_finished(), "nobody could answer");
        std::fs::write(world.folder.path().join(ANSWER), "").unwrap();
        assert!(reader.join().unwrap().unwrap() == noise(1, GREAT));
    });
}

#[test]
fn a_process_that_dies_before_it_has_everything_changes_nothing() {
    if !can_mount() {
        return;
    }
    let mut world = World::new();
    let small = world.mnt().join("tool/1/small");
    for _ in 0..3 {
        // It asks and goes.
        drop(ask(world.connect()).unwrap());
        world.server.hear("stayed");
        assert!(std::fs::read(&small).unwrap() == noise(2, 20_000));
        // It goes in the middle of the pause.
        let mut offering = ask(world.connect()).unwrap();
        send(&mut offering.stream, &Word::Ready).unwrap();
        assert!(matches!(receive(&mut offering.stream, PREPARE_MAX).unwrap(), Word::Last(_)));
        drop(offering);
        world.server.hear("stayed");
        assert!(std::fs::read(world.mnt().join("tool/1/great")).unwrap() == noise(1, GREAT));
        assert!(std::fs::metadata(world.mnt().join("tool/1/absent")).is_err());
    }
    // After all that it can still be taken over.
    world.exchange();
    assert!(std::fs::read(&small).unwrap() == noise(2, 20_000));
}

#[test]
fn a_killed_process_leaves_a_dead_mount_that_is_mounted_over() {
    if !can_mount() {
        return;
    }
    let mut world = World::new();
    let held = std::fs::File::open(world.mnt().join("tool/1/great")).unwrap();
    assert!(!crate::is_dead(&world.mnt()));
    world.server.child.kill().unwrap();
    world.server.child.wait().unwrap();
    assert!(crate::is_dead(&world.mnt()));
    // The kernel reads it by itself.
    let mut bytes = [0; 1000];
    rustix::io::pread(&held, &mut bytes, 2 << 20).unwrap();
    assert_eq!(bytes, noise(1, GREAT)[2 << 20..][..1000]);
    world.server = Server::start(world.folder.path(), true);
    world.server.paused();
    assert!(std::fs::read(world.mnt().join("tool/1/small")).unwrap() == noise(2, 20_000));
    // A dead one can be unmounted by name too.
    world.server.child.kill().unwrap();
    world.server.child.wait().unwrap();
    crate::unmount_dead(&world.mnt()).unwrap();
    assert!(std::fs::read_dir(world.mnt()).unwrap().next().is_none());
    assert!(matches!(crate::unmount_dead(&world.mnt()), Err(MountError::NotMounted { .. })));
}

#[test]
fn who_asks_for_what_cannot_be_passed_is_told_why() {
    if !can_mount() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("mnt")).unwrap();
    let options = WriterOptions { wait: Duration::from_secs(10), command: "test".into(), who: "test".into() };
    let writer = Writer::open(&folder.path().join("store"), &options, &()).unwrap();
    let store = writer.store().clone();
    let files = Files::open(store.clone(), CacheOptions::new(folder.path().join("cache"))).unwrap();
    let options = MountOptions::new(folder.path().join("mnt"), ProfileName::default());
    let mut mount = Mount::new(store, writer.names(), files, options).unwrap();
    mount.legacy.handshake.capabilities = 0;
    let (here, there) = UnixStream::pair().unwrap();
    let lock = folder_lock(&folder);
    let belongings = Belongings { lock: lock.as_fd(), sockets: Vec::new(), extra: Vec::new() };
    let refused = offer(here, &[&mount], belongings);
    assert!(matches!(refused, Err(TakeoverError::Kernel)));
    let Err(TakeoverError::Refused { why }) = ask(there).map(drop) else { panic!("it is refused") };
    assert!(why.contains("Linux 6.9"), "{why}");
}

fn folder_lock(folder: &tempfile::TempDir) -> std::fs::File {
    std::fs::File::create(folder.path().join("lock")).unwrap()
}
