//! Downloads that several want, that are held, that nobody says the hash of, and how many stay.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, SystemTime};

use cairn_sources::release::{self, Found};
use cairn_sources::{Held, Sha256};

use crate::release_server::{Answer, Fault, ReleaseServer};
use crate::setup::*;

const PATH: &str = "/app-1.2/cli-linux-amd64";

fn started(len: usize) -> (ReleaseServer, Setup, Found, Vec<u8>) {
    let server = ReleaseServer::start();
    let body = noise(7, len);
    server.file(PATH, body.clone());
    server.file("/app-1.2/SHA256SUMS", sums(&[("cli-linux-amd64", &body)]));
    let setup = Setup::plain(&server.url(), &["cli"]);
    let found = setup.find("1.2").unwrap();
    server.forget();
    (server, setup, found, body)
}

/// Holds these bytes, and says so of any hash.
struct Holding(Vec<u8>);

impl Held for Holding {
    fn copy(&self, _: &Sha256, to: &Path) -> io::Result<bool> {
        io::Write::write_all(&mut File::create_new(to)?, &self.0)?;
        Ok(true)
    }

    fn copy_newest(&self, _: &str, _: &str, _: &Path) -> io::Result<bool> {
        Ok(false)
    }
}

#[test]
fn what_is_held_is_not_downloaded_and_is_looked_at() {
    let (server, setup, found, body) = started(10_000);
    let source = setup.package.release.as_ref().unwrap();
    let bring = |held: &dyn Held, to: &Path| {
        release::bring(&setup.http(), &found, source, &setup.downloads(), to, held, &setup.watch).unwrap()
    };
    let brought = bring(&Holding(body.clone()), &setup.to());
    assert_eq!((brought.wire_bytes, server.seen().len()), (0, 0));
    assert_eq!(setup.laid()["cli"], body);
    let other = setup.folder.path().join("other");
    let brought = bring(&Holding(b"something else".to_vec()), &other);
    assert_eq!(brought.wire_bytes, 10_000);
    assert_eq!(files(&other)["cli"], body);
    for folder in [setup.to(), other] {
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&folder.join("cli").metadata().unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o755);
    }
}

#[test]
fn several_who_want_the_same_download_it_once() {
    let (server, setup, found, body) = started(5_000_000);
    let barrier = Barrier::new(6);
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (setup, found, barrier, body) = (&setup, &found, &barrier, &body);
            scope.spawn(move || {
                let to = setup.folder.path().join(format!("to-{number}"));
                barrier.wait();
                setup.bring_to(found, &to).unwrap();
                assert!(files(&to)["cli"] == *body);
            });
        }
    });
    assert_eq!(server.asked(PATH).len(), 1);
    assert_eq!(files(&setup.downloads()).len(), 1);
}

#[test]
fn who_waits_takes_over_from_who_gives_up() {
    let (server, setup, found, body) = started(1_000_000);
    for _ in 0..5 {
        server.fail(PATH, Fault::Truncate(1000));
    }
    let barrier = Barrier::new(2);
    let failures: usize = std::thread::scope(|scope| {
        let bringing: Vec<_> = (0..2)
            .map(|number| {
                let (setup, found, barrier) = (&setup, &found, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    setup.bring_to(found, &setup.folder.path().join(format!("to-{number}"))).is_err()
                })
            })
            .collect();
        bringing.into_iter().map(|bringing| usize::from(bringing.join().unwrap())).sum()
    });
    assert_eq!(failures, 1);
    let laid: Vec<_> = (0..2)
        .filter_map(|number| files(&setup.folder.path().join(format!("to-{number}"))).remove("cli"))
        .collect();
    assert!(laid == [body]);
}

