//! What a file system owes its callers besides names and bytes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use cairn_store::MetadataPolicy;
use harness::bytes::noise;
use harness::user::{skip, unprivileged};
use rustix::fs::inotify;
use rustix::io::Errno;

use crate::mounted::{LARGE, Mounted};

fn some(test: &str) -> Option<Mounted> {
    let mounted = Mounted::new(test)?;
    mounted.add("node", "1.0", &[("bin/node", b"#!/bin/sh\n"), ("lib/file", &noise(1, LARGE))]);
    mounted.use_(&["node@1.0"]);
    Some(mounted)
}

#[test]
fn names_past_the_limit_are_refused_and_others_are_absent() {
    let Some(mounted) = some("long names") else { return };
    for dir in ["", "generations", "node", "node/1.0", "node/1.0/lib", "generations/1", "generations/1/bin"] {
        let look = |name: &str| fs::symlink_metadata(mounted.at(dir).join(name)).unwrap_err().raw_os_error();
        assert_eq!(look(&"n".repeat(256)), Some(Errno::NAMETOOLONG.raw_os_error()), "{dir}");
        for name in
            ["nothing", &"n".repeat(255), "0", "01", "1.0 ", "18446744073709551616", "-1", "\u{fffd}", "Node"]
        {
            assert_eq!(look(name), Some(Errno::NOENT.raw_os_error()), "{dir}/{name}");
            assert_eq!(look(name), Some(Errno::NOENT.raw_os_error()), "{dir}/{name}, once more");
        }
        assert!(fs::read_dir(mounted.at(dir).join("..")).unwrap().count() > 0);
    }
    let through_a_file = fs::symlink_metadata(mounted.at("node/1.0/lib/file/x")).unwrap_err();
    assert_eq!(through_a_file.raw_os_error(), Some(Errno::NOTDIR.raw_os_error()));
}

#[test]
fn parents_lead_back() {
    let Some(mounted) = some("parents") else { return };
    let number = |path: &str| fs::metadata(mounted.at(path)).unwrap().ino();
    assert_eq!(number("node/1.0/lib/../.."), number("node"));
    assert_eq!(number("node/.."), number("."));
    assert_eq!(number("generations/1/.."), number("generations"));
    assert_eq!(fs::canonicalize(mounted.at("current/node/lib")).unwrap(), mounted.at("node/1.0/lib"));
}

#[test]
fn listings_agree_with_look_ups() {
    let Some(mounted) = some("listings") else { return };
    mounted.add("other", "1~2+x", &[("x", b"")]);
    mounted.use_(&["other@1~2+x"]);
    let mut left = vec![mounted.dir.clone()];
    let mut seen = 0;
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let found = fs::symlink_metadata(entry.path()).unwrap();
            assert_eq!(entry.file_type().unwrap(), found.file_type(), "{}", entry.path().display());
            assert_eq!(
                std::os::unix::fs::DirEntryExt::ino(&entry),
                found.ino(),
                "{}",
                entry.path().display()
            );
            assert_eq!(found.dev(), fs::metadata(&mounted.dir).unwrap().dev());
            if found.is_dir() {
                left.push(entry.path());
            }
            seen += 1;
        }
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn the_file_system_says_what_it_is() {
    let Some(mounted) = some("statfs and mount options") else { return };
    let stat = rustix::fs::statvfs(&mounted.dir).unwrap();
    assert_eq!((stat.f_bavail, stat.f_bfree), (0, 0));
    assert!(stat.f_blocks > 0 && stat.f_namemax == 255);
    let flags = stat.f_flag;
    for flag in [
        rustix::fs::StatVfsMountFlags::RDONLY,
        rustix::fs::StatVfsMountFlags::NOSUID,
        rustix::fs::StatVfsMountFlags::NODEV,
    ] {
        assert!(flags.contains(flag), "{flags:?}");
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.contains(mounted.dir.to_str().unwrap())).unwrap();
    assert!(line.contains(" fuse.cairn "), "{line}");
    let df = Command::new("df").arg(&mounted.dir).output().unwrap();
    assert!(df.status.success(), "{}", String::from_utf8_lossy(&df.stderr));
}

#[test]
fn a_watch_can_be_set_and_a_flip_is_no_event() {
    let Some(mounted) = some("inotify") else { return };
    mounted.add("node", "2.0", &[("bin/node", b"#!/bin/sh\n:\n")]);
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
    for path in ["", "current", "node/1.0", "node/1.0/lib/file"] {
        inotify::add_watch(
            &watch,
            mounted.at(path),
            inotify::WatchFlags::CREATE | inotify::WatchFlags::DELETE | inotify::WatchFlags::MODIFY,
        )
        .unwrap();
    }
    mounted.use_(&["node@2.0"]);
    assert_eq!(fs::read_link(mounted.at("current")).unwrap(), Path::new("generations/2"));
    let mut buffer = [0; 4096];
    assert_eq!(rustix::io::read(&watch, &mut buffer).unwrap_err(), Errno::AGAIN);
}

#[test]
fn permission_bits_hold_for_other_users() {
    let Some(mounted) = Mounted::new("permissions") else { return };
    let tree = mounted.scratch.folder("tree");
    for (name, mode) in [("open", 0o644), ("closed", 0o600)] {
        fs::write(tree.join(name), b"text").unwrap();
        fs::set_permissions(tree.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    mounted.add_tree("data", "1", &tree, MetadataPolicy::Portable);
    let dir = mounted.at("data/1");
    unprivileged(|| {
        assert_eq!(fs::read(dir.join("open")).unwrap(), b"text");
        assert_eq!(
            fs::read(dir.join("closed")).unwrap_err().raw_os_error(),
            Some(Errno::ACCESS.raw_os_error())
        );
    });
}

#[test]
fn set_user_id_bits_have_no_effect() {
    let Some(mounted) = Mounted::new("set-user-id") else { return };
    let tree = mounted.scratch.folder("tree");
    fs::copy("/usr/bin/id", tree.join("id")).unwrap();
    fs::set_permissions(tree.join("id"), fs::Permissions::from_mode(0o4755)).unwrap();
    mounted.add_tree("tool", "1", &tree, MetadataPolicy::Full);
    assert_eq!(fs::metadata(mounted.at("tool/1/id")).unwrap().mode() & 0o7777, 0o4755);
    let path = mounted.at("tool/1/id");
    let said = unprivileged(|| Command::new(&path).arg("-u").output().unwrap());
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    if said.is_empty() {
        skip("set-user-id", "the program did not run");
        return;
    }
    assert_ne!(said.trim(), "0");
}
