//! Streams of events from peers that do as they should, and from peers that do not.

use std::time::Duration;

use cairn_net::wire::{EVENTS_TYPE, EventItem};
use cairn_net::{
    Error, Fault, FollowAsk, FollowItem, Following, Net, NetOptions, PeerError, Source, Timeouts,
};
use cairn_server::{Access, NewToken, Scope, TokenFile};
use cairn_store::{Event, Name, Span, StateHash};
use harness::scratch::Scratch;
use harness::stores;

use crate::fixture::{Reply, Server};
use crate::real::Real;

/// How long a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

fn name() -> Name {
    "chain".parse().unwrap()
}

fn event(round: u64, len: usize) -> Event {
    let payload = round.to_le_bytes().into_iter().cycle().take(len).collect();
    Event { round, state_hash: StateHash::new(&[7]).ok().filter(|_| round.is_multiple_of(2)), payload }
}

fn events(rounds: std::ops::Range<u64>, len: usize) -> Vec<Event> {
    rounds.map(|round| event(round, len)).collect()
}

/// A client that gives up soon.
fn hasty() -> std::sync::Arc<Net> {
    let timeouts = Timeouts {
        connect: Duration::from_secs(5),
        answer: Duration::from_secs(5),
        idle: Duration::from_millis(600),
        patience: Duration::from_millis(900),
    };
    Net::start(NetOptions { timeouts }).unwrap()
}

fn ask(from_round: u64) -> FollowAsk {
    FollowAsk { from_round, heads: false, follow: true }
}

fn next(following: &mut Following) -> Result<FollowItem, Error> {
    Ok(following.next(PATIENCE, &|| false)?.expect("something comes in time"))
}

/// What comes until it ends or fails, without spans.
fn all(following: &mut Following) -> (Vec<Event>, Result<(), PeerError>) {
    let mut events = Vec::new();
    loop {
        match next(following) {
            Ok(FollowItem::Event(event)) => events.push(event),
            Ok(FollowItem::Span(_)) => {}
            Ok(FollowItem::Head(head)) => panic!("{head:?}"),
            Ok(FollowItem::End) => return (events, Ok(())),
            Err(Error::Peer(error)) => return (events, Err(error)),
            Err(error) => panic!("{error}"),
        }
    }
}

fn head(reply: &mut Reply) -> bool {
    reply.raw(
        format!("HTTP/1.1 200 OK\r\ncontent-type: {EVENTS_TYPE}\r\nconnection: close\r\n\r\n").as_bytes(),
    )
}

/// A server that answers with these items, and then hangs.
fn serve(items: Vec<EventItem>) -> Server {
    let bytes: Vec<u8> = items.iter().flat_map(EventItem::to_bytes).collect();
    serve_bytes(bytes)
}

fn serve_bytes(bytes: Vec<u8>) -> Server {
    Server::start(move |_, reply| {
        let _ = head(reply) && reply.raw(&bytes);
        reply.hang();
    })
}

fn span(first: u64, next: u64) -> EventItem {
    EventItem::Span { first, next }
}

fn of(round: u64) -> EventItem {
    EventItem::Event(event(round, 30))
}

/// What a peer that answers this comes to when round 5 is asked for: how many events were given, and the fault.
fn judged(items: Vec<EventItem>) -> (usize, Fault, String) {
    let server = serve(items);
    judged_at(&server.source(), ask(5))
}

fn judged_at(source: &Source, ask: FollowAsk) -> (usize, Fault, String) {
    let net = hasty();
    let mut following = net.follow(source, &name(), ask).unwrap();
    let (events, end) = all(&mut following);
    let error = end.expect_err("it is no good stream");
    for (event, round) in events.iter().zip(5..) {
        assert_eq!(event.round, round);
    }
    // It says the same again.
    assert!(matches!(next(&mut following), Err(Error::Peer(again)) if again.fault == error.fault));
    (events.len(), error.fault, error.detail)
}

