//! A mount of a store that has nothing of a version but its metadata: what is read is fetched, and no more; what cannot be
//! fetched is an error in time, for those who read it, and is there again when it can.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cairn_store::Spec;
use harness::bytes::noise;
use harness::neighbour::{Mood, Neighbour};
use rustix::io::Errno;

use crate::damage::ruin;
use crate::mounted::{LARGE, Mounted, SMALL};

/// Longer than an answer can take that waits for nothing.
const FAR_TOO_LONG: Duration = Duration::from_secs(60);
/// So long that nothing here comes to it.
const NEVER: Duration = Duration::from_secs(600);
const EIO: Option<i32> = Some(Errno::IO.raw_os_error());
const GREAT: usize = 24 << 20;

fn asked_bytes(neighbour: &Neighbour) -> u64 {
    neighbour.asked().iter().map(|asked| asked.bytes()).sum()
}

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// Has the neighbour answer when the test ends, however it does.
struct Silent<'a>(&'a Neighbour);

impl<'a> Silent<'a> {
    fn new(neighbour: &'a Neighbour) -> Self {
        neighbour.set(Mood::Silent);
        Self(neighbour)
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        self.0.set(Mood::OutOfReach);
    }
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + FAR_TOO_LONG;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_program_starts_before_it_is_complete_and_only_a_part_is_fetched() {
    let Some(far) = Mounted::new("a program that is not here yet") else { return };
    // A program that is mostly something that it never looks at.
    let program = [fs::read("/bin/bash").unwrap(), noise(1, GREAT)].concat();
    far.add("shell", "1", &[("bin/shell", &program), ("share/other", &noise(2, GREAT))]);
    let (mounted, neighbour) = far.lazily(NEVER);
    let path = mounted.at("shell/1/bin/shell");
    // Names, sizes and listings take nothing of the files.
    assert_eq!(fs::metadata(&path).unwrap().len(), program.len() as u64);
    assert_eq!(fs::read_dir(mounted.at("shell/1/share")).unwrap().count(), 1);
    drop(File::open(&path).unwrap());
    assert!(neighbour.asked().is_empty());
    let output = Command::new(&path).args(["-c", "echo started"]).output().unwrap();
    assert_eq!(output.stdout, b"started\n");
    let fetched = asked_bytes(&neighbour);
    assert!(fetched > 0 && fetched * 4 < program.len() as u64, "{fetched} of {} bytes", program.len());
    assert!(fs::read(&path).unwrap() == program);
    assert_eq!(mounted.files().status().fetch.failures, 0);
}

#[test]
fn any_range_of_what_is_not_here_can_be_read_and_what_came_stays() {
    let Some(far) = Mounted::new("ranges of what is not here yet") else { return };
    let (great, large, small) = (noise(1, GREAT), noise(2, LARGE), noise(3, SMALL));
    far.add("data", "1", &[("great", &great), ("large", &large), ("small", &small), ("inline", b"inline")]);
    let (mounted, neighbour) = far.lazily(NEVER);
    assert_eq!(fs::read(mounted.at("data/1/inline")).unwrap(), b"inline");
    assert!(neighbour.asked().is_empty());
    let file = File::open(mounted.at("data/1/great")).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let (file, great) = (&file, &great);
            scope.spawn(move || {
                for number in 0..12usize {
                    let at = (number * 7919 + thread * 3571) * 4099 % (GREAT - 5000);
                    let mut bytes = [0; 5000];
                    file.read_exact_at(&mut bytes, at as u64).unwrap();
                    assert!(bytes[..] == great[at..at + 5000], "at {at}");
                }
            });
        }
    });
    assert!(fs::read(mounted.at("data/1/small")).unwrap() == small);
    assert!(fs::read(mounted.at("data/1/large")).unwrap() == large);
    assert!(fs::read(mounted.at("data/1/great")).unwrap() == great);
    drop(file);
    neighbour.asked();
    mounted.writer.intake().flush().unwrap();
    // What was fetched once is here, whoever reads it.
    neighbour.set(Mood::OutOfReach);
    let near = mounted.anew_near();
    for (name, plain) in [("great", &great), ("large", &large), ("small", &small)] {
        assert!(fs::read(near.at("data/1").join(name)).unwrap() == *plain);
    }
    assert!(neighbour.asked().is_empty());
}

