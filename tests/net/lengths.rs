//! Lengths that lie.

use cairn_net::wire::STREAM_TYPE;
use harness::bytes::noise;

use crate::child::assert_refused;
use crate::fixture::Server;
use crate::forged::{frame, simple};

#[test]
fn an_item_of_four_gigabytes_is_refused_before_it_comes() {
    let server = simple(&noise(1, 5_000)).serve(|_, reply| {
        let _ = reply.stream_head() && reply.raw(&[3, 0xff, 0xff, 0xff, 0xff]);
        while reply.raw(&[0; 65_536]) {}
    });
    assert_refused(&server.url(), "an item of kind 0x03 with 4294967295 bytes");
}

#[test]
fn an_item_that_is_shorter_than_it_says_is_refused() {
    let wanted = noise(1, 5_000);
    let server = simple(&wanted).serve(move |_, reply| {
        let frame = frame(&[&wanted]);
        let len = u32::try_from(frame.len() + 100).unwrap().to_le_bytes();
        let _ = reply.stream_head() && reply.raw(&[&[3][..], &len, &frame, &[0; 1000]].concat());
    });
    assert_refused(&server.url(), "");
}

#[test]
fn an_answer_that_is_shorter_than_its_length_says_is_refused() {
    let server = simple(&noise(1, 5_000)).serve(|_, reply| {
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: {STREAM_TYPE}\r\ncontent-length: 99999999\r\n\r\n");
        let _ = reply.raw(head.as_bytes()) && reply.raw(&[3, 0, 0]);
    });
    assert_refused(&server.url(), "");
}

#[test]
fn a_list_without_end_is_refused() {
    let server = Server::start(|_, reply| {
        let _ = reply.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"ref\":\"");
        while reply.raw(&[b'a'; 65_536]) {}
    });
    assert_refused(&server.url(), "longer than");
}

#[test]
fn heads_without_end_are_refused() {
    let server = Server::start(|_, reply| {
        let _ = reply.raw(b"HTTP/1.1 200 OK\r\n");
        while reply
            .raw(b"x-more: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")
        {
        }
    });
    assert_refused(&server.url(), "");
}
