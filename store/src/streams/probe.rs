//! A log that is made of given bytes, for who throws anything at it.

use std::path::Path;
use std::sync::Arc;

use super::segment::file_name;
use super::{EventLog, Span, StreamBounds};
use crate::event::Event;
use crate::io::{Io, Sim};

const DIR: &str = "/streams/probe";

/// What a log says that has this segment alone; see [`crate::fuzzing::event_log`].
pub(crate) fn open_segment(segment: &[u8]) -> Option<Vec<Event>> {
    let word = |at: usize| segment.get(at..at + 8).map_or([0; 8], |word| word.try_into().unwrap_or_default());
    let (epoch, first) = (u64::from_le_bytes(word(8)), u64::from_le_bytes(word(16)));
    let sim = Sim::new(0);
    sim.create_dir_all(Path::new(DIR)).ok()?;
    let path = Path::new(DIR).join(file_name(epoch, first));
    sim.create(&path).and_then(|file| file.write_all_at(segment, 0)).ok()?;
    let log = open(&sim)?;
    let (span, said) = (log.span(), read(&log));
    drop(log);
    // What rotted may lose more when it is opened again: what came behind it was cut off.
    let is_as_it_was = sim.read(&path).is_ok_and(|bytes| bytes == segment);
    let log = open(&sim).expect("it was just recovered");
    assert!(!is_as_it_was || said == read(&log) && span == log.span(), "opening it again changed it");
    let (span, said) = (log.span(), read(&log));
    let next = Event { round: span.next, state_hash: None, payload: b"next".to_vec() };
    if log.append(std::slice::from_ref(&next)).is_ok() {
        assert_eq!(log.read(span.next, 1).expect("it was just appended"), [next]);
        drop(log);
        let again = open(&sim).expect("it was just appended to");
        assert_eq!(read(&again).len(), said.len() + 1, "an append changed what was there");
    }
    Some(said)
}

fn open(sim: &Sim) -> Option<EventLog> {
    let name = "probe".parse().ok()?;
    let bounds = StreamBounds { bytes_max: u64::MAX };
    EventLog::open_with(Arc::new(sim.clone()), DIR.into(), name, bounds, 1 << 20).ok()
}

/// All that is kept: every round once.
fn read(log: &EventLog) -> Vec<Event> {
    let Span { first, next, .. } = log.span();
    let mut all = Vec::new();
    let mut from = first;
    while from < next {
        let read = log.read(from, 4096).expect("what was recovered can be read");
        assert!(!read.is_empty(), "a round is missing");
        let heads = log.heads(from, read.len()).expect("what was recovered can be read");
        for (event, head) in read.into_iter().zip(heads) {
            assert!(event.round == from && event.head() == head, "a round is not what its head says");
            from += 1;
            all.push(event);
        }
    }
    all
}
