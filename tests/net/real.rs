//! Client and server together: over TLS, with tokens, both ways.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn_net::{Kind, PeerUrl, Source};
use cairn_server::{
    Access, DeltaServing, Listen, NewToken, PeerApi, PeerLimits, PeerOptions, Scope, Serving, Stop, TlsFiles,
    TokenFile, peer_router,
};
use cairn_store::{StreamBounds, Streams, Writer};
use harness::scratch::Scratch;
use harness::stores::{add, options, writer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::pulls::{assert_whole, net, publish, pull, tree};

/// A server until it is dropped.
pub(crate) struct Real {
    url: PeerUrl,
    ca: PathBuf,
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<Stop>>,
}

impl Real {
    pub(crate) fn serve(scratch: &Scratch, writer: &Writer, access: Access) -> Self {
        let (tls, ca) = certificates(scratch);
        let options = PeerOptions {
            version: "test",
            access: access.clone(),
            limits: PeerLimits::default(),
            proxies: Vec::new(),
            deltas: DeltaServing::default(),
            streams: Some(Streams::open(writer, StreamBounds::default()).unwrap()),
        };
        let api = PeerApi::writing(writer.signed("server".to_owned()), options);
        let listen =
            Listen { address: "127.0.0.1:0".parse().unwrap(), tls: Some(tls), insecure_public: false };
        let serving = Serving::open(&listen, &access).unwrap();
        let url = format!("https://localhost:{}", serving.address().port()).parse().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (stop, stopped) = oneshot::channel();
        let router = peer_router(Arc::clone(&api), axum::Router::new());
        let stopped = async { stopped.await.unwrap_or(Stop::Drain(Duration::ZERO)) };
        runtime.spawn(async move { serving.serve(&api, router, stopped).await });
        Self { url, ca, runtime: Some(runtime), stop: Some(stop) }
    }

    pub(crate) fn source(&self, token: Option<&str>) -> Source {
        let token = token.map(|token| token.parse().unwrap());
        Source { url: self.url.clone(), token, ca: Some(self.ca.clone()) }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(5));
    }
}

/// A certificate for this machine, its key, and the authority that made it.
fn certificates(scratch: &Scratch) -> (TlsFiles, PathBuf) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let tls = TlsFiles {
        cert: scratch.file("cert.pem", certificate.pem().as_bytes()),
        key: scratch.file("key.pem", key.serialize_pem().as_bytes()),
        client_ca: None,
    };
    (tls, scratch.file("ca.pem", authority.pem().as_bytes()))
}

fn token(tokens: &TokenFile, scope: Scope) -> String {
    let new = NewToken { scope, names: Vec::new(), expires_ms: None };
    tokens.create(new, cairn_store::time::now_ms()).unwrap().1.reveal().to_owned()
}

#[test]
fn a_pull_over_tls_with_a_token() {
    let scratch = Scratch::new();
    let (there, artifact) = publish(&scratch, "there", "1", 2, 8 << 20);
    let tokens = Arc::new(TokenFile::open(&scratch.join("tokens.json")).unwrap());
    let reads = token(&tokens, Scope::Read);
    let real = Real::serve(&scratch, &there, Access::by_tokens(tokens));
    let here = writer(&scratch.join("here"));
    let report = pull(&net(), &here, &[real.source(Some(&reads))], "app@1", &()).unwrap();
    assert_eq!(report.round_trips, 3);
    assert_whole(&scratch, &here, &artifact, &scratch.join("there-1"));
    for token in [None, Some("cairn_wrong")] {
        let error = pull(&net(), &here, &[real.source(token)], "app@1", &()).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{error}");
    }
    let unknown = Source { ca: None, ..real.source(Some(&reads)) };
    let error = pull(&net(), &here, &[unknown], "app@1", &()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
}

#[test]
fn of_the_next_version_little_travels_from_a_real_server() {
    let scratch = Scratch::new();
    let (there, _) = publish(&scratch, "there", "1", 2, 4 << 20);
    let folder = scratch.join("there-2");
    tree(&folder, 2, 4 << 20);
    std::fs::write(folder.join("lib/deep/text"), "another text\n".repeat(900)).unwrap();
    let next = add(&there, &folder, &options("app", "2")).artifact;
    let real = Real::serve(&scratch, &there, Access::open());
    let here = writer(&scratch.join("here"));
    add(&here, &scratch.join("there-1"), &options("app", "1"));
    let report = pull(&net(), &here, &[real.source(None)], "app@2", &()).unwrap();
    assert_eq!((report.round_trips, report.chunks), (3, 1), "{report:?}");
    assert!(report.wire_bytes < 40_000, "{report:?}");
    assert_whole(&scratch, &here, &next, &folder);
}

#[test]
fn a_push_sends_what_lacks_and_then_the_name() {
    let scratch = Scratch::new();
    let (here, artifact) = publish(&scratch, "here", "1", 2, 8 << 20);
    here.origin().unwrap();
    let there = writer(&scratch.join("there"));
    let tokens = Arc::new(TokenFile::open(&scratch.join("tokens.json")).unwrap());
    let (reads, publishes) = (token(&tokens, Scope::Read), token(&tokens, Scope::Publish));
    let real = Real::serve(&scratch, &there, Access::by_tokens(tokens));
    let (net, key) = (net(), here.names().refs.keys().next().unwrap().clone());
    let refused = net.push(here.store(), &key, &real.source(Some(&reads)), &()).unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused, "{refused}");
    let to = real.source(Some(&publishes));
    let first = net.push(here.store(), &key, &to, &()).unwrap();
    assert!(first.created && first.sent_chunks == first.chunks, "{first:?}");
    assert_whole(&scratch, &there, &artifact, &scratch.join("here-1"));
    let again = net.push(here.store(), &key, &to, &()).unwrap();
    assert!(!again.created && again.sent_chunks == 0 && again.round_trips == 2, "{again:?}");

    let folder = scratch.join("here-2");
    tree(&folder, 2, 8 << 20);
    std::fs::write(folder.join("new"), b"few bytes").unwrap();
    let next = add(&here, &folder, &options("app", "2")).artifact;
    let key = here.names().refs_to(&next).next().unwrap().clone();
    let second = net.push(here.store(), &key, &to, &()).unwrap();
    assert!(second.created && second.sent_chunks < 10, "{second:?}");
    assert_whole(&scratch, &there, &next, &folder);
    // The name travels on as it was stated first.
    let third = writer(&scratch.join("third"));
    let resolved = net.resolve(&[real.source(Some(&reads))], &"app@2".parse().unwrap(), None).unwrap();
    assert_eq!(resolved.envelopes[0], here.names().statement_of(&key).unwrap());
    drop(third);
}

#[test]
fn a_version_that_is_something_else_there_is_not_replaced() {
    let scratch = Scratch::new();
    let (here, _) = publish(&scratch, "here", "1", 2, 100_000);
    let (there, other) = publish(&scratch, "there", "1", 3, 100_000);
    here.origin().unwrap();
    let tokens = Arc::new(TokenFile::open(&scratch.join("tokens.json")).unwrap());
    let publishes = token(&tokens, Scope::Publish);
    let real = Real::serve(&scratch, &there, Access::by_tokens(tokens));
    let key = here.names().refs.keys().next().unwrap().clone();
    let error = net().push(here.store(), &key, &real.source(Some(&publishes)), &()).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    assert_eq!(there.names().refs[&key].artifact, other);
}
