//! Streams that hardly come, and answers that do not.

use std::time::Duration;

use cairn_net::wire::Item;
use harness::bytes::noise;

use crate::child::assert_refused;
use crate::fixture::Server;
use crate::forged::{frame, simple};

#[test]
fn a_byte_now_and_then_is_given_up_on() {
    let wanted = noise(1, 500_000);
    let server = simple(&wanted).serve(move |_, reply| {
        let _ = reply.stream_head();
        for byte in Item::Data(frame(&[&wanted])).to_bytes() {
            if !reply.raw(&[byte]) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    assert_refused(&server.url(), "bytes a second");
}

#[test]
fn silence_is_given_up_on() {
    let server = simple(&noise(1, 5_000)).serve(|_, reply| {
        let _ = reply.stream_head() && reply.raw(&[3]);
        reply.hang();
    });
    assert_refused(&server.url(), "nothing came for");
}

#[test]
fn an_answer_without_a_head_is_given_up_on() {
    let server = Server::start(|_, reply| {
        let _ = reply.raw(b"HTTP/1.1 200 OK\r\n");
        reply.hang();
    });
    assert_refused(&server.url(), "no answer within");
}

#[test]
fn a_head_that_trickles_is_given_up_on() {
    let server = Server::start(|_, reply| {
        let _ = reply.raw(b"HTTP/1.1 200 OK\r\n");
        while reply.raw(b"a: b\r\n") {
            std::thread::sleep(Duration::from_millis(300));
        }
    });
    assert_refused(&server.url(), "no answer within");
}
