//! Artifacts of 10^9 entries: those that say so, and those that do not.

use cairn_store::{ChunkId, ChunkRef, MemoryObjects};

use crate::child::assert_refused;
use crate::forged::{Forged, artifact, chunked, directory, file};

#[test]
fn an_artifact_that_says_so_is_refused() {
    let mut objects = MemoryObjects::new();
    let root = directory(&[file("a")], &mut objects);
    let forged = Forged::of(artifact(root, 1_000_000_000), &objects);
    let server = forged.serve(|_, reply| reply.hang());
    assert_refused(&server.url(), "it has 1000000000 entries");
}

#[test]
fn an_artifact_that_has_more_than_it_says_is_refused() {
    let mut objects = MemoryObjects::new();
    let entries: Vec<_> = (0..200_000).map(|number| file(&format!("{number:06}"))).collect();
    let root = directory(&entries, &mut objects);
    let forged = Forged::of(artifact(root, 10), &objects);
    let server = forged.serve(|_, reply| reply.hang());
    assert_refused(&server.url(), "it says that it has 10 entries");
}

#[test]
fn a_chunk_of_another_length_than_the_list_says_is_refused() {
    let mut objects = MemoryObjects::new();
    let wanted = ChunkRef { id: ChunkId::of(&[4; 400]), len: 500 };
    let entry = chunked("file", wanted, &mut objects);
    let root = directory(&[entry], &mut objects);
    let forged = Forged::of(artifact(root, 1), &objects);
    let server = forged.serve(|_, reply| {
        let item = cairn_net::wire::Item::Data(crate::forged::frame(&[&[4; 400]]));
        let _ = reply.stream_head() && reply.raw(&item.to_bytes());
        reply.hang();
    });
    assert_refused(&server.url(), "500 bytes, and it has 400");
}
