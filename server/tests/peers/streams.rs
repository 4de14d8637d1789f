//! Streams of events: what is followed and appended, by whom, and what is refused.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::time::Duration;

use cairn_net::wire::{AppendAnswer, ErrorBody, EventDecoder, EventItem, StreamAnswer, StreamList};
use cairn_server::{Access, PeerLimits, Scope};
use cairn_store::{Event, StateHash, StreamBounds};
use harness::program::until;

use crate::http::{Answer, PATIENCE, ask, connect, get, receive, send};
use crate::served::{Folder, Served, Setup, token};

/// A server with streams, and the token of each scope.
struct Network {
    folder: Folder,
    served: Served,
    reader: String,
    publisher: String,
}

impl Network {
    fn new(limits: PeerLimits, streams: StreamBounds) -> Self {
        let folder = Folder::new();
        let tokens = folder.tokens();
        let bearer = |scope, names: &[&str]| format!("Bearer {}", token(&tokens, scope, names));
        let reader = bearer(Scope::Read, &[]);
        let publisher = bearer(Scope::Publish, &["chain*"]);
        let access = Access::by_tokens(tokens);
        let served = folder.serve(Setup { access, limits, writes: true, streams, ..Setup::default() });
        Self { folder, served, reader, publisher }
    }

    fn usual() -> Self {
        Self::new(PeerLimits::default(), StreamBounds::default())
    }

    fn address(&self) -> SocketAddr {
        self.served.address
    }

    fn read(&self, path: &str) -> Answer {
        ask(self.address(), "GET", path, &[("authorization", &self.reader)], b"")
    }

    fn append(&self, name: &str, events: &[Event]) -> Answer {
        self.append_bytes(name, &encoded(events))
    }

    fn append_bytes(&self, name: &str, body: &[u8]) -> Answer {
        let headers =
            [("authorization", self.publisher.as_str()), ("content-type", "application/vnd.cairn.events")];
        ask(self.address(), "POST", &format!("/v1/streams/{name}/events"), &headers, body)
    }

    fn append_one(&self, query: &str, body: &[u8]) -> Answer {
        let headers = [("authorization", self.publisher.as_str())];
        ask(self.address(), "POST", &format!("/v1/streams/chain/events?{query}"), &headers, body)
    }

    fn follow(&self, query: &str) -> Live {
        let mut stream = connect(self.address());
        let path = format!("/v1/streams/chain?{query}");
        send(&mut stream, "GET", &path, &[("authorization", &self.reader)], b"");
        Live::begin(stream)
    }
}

/// An answer that goes on, item by item.
struct Live {
    stream: TcpStream,
    decoder: EventDecoder,
    /// What came of the body.
    came: Vec<u8>,
}

impl Live {
    fn begin(mut stream: TcpStream) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(head.contains("content-type: application/vnd.cairn.events"), "{head}");
        assert!(head.contains("cache-control: no-store"), "{head}");
        Self { stream, decoder: EventDecoder::new(), came: Vec::new() }
    }

    /// The next item; none where the answer is over.
    fn next(&mut self) -> Option<EventItem> {
        loop {
            let mut input = self.came.as_slice();
            let item = self.decoder.next(&mut input).unwrap();
            self.came = input.to_vec();
            if item.is_some() {
                return item;
            }
            let piece = self.piece()?;
            self.came.extend(piece);
        }
    }

    /// What comes next that is no span.
    fn next_of_them(&mut self) -> Option<EventItem> {
        loop {
            match self.next() {
                Some(EventItem::Span { .. }) => {}
                other => return other,
            }
        }
    }

    fn expect(&mut self, events: &[Event]) {
        for event in events {
            assert_eq!(self.next_of_them(), Some(EventItem::Event(event.clone())));
        }
    }

    /// A piece of a body in chunks.
    fn piece(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).ok()?;
            line.push(byte[0]);
        }
        let len = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
        let mut piece = vec![0; len + 2];
        self.stream.read_exact(&mut piece).ok()?;
        piece.truncate(len);
        (len > 0).then_some(piece)
    }
}