#[test]
fn a_file_that_has_come_whole_is_kept_whole_after_its_last_close() {
    let Some(far) = Mounted::new("a file that has come whole") else { return };
    let large = noise(1, 3 << 20);
    far.add("data", "1", &[("large", &large)]);
    let (mounted, _neighbour) = far.lazily(NEVER);
    let path = mounted.at("data/1/large");
    let mut open = File::open(&path).unwrap();
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).unwrap();
    assert!(bytes == large);
    // While it is open it is so for everybody, and nothing is put together.
    assert!(fs::read(&path).unwrap() == large);
    assert_eq!(mounted.files().status().materialised, 0);
    drop(open);
    eventually("it is not kept whole", || mounted.files().status().materialised == 1);
    let hits = mounted.files().status().hits;
    assert!(fs::read(&path).unwrap() == large);
    assert!(mounted.files().status().hits > hits, "the whole file was opened");
}

#[test]
fn who_cannot_be_reached_is_an_error_in_time_and_nothing_of_it_is_kept() {
    let Some(far) = Mounted::new("a neighbour that is out of reach") else { return };
    let (here, gone) = (noise(1, LARGE), noise(2, LARGE));
    far.add("data", "1", &[("here", &here), ("gone", &gone)]);
    let (mounted, neighbour) = far.lazily(Duration::from_millis(300));
    let read = |name: &str| fs::read(mounted.at("data/1").join(name));
    assert!(read("here").unwrap() == here);
    // It says no, and it says nothing.
    neighbour.set(Mood::OutOfReach);
    for _ in 0..3 {
        assert_eq!(errno(read("gone")), EIO);
    }
    let silent = Silent::new(&neighbour);
    for _ in 0..3 {
        assert_eq!(errno(read("gone")), EIO, "the time is up");
        assert!(read("here").unwrap() == here);
    }
    let fetch = mounted.files().status().fetch;
    assert!(fetch.failures >= 3 && fetch.late >= 3, "{fetch:?}");
    drop(silent);
    neighbour.set(Mood::Willing);
    assert!(read("gone").unwrap() == gone, "it recovers by itself");
    assert!(mounted.files().status().damage.is_empty(), "what is not here is not damaged");
}

