//! The commands that an artifact offers: what a profile that has it puts on the user's `PATH`.
//!
//! Releases are packed in many ways: with their files at the top, or below one directory named after the version; with
//! their programs in `bin/`, or beside the licence. So the commands are looked for where the first choice is: below
//! directories that are alone in theirs, in `bin` if there is one.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::id::{ArtifactId, TreeId};
use crate::object::ObjectSource;
use crate::store::Store;
use crate::tree::{Entry, Node, PATH_LEN_MAX, entries, find};

/// Commands of an artifact, at most.
pub const COMMANDS_MAX: usize = 4096;
/// Symbolic links that are followed on the way to a program, at most, as Linux does.
const LINKS_MAX: u32 = 40;
/// Any of the permissions to execute.
const EXECUTE: u16 = 0o111;

/// The path of each command, by its name.
pub type Commands = BTreeMap<Vec<u8>, Vec<u8>>;

impl Store {
    /// The commands of an artifact, each with its path there. From the root down, as long as a directory has one entry
    /// and that is a directory not called `bin`, it is entered. If there is a directory `bin` then, the executables in
    /// it are meant, else those beside it. Executable is a regular file that someone may execute, and a symbolic link
    /// that leads to one within the artifact; shared libraries (`.so`, `.so.1`) are not meant.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Damaged`], [`Error::Io`]; [`Error::Invalid`] when there are more than
    /// [`COMMANDS_MAX`].
    pub fn commands(&self, id: &ArtifactId) -> Result<Commands> {
        commands(&self.artifact(id)?.root, self)
    }
}

/// The commands of the tree `root`: see [`Store::commands`].
fn commands(root: &TreeId, source: &dyn ObjectSource) -> Result<Commands> {
    let (mut directory, mut path) = (*root, Vec::new());
    while let Some((name, tree)) = only_directory(&directory, source)? {
        directory = tree;
        push(&mut path, &name);
        if path.len() > PATH_LEN_MAX {
            return Ok(Commands::new());
        }
    }
    if let Some(Entry { node: Node::Dir { tree }, .. }) = find(&directory, b"bin", source)? {
        directory = tree;
        push(&mut path, b"bin");
    }
    let mut commands = Commands::new();
    for entry in entries(&directory, source) {
        let entry = entry?;
        let mut at = path.clone();
        push(&mut at, &entry.name);
        if is_library(&entry.name) || !is_executable(&entry, &at, root, source)? {
            continue;
        }
        if commands.len() == COMMANDS_MAX {
            return Err(Error::Invalid {
                what: "artifact",
                given: String::from_utf8_lossy(&path).into_owned(),
                reason: format!("it has more than {COMMANDS_MAX} commands there"),
            });
        }
        commands.insert(entry.name, at);
    }
    Ok(commands)
}

fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// The only entry of a directory, if it is a directory not called `bin`.
fn only_directory(directory: &TreeId, source: &dyn ObjectSource) -> Result<Option<(Vec<u8>, TreeId)>> {
    let mut entries = entries(directory, source);
    let only = match (entries.next().transpose()?, entries.next().transpose()?) {
        (Some(only), None) => only,
        _ => return Ok(None),
    };
    Ok(match only.node {
        Node::Dir { tree } if only.name != b"bin" => Some((only.name, tree)),
        _ => None,
    })
}

/// `libx.so`, `libx.so.1.2`.
fn is_library(name: &[u8]) -> bool {
    let is_numbers = |text: &[u8]| text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let ends = name.windows(3).enumerate().filter(|(_, part)| *part == b".so").map(|(at, _)| &name[at + 3..]);
    ends.into_iter().any(|after| after.is_empty() || (after[0] == b'.' && is_numbers(after)))
}

fn is_executable(entry: &Entry, path: &[u8], root: &TreeId, source: &dyn ObjectSource) -> Result<bool> {
    match &entry.node {
        Node::File { .. } => Ok(entry.mode & EXECUTE != 0),
        Node::Symlink { .. } => Ok(follow(path, root, source)?
            .is_some_and(|found| matches!(found.node, Node::File { .. }) && found.mode & EXECUTE != 0)),
        _ => Ok(false),
    }
}

/// What a path leads to when its links are followed; `None` if nowhere, out of the artifact, or through too many links.
fn follow(path: &[u8], root: &TreeId, source: &dyn ObjectSource) -> Result<Option<Entry>> {
    // What is still to be gone, its first name last; and the directories that were come through.
    let mut ahead: Vec<Vec<u8>> = reversed(path);
    let (mut open, mut links) = (vec![*root], 0);
    let mut here: Option<Entry> = None;
    while let Some(name) = ahead.pop() {
        match &*name {
            b"" | b"." => continue,
            b".." => {
                // The root's parent is not in the artifact.
                open.pop();
                here = None;
                if open.is_empty() {
                    return Ok(None);
                }
                continue;
            }
            _ => {}
        }
        let directory = open.last().expect("it is left when the last is closed");
        let Some(entry) = find(directory, &name, source)? else { return Ok(None) };
        match &entry.node {
            Node::Dir { tree } => open.push(*tree),
            Node::Symlink { target } => {
                links += 1;
                if links > LINKS_MAX || target.starts_with(b"/") || ahead.len() > PATH_LEN_MAX {
                    return Ok(None);
                }
                ahead.extend(reversed(target));
                continue;
            }
            _ if ahead.iter().any(|name| !name.is_empty()) => return Ok(None),
            _ => {}
        }
        here = Some(entry);
    }
    Ok(here)
}

