//! Peers that do what they like: leave rounds out, repeat them, mix them up, break off, fall silent, lie.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cairn_net::FollowItem;
use cairn_net::PeerUrl;
use cairn_store::streams::{Span, StreamBounds, Streams};
use cairn_store::{Writer, WriterOptions};

use super::*;
use crate::join::choose::Offers;
use crate::join::network::Follow;

/// What a peer does with its stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Behaviour {
    /// Says nothing of every so many rounds in an answer, unless that begins there.
    leaves_out: Option<u64>,
    /// Says every so many rounds twice.
    repeats: Option<u64>,
    /// Swaps every so many rounds with the next.
    swaps: Option<u64>,
    /// Breaks off after so many items.
    breaks: Option<usize>,
    /// Says something else from this round on.
    lies_from: Option<u64>,
    /// Gives this round only once somebody has lied: else all may be settled before the liar is asked for the first time.
    awaits_lie_at: Option<u64>,
    /// Has nothing after this round, and says nothing more.
    ends_at: Option<u64>,
    /// Says that it has rounds up to this one, and does not have them.
    promises: Option<u64>,
    /// Does not answer at all.
    is_away: bool,
}

/// A network of as many peers as behaviours, with the rounds before `next`.
struct Scripted {
    urls: Vec<PeerUrl>,
    peers: Vec<Behaviour>,
    next: u64,
    asked: AtomicU64,
    has_lied: Arc<AtomicBool>,
}

fn event(round: u64, is_lie: bool) -> Event {
    let payload = format!("{} {round}", if is_lie { "lie" } else { "event" }).into_bytes();
    Event { round, state_hash: None, payload }
}

impl Scripted {
    fn new(next: u64, peers: &[Behaviour]) -> Arc<Self> {
        let url = |peer| format!("http://127.0.0.1:{}", 7000 + peer).parse().unwrap();
        let urls = (0..peers.len()).map(url).collect();
        Arc::new(Self {
            urls,
            peers: peers.to_vec(),
            next,
            asked: AtomicU64::new(0),
            has_lied: Arc::default(),
        })
    }

    fn rounds(&self, peer: usize, from: u64) -> VecDeque<u64> {
        let of = &self.peers[peer];
        let every =
            |number: Option<u64>, round: u64| number.is_some_and(|number| round.is_multiple_of(number));
        let end = of.ends_at.map_or(self.next, |end| end + 1);
        let mut rounds: Vec<u64> = Vec::new();
        for round in from..end {
            if round == from || !every(of.leaves_out, round) {
                rounds.push(round);
            }
            if every(of.repeats, round) {
                rounds.push(round);
            }
        }
        for at in 0..rounds.len().saturating_sub(1) {
            if every(of.swaps, rounds[at]) && at > 0 {
                rounds.swap(at, at + 1);
            }
        }
        rounds.truncate(of.breaks.unwrap_or(usize::MAX));
        rounds.into()
    }
}

impl Network for Scripted {
    fn peers(&self) -> usize {
        self.peers.len()
    }

    fn url(&self, peer: usize) -> &PeerUrl {
        &self.urls[peer]
    }

    fn offers(&self, _: usize, _: &dyn Fn() -> bool) -> Result<Offers, NetError> {
        unreachable!("a feed asks for events alone")
    }

    fn follow(&self, peer: usize, from: u64, heads: bool) -> Result<Box<dyn Follow>, NetError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let of = self.peers[peer];
        if of.is_away {
            let (what, detail) = ("a peer".to_owned(), "away".to_owned());
            return Err(NetError::Unavailable { what, detail });
        }
        let is_silent = of.ends_at.is_some();
        let next = if is_silent { of.ends_at.unwrap() + 1 } else { self.next };
        let next = of.promises.unwrap_or(next);
        let span = Some(Span { first: 0, next, bytes: 0 });
        Ok(Box::new(Answer {
            rounds: self.rounds(peer, from),
            span,
            heads,
            of,
            next: self.next,
            has_lied: Arc::clone(&self.has_lied),
        }))
    }
}

