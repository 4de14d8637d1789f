//! A log on a machine that crashes and fails: what was acknowledged is there, in order and without a gap, as far as it is kept.

use std::path::Path;
use std::sync::Arc;

use super::tests::{event, events};
use super::{EventLog, Span, StreamBounds};
use crate::error::Error;
use crate::io::{Fault, Io, Sim};

const DIR: &str = "/streams/chain";
const SEEDS: u64 = 150;
/// So that segments go while it is appended to.
const BYTES_MAX: u64 = 6000;
const SEGMENT_BYTES: u64 = 2000;
/// Where a reset goes to.
const RESET_TO: u64 = 500;

fn machine(seed: u64) -> Sim {
    let sim = Sim::new(seed);
    sim.create_dir_all(Path::new(DIR)).unwrap();
    sim.settle();
    sim
}

fn open(sim: &Sim) -> Result<EventLog, Error> {
    let bounds = StreamBounds { bytes_max: BYTES_MAX };
    EventLog::open_with(Arc::new(sim.clone()), DIR.into(), "chain".parse().unwrap(), bounds, SEGMENT_BYTES)
}

/// What was acknowledged, and what may have happened beyond it.
#[derive(Debug, Clone, Copy, Default)]
struct Model {
    next: u64,
    /// Up to where events were given to an append that was not acknowledged.
    attempted: u64,
    /// Whether a reset was asked for and not acknowledged.
    resetting: bool,
}

impl Model {
    fn at(next: u64) -> Self {
        Self { next, attempted: next, resetting: false }
    }

    /// What is found is what was acknowledged, or a part more of what was asked for: consecutive, and each what it was.
    fn check(&self, log: &EventLog, context: &str) {
        let span = log.span();
        let as_before = (self.next..=self.attempted).contains(&span.next);
        let is_reset = self.resetting && (span.first, span.next) == (RESET_TO, RESET_TO);
        assert!(as_before || is_reset, "{context}: {span:?}, {self:?}");
        assert!(span.first <= span.next, "{context}: {span:?}");
        // What is bounded by bytes is bounded, and no more than what it has to be is gone.
        let base = if span.next >= RESET_TO { RESET_TO } else { 0 };
        let gone = span.first > base;
        assert!(!gone || span.bytes + 2 * SEGMENT_BYTES > BYTES_MAX, "{context}: {span:?}");
        match read(log, span) {
            Ok(read) => assert_eq!(read, events(span.first..span.next, 60), "{context}"),
            // The machine may stop, or a call fail, at any time.
            Err(error) => assert!(matches!(error, Error::Io { .. }), "{context}: {error}"),
        }
    }
}

fn read(log: &EventLog, span: Span) -> Result<Vec<crate::event::Event>, Error> {
    let mut all = Vec::new();
    let mut from = span.first;
    while from < span.next {
        let read = log.read(from, 700)?;
        from += read.len() as u64;
        all.extend(read);
    }
    Ok(all)
}

/// Opens, appends batches of several sizes and resets in the middle, until something fails.
fn run(sim: &Sim, model: &mut Model, context: &str) -> Result<(), Error> {
    let log = open(sim)?;
    model.check(&log, context);
    *model = Model::at(log.span().next);
    for step in 0..24 {
        let from = model.next;
        if step == 15 && from < RESET_TO {
            model.resetting = true;
            log.reset(RESET_TO)?;
            *model = Model::at(RESET_TO);
            continue;
        }
        let upto = from + [1, 2, 40, 1, 5][step % 5];
        model.attempted = upto;
        match log.append(&events(from..upto, 60)) {
            Ok(appended) => assert_eq!((appended.appended, appended.next), (upto - from, upto), "{context}"),
            Err(error) => {
                let again = log.append(&[event(log.span().next, 60)]);
                if matches!(error, Error::Full { .. }) {
                    assert!(
                        matches!(again, Ok(_) | Err(Error::Full { .. } | Error::Io { .. })),
                        "{context}: {again:?}"
                    );
                    model.attempted += 1;
                } else {
                    assert!(matches!(again, Err(Error::Poisoned { .. })), "{context}: {again:?}");
                }
                // What is durable can be read as before.
                if !sim.crashed() {
                    model.check(&log, context);
                }
                return Err(error);
            }
        }
        *model = Model::at(upto);
    }
    Ok(())
}