#[test]
fn a_waived_file_is_asked_for_again_and_not_sent_again() {
    let (server, mut setup, _, body) = started(10_000);
    setup.source().checksums.file = None;
    setup.source().checksums.waived = vec![template("cli-{platform}")];
    let found = setup.find("1.2").unwrap();
    assert_eq!((found.verified.as_str(), found.assets[0].sha256), ("waived", None));
    server.fail(PATH, Fault::Truncate(4000));
    let brought = setup.bring(&found).unwrap();
    assert_eq!((brought.files[0].sha256, brought.wire_bytes), (Sha256::of(&body), 10_000));
    server.forget();
    let again = setup.bring_to(&found, &setup.folder.path().join("again")).unwrap();
    assert_eq!((again.files, again.wire_bytes), (brought.files, 0));
    assert!(server.asked(PATH)[0].headers.contains_key("if-none-match"));
    // What changed comes.
    let new = noise(8, 10_000);
    server.file(PATH, new.clone());
    let changed = setup.bring_to(&found, &setup.folder.path().join("changed")).unwrap();
    assert_eq!(changed.files[0].sha256, Sha256::of(&new));
    // What an earlier process left of it is not built upon.
    server.file(PATH, body.clone());
    for path in std::fs::read_dir(setup.downloads()).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_some_and(|extension| extension == "note") {
            std::fs::write(path.with_extension("part"), vec![0; 5000]).unwrap();
        }
    }
    let again = setup.bring_to(&found, &setup.folder.path().join("third")).unwrap();
    assert_eq!(again.files[0].sha256, Sha256::of(&body));
}

#[test]
fn a_page_for_people_is_no_program() {
    let (server, mut setup, _, _) = started(10);
    setup.source().checksums.file = None;
    setup.source().checksums.waived = vec![template("cli-{platform}")];
    let page = Answer::new(200, "<html>Sign in").with("Content-Type", "text/html; charset=utf-8");
    server.answer(PATH, page);
    let found = setup.find("1.2").unwrap();
    assert!(told(setup.bring(&found)).contains("a page for people came in its place"));
}

#[test]
fn programs_are_laid_only_where_there_are_none() {
    let (_server, setup, found, _) = started(10);
    std::fs::create_dir(setup.to()).unwrap();
    let outside = setup.folder.path().join("outside");
    std::os::unix::fs::symlink(&outside, setup.to().join("cli")).unwrap();
    assert!(told(setup.bring(&found)).contains("cannot create"));
    assert!(!outside.exists());
    let mut bad = found;
    bad.assets[0].gives[0].binary = "../outside".to_owned();
    assert!(told(setup.bring(&bad)).contains("cannot be the name of a program"));
    assert!(!outside.exists());
}

#[test]
fn downloads_are_kept_under_a_bound() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let put = |name: &str, len: usize, age: u64| {
        let path = folder.path().join(name);
        std::fs::write(&path, vec![0; len]).unwrap();
        File::open(&path).unwrap().set_modified(now - Duration::from_secs(age)).unwrap();
        path
    };
    let hash = |seed: &str| Sha256::of(seed.as_bytes()).to_string();
    let oldest = put(&hash("a"), 100, 50);
    let locked = put(&hash("b"), 100, 40);
    let part = put(&format!("{}.part", hash("c")), 100, 30);
    let newest = put(&hash("d"), 100, 10);
    let foreign = put("notes.txt", 1000, 99);
    let other = put(&format!("{}.keep", hash("e")), 1000, 99);
    let file = File::open(&locked).unwrap();
    file.lock_shared().unwrap();
    release::prune(folder.path(), 400).unwrap();
    assert!([&oldest, &locked, &part, &newest].iter().all(|path| path.exists()));
    release::prune(folder.path(), 299).unwrap();
    assert!(!oldest.exists() && locked.exists() && !part.exists() && newest.exists());
    drop(file);
    release::prune(folder.path(), 0).unwrap();
    assert!(!locked.exists() && !newest.exists() && foreign.exists() && other.exists());
    release::prune(&folder.path().join("not there"), 0).unwrap();
}

#[test]
fn what_is_used_counts_as_new() {
    let (_server, setup, found, body) = started(1000);
    setup.bring(&found).unwrap();
    let path = setup.downloads().join(Sha256::of(&body).to_string());
    File::open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    setup.bring_to(&found, &setup.folder.path().join("again")).unwrap();
    assert!(path.metadata().unwrap().modified().unwrap() > SystemTime::UNIX_EPOCH + Duration::from_secs(1));
}
