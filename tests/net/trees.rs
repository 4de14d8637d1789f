//! Directories that would lead out of where they are restored, or that are not in order.

use cairn_store::{MemoryObjects, TreeId};

use crate::child::assert_refused;
use crate::forged::{Forged, artifact, bytes_of, directory, file};

/// A peer whose root directory is that of `names` with some bytes of it replaced.
fn assert_tree_refused(names: &[&str], replace: &[(&str, &str)], expected: &str) {
    let mut objects = MemoryObjects::new();
    let entries: Vec<_> = names.iter().map(|name| file(name)).collect();
    let root = directory(&entries, &mut objects);
    let mut bytes = bytes_of(&objects, root);
    for (from, to) in replace {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|bytes| bytes == from.as_bytes()).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    let root = TreeId::of(&bytes);
    let forged = Forged::new(artifact(root, names.len() as u64), vec![bytes]);
    let server = forged.serve(|_, reply| reply.hang());
    assert_refused(&server.url(), expected);
}

#[test]
fn a_name_of_two_dots_is_refused() {
    assert_tree_refused(&["aa"], &[("aa", "..")], "name");
}

#[test]
fn an_absolute_name_is_refused() {
    assert_tree_refused(&["aetc"], &[("aetc", "/etc")], "name");
    assert_tree_refused(&["a.b.c"], &[("a.b.c", "../.c")], "name");
}

#[test]
fn a_nul_in_a_name_is_refused() {
    assert_tree_refused(&["a.b"], &[("a.b", "a\0b")], "name");
}

#[test]
fn two_entries_of_one_name_are_refused() {
    assert_tree_refused(&["name1", "name2"], &[("name2", "name1")], "ascend");
}

#[test]
fn entries_out_of_order_are_refused() {
    assert_tree_refused(&["name1", "name2"], &[("name1", "name3")], "ascend");
}

#[test]
fn bytes_that_are_no_directory_are_refused() {
    let forged = Forged::new(artifact(TreeId::of(b"#!/bin/sh"), 1), vec![b"#!/bin/sh".to_vec()]);
    let server = forged.serve(|_, reply| reply.hang());
    assert_refused(&server.url(), "neither an artifact nor a directory");
}
