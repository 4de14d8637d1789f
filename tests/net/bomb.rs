//! Compressed bytes that become far more than they say.

use cairn_net::wire::Item;
use cairn_store::ChunkId;
use cairn_store::block::{Codec, FrameHeader};
use harness::bytes::noise;

use crate::child::assert_refused;
use crate::fixture::Server;
use crate::forged::{frame, frame_that_says, simple};

#[test]
fn a_frame_that_decompresses_to_more_than_it_says_is_refused() {
    let wanted = noise(1, 50_000);
    let zeros = vec![0; 1 << 20];
    let small = frame(&[&zeros]);
    let (header, header_len) = FrameHeader::decode(&small).unwrap();
    assert_eq!(header.codec, Codec::Zstd);
    let bomb =
        frame_that_says(Codec::Zstd, vec![(ChunkId::of(&wanted), 50_000)], 50_000, &small[header_len..]);
    let server = simple(&wanted).serve(move |_, reply| {
        let item = Item::Data(bomb.clone()).to_bytes();
        let _ = reply.stream_head();
        while reply.raw(&item) {}
    });
    assert_refused(&server.url(), "does not decompress");
}

#[test]
fn a_frame_that_says_that_it_is_larger_than_frames_are_is_refused() {
    let wanted = noise(1, 50_000);
    let chunks = vec![(ChunkId::of(&wanted), 1 << 30), (ChunkId::of(b"x"), 1 << 30)];
    let bomb = frame_that_says(Codec::Zstd, chunks, 2 << 30, &[1; 100]);
    let server = simple(&wanted).serve(move |_, reply| {
        let _ = reply.stream_head() && reply.raw(&Item::Data(bomb.clone()).to_bytes());
        reply.hang();
    });
    assert_refused(&server.url(), "lengths contradict each other");
}

#[test]
fn an_answer_with_a_content_encoding_is_not_decoded() {
    // The first bytes of a gzip stream, and zeros without end.
    let server = Server::start(|_, reply| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\r\n\x1f";
        let _ = reply.raw(head.as_bytes());
        while reply.raw(&[0; 4096]) {}
    });
    assert_refused(&server.url(), "longer than");
}
