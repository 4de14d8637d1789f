//! Whole transfers in simulated time: peers with rates, that die, stall, lie, lack things and come back.

use proptest::prelude::*;

use super::*;

const STEP: Duration = Duration::from_millis(10);
const TIME_MAX: Duration = Duration::from_secs(3600);

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// How a simulated peer behaves.
#[derive(Debug, Clone)]
struct Behaviour {
    /// Bytes a second on the wire.
    rate: f64,
    latency: Duration,
    /// From when to when nobody answers.
    away: Option<(Duration, Duration)>,
    /// From when on connections are open and silent.
    stalls: Option<Duration>,
    /// Each so manieth chunk is not what its id says.
    lies_every: Option<u32>,
    /// Each so manieth chunk is not there.
    lacks_every: Option<u32>,
}

impl Behaviour {
    fn good(rate: f64) -> Self {
        let latency = Duration::from_millis(5);
        Self { rate, latency, away: None, stalls: None, lies_every: None, lacks_every: None }
    }

    fn is_away(&self, now: Duration) -> bool {
        self.away.is_some_and(|(from, to)| (from..to).contains(&now))
    }

    fn lacks(&self, slot: Slot) -> bool {
        self.lacks_every.is_some_and(|every| slot.is_multiple_of(every))
    }

    fn lies(&self, slot: Slot) -> bool {
        self.lies_every.is_some_and(|every| slot.is_multiple_of(every))
    }
}

struct Request {
    id: BatchId,
    peer: PeerNo,
    slots: Vec<Slot>,
    sent: usize,
    bytes: f64,
    begins: Duration,
    silent_since: Option<Duration>,
}

struct Sim {
    schedule: Schedule,
    peers: Vec<Behaviour>,
    lens: Vec<u32>,
    requests: Vec<Request>,
    now: Duration,
    /// Plain bytes that were asked for, counted each time.
    asked: u64,
    log: Vec<(PeerNo, Vec<Slot>)>,
}

impl Sim {
    fn new(peers: Vec<Behaviour>, lens: Vec<u32>) -> Self {
        let schedule = Schedule::new(lens.iter().copied(), peers.len(), 0);
        Self { schedule, peers, lens, requests: Vec::new(), now: Duration::ZERO, asked: 0, log: Vec::new() }
    }

    fn run(&mut self) -> Standing {
        loop {
            self.obey();
            let standing = self.schedule.standing();
            if standing != Standing::Running {
                return standing;
            }
            assert!(self.now < TIME_MAX, "it does not end: {:?}", self.schedule);
            self.now += STEP;
            self.step();
        }
    }

    fn obey(&mut self) {
        let now = self.now;
        let had_free: Vec<bool> = self.schedule.chunks.iter().map(|c| !c.delivered && c.asked == 0).collect();
        for order in self.schedule.poll(now) {
            match order {
                Order::Cancel { batch } => self.requests.retain(|request| request.id != batch),
                Order::Ask { batch, peer, slots } => {
                    assert!(slots.is_sorted() && !slots.is_empty());
                    assert!(!self.peers[peer.0].lacks_every.is_some_and(|_| {
                        slots
                            .iter()
                            .any(|slot| self.schedule.chunks[*slot as usize].lacking & 1 << peer.0 != 0)
                    }));
                    self.check_shares(peer, &slots, &had_free);
                    self.asked += slots.iter().map(|slot| u64::from(self.lens[*slot as usize])).sum::<u64>();
                    self.log.push((peer, slots.clone()));
                    let begins = now + self.peers[peer.0].latency;
                    let silent_since = None;
                    self.requests.push(Request {
                        id: batch,
                        peer,
                        slots,
                        sent: 0,
                        bytes: 0.0,
                        begins,
                        silent_since,
                    });
                }
            }
        }
    }

    /// While there is something that nobody was asked for and that this peer may have, it is asked for nothing else.
    fn check_shares(&self, peer: PeerNo, slots: &[Slot], had_free: &[bool]) {
        let again = slots.iter().any(|slot| self.schedule.chunks[*slot as usize].asked > 1);
        if again {
            let free = (0..).zip(&self.schedule.chunks).find(|(slot, chunk)| {
                !chunk.delivered
                    && chunk.asked == 0
                    && chunk.lacking & 1 << peer.0 == 0
                    && had_free[*slot as usize]
            });
            assert!(free.is_none(), "peer {peer:?} is asked again for {slots:?} while {free:?} is free");
        }
    }

    fn step(&mut self) {
        let mut requests = std::mem::take(&mut self.requests);
        requests.retain_mut(|request| {
            if self.schedule.peer_of(request.id).is_none() {
                return false;
            }
            self.advance(request)
        });
        assert!(self.requests.is_empty());
        self.requests = requests;
    }