struct Answer {
    rounds: VecDeque<u64>,
    span: Option<Span>,
    heads: bool,
    of: Behaviour,
    next: u64,
    has_lied: Arc<AtomicBool>,
}

impl Follow for Answer {
    fn next(&mut self, wait: Duration, cancelled: &dyn Fn() -> bool) -> Result<Option<FollowItem>, NetError> {
        if let Some(span) = self.span.take() {
            return Ok(Some(FollowItem::Span(span)));
        }
        let is_held =
            |round: &u64| self.of.awaits_lie_at == Some(*round) && !self.has_lied.load(Ordering::Relaxed);
        if self.rounds.front().is_some_and(is_held) {
            if cancelled() {
                return Err(NetError::Cancelled);
            }
            std::thread::park_timeout(wait);
            return Ok(None);
        }
        let Some(round) = self.rounds.pop_front() else {
            if self.of.breaks.is_some() {
                let (what, detail) = ("a stream".to_owned(), "broken off".to_owned());
                return Err(NetError::Unavailable { what, detail });
            }
            if cancelled() {
                return Err(NetError::Cancelled);
            }
            std::thread::park_timeout(wait);
            return Ok(None);
        };
        assert!(round < self.next);
        let is_lie = self.of.lies_from.is_some_and(|from| round >= from);
        self.has_lied.fetch_or(is_lie, Ordering::Relaxed);
        let event = event(round, is_lie);
        Ok(Some(if self.heads { FollowItem::Head(event.head()) } else { FollowItem::Event(event) }))
    }
}

struct Setting {
    _scratch: tempfile::TempDir,
    log: Arc<EventLog>,
    network: Arc<Scripted>,
}

impl Setting {
    fn new(next: u64, peers: &[Behaviour]) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let options =
            WriterOptions { wait: Duration::ZERO, command: "test".to_owned(), who: "test".to_owned() };
        let writer = Writer::open(&scratch.path().join("store"), &options, &()).unwrap();
        let streams = Streams::open(&writer, StreamBounds { bytes_max: 1 << 20 }).unwrap();
        let log = streams.make(&"net".parse().unwrap()).unwrap();
        Self { _scratch: scratch, log, network: Scripted::new(next, peers) }
    }

    fn start(&self, agree: usize, from: u64) -> Feed {
        let order: Vec<usize> = (0..self.network.peers()).collect();
        let network = Arc::clone(&self.network) as Arc<dyn Network>;
        Feed::start(network, Arc::clone(&self.log), "net".to_owned(), &order, agree, from).unwrap()
    }

    /// Waits until all rounds are here.
    fn complete(&self, feed: &Feed) -> Result<()> {
        while self.log.span().next < self.network.next {
            feed.check()?;
            feed.pause(PAUSE);
        }
        Ok(())
    }

    /// What is in the log is the truth, from a round on.
    fn expect_truth(&self, from: u64) {
        let mut cursor = from;
        while cursor < self.network.next {
            for found in self.log.read(cursor, 1 << 20).unwrap() {
                assert_eq!(found, event(cursor, false));
                cursor += 1;
            }
        }
        assert_eq!(self.log.span().first, from);
    }
}

const GOOD: Behaviour = Behaviour {
    leaves_out: None,
    awaits_lie_at: None,
    repeats: None,
    swaps: None,
    breaks: None,
    lies_from: None,
    ends_at: None,
    promises: None,
    is_away: false,
};

#[test]
fn events_come_in_order_from_the_round_that_is_wanted() {
    let setting = Setting::new(2_000, &[GOOD]);
    let feed = setting.start(1, 700);
    assert_eq!(feed.wait_heard(Duration::from_secs(60), &|| false).unwrap(), 0);
    setting.complete(&feed).unwrap();
    assert_eq!(feed.known_next(), 2_000);
    drop(feed);
    setting.expect_truth(700);
    // Another process goes on from there: nothing is asked for twice.
    let feed = setting.start(1, 900);
    setting.complete(&feed).unwrap();
    drop(feed);
    setting.expect_truth(700);
    // What does not reach what is wanted is of no use.
    let feed = Setting { network: Scripted::new(3_000, &[GOOD]), ..setting };
    let setting = feed;
    let feed = setting.start(1, 2_500);
    setting.complete(&feed).unwrap();
    drop(feed);
    setting.expect_truth(2_500);
}

