//! The operations on small stores.

use cairn_store::View;

use super::*;
use crate::attr::DirEntry;
use crate::testing::names::{Item, Scratch, add_generation, add_ref, file, package};

const LINUX: &str = "linux/x86_64";

/// Looks a path up, following no links.
pub(crate) fn walk(fs: &Fs, path: &str) -> Result<Option<Attr>, Errno> {
    let mut attr = fs.attr(Ino::ROOT)?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        match fs.lookup(attr.ino, name.as_bytes())? {
            Lookup::Found { attr: found, .. } => attr = found,
            Lookup::Absent { .. } => return Ok(None),
        }
    }
    Ok(Some(attr))
}

fn there(fs: &Fs, path: &str) -> Attr {
    walk(fs, path).unwrap().unwrap_or_else(|| panic!("{path} is not there"))
}

fn link(fs: &Fs, path: &str) -> String {
    String::from_utf8(fs.readlink(there(fs, path).ino).unwrap()).unwrap()
}

/// The names of a directory, without the dots, read with a buffer for so many entries.
fn names(fs: &Fs, ino: Ino, room: usize, plus: bool) -> Vec<String> {
    let (mut names, mut from) = (Vec::new(), 0);
    loop {
        let (mut taken, mut refused, mut last) = (0, false, from);
        let mut add = |entry: DirEntry<'_>| {
            refused = taken == room;
            if !refused {
                taken += 1;
                last = entry.cookie;
                names.push(String::from_utf8(entry.name.into_owned()).unwrap());
            }
            refused
        };
        fs.readdir(ino, from, plus, &mut add).unwrap();
        from = last;
        if !refused {
            break;
        }
    }
    names.retain(|name| name != "." && name != "..");
    names.sort();
    names
}

fn sample() -> (Scratch, View) {
    let scratch = Scratch::new();
    let script = Item::File(b"#!/bin/sh\n".to_vec(), 0o755);
    let tool = [
        ("bin/tool", script.clone()),
        ("lib/data.txt", file("the same in all versions")),
        ("lib/link", Item::Link("data.txt".to_owned())),
    ];
    let one = scratch.artifact("tool", "1.0", &tool);
    let mut more = tool.to_vec();
    more.push(("README", file("new")));
    let two = scratch.artifact("tool", "2.0", &more);
    let mut view = View::default();
    add_ref(&mut view, "tool", "1.0", LINUX, one);
    add_generation(&mut view, &[("tool", package("1.0", LINUX, one, &["tool"]))]);
    add_ref(&mut view, "tool", "2.0", LINUX, two);
    add_generation(&mut view, &[("tool", package("2.0", LINUX, two, &["tool"]))]);
    (scratch, view)
}

#[test]
fn the_tree_of_names_is_the_documented_one() {
    let (scratch, view) = sample();
    let fs = scratch.fs(&view);
    assert_eq!(link(&fs, "bin"), "current/bin");
    assert_eq!(link(&fs, "current"), "generations/2");
    assert_eq!(link(&fs, "generations/1/bin/tool"), "../tool/bin/tool");
    assert_eq!(link(&fs, "generations/1/tool"), "../../tool/1.0");
    assert_eq!(link(&fs, "tool/current"), "2.0");
    assert_eq!(link(&fs, "tool/1.0/lib/link"), "data.txt");
    let tool = there(&fs, "tool/1.0/bin/tool");
    assert_eq!((tool.kind, tool.mode, tool.size, tool.nlink), (Kind::File, 0o755, 10, 1));
    assert_eq!((tool.uid, tool.gid, tool.mtime), (1000, 100, (315_532_800, 0)));
    assert_eq!(there(&fs, "generations/2").mtime, (1_600_000_000, 2_000_000));
    assert_eq!(fs.file(tool.ino).unwrap().size, 10);
    for plus in [false, true] {
        assert_eq!(names(&fs, Ino::ROOT, 2, plus), ["bin", "current", "generations", "tool"]);
        assert_eq!(names(&fs, there(&fs, "tool").ino, 1, plus), ["1.0", "2.0", "current"]);
        assert_eq!(names(&fs, there(&fs, "tool/2.0").ino, 3, plus), ["README", "bin", "lib"]);
        assert_eq!(names(&fs, there(&fs, "generations/1").ino, 1, plus), ["bin", "tool"]);
    }
}

