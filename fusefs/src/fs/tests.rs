//! The operations on small stores.

use cairn_store::View;

use super::scratch::{Item, Scratch, add_generation, add_ref, file, package};
use super::*;
use crate::attr::DirEntry;

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
fn what_two_versions_share_is_one_inode_and_directories_are_not() {
    let (scratch, view) = sample();
    let fs = scratch.fs(&view);
    let ino = |path: &str| there(&fs, path).ino;
    assert_eq!(ino("tool/1.0/bin/tool"), ino("tool/2.0/bin/tool"));
    assert_eq!(ino("tool/1.0/lib/link"), ino("tool/2.0/lib/link"));
    assert_ne!(ino("tool/1.0/lib"), ino("tool/2.0/lib"));
    assert_ne!(ino("generations/1/tool"), ino("generations/2/tool"));
}