#[test]
fn a_peer_is_followed_appended_to_and_told_apart_from_one_that_has_nothing() {
    let scratch = Scratch::new();
    let writer = stores::writer(&scratch.join("store"));
    let tokens = std::sync::Arc::new(TokenFile::open(&scratch.join("tokens.json")).unwrap());
    let new = NewToken { scope: Scope::Publish, names: vec!["chain".parse().unwrap()], expires_ms: None };
    let (_, secret) = tokens.create(new, 1).unwrap();
    let access = Access { tokens: Some(tokens), anonymous_reads: true };
    let real = Real::serve(&scratch, &writer, access);
    let (open, publisher) = (real.source(None), real.source(Some(secret.reveal())));
    let net = Net::start(NetOptions::default()).unwrap();
    let go = || false;
    assert!(
        matches!(net.stream_span(&open, &name(), &go), Err(Error::Peer(error)) if error.fault == Fault::Absent)
    );
    assert!(
        matches!(net.snapshots(&open, &name(), &go), Err(Error::Peer(error)) if error.fault == Fault::Absent)
    );
    // More than goes into one request, and than is read ahead.
    let many = events(5..45, 600_000);
    let appended = net.append(&publisher, &name(), &many, &go).unwrap();
    assert_eq!((appended.appended, appended.next_round), (40, 45));
    assert_eq!(net.append(&publisher, &name(), &many[3..], &go).unwrap().appended, 0);
    let kept = net.stream_span(&open, &name(), &go).unwrap();
    assert_eq!((kept.first, kept.next), (5, 45));
    assert_eq!(net.streams(&open, &go).unwrap()[0].name, name());
    let refused = |events: &[Event]| match net.append(&publisher, &name(), events, &go) {
        Err(Error::Peer(error)) => (error.fault, error.span),
        other => panic!("{other:?}"),
    };
    let there = Some(Span { first: 5, next: 45, bytes: 0 });
    assert_eq!(refused(&events(46..47, 1)), (Fault::Conflict, there));
    assert_eq!(refused(&events(44..46, 1)), (Fault::Conflict, there));
    assert_eq!(refused(&events(1..2, 1)), (Fault::Gone, there));
    let mut following = net.follow(&open, &name(), ask(7)).unwrap();
    assert_eq!(next(&mut following).unwrap(), FollowItem::Span(Span { first: 5, next: 45, bytes: 0 }));
    for event in &many[2..] {
        assert_eq!(next(&mut following).unwrap(), FollowItem::Event(event.clone()));
    }
    assert_eq!(following.next(Duration::ZERO, &go).unwrap(), None);
    assert!(matches!(following.next(PATIENCE, &|| true), Err(Error::Cancelled)));
    net.append(&publisher, &name(), &events(45..46, 9), &go).unwrap();
    assert_eq!(next(&mut following).unwrap(), FollowItem::Event(event(45, 9)));
    let mut heads =
        net.follow(&open, &name(), FollowAsk { from_round: 44, heads: true, follow: false }).unwrap();
    assert!(matches!(next(&mut heads).unwrap(), FollowItem::Span(_)));
    assert_eq!(next(&mut heads).unwrap(), FollowItem::Head(many[39].head()));
    assert_eq!(next(&mut heads).unwrap(), FollowItem::Head(event(45, 9).head()));
    assert_eq!([next(&mut heads).unwrap(), next(&mut heads).unwrap()], [FollowItem::End, FollowItem::End]);
    let mut gone = net.follow(&open, &name(), ask(4)).unwrap();
    match next(&mut gone) {
        Err(Error::Peer(error)) => {
            assert_eq!((error.fault, error.span.map(|span| span.first)), (Fault::Gone, Some(5)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn rounds_that_do_not_follow_one_another_are_refused() {
    for (items, given) in [
        (vec![span(0, 9), of(6)], 0),
        (vec![span(0, 9), of(4)], 0),
        (vec![span(0, 9), of(5), of(5)], 1),
        (vec![span(0, 9), of(5), of(6), of(8)], 2),
        (vec![span(0, 9), of(5), of(6), of(5)], 2),
        (vec![span(0, 9), of(5), EventItem::Head(event(6, 1).head())], 1),
        (vec![of(5)], 0),
        (vec![EventItem::End { items: 0 }], 0),
        (vec![span(0, 9), of(5), EventItem::End { items: 7 }], 1),
    ] {
        let (count, fault, detail) = judged(items.clone());
        assert_eq!((count, fault), (given, Fault::Misbehaved), "{items:?}: {detail}");
    }
    let server = serve(vec![span(0, 9), of(5)]);
    let (_, fault, _) = judged_at(&server.source(), FollowAsk { heads: true, ..ask(5) });
    assert_eq!(fault, Fault::Misbehaved);
}

#[test]
fn what_is_cut_off_never_ends_or_hardly_comes_is_given_up_on() {
    let good: Vec<u8> = [span(0, 9), of(5)].iter().flat_map(EventItem::to_bytes).collect();
    let cut = {
        let bytes = good[..good.len() - 3].to_vec();
        Server::start(move |_, reply| {
            let _ = head(reply) && reply.raw(&bytes);
        })
    };
    let (count, fault, _) = judged_at(&cut.source(), ask(5));
    assert_eq!((count, fault), (0, Fault::Unreachable));
    let no_end = Server::start(move |_, reply| {
        let _ = head(reply) && reply.raw(&good);
    });
    let (count, fault, _) = judged_at(&no_end.source(), ask(5));
    assert_eq!((count, fault), (1, Fault::Unreachable));
    // Nothing more comes, not even a sign of life.
    let (count, fault, detail) = judged(vec![span(0, 9), of(5)]);
    assert_eq!((count, fault), (1, Fault::Stalled), "{detail}");
    // An event that comes a byte at a time.
    let trickle = Server::start(|_, reply| {
        let bytes: Vec<u8> =
            [span(0, 9), EventItem::Event(event(5, 100_000))].iter().flat_map(EventItem::to_bytes).collect();
        if head(reply) {
            for byte in bytes {
                if !reply.raw(&[byte]) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    let (count, fault, detail) = judged_at(&trickle.source(), ask(5));
    assert_eq!((count, fault), (0, Fault::Stalled));
    assert!(detail.contains("bytes a second of an event"), "{detail}");
}

#[test]
fn what_is_longer_than_any_event_is_refused_before_it_comes() {
    for len in [u32::MAX, (16 << 20) + 100] {
        let mut bytes = span(0, 9).to_bytes();
        bytes.push(0x11);
        bytes.extend(len.to_le_bytes());
        let server = serve_bytes(bytes);
        let (count, fault, _) = judged_at(&server.source(), ask(5));
        assert_eq!((count, fault), (0, Fault::Misbehaved));
    }
    let server = serve_bytes(b"HTTP in HTTP, or anything else".to_vec());
    assert_eq!(judged_at(&server.source(), ask(5)).1, Fault::Misbehaved);
    let other = Server::start(|_, reply| reply.whole(200, "text/html", b"<p>hello</p>"));
    assert_eq!(judged_at(&other.source(), ask(5)).1, Fault::Misbehaved);
}

#[test]
fn a_failure_says_whether_what_is_wanted_is_gone() {
    let (count, fault, detail) = judged(vec![
        span(0, 9),
        of(5),
        span(8, 20),
        EventItem::Failure("rounds before 8\n are gone".to_owned()),
    ]);
    assert_eq!((count, fault), (1, Fault::Gone));
    assert!(detail.contains("round 6 is gone") && !detail.contains('\n'), "{detail}");
    let (_, fault, detail) =
        judged(vec![span(0, 9), of(5), EventItem::Failure("the disk is broken".to_owned())]);
    assert_eq!(fault, Fault::Failed);
    assert!(detail.contains("the disk is broken"), "{detail}");
    let gone = Server::start(|_, reply| {
        let body = r#"{"error":{"kind":"gone","message":"no"},"first_round":70,"next_round":90}"#;
        reply.whole(410, "application/json", body.as_bytes());
    });
    let net = hasty();
    let mut following = net.follow(&gone.source(), &name(), ask(5)).unwrap();
    match next(&mut following) {
        Err(Error::Peer(PeerError { fault: Fault::Gone, span: Some(span), .. })) => {
            assert_eq!((span.first, span.next), (70, 90));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn signs_of_life_keep_it_going_and_who_stops_listening_ends_the_request() {
    let (ended, told) = std::sync::mpsc::channel();
    let ended = std::sync::Mutex::new(ended);
    let server = Server::start(move |_, reply| {
        if head(reply) && reply.raw(&span(0, 5).to_bytes()) {
            // Longer than silence may last.
            for _ in 0..10 {
                std::thread::sleep(Duration::from_millis(150));
                reply.raw(&span(0, 5).to_bytes());
            }
            reply.raw(&of(5).to_bytes());
            while reply.raw(&span(0, 6).to_bytes()) {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        ended.lock().unwrap().send(()).unwrap();
    });
    let net = hasty();
    let mut following = net.follow(&server.source(), &name(), ask(5)).unwrap();
    let event = loop {
        match next(&mut following).unwrap() {
            FollowItem::Span(_) => {}
            item => break item,
        }
    };
    assert_eq!(event, FollowItem::Event(self::event(5, 30)));
    drop(following);
    told.recv_timeout(PATIENCE).expect("the request ends");
}

#[test]
fn who_does_not_read_makes_nobody_hold_more_than_a_little() {
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = std::sync::Arc::clone(&sent);
    let server = Server::start(move |_, reply| {
        let _ = head(reply) && reply.raw(&span(0, 5).to_bytes());
        for round in 5.. {
            let bytes = EventItem::Event(event(round, 100_000)).to_bytes();
            if !reply.raw(&bytes) {
                return;
            }
            counted.fetch_add(bytes.len() as u64, std::sync::atomic::Ordering::SeqCst);
        }
    });
    let net = Net::start(NetOptions::default()).unwrap();
    let mut following = net.follow(&server.source(), &name(), ask(5)).unwrap();
    assert!(matches!(next(&mut following).unwrap(), FollowItem::Span(_)));
    // Until the sender does not get rid of any more: what is on its way is in sockets and one buffer.
    let now = || sent.load(std::sync::atomic::Ordering::SeqCst);
    let mut before = u64::MAX;
    while before != now() {
        before = now();
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(before < 24 << 20, "{before} bytes were taken by nobody");
    for round in 5..400 {
        assert_eq!(next(&mut following).unwrap(), FollowItem::Event(event(round, 100_000)));
    }
}