fn reversed(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::MemoryObjects;
    use crate::testing::{dir, file, symlink, tree};

    fn program() -> Entry {
        Entry { mode: 0o755, ..file(b"#!/bin/sh") }
    }

    /// `name path` of each command.
    fn found(root: &TreeId, objects: &MemoryObjects) -> Vec<String> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let commands = commands(root, objects).unwrap().into_iter();
        commands.map(|(name, path)| format!("{} {}", text(name), text(path))).collect()
    }

    #[test]
    fn programs_are_in_bin_or_at_the_top_or_below_one_directory() {
        let objects = &mut MemoryObjects::new();
        let bin = tree(objects, &[("app", program()), ("notes", file(b"")), ("sub", dir(TreeId([0; 32])))]);
        let top = tree(objects, &[("bin", dir(bin)), ("run", program())]);
        assert_eq!(found(&top, objects), ["app bin/app"]);
        let below = tree(objects, &[("app-1.0", dir(top))]);
        let twice = tree(objects, &[("release", dir(below))]);
        assert_eq!(found(&twice, objects), ["app release/app-1.0/bin/app"]);
        let only_bin = tree(objects, &[("bin", dir(bin))]);
        assert_eq!(found(&only_bin, objects), ["app bin/app"]);
        let flat = tree(objects, &[("README", file(b"")), ("app", program()), ("other", program())]);
        assert_eq!(found(&flat, objects), ["app app", "other other"]);
        let flat_below = tree(objects, &[("app-1.0", dir(flat))]);
        assert_eq!(found(&flat_below, objects), ["app app-1.0/app", "other app-1.0/other"]);
        // Two directories, none of them `bin`: nothing is meant.
        let two = tree(objects, &[("a", dir(bin)), ("b", dir(bin))]);
        assert!(found(&two, objects).is_empty());
        let nothing = tree(objects, &[]);
        assert!(found(&nothing, objects).is_empty());
        let not_a_directory = tree(objects, &[("bin", program()), ("x", program())]);
        assert_eq!(found(&not_a_directory, objects), ["bin bin", "x x"]);
        let alone = tree(objects, &[("app", program())]);
        assert_eq!(found(&alone, objects), ["app app"]);
    }

    #[test]
    fn any_permission_to_execute_makes_a_program() {
        let objects = &mut MemoryObjects::new();
        let of = |mode| Entry { mode, ..file(b"") };
        let entries =
            [("a", of(0o644)), ("b", of(0o100)), ("c", of(0o010)), ("d", of(0o001)), ("e", of(0o4711))];
        let root = tree(objects, &entries);
        assert_eq!(found(&root, objects), ["b b", "c c", "d d", "e e"]);
    }

    #[test]
    fn libraries_are_no_commands() {
        for name in ["libx.so", "libx.so.1", "libx.so.1.2.3", "x.so.", ".so", "a.so.b.so"] {
            assert!(is_library(name.as_bytes()), "{name}");
        }
        for name in ["so", "x.so1", "x.so.1a", "x.sox", "lib.some", "x.so.d", "x"] {
            assert!(!is_library(name.as_bytes()), "{name}");
        }
        let objects = &mut MemoryObjects::new();
        let root = tree(objects, &[("libx.so.1", program()), ("x", program())]);
        assert_eq!(found(&root, objects), ["x x"]);
    }

    #[test]
    fn links_are_commands_if_they_lead_to_a_program_in_the_artifact() {
        let objects = &mut MemoryObjects::new();
        let libexec =
            tree(objects, &[("data", file(b"")), ("real", program()), ("up", symlink("../../bin/a"))]);
        let bin = tree(
            objects,
            &[
                ("a", program()),
                ("absolute", symlink("/bin/a")),
                ("again", symlink("./again-2")),
                ("again-2", symlink("a")),
                ("below", symlink("a/b")),
                ("data", symlink("../lib/exec/data")),
                ("directory", symlink("../lib")),
                ("dots", symlink(".././lib//exec/../exec/real")),
                ("link", symlink("a")),
                ("loop-1", symlink("loop-2")),
                ("loop-2", symlink("loop-1")),
                ("nowhere", symlink("b")),
                ("out", symlink("../../bin/a")),
                ("real", symlink("../lib/exec/real")),
                ("round", symlink("../lib/exec/up")),
                ("through", symlink("../shortcut/real")),
            ],
        );
        let lib = tree(objects, &[("exec", dir(libexec))]);
        let root = tree(objects, &[("bin", dir(bin)), ("lib", dir(lib)), ("shortcut", symlink("lib/exec"))]);
        let names: Vec<String> =
            found(&root, objects).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(names, ["a", "again", "again-2", "dots", "link", "real", "round", "through"]);
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let objects = &mut MemoryObjects::new();
        let mut root = tree(objects, &[("x", program()), ("y", file(b""))]);
        let name = "d".repeat(200);
        for _ in 0..30 {
            root = tree(objects, &[(&*name, dir(root))]);
        }
        assert!(found(&root, objects).is_empty());
        let names: Vec<String> = (0..=COMMANDS_MAX).map(|n| format!("{n:05}")).collect();
        let mut entries: Vec<(&str, Entry)> = names.iter().map(|name| (&**name, program())).collect();
        let many = tree(objects, &entries);
        assert!(matches!(commands(&many, objects), Err(Error::Invalid { .. })));
        entries.pop();
        let fewer = tree(objects, &entries);
        assert_eq!(commands(&fewer, objects).unwrap().len(), COMMANDS_MAX);
    }
}
