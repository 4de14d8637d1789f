//! Cycles cannot be made, since an id is a hash of what it names. What can be made is a directory that names another one
//! twice, which names another one twice: a few thousand bytes that are 10^9 entries to whoever goes through all of them.

use cairn_store::{ChunkId, ChunkRef, ContentBuilder, Entry, MemoryObjects, Node};

use crate::child::assert_refused;
use crate::forged::{Forged, artifact, dir, directory, file};

/// Directories, each of which has the one below twice.
fn doubled(levels: u32, objects: &mut MemoryObjects) -> cairn_store::TreeId {
    let mut tree = directory(&[file("a")], objects);
    for _ in 0..levels {
        tree = directory(&[dir("a", tree), dir("b", tree)], objects);
    }
    tree
}

#[test]
fn directories_that_share_are_counted_as_often_as_they_are_named() {
    for (levels, said) in [(30, 100), (30, 10_000_000), (2000, 5_000)] {
        let mut objects = MemoryObjects::new();
        let root = doubled(levels, &mut objects);
        let forged = Forged::of(artifact(root, said), &objects);
        let server = forged.serve(|_, reply| reply.hang());
        assert_refused(&server.url(), "and has more");
    }
}

#[test]
fn directories_nested_past_the_longest_path_are_refused() {
    let mut objects = MemoryObjects::new();
    let mut tree = directory(&[file("a")], &mut objects);
    for _ in 0..5_000 {
        tree = directory(&[dir("a", tree)], &mut objects);
    }
    let forged = Forged::of(artifact(tree, 5_001), &objects);
    let server = forged.serve(|_, reply| reply.hang());
    assert_refused(&server.url(), "nested too deeply");
}

/// A file whose list names one chunk 300,000 times: read once for each node, not once for each entry of each file.
#[test]
fn lists_that_share_cost_what_their_nodes_cost() {
    let mut objects = MemoryObjects::new();
    let mut builder = ContentBuilder::new();
    let chunk = ChunkRef { id: ChunkId::of(b"nobody has this"), len: 15 };
    for _ in 0..300_000 {
        builder.push(chunk, &mut objects).unwrap();
    }
    let content = builder.finish(&mut objects).unwrap();
    let node = Node::File { size: 300_000 * 15, content };
    let entries: Vec<Entry> = (0..5_000)
        .map(|number| Entry {
            name: format!("{number:04}").into(),
            node: node.clone(),
            mode: 0o644,
            full: None,
        })
        .collect();
    let root = directory(&entries, &mut objects);
    let forged = Forged::of(artifact(root, 5_000), &objects);
    let server = forged.serve(move |_, reply| {
        let absent = cairn_net::wire::Item::Absent(vec![chunk.id]).to_bytes();
        let end = cairn_net::wire::Item::End(cairn_net::wire::End::default()).to_bytes();
        let _ = reply.stream_head() && reply.raw(&[absent, end].concat());
    });
    assert_refused(&server.url(), "1 of its chunks");
}