fn event(round: u64, len: usize) -> Event {
    let payload = round.to_le_bytes().into_iter().cycle().take(len).collect();
    let state_hash = round.is_multiple_of(2).then(|| StateHash::new(&round.to_le_bytes()).unwrap());
    Event { round, state_hash, payload }
}

fn events(rounds: std::ops::Range<u64>, len: usize) -> Vec<Event> {
    rounds.map(|round| event(round, len)).collect()
}

fn encoded(events: &[Event]) -> Vec<u8> {
    let items = events.iter().cloned().map(EventItem::Event);
    items.chain([EventItem::End { items: events.len() as u64 }]).flat_map(|item| item.to_bytes()).collect()
}

fn decoded(body: &[u8]) -> Vec<EventItem> {
    let (mut decoder, mut input, mut items) = (EventDecoder::new(), body, Vec::new());
    while let Some(item) = decoder.next(&mut input).unwrap() {
        items.push(item);
    }
    decoder.finish().unwrap();
    items
}

fn appended(answer: &Answer) -> (u16, AppendAnswer) {
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{}", answer.text())))
}

fn rounds(answer: &Answer) -> (u16, Option<u64>, Option<u64>) {
    let failed: ErrorBody = serde_json::from_slice(&answer.body).unwrap();
    (answer.status, failed.first_round, failed.next_round)
}

#[test]
fn what_is_appended_is_followed_in_order_and_from_any_round() {
    let network = Network::usual();
    assert_eq!(network.read("/v1/streams/chain?from_round=0").status, 404);
    let all = events(5..60, 300);
    let answer = network.append("chain", &all[..20]);
    assert_eq!(appended(&answer), (201, AppendAnswer { appended: 20, next_round: 25 }));
    let list: StreamList = serde_json::from_slice(&network.read("/v1/streams").body).unwrap();
    let one: StreamAnswer = serde_json::from_slice(&network.read("/v1/streams/chain?span=1").body).unwrap();
    assert_eq!((one.first_round, one.next_round), (5, 25));
    assert_eq!(list.streams, [one]);
    let (mut old, mut new, mut later) =
        (network.follow("from_round=5"), network.follow(""), network.follow("from_round=40"));
    for live in [&mut old, &mut new, &mut later] {
        assert_eq!(live.next(), Some(EventItem::Span { first: 5, next: 25 }));
    }
    for part in all[20..].chunks(7) {
        assert_eq!(network.append("chain", part).status, 201);
    }
    old.expect(&all);
    new.expect(&all[20..]);
    later.expect(&all[35..]);
}

#[test]
fn what_is_kept_can_be_had_at_once_and_without_payloads() {
    let network = Network::usual();
    let all = events(0..400, 700);
    assert_eq!(network.append("chain", &all).status, 201);
    let items = decoded(&network.read("/v1/streams/chain?from_round=3&follow=0").body);
    assert_eq!(items.len(), 399);
    assert_eq!(items[0], EventItem::Span { first: 0, next: 400 });
    assert_eq!(items[1], EventItem::Event(all[3].clone()));
    assert_eq!(items[398], EventItem::End { items: 397 });
    let heads = decoded(&network.read("/v1/streams/chain?from_round=390&follow=0&heads=1").body);
    let expected: Vec<_> = all[390..].iter().map(|event| EventItem::Head(event.head())).collect();
    assert_eq!(heads[1..11], expected);
    let none = decoded(&network.read("/v1/streams/chain?from_round=500&follow=0").body);
    assert_eq!(none, [EventItem::Span { first: 0, next: 400 }, EventItem::End { items: 0 }]);
}

