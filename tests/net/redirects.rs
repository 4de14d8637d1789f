//! Redirects: to and fro, and to others who would like to have the token.

use cairn_net::{Kind, Source};
use harness::scratch::Scratch;

use crate::child::assert_refused;
use crate::fixture::{Reply, Server};
use crate::honest::Honest;
use crate::pulls::{net, publish, pull};

fn redirect(reply: &mut Reply, to: &str) {
    let _ = reply.raw(
        format!("HTTP/1.1 307 X\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .as_bytes(),
    );
}

#[test]
fn a_loop_of_redirects_is_refused() {
    let server = Server::start(|request, reply| redirect(reply, &format!("{}x", request.path)));
    assert_refused(&server.url(), "redirects more than 5 times");
    assert!(server.log().len() < 10);
}

#[test]
fn nobody_else_gets_the_token() {
    let elsewhere = Server::start(|_, reply| reply.whole(200, "application/json", b"{}"));
    let scratch = Scratch::new();
    let here = harness::stores::writer(&scratch.join("here"));
    let (other, port) = (elsewhere.url(), elsewhere.address().port());
    for to in
        [format!("{other}/v1/refs"), format!("http://localhost:{port}/"), format!("//127.0.0.1:{port}/x")]
    {
        let server = Server::start(move |_, reply| redirect(reply, &to));
        let source = Source { token: Some("cairn_secret".parse().unwrap()), ..server.source() };
        let error = pull(&net(), &here, &[source], "app@1", &()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(server.url().as_str()) && text.contains("another place"), "{text}");
        assert!(!format!("{error:?} {text}").contains("cairn_secret"));
        let sent = server.log();
        assert_eq!(sent[0].headers["authorization"], "Bearer cairn_secret");
    }
    assert_eq!(elsewhere.log().len(), 0);
}

#[test]
fn a_redirect_to_the_same_place_is_followed() {
    let scratch = Scratch::new();
    let (there, artifact) = publish(&scratch, "there", "1", 2, 100_000);
    let honest = Honest::new(there.store());
    let server = Server::start(move |request, reply| {
        let Some(path) = request.path.strip_prefix("/old/v1") else {
            return honest.answer(request, reply, &|_, _| true);
        };
        redirect(reply, &format!("/v1{path}"));
    });
    let here = harness::stores::writer(&scratch.join("here"));
    let url = format!("{}/old", server.url()).parse().unwrap();
    pull(&net(), &here, &[Source::open(url)], "app@1", &()).unwrap();
    assert!(here.store().missing(&artifact, &()).unwrap().is_nothing());
}

#[test]
fn who_is_not_let_in_is_told_so() {
    let server = Server::start(|_, reply| {
        let body = br#"{"error":{"kind":"refused","message":"a token is needed here"}}"#;
        reply.whole(401, "application/json", body);
    });
    let scratch = Scratch::new();
    let here = harness::stores::writer(&scratch.join("here"));
    let error = pull(&net(), &here, &[server.source()], "app@1", &()).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains("a token is needed here"), "{error}");
}