#[test]
fn what_takes_reading_is_told_apart_and_fetched() {
    let (scratch, view) = sample();
    let known = scratch.fs(&view);
    let (tool, version) = (there(&known, "tool").ino, there(&known, "tool/1.0").ino);
    let data = there(&known, "tool/1.0/lib/data.txt").ino;
    let fs = scratch.fs(&view);
    fs.restore(&known.save()).unwrap();
    for ino in [Ino::ROOT, Ino(12_345)] {
        assert!(fs.is_at_hand(ino, None) && fs.is_at_hand(ino, Some(b"")), "{ino:?}");
    }
    assert!(fs.is_at_hand(tool, Some(b"current")) && fs.is_at_hand(tool, Some(b"9.9")));
    let cold: [(Ino, Option<&[u8]>); 5] =
        [(tool, Some(b"1.0")), (version, None), (version, Some(b"lib")), (version, Some(b"")), (data, None)];
    for (ino, name) in cold {
        let fs = scratch.fs(&view);
        fs.restore(&known.save()).unwrap();
        assert!(!fs.is_at_hand(ino, name), "{ino:?} {name:?}");
        fs.fetch(ino, name).unwrap();
        assert!(fs.is_at_hand(ino, name), "{ino:?} {name:?}");
    }
    assert!(!fs.is_at_hand(tool, Some(b"")), "its versions were not met");
    fs.fetch(tool, Some(b"")).unwrap();
    assert!(fs.is_at_hand(tool, Some(b"")));
    assert!(!fs.has_no_xattrs());
    fs.fetch_xattrs(data).unwrap();
    assert!(fs.has_no_xattrs());
}

#[test]
fn what_two_versions_share_is_one_inode_and_directories_are_not() {
    let (scratch, view) = sample();
    let fs = scratch.fs(&view);
    let ino = |path: &str| there(&fs, path).ino;
    assert_eq!(ino("tool/1.0/bin/tool"), ino("tool/2.0/bin/tool"));
    assert_eq!(ino("tool/1.0/lib/link"), ino("tool/2.0/lib/link"));
    assert_ne!(ino("tool/1.0/lib"), ino("tool/2.0/lib"));
    assert_ne!(ino("generations/1/tool"), ino("generations/2/tool"));
}

#[test]
fn names_that_are_too_long_and_things_that_are_no_directories_are_refused() {
    let (scratch, view) = sample();
    let fs = scratch.fs(&view);
    let lib = there(&fs, "tool/1.0/lib").ino;
    assert_eq!(fs.lookup(lib, &[b'x'; 256]), Err(Errno::NAMETOOLONG));
    assert_eq!(fs.lookup(lib, &[b'x'; 255]), Ok(Lookup::Absent { cacheable: true }));
    for path in ["tool/1.0/lib/data.txt", "tool/1.0/lib/link", "current"] {
        let ino = there(&fs, path).ino;
        assert_eq!(fs.lookup(ino, b"x"), Err(Errno::NOTDIR), "{path}");
        assert_eq!(fs.readdir(ino, 0, true, &mut |_| false), Err(Errno::NOTDIR), "{path}");
        assert_eq!(fs.is_immutable_dir(ino), Err(Errno::NOTDIR), "{path}");
    }
    assert_eq!(fs.attr(Ino(12345)), Err(Errno::STALE));
}

#[test]
fn paths_are_found_again_for_messages() {
    let (scratch, view) = sample();
    let fs = scratch.fs(&view);
    for path in ["tool/1.0/lib/data.txt", "tool/2.0/bin", "generations/1/bin", "tool", "generations/2"] {
        let found = fs.path_of(there(&fs, path).ino);
        assert_eq!(String::from_utf8(found).unwrap(), path);
    }
    assert_eq!(fs.path_of(Ino::ROOT), b"");
}