#[test]
fn after_a_crash_at_any_sync_what_was_acknowledged_is_there() {
    crash_everywhere(Sim::crash_at_sync, Sim::syncs);
}

#[test]
fn after_a_crash_at_any_call_what_was_acknowledged_is_there() {
    crash_everywhere(Sim::crash_at_operation, Sim::operations);
}

fn crash_everywhere(crash_at: fn(&Sim, u64), count: fn(&Sim) -> u64) {
    let whole = machine(0);
    let before = count(&whole);
    run(&whole, &mut Model::default(), "whole").unwrap();
    let points = count(&whole) - before;
    assert!(points > 30);
    for point in 1..=points {
        let sim = machine(point);
        crash_at(&sim, point);
        let mut model = Model::default();
        // It may end well: that what is too old cannot be removed is no failure.
        let _ = run(&sim, &mut model, &format!("crash at {point}"));
        assert!(sim.crashed(), "{point}");
        for seed in 0..SEEDS / 10 {
            let context = format!("crash at {point}, seed {seed}");
            let (mut sim, mut model) = (sim.reboot(seed), model);
            // A crash while it is opened, and one after that.
            for again in 1..4 {
                sim.crash_at_operation(again * (1 + seed % 5));
                let context = format!("{context}, again {again}");
                if run(&sim, &mut model, &context).is_ok() {
                    break;
                }
                sim = sim.reboot(seed + again);
            }
            model.check(&open(&sim).unwrap(), &context);
        }
    }
}

#[test]
fn any_call_that_fails_loses_nothing_that_was_acknowledged() {
    let whole = machine(0);
    let before = whole.operations();
    run(&whole, &mut Model::default(), "whole").unwrap();
    for fault in [Fault::Io, Fault::NoSpace] {
        for point in 1..=whole.operations() - before {
            let sim = machine(point);
            sim.fail_at(point, fault);
            let context = format!("{fault:?} at {point}");
            let mut model = Model::default();
            let _ = run(&sim, &mut model, &context);
            assert_eq!(sim.failures(), 1, "{context}");
            for seed in [1, 2, 3, 4, 0] {
                // The process ends; or the machine does, and with it what was in memory only.
                let again = if seed == 0 { sim.clone() } else { sim.reboot(seed) };
                let mut model = model;
                run(&again, &mut model, &context).unwrap_or_else(|error| panic!("{context}: {error}"));
                model.check(&open(&again.reboot(seed)).unwrap(), &context);
            }
        }
    }
}

#[test]
fn a_full_disk_refuses_before_it_acknowledges_and_goes_on_when_there_is_room() {
    let whole = machine(0);
    run(&whole, &mut Model::default(), "whole").unwrap();
    for point in 1..=whole.operations() {
        let sim = machine(point);
        let log = open(&sim).unwrap();
        sim.full_from(point);
        let mut next = 0;
        let error = loop {
            if next > 400 {
                break None;
            }
            match log.append(&events(next..next + 7, 60)) {
                Ok(_) => next += 7,
                Err(error) => break Some(error),
            }
        };
        let context = format!("full at {point}");
        let Some(error) = error else { continue };
        assert!(matches!(error, Error::Full { .. }), "{context}: {error}");
        assert!((next..next + 7).contains(&log.span().next), "{context}");
        assert!(matches!(log.append(&events(next..next + 7, 60)), Err(Error::Full { .. })), "{context}");
        sim.heal();
        log.append(&events(next..next + 7, 60)).unwrap();
        let span = log.span();
        assert_eq!(span.next, next + 7);
        assert_eq!(read(&log, span).unwrap(), events(span.first..span.next, 60), "{context}");
        let log = open(&sim.reboot(point)).unwrap();
        assert_eq!((log.span().first, log.span().next), (span.first, span.next), "{context}");
    }
}