#[test]
fn gaps_repeats_and_disorder_are_mended() {
    let peers = [
        Behaviour { leaves_out: Some(40), ..GOOD },
        Behaviour { repeats: Some(7), ..GOOD },
        Behaviour { swaps: Some(35), ..GOOD },
        Behaviour { breaks: Some(60), ..GOOD },
        Behaviour { repeats: Some(3), swaps: Some(50), breaks: Some(70), leaves_out: Some(45), ..GOOD },
    ];
    for behaviour in peers {
        let setting = Setting::new(300, &[behaviour]);
        let feed = setting.start(1, 1);
        setting.complete(&feed).unwrap_or_else(|error| panic!("{behaviour:?}: {error}"));
        drop(feed);
        setting.expect_truth(1);
    }
}

#[test]
fn who_falls_silent_or_is_away_is_not_waited_for() {
    let silent = Behaviour { ends_at: Some(50), ..GOOD };
    let away = Behaviour { is_away: true, ..GOOD };
    let setting = Setting::new(400, &[silent, away, GOOD]);
    let feed = setting.start(1, 0);
    setting.complete(&feed).unwrap();
    drop(feed);
    setting.expect_truth(0);
    let setting = Setting::new(400, &[away]);
    let feed = setting.start(1, 0);
    let error = setting.complete(&feed).unwrap_err();
    assert!(error.to_string().contains("away"), "{error}");
}

#[test]
fn what_is_promised_and_never_given_is_not_waited_for() {
    let setting = Setting::new(300, &[Behaviour { promises: Some(u64::MAX), ..GOOD }]);
    let feed = setting.start(1, 0);
    setting.complete(&feed).unwrap();
    assert_eq!(feed.known_next(), u64::MAX);
    while feed.known_next() > 300 {
        feed.check().unwrap();
        feed.pause(Duration::from_millis(1));
    }
    drop(feed);
    setting.expect_truth(0);
}

#[test]
fn who_follows_waits_for_peers_to_come_back() {
    let setting = Setting::new(400, &[Behaviour { is_away: true, ..GOOD }]);
    let feed = setting.start(1, 0);
    feed.be_patient();
    while setting.network.asked.load(Ordering::Relaxed) < u64::from(FAULTS_MAX) + 2 {
        feed.check().unwrap();
        feed.pause(PAUSE);
    }
    feed.check().unwrap();
    assert!(feed.outs().is_empty());
}

#[test]
fn a_liar_among_three_is_outvoted_wherever_he_stands() {
    let liar = Behaviour { lies_from: Some(100), ..GOOD };
    for place in 0..3 {
        let mut peers = [Behaviour { awaits_lie_at: Some(100), ..GOOD }; 3];
        peers[place] = liar;
        let setting = Setting::new(250, &peers);
        let feed = setting.start(2, 0);
        setting.complete(&feed).unwrap();
        while !feed.outs().contains_key(&place) {
            feed.check().unwrap();
            feed.pause(PAUSE);
        }
        assert!((0..3).all(|peer| peer == place || !feed.outs().contains_key(&peer)));
        drop(feed);
        setting.expect_truth(0);
    }
}

#[test]
fn two_who_contradict_each_other_are_an_error() {
    let liar = Behaviour { lies_from: Some(100), ..GOOD };
    for peers in [[GOOD, liar], [liar, GOOD]] {
        let setting = Setting::new(250, &peers);
        let feed = setting.start(2, 0);
        let error = setting.complete(&feed).unwrap_err();
        assert!(matches!(&error, JoinError::Disagree { what, .. } if what.contains("round 100")), "{error}");
        assert_eq!(setting.log.span().next, 100, "nothing of it was taken");
    }
}