#[test]
fn names_are_not_kept_where_the_kernel_cannot_be_told_to_forget_them() {
    let (scratch, view) = sample();
    let options = FsOptions { dynamic_ttl_zero: true, ..crate::testing::names::options() };
    let fs = Fs::new(scratch.store().clone(), Arc::new(view), options);
    let cacheable = |path: &str, name: &str| {
        let dir = there(&fs, path).ino;
        matches!(fs.lookup(dir, name.as_bytes()), Ok(Lookup::Found { cacheable: true, .. }))
    };
    assert!(!cacheable("", "current") && !cacheable("tool", "1.0") && !cacheable("generations/1", "tool"));
    assert!(cacheable("tool/1.0", "lib") && cacheable("generations/1/bin", "tool"));
}

#[test]
fn an_artifact_that_is_not_there_fails_by_itself_alone() {
    let (scratch, mut view) = sample();
    add_ref(&mut view, "tool", "3.0", LINUX, cairn_store::ArtifactId([9; 32]));
    let fs = scratch.fs(&view);
    let tool = there(&fs, "tool").ino;
    assert_eq!(fs.lookup(tool, b"3.0"), Err(Errno::IO));
    assert_eq!(fs.lookup(tool, b"3.0"), Err(Errno::IO));
    assert_eq!(names(&fs, tool, 10, true), ["1.0", "2.0", "3.0", "current"]);
    assert_eq!(there(&fs, "tool/1.0").kind, Kind::Dir);
    let (listed, count) = fs.damage();
    assert_eq!((fs.stats().damaged, listed.len(), count), (2, 1, 1));
    assert_eq!((listed[0].times, listed[0].path.as_slice()), (2, &b"tool/3.0"[..]));
}

#[test]
fn what_nothing_shown_has_is_said_to_be_unsupported_for_good() {
    let (scratch, mut view) = sample();
    let fs = scratch.fs(&view);
    let ino = there(&fs, "tool/1.0/lib/data.txt").ino;
    fs.fetch_xattrs(ino).unwrap();
    assert_eq!(fs.xattr(ino, b"user.a"), Err(Errno::NOSYS));
    assert_eq!(fs.xattrs(ino), Err(Errno::NOSYS));
    assert!(fs.stats().xattrs_unsupported && !fs.stats().xattrs_hidden);
    let full = full_artifact(&scratch);
    add_ref(&mut view, "state", "1", "any/any", full);
    assert!(!fs.publish(Arc::new(view.clone()), || (), || ()));
    let ino = there(&fs, "state/1/file").ino;
    assert_eq!(fs.xattr(ino, b"user.a"), Err(Errno::NOSYS));
    assert!(fs.stats().xattrs_hidden);
    let fs = scratch.fs(&view);
    let ino = there(&fs, "state/1/file").ino;
    assert_eq!(fs.xattr(ino, b"user.none"), Err(Errno::NODATA));
    assert!(fs.xattrs(ino).is_ok());
    assert!(!fs.stats().xattrs_unsupported);
}

fn full_artifact(scratch: &Scratch) -> ArtifactId {
    use cairn_store::MetadataPolicy;
    use rustix::fs::{CWD, Mode, OFlags, Timespec, Timestamps, linkat, mkdirat, openat, utimensat};
    let tree = scratch.path().join("full");
    mkdirat(CWD, &tree, Mode::from_raw_mode(0o750)).unwrap();
    let file = tree.join("file");
    openat(CWD, &file, OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o640)).unwrap();
    linkat(CWD, &file, CWD, tree.join("same"), rustix::fs::AtFlags::empty()).unwrap();
    let time = Timespec { tv_sec: 1_234_567_890, tv_nsec: 12 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, &file, &times, rustix::fs::AtFlags::empty()).unwrap();
    scratch.ingest("state", "1", &tree, MetadataPolicy::Full)
}

#[test]
fn full_artifacts_show_times_owners_and_hard_links() {
    let (scratch, mut view) = sample();
    add_ref(&mut view, "state", "1", "any/any", full_artifact(&scratch));
    let fs = scratch.fs(&view);
    let file = there(&fs, "state/1/file");
    assert_eq!((file.mtime, file.nlink), ((1_234_567_890, 12), 2));
    assert_eq!(file.uid, rustix::process::getuid().as_raw());
    assert_eq!(file, there(&fs, "state/1/same"));
    assert_eq!(there(&fs, "state/1").uid, file.uid);
}