    /// Whether the request goes on.
    fn advance(&mut self, request: &mut Request) -> bool {
        let (now, id) = (self.now, request.id);
        let peer = self.peers[request.peer.0].clone();
        if peer.is_away(now) {
            self.schedule.failed(id, Fault::Unreachable, "away".to_owned(), None, now);
            return false;
        }
        if peer.stalls.is_some_and(|from| from <= now) {
            let since = *request.silent_since.get_or_insert(now);
            if now - since < secs(15.0) {
                return true;
            }
            self.schedule.failed(id, Fault::Stalled, "silent".to_owned(), None, now);
            return false;
        }
        if now < request.begins {
            return true;
        }
        let lanes = self.schedule.batches_of(request.peer).max(1);
        let bytes = peer.rate * STEP.as_secs_f64() / lanes as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
        self.schedule.received(id, bytes as u64, now);
        request.bytes += bytes * PLAIN_FACTOR as f64;
        while let Some(&slot) = request.slots.get(request.sent) {
            if peer.lacks(slot) {
                request.sent += 1;
                assert_eq!(self.schedule.absent(id, &[slot]), Verdict::Fine);
                continue;
            }
            let len = f64::from(self.lens[slot as usize]);
            if request.bytes < len {
                return true;
            }
            request.bytes -= len;
            request.sent += 1;
            if peer.lies(slot) {
                self.schedule.drop_peer(request.peer, Fault::Lied, "lied".to_owned());
                return false;
            }
            if self.schedule.kept(id, &[slot]) != Verdict::Fine {
                panic!("an honest peer is said to have sent what was not asked for");
            }
        }
        assert_eq!(self.schedule.ended(id), Verdict::Fine);
        false
    }
}

fn lens(count: usize) -> Vec<u32> {
    (0..count).map(|n| 8_000 + u32::try_from(n % 7).unwrap() * 2_500).collect()
}

fn time_of(peers: Vec<Behaviour>, count: usize) -> f64 {
    let mut sim = Sim::new(peers, lens(count));
    assert_eq!(sim.run(), Standing::Done);
    sim.now.as_secs_f64()
}

const MBIT_100: f64 = 12.5e6;

#[test]
fn one_peer_is_asked_once_for_everything() {
    let mut sim = Sim::new(vec![Behaviour::good(MBIT_100)], lens(10_000));
    assert_eq!(sim.run(), Standing::Done);
    assert_eq!(sim.log.len(), 1);
}

#[test]
fn two_peers_take_little_more_than_half_the_time_of_one() {
    let one = time_of(vec![Behaviour::good(MBIT_100)], 20_000);
    let two = time_of(vec![Behaviour::good(MBIT_100); 2], 20_000);
    assert!(one / two > 1.85, "{one} s and {two} s");
    let uneven = time_of(vec![Behaviour::good(MBIT_100), Behaviour::good(MBIT_100 / 4.0)], 20_000);
    assert!(one / uneven > 1.15, "{one} s and {uneven} s");
}

#[test]
fn peers_that_die_stall_and_lie_cost_little_beside_a_good_one() {
    let good = Behaviour::good(MBIT_100);
    let alone = time_of(vec![good.clone()], 20_000);
    let dies = Behaviour { away: Some((secs(2.0), TIME_MAX)), ..good.clone() };
    let stalls = Behaviour { stalls: Some(secs(1.0)), ..good.clone() };
    let lies = Behaviour { lies_every: Some(97), ..good.clone() };
    let mut sim = Sim::new(vec![dies, lies, stalls, good], lens(20_000));
    assert_eq!(sim.run(), Standing::Done);
    let together = sim.now.as_secs_f64();
    assert!(together < 1.1 * alone, "{together} s, and {alone} s from the good one alone");
    assert_eq!(sim.schedule.summary(PeerNo(1)).out.unwrap().fault, Fault::Lied);
    assert_eq!(sim.schedule.summary(PeerNo(0)).out.unwrap().fault, Fault::Unreachable);
}

#[test]
fn a_hopelessly_slow_peer_rests() {
    let slow = Behaviour::good(20_000.0);
    let mut sim = Sim::new(vec![slow, Behaviour::good(MBIT_100)], lens(60_000));
    assert_eq!(sim.run(), Standing::Done);
    let summary = sim.schedule.summary(PeerNo(0));
    assert!(summary.last_failure.unwrap().starts_with("slow: "));
    assert!(summary.out.is_none());
}

#[test]
fn a_slow_peer_is_better_than_none() {
    let slow = Behaviour::good(40_000.0);
    let dies = Behaviour { away: Some((secs(5.0), TIME_MAX)), ..Behaviour::good(1e6) };
    let mut sim = Sim::new(vec![slow, dies], lens(2_000));
    assert_eq!(sim.run(), Standing::Done);
}

#[test]
fn what_nobody_has_is_named() {
    let lacks = |every| Behaviour { lacks_every: Some(every), ..Behaviour::good(1e6) };
    let mut sim = Sim::new(vec![lacks(10), lacks(15)], lens(100));
    assert_eq!(sim.run(), Standing::Stuck(vec![0, 30, 60, 90]));
    let away = Behaviour { away: Some((Duration::ZERO, TIME_MAX)), ..Behaviour::good(1e6) };
    let mut sim = Sim::new(vec![away], lens(3));
    assert_eq!(sim.run(), Standing::Stuck(vec![0, 1, 2]));
    assert!(sim.now < secs(20.0));
}