#[test]
fn who_waits_for_a_silent_neighbour_keeps_nobody_else_waiting_and_can_be_killed() {
    let Some(far) = Mounted::new("a silent neighbour") else { return };
    let (here, gone) = (noise(1, LARGE), noise(2, LARGE));
    let names: Vec<_> = (0..48).map(|number| format!("gone{number}")).collect();
    let contents: Vec<_> = (0..48).map(|number| noise(10 + number, 80_000)).collect();
    let mut files: Vec<(&str, &[u8])> = vec![("here", &here), ("gone", &gone)];
    files.extend(names.iter().map(String::as_str).zip(contents.iter().map(Vec::as_slice)));
    far.add("data", "1", &files);
    let (mounted, neighbour) = far.lazily(NEVER);
    assert!(fs::read(mounted.at("data/1/here")).unwrap() == here);
    let silent = Silent::new(&neighbour);
    // More than there are threads to wait for it.
    let mut readers: Vec<_> = std::iter::once("gone")
        .chain(names.iter().map(String::as_str))
        .map(|name| {
            let path = mounted.at("data/1").join(name);
            Command::new("cat").arg(path).stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    neighbour.wait_for_waiting(32);
    let (answered, answers) = mpsc::channel();
    std::thread::scope(|scope| {
        let (mounted, here) = (&mounted, &here);
        scope.spawn(move || {
            for _ in 0..20 {
                assert!(fs::read(mounted.at("data/1/here")).unwrap() == *here);
                assert_eq!(fs::read_dir(mounted.at("data/1")).unwrap().count(), 50);
                assert!(File::open(mounted.at("data/1/gone")).is_ok());
            }
            answered.send(()).unwrap();
        });
        answers.recv_timeout(FAR_TOO_LONG).expect("others are kept waiting");
    });
    for reader in &mut readers {
        assert!(reader.try_wait().unwrap().is_none(), "the neighbour did answer");
        reader.kill().unwrap();
    }
    for reader in &mut readers {
        eventually("a reader cannot be killed", || reader.try_wait().unwrap().is_some());
    }
    // Nobody uses it any more: it is unmounted, and has ended, while requests still wait for the neighbour.
    eventually("it cannot be unmounted", || mounted.unmount(false).is_ok());
    drop(mounted);
    drop(silent);
}

#[test]
fn what_is_damaged_here_and_sound_elsewhere_is_read_all_the_same_and_listed_as_healed() {
    let Some(far) = Mounted::new("damage that a neighbour heals") else { return };
    let (great, large, small) = (noise(1, 3 << 20), noise(2, LARGE), noise(3, SMALL));
    far.add("data", "1", &[("great", &great), ("deep/large", &large), ("deep/er/small", &small)]);
    let (first, neighbour) = far.lazily(NEVER);
    for path in ["great", "deep/large", "deep/er/small"] {
        fs::read(first.at("data/1").join(path)).unwrap();
    }
    first.writer.intake().flush().unwrap();
    let packs = first.writer.packs().unwrap();
    for pack in &packs {
        ruin(&first.scratch.join(format!("near/packs/{}.pack", pack.id)));
    }
    let metadata = packs.iter().filter(|pack| pack.metadata).count();
    assert!(metadata > 0 && metadata < packs.len());
    neighbour.asked();
    let again = first.anew_lazily();
    assert!(fs::read(again.at("data/1/great")).unwrap() == great);
    assert!(fs::read(again.at("data/1/deep/large")).unwrap() == large);
    assert!(fs::read(again.at("data/1/deep/er/small")).unwrap() == small);
    // Whole frames are damaged, and what a read finds damaged is asked for at once.
    let asked = neighbour.asked().len();
    assert!((1..60).contains(&asked), "{asked} requests");
    let (files, names) = (again.files().status(), again.status());
    assert!(files.fetch.healed > 0 && !files.damage.is_empty(), "{files:?}");
    assert!(!names.damage.is_empty(), "a directory was damaged, too");
    for damage in files.damage.iter().chain(&names.damage) {
        assert!(damage.healed && (damage.chunk.is_some() || damage.pack.is_some()), "{damage:?}");
    }
    // What came is kept, and wins from now on.
    neighbour.set(Mood::OutOfReach);
    neighbour.asked();
    assert!(fs::read(again.at("data/1/great")).unwrap() == great);
    assert!(neighbour.asked().is_empty());
}

#[test]
fn a_mount_in_use_is_detached_while_its_reader_waits() {
    let Some(far) = Mounted::new("a mount whose reader waits") else { return };
    let gone = noise(1, LARGE);
    far.add("data", "1", &[("gone", &gone)]);
    let (mounted, neighbour) = far.lazily(NEVER);
    let silent = Silent::new(&neighbour);
    std::thread::scope(|scope| {
        let path = mounted.at("data/1/gone");
        let reader = scope.spawn(move || fs::read(path).unwrap());
        neighbour.wait_for_waiting(1);
        mounted.unmount(true).unwrap();
        assert!(fs::metadata(mounted.at("data")).is_err(), "it is gone from its place");
        assert!(!reader.is_finished());
        drop(silent);
        neighbour.set(Mood::Willing);
        // Either the file was read, or the read had failed when the neighbour was out of reach for a moment.
        let _ = reader.join();
    });
}

#[test]
fn what_was_read_of_a_version_says_what_the_next_one_needs_first() {
    let Some(far) = Mounted::new("what readers touch") else { return };
    let old = noise(1, 4 << 20);
    // The same, a little longer from its middle on, and all of it new.
    let new = noise(2, 5 << 20);
    let files = |great: &[u8]| -> Vec<(&str, Vec<u8>)> {
        vec![("lib/great", great.to_vec()), ("lib/never", noise(3, 1 << 20)), ("small", noise(4, SMALL))]
    };
    for (version, great) in [("1", &old), ("2", &new)] {
        let files = files(great);
        let files: Vec<_> = files.iter().map(|(path, bytes)| (*path, &bytes[..])).collect();
        far.add("data", version, &files);
    }
    let (mounted, _neighbour) = far.lazily(NEVER);
    let names = far.writer.names();
    let artifact = |spec: &str| names.resolve(&spec.parse::<Spec>().unwrap(), None).unwrap().1;
    assert_eq!(mounted.files().working_set(&artifact("data@2")).unwrap(), None, "nobody has read any");
    let file = File::open(mounted.at("data/1/lib/great")).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
    file.read_exact_at(&mut [0; 4096], 2 << 20).unwrap();
    assert_eq!(fs::read(mounted.at("data/1/small")).unwrap().len(), SMALL);
    let own = mounted.files().working_set(&artifact("data@1")).unwrap().unwrap();
    assert_eq!(own.files, 2);
    assert!(own.bytes >= 4096 + SMALL as u64 && own.bytes < 512 << 10, "{} bytes", own.bytes);
    // In the next version it is the same place in proportion.
    let next = mounted.files().working_set(&artifact("data@2")).unwrap().unwrap();
    assert_eq!(next.files, 2);
    assert!(next.bytes < 512 << 10, "{} bytes", next.bytes);
    let middle = wanted_place(&far, "data@2", (5 << 20) / 2);
    assert!(next.chunks.contains(&middle), "the middle of the new file");
    // Another process knows it, too: it is written down.
    let store = mounted.writer.store();
    assert_eq!(cairn_fusefs::WorkingSet::of(store, &artifact("data@2")).unwrap(), Some(next));
}

/// The chunk of the great file of a version that holds the byte at `at`.
fn wanted_place(far: &Mounted, spec: &str, at: u64) -> cairn_store::ChunkRef {
    let store = far.writer.store();
    let (_, artifact) = far.writer.names().resolve(&spec.parse::<Spec>().unwrap(), None).unwrap();
    let root = store.artifact(&artifact).unwrap().root;
    let entry = cairn_store::tree::lookup(&root, b"lib/great", store).unwrap().unwrap();
    let cairn_store::Node::File { size, content } = entry.node else { panic!("{entry:?}") };
    let chunk = cairn_store::content::chunks_from(&content, size, at, store).next();
    chunk.unwrap().unwrap().1
}

#[test]
fn what_the_kernel_reads_by_itself_counts_as_a_whole() {
    let Some(mounted) = Mounted::new("what the kernel reads by itself") else { return };
    let file = noise(1, LARGE);
    mounted.add("data", "1", &[("file", &file), ("other", &noise(2, LARGE))]);
    let read = File::open(mounted.at("data/1/file")).unwrap();
    read.read_exact_at(&mut [0; 100], 0).unwrap();
    let (_, artifact) = mounted.writer.names().resolve(&"data@1".parse::<Spec>().unwrap(), None).unwrap();
    let set = mounted.files().working_set(&artifact).unwrap().unwrap();
    assert_eq!((set.files, set.bytes), (1, file.len() as u64));
    assert!(Path::new(&mounted.scratch.join("store/cache/working-set/data")).exists());
}
