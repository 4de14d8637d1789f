//! Several peers at once: each chunk comes from one of them, and who dies, lies or stalls is done without.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cairn_net::wire::{Item, ids_from_bytes};
use cairn_net::{Kind, PeerUrl, Peers, Report, Watch};
use cairn_store::block::{Codec, FrameHeader};
use cairn_store::{ArtifactId, ChunkId, Writer};
use harness::scratch::Scratch;

use crate::fixture::Server;
use crate::forged::frame_that_says;
use crate::honest::Honest;
use crate::pulls::{assert_whole, net, publish, pull};

const BYTES: usize = 24 << 20;

struct World {
    scratch: Scratch,
    there: Writer,
    artifact: ArtifactId,
}

impl World {
    fn new() -> Self {
        let scratch = Scratch::new();
        let (there, artifact) = publish(&scratch, "there", "1", 2, BYTES);
        Self { scratch, there, artifact }
    }

    fn honest(&self) -> Honest {
        Honest::new(self.there.store())
    }

    /// Pulls from all of these, and looks whether all of it came.
    fn pull(&self, from: &[&Server], watch: &dyn Watch) -> Report {
        let here = harness::stores::writer(&self.scratch.join("here"));
        let sources: Vec<_> = from.iter().map(|server| server.source()).collect();
        for source in &sources {
            Peers::open(here.store().path()).add(source).unwrap();
        }
        let report = pull(&net(), &here, &sources, "app@1", watch).unwrap();
        assert_whole(&self.scratch, &here, &self.artifact, &self.scratch.join("there-1"));
        report
    }
}

fn of<'a>(report: &'a Report, server: &Server) -> &'a cairn_net::PeerReport {
    report.peers.iter().find(|peer| peer.url == server.url()).unwrap()
}

/// The chunks of data that a server was asked for, one request after the other.
fn asked(server: &Server) -> Vec<ChunkId> {
    let log = server.log();
    let lists = log.iter().filter(|request| request.path == "/v1/chunks");
    lists.flat_map(|request| ids_from_bytes(&request.body).unwrap()).collect()
}

/// A peer that gives out so many frames of data, and then does as it is told.
fn after(
    frames: u64,
    world: &World,
    then: impl Fn(&mut crate::fixture::Reply, &Item) -> bool + Send + Sync + 'static,
) -> Server {
    let count = AtomicU64::new(0);
    world.honest().serve_twisted(move |reply, item| {
        let is_data = matches!(item, Item::Data(_));
        if is_data && count.fetch_add(1, Ordering::Relaxed) >= frames { then(reply, item) } else { true }
    })
}

/// The same frame with other bytes under the same ids.
fn corrupted(frame: &[u8]) -> Vec<u8> {
    let (header, _) = FrameHeader::decode(frame).unwrap();
    frame_that_says(Codec::Raw, header.chunks, header.plain_len, &vec![7; header.plain_len as usize])
}

#[test]
fn two_peers_share_the_work() {
    let world = World::new();
    let (first, second) = (world.honest().serve(), world.honest().serve());
    let report = world.pull(&[&first, &second], &());
    let (a, b) = (asked(&first), asked(&second));
    assert!(!a.is_empty() && !b.is_empty());
    let (a_set, b_set): (HashSet<_>, HashSet<_>) = (a.iter().collect(), b.iter().collect());
    assert_eq!((a_set.len(), b_set.len()), (a.len(), b.len()), "nobody is asked twice for anything");
    let both = a_set.intersection(&b_set).count();
    assert!(both * 4 < a.len() + b.len(), "{both} of {} and {} were asked of both", a.len(), b.len());
    assert_eq!(of(&report, &first).chunks + of(&report, &second).chunks, report.chunks);
}

#[derive(Default)]
struct Dropped(Mutex<Vec<PeerUrl>>);

impl Watch for Dropped {
    fn dropped(&self, peer: &PeerUrl, _: &str) {
        self.0.lock().unwrap().push(peer.clone());
    }
}

#[test]
fn one_dies_one_lies_one_stalls_and_one_is_good() {
    let world = World::new();
    let dies = after(3, &world, |reply, _| {
        reply.cut();
        false
    });
    let lies = after(2, &world, |reply, item| {
        let Item::Data(frame) = item else { return true };
        reply.raw(&Item::Data(corrupted(frame)).to_bytes());
        false
    });
    let stalls = after(1, &world, |reply, _| {
        reply.hang();
        reply.cut();
        false
    });
    let good = world.honest().serve();
    let dropped = Dropped::default();
    let report = world.pull(&[&dies, &lies, &stalls, &good], &dropped);
    let lie = of(&report, &lies);
    assert!(lie.lied && lie.dropped.as_ref().unwrap().contains("does not hash to its id"), "{lie:?}");
    assert!(dropped.0.lock().unwrap().contains(&lies.url()));
    assert!(of(&report, &good).chunks * 2 > report.chunks, "{report:?}");
    let known = Peers::open(&world.scratch.join("here")).list().unwrap();
    let of = |server: &Server| known.iter().find(|peer| peer.url == server.url()).unwrap();
    assert_eq!((of(&lies).lies, of(&good).lies, of(&stalls).lies), (1, 0, 0));
    assert!(of(&good).rate.unwrap() > 0);
}

#[test]
fn of_two_peers_the_one_that_lies_is_not_asked_again() {
    let world = World::new();
    let every = AtomicU64::new(0);
    let lies = world.honest().serve_twisted(move |reply, item| {
        let Item::Data(frame) = item else { return true };
        if every.fetch_add(1, Ordering::Relaxed) % 100 != 5 {
            return true;
        }
        reply.raw(&Item::Data(corrupted(frame)).to_bytes());
        false
    });
    let good = world.honest().serve();
    let report = world.pull(&[&lies, &good], &());
    assert!(of(&report, &lies).lied);
    assert!(of(&report, &good).dropped.is_none());
}

#[test]
fn what_a_peer_lacks_comes_from_another() {
    let world = World::new();
    let lacking = Arc::new(Mutex::new(HashSet::new()));
    let told = Arc::clone(&lacking);
    let honest = world.honest();
    // It says of every third request that nothing of it is there.
    let partial = Server::start(move |request, reply| {
        if request.path != "/v1/chunks" || request.number % 3 != 0 {
            return honest.answer(request, reply, &|_, _| true);
        }
        let ids = ids_from_bytes(&request.body).unwrap();
        told.lock().unwrap().extend(ids.iter().copied());
        let _ = reply.stream_head();
        for ids in ids.chunks(4096) {
            let _ = reply.raw(&Item::Absent(ids.to_vec()).to_bytes());
        }
        let _ = reply.raw(&Item::End(cairn_net::wire::End::default()).to_bytes());
    });
    let good = world.honest().serve();
    world.pull(&[&partial, &good], &());
    let asked: HashSet<_> = asked(&good).into_iter().collect();
    assert!(lacking.lock().unwrap().iter().all(|id| asked.contains(id)));
}

#[test]
fn when_all_are_gone_each_is_named() {
    let world = World::new();
    let first = after(2, &world, |reply, _| {
        reply.cut();
        false
    });
    let second = after(2, &world, |reply, item| {
        let Item::Data(frame) = item else { return true };
        reply.raw(&Item::Data(corrupted(frame)).to_bytes());
        false
    });
    let here = harness::stores::writer(&world.scratch.join("here"));
    let error = pull(&net(), &here, &[first.source(), second.source()], "app@1", &()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let text = error.to_string();
    assert!(text.contains(first.url().as_str()) && text.contains(second.url().as_str()), "{text}");
}