#[test]
fn a_peer_that_comes_back_is_asked_again() {
    let mut sim =
        Sim::new(vec![Behaviour { away: Some((secs(0.5), secs(2.5))), ..Behaviour::good(1e6) }], lens(1_000));
    assert_eq!(sim.run(), Standing::Done);
    assert_eq!(sim.schedule.summary(PeerNo(0)).last_failure.as_deref(), Some("away"));
}

#[test]
fn what_was_not_asked_for_is_noticed() {
    let mut schedule = Schedule::new(lens(4), 1, 0);
    let orders = schedule.poll(Duration::ZERO);
    let [Order::Ask { batch, ref slots, .. }] = orders[..] else { panic!("{orders:?}") };
    assert_eq!(slots, &[0, 1, 2, 3]);
    assert_eq!(schedule.kept(batch, &[]), Verdict::Unasked);
    assert_eq!(schedule.kept(batch, &[1, 2]), Verdict::Fine);
    let repeats = (0..100).take_while(|_| schedule.kept(batch, &[1]) == Verdict::Fine).count();
    assert!((1..30).contains(&repeats), "{repeats}");
    assert_eq!(schedule.absent(batch, &[2]), Verdict::Unasked, "absent, and sent");
    assert_eq!(schedule.absent(batch, &[3, 3]), Verdict::Unasked, "absent twice");
    assert_eq!(schedule.ended(batch), Verdict::Unasked, "of 0 nothing was said");
    assert_eq!(schedule.kept(batch, &[0]), Verdict::Fine, "verified after the request was over");
}

#[test]
fn busy_peers_are_left_alone_for_as_long_as_they_say() {
    let mut schedule = Schedule::new(lens(4), 1, 0);
    let Order::Ask { batch, .. } = schedule.poll(Duration::ZERO)[0] else { panic!("an order") };
    schedule.failed(batch, Fault::Busy, "later".to_owned(), Some(secs(3.0)), secs(1.0));
    assert_eq!(schedule.next_wake(secs(1.0)), secs(4.0));
    assert_eq!(schedule.poll(secs(3.9)), []);
    assert_eq!(schedule.standing(), Standing::Running);
    assert_eq!(schedule.poll(secs(4.0)).len(), 1);
}

#[test]
fn who_is_getting_it_himself_is_asked_again_for_what_he_had_not() {
    let mut schedule = Schedule::new(lens(4), 1, 1);
    let asked = |schedule: &mut Schedule, now| {
        let orders = schedule.poll(now).into_iter();
        let asks: Vec<_> = orders
            .filter_map(|order| match order {
                Order::Ask { batch, peer: PeerNo(1), slots } => Some((batch, slots)),
                _ => None,
            })
            .collect();
        asks
    };
    schedule.poll(Duration::ZERO);
    // Who has all of it goes away.
    schedule.drop_peer(PeerNo(0), Fault::Stalled, "gone".to_owned());
    let mut told = 0;
    while told < 4 {
        for (batch, slots) in asked(&mut schedule, secs(0.1)) {
            assert_eq!(schedule.absent(batch, &slots), Verdict::Fine);
            assert_eq!(schedule.ended(batch), Verdict::Fine);
            told += slots.len();
        }
    }
    assert_eq!(schedule.standing(), Standing::Stuck(vec![0, 1, 2, 3]), "he has nothing yet");
    assert_eq!(asked(&mut schedule, secs(0.9)), []);
    for (batch, slots) in asked(&mut schedule, secs(1.0)) {
        assert_eq!(schedule.kept(batch, &slots), Verdict::Fine, "by now he has them");
    }
    assert_eq!(schedule.standing(), Standing::Done);
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    let from = 0.0f64..4.0;
    (
        10_000.0f64..2e7,
        0u64..300,
        prop::option::weighted(0.3, (from.clone(), prop_oneof![Just(9e3), 0.1f64..5.0])),
        prop::option::weighted(0.2, from),
        prop::option::weighted(0.2, 2u32..200),
        prop::option::weighted(0.2, 1u32..20),
    )
        .prop_map(|(rate, latency, away, stalls, lies_every, lacks_every)| Behaviour {
            rate,
            latency: Duration::from_millis(latency),
            away: away.map(|(from, length)| (secs(from), secs(from + length))),
            stalls: stalls.map(secs),
            lies_every,
            lacks_every,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_chunk_is_delivered_or_named(
        peers in prop::collection::vec(behaviour(), 1..6),
        count in 1usize..1500,
        with_good in any::<bool>(),
    ) {
        let mut peers = peers;
        if with_good {
            peers.push(Behaviour::good(1e6));
        }
        let mut sim = Sim::new(peers.clone(), lens(count));
        match sim.run() {
            Standing::Done => {}
            Standing::Stuck(slots) => {
                prop_assert!(!with_good);
                for slot in slots {
                    for (number, peer) in peers.iter().enumerate() {
                        let out = sim.schedule.summary(PeerNo(number)).out.is_some();
                        prop_assert!(out || peer.lacks(slot), "peer {} would have had {}", number, slot);
                    }
                }
            }
            Standing::Running => unreachable!("it runs to its end"),
        }
    }
}
