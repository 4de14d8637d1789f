//! What a log says of what was appended, in one process and without faults.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use super::{EventLog, StreamBounds, Streams};
use crate::error::Error;
use crate::event::{Event, StateHash};
use crate::io::{Io, Os, Sim};
use crate::refs::Name;
use crate::writer::{Writer, WriterOptions};

const DIR: &str = "/streams/chain";

pub(super) fn event(round: u64, len: usize) -> Event {
    let payload = round.to_le_bytes().into_iter().cycle().take(len).collect();
    let state_hash = round.is_multiple_of(2).then(|| StateHash::new(&round.to_le_bytes()).unwrap());
    Event { round, state_hash, payload }
}

pub(super) fn events(rounds: std::ops::Range<u64>, len: usize) -> Vec<Event> {
    rounds.map(|round| event(round, len)).collect()
}

fn name() -> Name {
    "chain".parse().unwrap()
}

fn machine() -> Sim {
    let sim = Sim::new(1);
    sim.create_dir_all(Path::new(DIR)).unwrap();
    sim
}

fn open(io: &Sim, bytes_max: u64) -> EventLog {
    open_in(Arc::new(io.clone()), DIR.into(), bytes_max)
}

fn open_in(io: Arc<dyn Io>, dir: PathBuf, bytes_max: u64) -> EventLog {
    EventLog::open_with(io, dir, name(), StreamBounds { bytes_max }, 4096).unwrap()
}

fn rounds(log: &EventLog) -> (u64, u64) {
    let span = log.span();
    (span.first, span.next)
}

/// Everything from a round on, by as many reads as it takes.
fn read_all(log: &EventLog, mut from: u64, bytes_max: usize) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        let read = log.read(from, bytes_max).unwrap();
        let Some(last) = read.last() else { return all };
        from = last.round + 1;
        all.extend(read);
    }
}

#[test]
fn what_is_appended_is_read_in_order_from_any_round() {
    let sim = machine();
    let log = open(&sim, 1 << 20);
    assert_eq!((rounds(&log), log.has_begun()), ((0, 0), false));
    assert_eq!(log.read(0, 100).unwrap(), []);
    let all = events(7..400, 90);
    for part in all.chunks(13) {
        let appended = log.append(part).unwrap();
        assert_eq!((appended.appended, appended.next), (part.len() as u64, part.last().unwrap().round + 1));
    }
    for log in [log, open(&sim, 1 << 20)] {
        assert_eq!(rounds(&log), (7, 400));
        for from in [7, 8, 100, 251, 399, 400, 5000] {
            let expected: Vec<Event> = all.iter().filter(|event| event.round >= from).cloned().collect();
            for bytes_max in [0, 1, 500, 1 << 20] {
                assert_eq!(read_all(&log, from, bytes_max), expected, "from {from}, {bytes_max}");
            }
        }
        assert!(matches!(log.read(6, 1), Err(Error::RoundsGone { given: 6, first: 7, next: 400, .. })));
        let heads = log.heads(20, 5).unwrap();
        assert_eq!(heads, all[13..18].iter().map(Event::head).collect::<Vec<_>>());
        assert_eq!(log.head_of(399).unwrap(), Some(event(399, 90).head()));
        assert_eq!(log.head_of(400).unwrap(), None);
    }
}

#[test]
fn events_of_any_length_come_back() {
    let log = open(&machine(), 64 << 20);
    let lens = [0, 1, 511, 512, 4000, 5000, 70_000, 200_000, 3];
    let all: Vec<Event> = lens.iter().zip(0..).map(|(len, round)| event(round, *len)).collect();
    log.append(&all).unwrap();
    assert_eq!(read_all(&log, 0, 1), all);
    assert_eq!(read_all(&log, 0, 1 << 20), all);
    assert_eq!(log.heads(0, 100).unwrap()[0], all[0].head());
}

