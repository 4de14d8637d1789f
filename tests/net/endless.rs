//! Streams that do not end.

use cairn_net::wire::Item;
use cairn_store::{ChunkId, ChunkRef, MemoryObjects};
use harness::bytes::noise;

use crate::child::assert_refused;
use crate::fixture::Server;
use crate::forged::{Forged, artifact, chunked, directory, file, frame, simple};
use crate::honest::json;

#[test]
fn the_same_frame_over_and_over_is_refused() {
    let (sent, never) = (noise(1, 5_000), noise(2, 5_000));
    let mut objects = MemoryObjects::new();
    let mut entry = |name: &str, bytes: &[u8]| {
        let chunk = ChunkRef { id: ChunkId::of(bytes), len: u32::try_from(bytes.len()).unwrap() };
        chunked(name, chunk, &mut objects)
    };
    let entries = [entry("a", &sent), entry("b", &never)];
    let root = directory(&entries, &mut objects);
    let server = Forged::of(artifact(root, 2), &objects).serve(move |_, reply| {
        let item = Item::Data(frame(&[&sent])).to_bytes();
        let _ = reply.stream_head();
        while reply.raw(&item) {}
    });
    assert_refused(&server.url(), "it sends what was not asked for");
}

#[test]
fn other_data_without_end_is_refused() {
    let server = simple(&noise(1, 5_000)).serve(|_, reply| {
        let _ = reply.stream_head();
        for seed in 0.. {
            if !reply.raw(&Item::Data(frame(&[&noise(seed + 2, 100_000)])).to_bytes()) {
                break;
            }
        }
    });
    assert_refused(&server.url(), "it sends what was not asked for");
}

#[test]
fn metadata_without_end_that_nothing_names_is_refused() {
    let forged = simple(&noise(1, 5_000));
    let answer = forged.answer();
    let artifact = forged.artifact.encode();
    let server = Server::start(move |request, reply| {
        if request.path.starts_with("/v1/refs/") {
            return json(reply, 200, &answer);
        }
        let _ = reply.stream_head() && reply.raw(&Item::Metadata(frame(&[&artifact])).to_bytes());
        for number in 0.. {
            let mut objects = MemoryObjects::new();
            directory(&[file(&format!("{number}"))], &mut objects);
            let bytes: Vec<&[u8]> = objects.iter().map(|(_, bytes)| bytes).collect();
            if !reply.raw(&Item::Metadata(frame(&bytes)).to_bytes()) {
                break;
            }
        }
    });
    assert_refused(&server.url(), "metadata that was not asked for");
}

#[test]
fn absences_without_end_are_refused() {
    let server = simple(&noise(1, 5_000)).serve(|_, reply| {
        let _ = reply.stream_head();
        let item = Item::Absent(vec![ChunkId([1; 32]); 4096]).to_bytes();
        while reply.raw(&item) {}
    });
    assert_refused(&server.url(), "absent that were not asked for");
}

#[test]
fn bytes_after_the_end_are_refused() {
    let wanted = noise(1, 5_000);
    let server = simple(&wanted).serve(|_, reply| {
        let _ = reply.stream_head();
        while reply.raw(&Item::Failure("no".to_owned()).to_bytes()) {}
    });
    assert_refused(&server.url(), "it gives up: no");
}
