//! Reads of what is not here: they bring it, or fail within their deadline, and succeed again when somebody is there.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_net::{FetchPolicy, Net, Source, Sources};
use cairn_store::{ArtifactId, Error, Writer};
use harness::scratch::Scratch;
use harness::stores::{read_file, writer};

use crate::fixture::Server;
use crate::honest::Honest;
use crate::pulls::{net, publish};

struct World {
    scratch: Scratch,
    there: Writer,
    here: Writer,
    artifact: ArtifactId,
    net: Arc<Net>,
    sources: Arc<Mutex<Vec<Source>>>,
}

impl World {
    /// A store that has the metadata alone, and asks whoever is in the list.
    fn new(deadline: Duration) -> Self {
        let scratch = Scratch::new();
        let (there, artifact) = publish(&scratch, "there", "1", 2, 4 << 20);
        let here = writer(&scratch.join("here"));
        let net = net();
        let server = Honest::new(there.store()).serve();
        let from = [server.source()];
        let resolved = net.resolve(&from, &"app@1".parse().unwrap(), None).unwrap();
        net.plan(&here, &from, &resolved, &()).unwrap();
        let sources: Arc<Mutex<Vec<Source>>> = Arc::default();
        let listed = Arc::clone(&sources);
        let asked: Sources = Arc::new(move || listed.lock().unwrap().clone());
        let fetch = net.fetcher(&here, asked, FetchPolicy { deadline });
        here.store().set_fetch(Some(fetch));
        Self { scratch, there, here, artifact, net, sources }
    }

    fn ask(&self, servers: &[&Server]) {
        *self.sources.lock().unwrap() = servers.iter().map(|server| server.source()).collect();
    }

    fn read(&self, path: &str) -> cairn_store::Result<Vec<u8>> {
        read_file(self.here.store(), &self.artifact, path.as_bytes())
    }

    fn original(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.scratch.join("there-1").join(path)).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.here.store().set_fetch(None);
    }
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn what_is_read_is_brought_and_kept() {
    let world = World::new(LONG);
    let server = Honest::new(world.there.store()).serve();
    world.ask(&[&server]);
    assert_eq!(world.read("lib/deep/7").unwrap(), world.original("lib/deep/7"));
    assert_eq!(world.read("lib/large").unwrap(), world.original("lib/large"));
    let asked = server.log().len();
    assert_eq!(world.read("lib/large").unwrap(), world.original("lib/large"));
    assert_eq!(server.log().len(), asked, "it is here now");
    assert!(world.net.list(&server.source()).is_ok());
}

#[test]
fn many_who_read_the_same_at_once_ask_for_it_once() {
    let world = World::new(LONG);
    let server = Honest::new(world.there.store()).serve();
    world.ask(&[&server]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(world.read("lib/large").unwrap(), world.original("lib/large")));
        }
    });
    let ids: Vec<_> = server
        .log()
        .iter()
        .filter(|request| request.path == "/v1/chunks")
        .flat_map(|request| cairn_net::wire::ids_from_bytes(&request.body).unwrap())
        .collect();
    let distinct: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
}

#[test]
fn who_stalls_or_is_away_is_done_without() {
    let world = World::new(LONG);
    let stalls = Server::start(|_, reply| reply.hang());
    let mut away = Honest::new(world.there.store()).serve();
    let good = Honest::new(world.there.store()).serve();
    world.ask(&[&stalls, &away, &good]);
    away.stop();
    assert_eq!(world.read("lib/large").unwrap(), world.original("lib/large"));
}

#[test]
fn who_lies_is_left_alone_and_the_read_succeeds() {
    let world = World::new(LONG);
    let lies = Honest::new(world.there.store()).serve_twisted(|reply, item| {
        let cairn_net::wire::Item::Data(_) = item else { return true };
        let other = cairn_net::wire::Item::Data(crate::forged::frame(&[b"something else"]));
        reply.raw(&other.to_bytes());
        false
    });
    let good = Honest::new(world.there.store()).serve();
    world.ask(&[&lies, &good]);
    assert_eq!(world.read("lib/large").unwrap(), world.original("lib/large"));
    assert_eq!(lies.log().len(), 1);
}

#[test]
fn nobody_there_is_an_error_in_time_and_over_when_somebody_is() {
    let world = World::new(Duration::from_millis(1500));
    let error = world.read("lib/large").unwrap_err();
    assert!(
        matches!(&error, Error::Unavailable { detail, .. } if detail.contains("no peer is known")),
        "{error}"
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}");
    *world.sources.lock().unwrap() = vec![Source::open(url.parse().unwrap())];
    let error = world.read("lib/large").unwrap_err();
    assert!(matches!(&error, Error::Unavailable { detail, .. } if detail.contains(&url)), "{error}");
    let listener = std::net::TcpListener::bind(address).unwrap();
    let honest = Honest::new(world.there.store());
    let _server = Server::start_on(
        listener,
        Arc::new(move |request, reply| honest.answer(request, reply, &|_, _| true)),
    );
    assert_eq!(world.read("lib/large").unwrap(), world.original("lib/large"));
}

#[test]
fn what_nobody_has_fails_before_the_deadline() {
    let world = World::new(LONG);
    let scratch = Scratch::new();
    let (empty, _) = publish(&scratch, "empty", "1", 77, 1000);
    let server = Honest::new(empty.store()).serve();
    world.ask(&[&server]);
    let error = world.read("lib/large").unwrap_err();
    assert!(matches!(&error, Error::Unavailable { detail, .. } if detail == "no peer has it"), "{error}");
}