#[test]
fn what_is_there_is_not_appended_again_and_what_contradicts_is_refused() {
    let log = open(&machine(), 1 << 20);
    log.append(&events(5..200, 100)).unwrap();
    let again = log.append(&events(5..200, 100)).unwrap();
    assert_eq!((again.appended, again.next), (0, 200));
    let some = log.append(&events(198..203, 100)).unwrap();
    assert_eq!((some.appended, some.next), (3, 203));
    for contradiction in [events(5..6, 99), events(202..210, 99), events(150..151, 0)] {
        assert!(matches!(log.append(&contradiction), Err(Error::Conflict { .. })));
    }
    assert!(matches!(log.append(&events(204..205, 1)), Err(Error::RoundGap { given: 204, next: 203, .. })));
    assert!(matches!(log.append(&events(4..6, 100)), Err(Error::RoundsGone { given: 4, .. })));
    let holed = [event(203, 1), event(205, 1)];
    assert!(matches!(log.append(&holed), Err(Error::Invalid { .. })));
    assert!(matches!(log.append(&[event(u64::MAX, 1)]), Err(Error::Invalid { .. })));
    assert_eq!(rounds(&log), (5, 203));
    assert_eq!(log.append(&[]).unwrap().next, 203);
}

#[test]
fn the_oldest_segments_go_and_the_newest_stays() {
    let sim = machine();
    let log = open(&sim, 20_000);
    log.append(&events(0..10, 100)).unwrap();
    for round in 10..1000 {
        log.append(&[event(round, 100)]).unwrap();
        let span = log.span();
        assert!(span.bytes <= 20_000 + 200, "{span:?}");
        assert_eq!(span.next, round + 1);
    }
    let span = log.span();
    assert!(span.first > 800 && span.bytes > 15_000, "{span:?}");
    assert_eq!(read_all(&log, span.first, 5000), events(span.first..1000, 100));
    assert_eq!(open(&sim, 20_000).span(), span);
    log.set_bytes_max(0);
    let least = log.span();
    assert!(least.first < least.next && least.bytes <= 4096 + 200, "{least:?}");
    assert_eq!(open(&sim, 0).span(), least);
    // One event that is longer than all that is to be kept is kept nevertheless.
    log.append(&[event(1000, 100_000)]).unwrap();
    assert_eq!(log.read(1000, 1).unwrap(), [event(1000, 100_000)]);
}

#[test]
fn a_reset_forgets_everything_and_says_what_comes_next() {
    let sim = machine();
    let log = open(&sim, 1 << 20);
    for (first, count) in [(50, 100), (50, 3), (7, 0), (1000, 5)] {
        log.reset(first).unwrap();
        assert_eq!(rounds(&log), (first, first));
        assert!(matches!(log.append(&[event(first + 1, 9)]), Err(Error::RoundGap { .. })));
        log.append(&events(first..first + count, 100)).unwrap();
        assert_eq!(rounds(&open(&sim, 1 << 20)), (first, first + count));
        assert_eq!(read_all(&log, first, 1 << 20), events(first..first + count, 100));
    }
    assert_eq!(sim.list(Path::new(DIR)).unwrap().len(), 1);
}

#[test]
fn watchers_are_told_until_they_go() {
    let log = open(&machine(), 1 << 20);
    let told = Arc::new(AtomicU64::new(0));
    let watch = {
        let told = Arc::clone(&told);
        log.watch(Box::new(move |span| told.store(span.next, Ordering::SeqCst)))
    };
    log.append(&events(0..3, 1)).unwrap();
    assert_eq!(told.load(Ordering::SeqCst), 3);
    log.reset(70).unwrap();
    assert_eq!(told.load(Ordering::SeqCst), 70);
    drop(watch);
    log.append(&events(70..71, 1)).unwrap();
    assert_eq!(told.load(Ordering::SeqCst), 70);
}

