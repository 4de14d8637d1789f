//! Wrong bytes under a right id.

use cairn_net::wire::{End, Item};
use cairn_store::ChunkId;
use cairn_store::block::Codec;
use harness::bytes::noise;

use crate::child::assert_refused;
use crate::forged::{Forged, artifact, directory, file, frame_that_says, simple};
use cairn_store::{MemoryObjects, TreeId};

fn lying(wanted: &[u8]) -> Vec<u8> {
    let other = noise(99, wanted.len());
    let len = u32::try_from(other.len()).unwrap();
    frame_that_says(Codec::Raw, vec![(ChunkId::of(wanted), len)], len, &other)
}

#[test]
fn data_that_is_not_what_its_id_says_is_refused() {
    let wanted = noise(1, 50_000);
    let frame = lying(&wanted);
    let server = simple(&wanted).serve(move |_, reply| {
        let end = Item::End(End { frames: 1, bytes: frame.len() as u64 });
        let _ = reply.stream_head()
            && reply.raw(&[Item::Data(frame.clone()).to_bytes(), end.to_bytes()].concat());
    });
    assert_refused(&server.url(), "does not hash to its id");
}

#[test]
fn metadata_that_is_not_what_its_id_says_is_refused() {
    let mut objects = MemoryObjects::new();
    let root = directory(&[file("a")], &mut objects);
    let other = directory(&[file("b")], &mut objects);
    let forged = Forged::new(artifact(root, 1), Vec::new());
    let bytes = crate::forged::bytes_of(&objects, other);
    let answer = forged.answer();
    let encoded = forged.artifact.encode();
    let root: TreeId = root;
    let server = crate::fixture::Server::start(move |request, reply| {
        if request.path.starts_with("/v1/refs/") {
            return crate::honest::json(reply, 200, &answer);
        }
        let chunks = vec![
            (ChunkId::of(&encoded), u32::try_from(encoded.len()).unwrap()),
            (root.into(), u32::try_from(bytes.len()).unwrap()),
        ];
        let payload = [&encoded[..], &bytes[..]].concat();
        let len = u32::try_from(payload.len()).unwrap();
        let item = Item::Metadata(frame_that_says(Codec::Raw, chunks, len, &payload));
        let _ = reply.stream_head() && reply.raw(&item.to_bytes());
        reply.hang();
    });
    assert_refused(&server.url(), "does not hash to its id");
}
