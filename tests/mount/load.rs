//! Many files, long listings, and flips meanwhile.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cairn_store::MetadataPolicy;
use harness::bytes::noise;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::mounted::{LARGE, Mounted, StopOnDrop};

/// Where a process finds the files that it is to hold open, and the first of them.
const HELD_DIR: &str = "CAIRN_TEST_HELD_DIR";
const HELD_FROM: &str = "CAIRN_TEST_HELD_FROM";
/// Files that one process holds: more than two of these are rarely allowed.
const HELD: usize = 10_000;

/// Not a test: a process that holds files open until its input ends.
#[test]
fn hold() {
    let Some(root) = std::env::var_os(HELD_DIR).map(PathBuf::from) else { return };
    let from: usize = std::env::var(HELD_FROM).unwrap().parse().unwrap();
    let wanted = HELD as u64 + 100;
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    if let Err(errno) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        return println!("\nnot allowed: {errno}");
    }
    let path = |number: usize| root.join(format!("{}/{number}", number / 1000));
    let open: Vec<File> = (from..from + HELD).map(|number| File::open(path(number)).unwrap()).collect();
    println!("\nopen");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let mut found = vec![0; 200];
    for (place, file) in open.iter().enumerate().rev() {
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == noise((from + place) as u64, 200), "{}", from + place);
    }
}

#[test]
fn twenty_thousand_files_are_open_at_once() {
    const FILES: usize = 2 * HELD;
    let Some(mounted) = Mounted::new("20,000 open files") else { return };
    let tree = mounted.scratch.folder("tree");
    for number in 0..FILES {
        let dir = tree.join((number / 1000).to_string());
        fs::create_dir_all(&dir).unwrap();
        // Past what is inline, each its own content.
        fs::write(dir.join(number.to_string()), noise(number as u64, 200)).unwrap();
    }
    fs::write(tree.join("large"), noise(1, LARGE)).unwrap();
    mounted.add_tree("many", "1", &tree, MetadataPolicy::Portable);
    let root = mounted.at("many/1");
    let holders = (0..2).map(|place| {
        let mut holder = Command::new(std::env::current_exe().unwrap());
        holder.args(["--exact", "load::hold", "--nocapture"]);
        holder.env(HELD_DIR, &root).env(HELD_FROM, (place * HELD).to_string());
        holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    });
    let mut holders: Vec<_> = holders.collect();
    let said = holders.iter_mut().map(|holder| BufReader::new(holder.stdout.take().unwrap()).lines());
    let mut said: Vec<_> = said.collect();
    let allowed = said.iter_mut().all(|said| {
        let mut said = said.map(Result::unwrap);
        said.find(|line| line == "open" || line.starts_with("not allowed")).unwrap() == "open"
    });
    if allowed {
        assert!(mounted.status().open_files >= FILES as u64, "{:?}", mounted.status());
        let large = File::open(root.join("large")).unwrap();
        let mut found = vec![0; LARGE];
        large.read_exact_at(&mut found, 0).unwrap();
        assert!(found == noise(1, LARGE));
    } else {
        harness::user::skip("20,000 open files", "processes may not have so many");
    }
    for mut holder in holders {
        drop(holder.stdin.take());
        assert!(holder.wait().unwrap().success());
    }
}

#[test]
fn a_hundred_thousand_entries_are_listed_whole_while_generations_flip() {
    const ENTRIES: usize = 100_000;
    let Some(mounted) = Mounted::new("a directory of 100,000 entries") else { return };
    let tree = mounted.scratch.folder("tree");
    for number in 0..ENTRIES {
        fs::write(tree.join(format!("{number:06}")), b"").unwrap();
    }
    mounted.add_tree("wide", "1", &tree, MetadataPolicy::Portable);
    mounted.add("wide", "2", &[("x", b"")]);
    mounted.use_(&["wide@1"]);
    mounted.use_(&["wide@2"]);
    let (done, flips) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let stop = StopOnDrop(&done);
        scope.spawn(|| {
            let _stop = StopOnDrop(&done);
            while !done.load(Ordering::SeqCst) {
                mounted.switch(1 + flips.fetch_add(1, Ordering::SeqCst) % 2);
            }
        });
        for path in ["generations/1/wide", "wide/1"] {
            let names: Vec<_> =
                fs::read_dir(mounted.at(path)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            let unique: BTreeSet<_> = names.iter().collect();
            assert_eq!((names.len(), unique.len()), (ENTRIES, ENTRIES));
        }
        drop(stop);
    });
    assert!(flips.into_inner() > 1, "nothing flipped meanwhile");
}

#[test]
fn listings_of_generations_are_whole_while_they_grow() {
    let Some(mounted) = Mounted::new("listings while generations grow") else { return };
    mounted.add("a", "1", &[("x", b"1")]);
    mounted.add("a", "2", &[("x", b"2")]);
    for round in 0..100 {
        mounted.use_(&[if round % 2 == 0 { "a@1" } else { "a@2" }]);
    }
    let (done, made) = (AtomicBool::new(false), AtomicU64::new(100));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _stop = StopOnDrop(&done);
            for round in 0..200 {
                mounted.use_(&[if round % 2 == 0 { "a@1" } else { "a@2" }]);
                made.fetch_add(1, Ordering::SeqCst);
            }
        });
        let mut listings = 0;
        while !done.load(Ordering::SeqCst) || listings == 0 {
            let before = made.load(Ordering::SeqCst);
            let mut numbers: Vec<u64> = fs::read_dir(mounted.at("generations"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
                .collect();
            numbers.sort_unstable();
            assert!(numbers.is_sorted_by(|a, b| a < b), "one is in it twice");
            // Those that were there before the listing began are all in it.
            let old: Vec<u64> = (1..=before).collect();
            assert_eq!(numbers[..old.len()], old);
            listings += 1;
        }
    });
    assert_eq!(fs::read_dir(mounted.at("generations")).unwrap().count(), 300);
}