/// Several producers have the same rounds to append, as validators do; followers read beside them while old ones go.
#[test]
fn producers_that_race_and_followers_see_one_order() {
    const ROUNDS: u64 = 3000;
    let folder = tempfile::tempdir().unwrap();
    let log = open_in(Arc::new(Os), folder.path().to_owned(), 100_000);
    let appended = AtomicU64::new(0);
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for producer in 0..4_u64 {
            let (log, appended, start) = (&log, &appended, &start);
            scope.spawn(move || {
                start.wait();
                let mut next = 0;
                while next < ROUNDS {
                    let upto = (next + 1 + (next + producer) % 7).min(ROUNDS);
                    match log.append(&events(next..upto, 50)) {
                        Ok(done) => {
                            assert!(done.next >= upto);
                            appended.fetch_add(done.appended, Ordering::Relaxed);
                            next = upto;
                        }
                        // The others are so far ahead that it is gone already.
                        Err(Error::RoundsGone { first, .. }) => next = first,
                        Err(Error::RoundGap { next: wanted, .. }) => next = wanted,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for follower in 0..4 {
            let (log, start) = (&log, &start);
            scope.spawn(move || {
                start.wait();
                let mut from = 0;
                while from < ROUNDS {
                    match log.read(from, 1 << (8 + 2 * follower)) {
                        Ok(read) if read.is_empty() => std::thread::yield_now(),
                        Ok(read) => {
                            let upto = from + read.len() as u64;
                            assert_eq!(read, events(from..upto, 50));
                            from = upto;
                        }
                        Err(Error::RoundsGone { first, .. }) => {
                            assert!(first > from);
                            from = first;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(appended.into_inner(), ROUNDS);
    assert_eq!(log.span().next, ROUNDS);
    let first = log.span().first;
    drop(log);
    let log = open_in(Arc::new(Os), folder.path().to_owned(), 100_000);
    assert_eq!(read_all(&log, first, 1 << 16), events(first..ROUNDS, 50));
}

#[test]
fn a_store_has_streams_that_outlive_whoever_made_them() {
    let (sim, root) = (Sim::new(1), Path::new("/store"));
    let options = WriterOptions { wait: Duration::ZERO, command: String::new(), who: String::new() };
    let writer = Writer::open_with(Arc::new(sim.clone()), root, &options).unwrap();
    let streams = Streams::open(&writer, StreamBounds::default()).unwrap();
    assert!(streams.list().unwrap().is_empty() && streams.get(&name()).unwrap().is_none());
    let log = streams.make(&name()).unwrap();
    log.append(&events(3..9, 10)).unwrap();
    assert!(Arc::ptr_eq(&log, &streams.get(&name()).unwrap().unwrap()));
    drop((log, streams));
    let streams = Streams::open(&writer, StreamBounds::default()).unwrap();
    assert_eq!(streams.list().unwrap(), [name()]);
    assert_eq!(rounds(&streams.get(&name()).unwrap().unwrap()), (3, 9));
}

#[test]
fn while_it_is_handed_over_nobody_appends() {
    let sim = machine();
    let root = Path::new("/streams").to_owned();
    let streams = Streams::assemble(Arc::new(sim), root, None, StreamBounds::default());
    let log = streams.make(&name()).unwrap();
    log.append(&events(0..2, 10)).unwrap();
    streams.suspend();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| log.append(&events(2..3, 10)));
        assert_eq!(log.span().next, 2);
        streams.resume();
        assert_eq!(waiting.join().unwrap().unwrap().next, 3);
    });
    streams.suspend();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| log.append(&events(3..4, 10)));
        streams.close();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Unavailable { .. })));
    });
    assert!(matches!(log.append(&events(3..4, 10)), Err(Error::Unavailable { .. })));
    assert_eq!(read_all(&log, 0, 100).len(), 3);
}

#[test]
fn rot_in_an_old_segment_takes_what_is_before_it_and_nothing_false_is_given() {
    let sim = machine();
    let log = open(&sim, 1 << 20);
    for part in events(0..200, 200).chunks(5) {
        log.append(part).unwrap();
    }
    let mut files = sim.names(Path::new(DIR)).unwrap();
    files.sort();
    sim.rot(&Path::new(DIR).join(&files[1]), 1500, 1);
    let second = u64::from_str_radix(&files[1][17..33], 16).unwrap();
    let third = u64::from_str_radix(&files[2][17..33], 16).unwrap();
    let read = log.read(second, 1 << 20).unwrap();
    assert!(!read.is_empty() && read.last().unwrap().round + 1 < third);
    let broken = read.last().unwrap().round + 1;
    assert!(matches!(log.read(broken, 1), Err(Error::RoundsGone { first, .. }) if first == third));
    assert_eq!(rounds(&log), (third, 200));
    assert_eq!(rounds(&open(&sim, 1 << 20)), (third, 200));
    assert_eq!(read_all(&log, third, 4000), events(third..200, 200));
}

#[test]
fn rot_in_the_newest_segment_is_seen_when_it_is_opened() {
    for (at, bits) in [(60, 1), (300, 0x80), (1000, 4), (2500, 1)] {
        let sim = machine();
        let log = open(&sim, 1 << 20);
        for part in events(0..15, 200).chunks(3) {
            log.append(part).unwrap();
        }
        drop(log);
        let files = sim.names(Path::new(DIR)).unwrap();
        assert_eq!(files.len(), 1);
        sim.rot(&Path::new(DIR).join(&files[0]), at, bits);
        for _ in 0..2 {
            let log = open(&sim, 1 << 20);
            let (first, next) = rounds(&log);
            assert!(first > 0 && next == 15, "{first}..{next}");
            assert_eq!(read_all(&log, first, 1000), events(first..15, 200));
        }
        // It goes on from there.
        open(&sim, 1 << 20).append(&events(15..20, 200)).unwrap();
        assert_eq!(rounds(&open(&sim, 1 << 20)).1, 20);
    }
}

#[test]
fn a_header_that_rotted_takes_what_it_is_of() {
    let sim = machine();
    let log = open(&sim, 1 << 20);
    log.append(&events(0..50, 200)).unwrap();
    let next = log.span().next;
    drop(log);
    let mut files = sim.names(Path::new(DIR)).unwrap();
    files.sort();
    sim.rot(&Path::new(DIR).join(&files[0]), 20, 1);
    let log = open(&sim, 1 << 20);
    let first = u64::from_str_radix(&files[1][17..33], 16).unwrap();
    assert_eq!(rounds(&log), (first, next));
    drop(log);
    let newest = files.last().unwrap();
    sim.rot(&Path::new(DIR).join(newest), 20, 1);
    let log = open(&sim, 1 << 20);
    let first = u64::from_str_radix(&newest[17..33], 16).unwrap();
    assert_eq!(rounds(&log), (first, first));
    log.append(&events(first..first + 2, 1)).unwrap();
    assert_eq!(rounds(&open(&sim, 1 << 20)), (first, first + 2));
}

#[test]
fn a_payload_that_looks_like_records_is_none() {
    // What somebody who knows the format, but not the mark, would send.
    let mut inner = Vec::new();
    for event in events(1000..1010, 40) {
        let at = inner.len();
        super::record::push(&mut inner, &event, &event.head().hash);
        super::record::seal(&mut inner[at..], *b"whatever", true);
    }
    let sim = machine();
    let log = open(&sim, 1 << 20);
    log.append(&[Event { round: 0, state_hash: None, payload: inner }]).unwrap();
    drop(log);
    let file = sim.names(Path::new(DIR)).unwrap().remove(0);
    sim.rot(&Path::new(DIR).join(file), 60, 1);
    assert_eq!(rounds(&open(&sim, 1 << 20)), (0, 0));
}