#[test]
fn one_event_can_be_a_body_of_its_own() {
    let network = Network::usual();
    let hash = cairn_store::EventHash::of(b"what happened");
    let query = format!("round=7&hash={hash}&state_hash=0xa1b2");
    assert_eq!(appended(&network.append_one(&query, b"what happened")).0, 201);
    // Its answer was lost, say.
    let again = appended(&network.append_one(&query, b"what happened"));
    assert_eq!(again, (200, AppendAnswer { appended: 0, next_round: 8 }));
    let items = decoded(&network.read("/v1/streams/chain?from_round=7&follow=0").body);
    let state_hash = Some(StateHash::new(&[0xa1, 0xb2]).unwrap());
    let expected = Event { round: 7, state_hash, payload: b"what happened".to_vec() };
    assert_eq!(items[1], EventItem::Event(expected));
    assert_eq!(appended(&network.append_one("round=8", b"")).0, 201);
    for (query, body) in [
        ("", b"x".as_slice()),
        ("round=", b"x"),
        ("round=09", b"x"),
        ("round=-1", b"x"),
        ("round=9&state_hash=abc", b"x"),
        ("round=9&state_hash=", b"x"),
        ("round=9&hash=77", b"x"),
        (&format!("round=9&hash={hash}"), b"something else"),
        ("round=9&round=10", b"x"),
        ("round=18446744073709551615", b"x"),
    ] {
        let refused = network.append_one(query, body);
        assert_eq!((refused.status, refused.kind().as_str()), (400, "usage"), "{query}: {}", refused.text());
    }
    assert_eq!(rounds(&network.append_one("round=10", b"x")), (409, Some(7), Some(9)));
}

#[test]
fn contradictions_gaps_and_what_is_gone_are_told_apart() {
    let network = Network::new(PeerLimits::default(), StreamBounds { bytes_max: 200_000 });
    for part in events(0..3000, 200).chunks(100) {
        assert_eq!(network.append("chain", part).status, 201);
    }
    let span: StreamAnswer = serde_json::from_slice(&network.read("/v1/streams/chain?span=1").body).unwrap();
    let (first, next) = (span.first_round, span.next_round);
    assert!(first > 1000 && next == 3000 && span.bytes < 300_000, "{span:?}");
    let gone = network.read(&format!("/v1/streams/chain?from_round={}", first - 1));
    assert_eq!((rounds(&gone), gone.kind().as_str()), ((410, Some(first), Some(next)), "gone"));
    let other = network.append("chain", &events(2999..3001, 9));
    assert_eq!((rounds(&other), other.kind().as_str()), ((409, Some(first), Some(next)), "conflict"));
    let gap = network.append("chain", &events(3001..3002, 9));
    assert_eq!((rounds(&gap), gap.kind().as_str()), ((409, Some(first), Some(next)), "conflict"));
    let old = network.append("chain", &events(0..1, 200));
    assert_eq!((rounds(&old), old.kind().as_str()), ((410, Some(first), Some(next)), "gone"));
    let known = appended(&network.append("chain", &events(2990..3000, 200)));
    assert_eq!(known, (200, AppendAnswer { appended: 0, next_round: 3000 }));
}

#[test]
fn what_is_no_row_of_events_is_refused() {
    let limits = PeerLimits { events_bytes_max: 100_000, ..PeerLimits::default() };
    let network = Network::new(limits, StreamBounds::default());
    let good = encoded(&events(0..3, 10));
    let end = EventItem::End { items: 0 }.to_bytes();
    let span = EventItem::Span { first: 0, next: 1 }.to_bytes();
    let head = EventItem::Head(event(0, 1).head()).to_bytes();
    let bad: Vec<Vec<u8>> = vec![
        Vec::new(),
        good[..good.len() - 1].to_vec(),
        [&good[..], b"x"].concat(),
        [&good[..], &end[..]].concat(),
        [&span[..], &end[..]].concat(),
        [&head[..], &EventItem::End { items: 1 }.to_bytes()[..]].concat(),
        EventItem::End { items: 5 }.to_bytes(),
        EventItem::Failure("no".to_owned()).to_bytes(),
        encoded(&[event(1, 1), event(1, 1)]),
        encoded(&[event(1, 1), event(3, 1)]),
        vec![0x11, 0xff, 0xff, 0xff, 0xff],
        vec![0x77, 0, 0, 0, 0],
    ];
    for body in bad {
        let refused = network.append_bytes("chain", &body);
        assert_eq!((refused.status, refused.kind().as_str()), (400, "usage"), "{body:?}");
    }
    assert_eq!(network.append("chain", &events(0..1, 100_001)).status, 413);
    assert_eq!(network.append("Chain", &events(0..1, 1)).status, 400);
    assert_eq!(network.append("chain", &[]).status, 200);
    for query in ["from_round=x", "from_round=01", "heads=2", "follow=yes", "span=1&span=1"] {
        assert_eq!(network.read(&format!("/v1/streams/chain?{query}")).status, 400, "{query}");
    }
}