#[test]
fn answers_fit_or_say_how_long_they_are() {
    assert_eq!(fit(vec![1, 2, 3], 0), Ok(Xattr::Size(3)));
    assert_eq!(fit(vec![1, 2, 3], 2), Err(Errno::RANGE));
    assert_eq!(fit(vec![1, 2, 3], 3), Ok(Xattr::Bytes(vec![1, 2, 3])));
}

#[test]
fn readers_never_see_a_generation_before_one_that_they_have_seen() {
    const FLIPS: u64 = 2000;
    let (scratch, mut view) = sample();
    let artifact = view.refs.values().next().unwrap().artifact;
    let fs = scratch.fs(&view);
    let number = |text: Vec<u8>| -> u64 {
        let text = String::from_utf8(text).unwrap();
        // The first versions are 1.0 and 2.0.
        text.rsplit('/').next().unwrap().trim_end_matches(".0").parse().unwrap()
    };
    /// Lets the readers end, also where this thread panics.
    struct Done<'a>(&'a std::sync::atomic::AtomicBool);

    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _done = Done(&done);
        for _ in 0..3 {
            scope.spawn(|| {
                let (mut newest, mut looks) = (0, 0u64);
                while !done.load(std::sync::atomic::Ordering::Relaxed) || looks == 0 {
                    let tool = there(&fs, "tool").ino;
                    let generations = there(&fs, "generations").ino;
                    for (parent, name) in [(Ino::ROOT, "current"), (tool, "current")] {
                        let Ok(Lookup::Found { attr, .. }) = fs.lookup(parent, name.as_bytes()) else {
                            panic!("{name} is not there");
                        };
                        let seen = number(fs.readlink(attr.ino).unwrap());
                        fs.forget(attr.ino, 1);
                        assert!(seen >= newest, "{seen} after {newest}");
                        newest = seen;
                        let shown = fs.lookup(generations, newest.to_string().as_bytes()).unwrap();
                        assert!(matches!(shown, Lookup::Found { .. }), "generation {newest} is not there");
                    }
                    for ino in [tool, generations] {
                        fs.forget(ino, 1);
                    }
                    looks += 1;
                }
            });
        }
        view.profiles.clear();
        for flip in 1..=FLIPS {
            // The version is the generation's number, so that the package's link tells it, too.
            let version = flip.to_string();
            add_ref(&mut view, "tool", &version, LINUX, artifact);
            add_generation(&mut view, &[("tool", package(&version, LINUX, artifact, &["tool"]))]);
            if flip >= 3 {
                assert!(fs.publish(Arc::new(view.clone()), || (), || ()));
            }
        }
    });
    assert_eq!(fs.shown().current(), Some(FLIPS));
}

#[test]
fn a_long_directory_is_listed_with_attributes_in_little_time() {
    const FILES: u64 = 20_000;
    let scratch = Scratch::new();
    let texts: Vec<String> = (0..FILES).map(|n| format!("d{}/file-{n:05}", n / FILES)).collect();
    let items: Vec<(&str, Item)> = texts.iter().map(|path| (&path[..], file(path))).collect();
    let artifact = scratch.artifact("long", "1", &items);
    let mut view = View::default();
    add_ref(&mut view, "long", "1", LINUX, artifact);
    let fs = scratch.fs(&view);
    let dir = there(&fs, "long/1/d0").ino;
    for round in ["cold", "warm"] {
        let (start, mut count, mut from) = (std::time::Instant::now(), 0u64, 0);
        loop {
            let (mut room, mut last) = (100, from);
            let mut add = |entry: DirEntry<'_>| {
                room -= 1;
                if room > 0 {
                    last = entry.cookie;
                    count += u64::from(entry.attr.is_some());
                }
                room == 0
            };
            fs.readdir(dir, from, true, &mut add).unwrap();
            if last == from {
                break;
            }
            from = last;
        }
        println!("{round}: {} ns an entry", start.elapsed().as_nanos() / u128::from(FILES));
        assert_eq!(count, FILES);
    }
}
