//! Answers of 200 that end before all of it came.

use cairn_net::wire::{End, Head, Item};
use harness::bytes::noise;

use crate::child::assert_refused;
use crate::fixture::Server;
use crate::forged::simple;

#[test]
fn a_stream_without_its_end_is_noticed() {
    let server = simple(&noise(1, 5_000)).serve(|_, reply| {
        let _ = reply.stream_head() && reply.raw(&Item::Head(Head::default()).to_bytes());
    });
    assert_refused(&server.url(), "ends before its end item");
}

#[test]
fn an_end_without_what_was_asked_for_is_noticed() {
    let server = simple(&noise(1, 5_000)).serve(|_, reply| {
        let _ = reply.stream_head() && reply.raw(&Item::End(End::default()).to_bytes());
    });
    assert_refused(&server.url(), "ends before all of it came");
}

#[test]
fn an_end_that_counts_wrong_is_noticed() {
    let server = simple(&noise(1, 5_000)).serve(|_, reply| {
        let _ = reply.stream_head() && reply.raw(&Item::End(End { frames: 3, bytes: 700 }).to_bytes());
    });
    assert_refused(&server.url(), "speaks of 3 frames");
}

#[test]
fn an_empty_answer_is_no_stream() {
    let server =
        simple(&noise(1, 5_000)).serve(|_, reply| reply.whole(200, "text/html", b"<html>welcome</html>"));
    assert_refused(&server.url(), "something else than a stream");
}

#[test]
fn metadata_that_lacks_is_noticed() {
    let forged = simple(&noise(1, 5_000));
    let answer = forged.answer();
    let server = Server::start(move |request, reply| {
        if request.path.starts_with("/v1/refs/") {
            return crate::honest::json(reply, 200, &answer);
        }
        let _ = reply.stream_head() && reply.raw(&Item::End(End::default()).to_bytes());
    });
    assert_refused(&server.url(), "does not have what lacks");
}