#[test]
fn tokens_say_who_appends_and_who_sees_what() {
    let network = Network::usual();
    assert_eq!(network.append("chain", &events(0..1, 1)).status, 201);
    assert_eq!(network.append("other", &events(0..1, 1)).status, 403);
    let anonymous = get(network.address(), "/v1/streams/chain?from_round=0");
    assert_eq!(anonymous.status, 401);
    let headers = [("authorization", network.reader.as_str())];
    let by_reader = ask(network.address(), "POST", "/v1/streams/chain/events?round=1", &headers, b"x");
    assert_eq!((by_reader.status, by_reader.kind().as_str()), (403, "refused"));
    let foreign = format!("Bearer {}", token(&network.folder.tokens(), Scope::Read, &["tool"]));
    let foreign = [("authorization", foreign.as_str())];
    assert_eq!(ask(network.address(), "GET", "/v1/streams/chain?span=1", &foreign, b"").status, 403);
    let list: StreamList =
        serde_json::from_slice(&ask(network.address(), "GET", "/v1/streams", &foreign, b"").body).unwrap();
    assert_eq!(list.streams, []);
    // A store that is only read has no streams, and takes none.
    let folder = Folder::new();
    let reading = folder.serve(Setup::default());
    assert_eq!(get(reading.address, "/v1/streams").text().trim(), r#"{"streams":[]}"#);
    assert_eq!(get(reading.address, "/v1/streams/chain").status, 404);
    assert_eq!(ask(reading.address, "POST", "/v1/streams/chain/events?round=0", &[], b"x").status, 405);
}

#[test]
fn a_client_that_takes_nothing_holds_nobody_up_and_is_told_when_it_is_too_late() {
    let network = Network::new(PeerLimits::default(), StreamBounds { bytes_max: 4 << 20 });
    assert_eq!(network.append("chain", &events(0..1, 100)).status, 201);
    let mut slow = network.follow("from_round=0");
    let mut quick = network.follow("from_round=0");
    quick.expect(&events(0..1, 100));
    let mut next = 1;
    // Far more than sockets and queues hold.
    for _ in 0..24 {
        let part = events(next..next + 20, 50_000);
        assert_eq!(network.append("chain", &part).status, 201);
        quick.expect(&part);
        next += 20;
    }
    slow.expect(&events(0..1, 100));
    let (mut expected, mut last_span) = (1, None);
    loop {
        match slow.next().expect("it says how it ends") {
            EventItem::Event(found) => {
                assert_eq!(found, event(expected, 50_000));
                expected += 1;
            }
            EventItem::Span { first, next } => last_span = Some((first, next)),
            EventItem::Failure(text) => {
                let (first, next) = last_span.expect("it says what is left");
                assert!(first > expected && next == 481, "{first} {expected}");
                assert_eq!(text, format!("rounds before {first} are gone here"));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(slow.next().is_none());
}

#[test]
fn a_stream_where_nothing_happens_is_not_cut_off_and_shows_signs_of_life() {
    let limits = PeerLimits {
        stall_time_max: Duration::from_millis(300),
        idle_time_max: Duration::from_millis(300),
        ..PeerLimits::default()
    };
    let network = Network::new(limits, StreamBounds::default());
    assert_eq!(network.append("chain", &events(0..1, 1)).status, 201);
    let mut live = network.follow("");
    for _ in 0..2 {
        assert_eq!(live.next(), Some(EventItem::Span { first: 0, next: 1 }));
    }
    assert_eq!(network.append("chain", &events(1..2, 1)).status, 201);
    live.expect(&events(1..2, 1));
}

#[test]
fn streams_end_in_order_when_the_server_stops_and_hold_it_up_for_no_time() {
    let mut network = Network::usual();
    assert_eq!(network.append("chain", &events(0..3, 10)).status, 201);
    let (mut quiet, mut busy) = (network.follow(""), network.follow("from_round=0"));
    busy.expect(&events(0..3, 10));
    assert!(matches!(quiet.next(), Some(EventItem::Span { .. })));
    network.served.stop(PATIENCE);
    assert_eq!(quiet.next_of_them(), Some(EventItem::End { items: 0 }));
    assert_eq!(busy.next_of_them(), Some(EventItem::End { items: 3 }));
    network.served.ended();
}

#[test]
fn streams_have_bounds_of_their_own() {
    let limits = PeerLimits { streams_per_client: 2, transfers_per_client: 1, ..PeerLimits::default() };
    let network = Network::new(limits, StreamBounds::default());
    assert_eq!(network.append("chain", &events(0..1, 1)).status, 201);
    let lives = [network.follow(""), network.follow("")];
    let full = network.read("/v1/streams/chain?from_round=0");
    assert_eq!((full.status, full.kind().as_str()), (429, "busy"));
    drop(lives);
    until("places are given back", || network.read("/v1/streams/chain?span=1").status == 200);
    let limits = PeerLimits { streams: 1, ..PeerLimits::default() };
    let network = Network::new(limits, StreamBounds::default());
    assert_eq!(network.append("chain", &events(0..1, 1)).status, 201);
    let _live = network.follow("");
    assert_eq!(network.read("/v1/streams/chain?from_round=0").status, 503);
    let counted = network.read("/metrics").text();
    for row in ["cairn_streams_followed 1", "cairn_events_appended_total 1"] {
        assert!(counted.contains(row), "{counted}");
    }
}

/// Producers that race for the same rounds, as validators do, while followers come and go and old rounds are trimmed.
#[test]
fn producers_race_and_followers_see_every_round_once() {
    const ROUNDS: u64 = 1500;
    let limits = PeerLimits { rate_per_client: 1.0, ..PeerLimits::default() };
    let network = Network::new(limits, StreamBounds { bytes_max: 64 << 20 });
    assert_eq!(network.append("chain", &events(0..1, 100)).status, 201);
    let start = Barrier::new(6);
    std::thread::scope(|scope| {
        for producer in 0..3_u64 {
            let (network, start) = (&network, &start);
            scope.spawn(move || {
                start.wait();
                let mut next = 1;
                while next < ROUNDS {
                    let upto = (next + 1 + (next + producer) % 11).min(ROUNDS);
                    let answer = network.append("chain", &events(next..upto, 100));
                    match answer.status {
                        200 | 201 => next = upto,
                        409 => next = rounds(&answer).2.unwrap(),
                        status => panic!("{status}: {}", answer.text()),
                    }
                }
            });
        }
        for follower in 0..3_u64 {
            let (network, start) = (&network, &start);
            scope.spawn(move || {
                start.wait();
                let mut next = follower;
                // Each comes back a few times for what it has not seen.
                while next < ROUNDS {
                    let mut live = network.follow(&format!("from_round={next}"));
                    let upto = (next + 400).min(ROUNDS);
                    live.expect(&events(next..upto, 100));
                    next = upto;
                }
            });
        }
    });
    let answer = receive(
        &mut {
            let mut stream = connect(network.address());
            let path = "/v1/streams/chain?from_round=0&follow=0";
            send(&mut stream, "GET", path, &[("authorization", &network.reader)], b"");
            stream
        },
        false,
    );
    let items = decoded(&answer.unwrap().body);
    assert_eq!(items.last(), Some(&EventItem::End { items: ROUNDS }));
}
