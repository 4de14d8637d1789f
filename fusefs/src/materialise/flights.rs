//! Files that are being written: one thread writes, others that want the same file wait for it. How it ended is told to
//! those who waited, and to nobody who asks later.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::files::{FileId, ReadError};

/// How a flight ended; nothing while it is under way.
type Outcome = Option<Result<(), ReadError>>;

#[derive(Default)]
struct Flight {
    /// Guards the outcome; a leaf lock.
    outcome: Mutex<Outcome>,
    landed: Condvar,
}

/// The files that are being written.
#[derive(Default)]
pub(super) struct Flights(
    /// Guards the table; a leaf lock.
    Mutex<HashMap<FileId, Arc<Flight>>>,
);

/// What a thread that wants a file is to do.
pub(super) enum Turn<'a> {
    /// Write it, and say how that ended.
    Write(Pilot<'a>),
    /// Nothing: another thread wrote it, or failed to.
    Landed(Result<(), ReadError>),
}

/// The duty to write a file. Dropped without a word, by a panic, it lets those who wait try for themselves.
pub(super) struct Pilot<'a> {
    flights: &'a Flights,
    id: FileId,
    flight: Arc<Flight>,
    outcome: Outcome,
}

impl Flights {
    /// Takes up the writing of a file, or waits for who has.
    ///
    /// # Errors
    /// [`ReadError::Deadline`] when it waited until then.
    pub(super) fn join(&self, id: &FileId, deadline: Option<Instant>) -> Result<Turn<'_>, ReadError> {
        let flight = match lock(&self.0).entry(*id) {
            Entry::Occupied(there) => Arc::clone(there.get()),
            Entry::Vacant(vacant) => {
                let flight = Arc::clone(vacant.insert(Arc::default()));
                return Ok(Turn::Write(Pilot { flights: self, id: *id, flight, outcome: None }));
            }
        };
        let mut outcome = lock(&flight.outcome);
        loop {
            if let Some(outcome) = &*outcome {
                return Ok(Turn::Landed(outcome.clone()));
            }
            outcome = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => flight.landed.wait(outcome).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Err(ReadError::Deadline),
                Some(left) => {
                    flight.landed.wait_timeout(outcome, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Pilot<'_> {
    /// Says how it ended.
    pub(super) fn land(mut self, outcome: Result<(), ReadError>) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Pilot<'_> {
    fn drop(&mut self) {
        lock(&self.flights.0).remove(&self.id);
        // Whoever gave up for reasons of its own has not tried for the others.
        *lock(&self.flight.outcome) = Some(self.outcome.take().unwrap_or(Err(ReadError::Deadline)));
        self.flight.landed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FILE: FileId = FileId([1; 32]);

    #[test]
    fn one_writes_and_the_others_hear_how_it_ended() {
        let flights = Flights::default();
        let Ok(Turn::Write(pilot)) = flights.join(&FILE, None) else { panic!("it is the first") };
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| flights.join(&FILE, None))).collect();
            // Other files do not wait.
            assert!(matches!(flights.join(&FileId([2; 32]), None), Ok(Turn::Write(_))));
            while Arc::strong_count(&pilot.flight) < 10 {
                std::thread::yield_now();
            }
            pilot.land(Ok(()));
            for waiting in waiting {
                assert!(matches!(waiting.join().unwrap(), Ok(Turn::Landed(Ok(())))));
            }
        });
        assert!(matches!(flights.join(&FILE, None), Ok(Turn::Write(_))));
    }

    #[test]
    fn waiting_ends_at_the_deadline_and_a_lost_pilot_ends_it_too() {
        let flights = Flights::default();
        let Ok(Turn::Write(pilot)) = flights.join(&FILE, None) else { panic!("it is the first") };
        let soon = Instant::now() + Duration::from_millis(5);
        assert!(matches!(flights.join(&FILE, Some(soon)), Err(ReadError::Deadline)));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| flights.join(&FILE, None));
            while Arc::strong_count(&pilot.flight) < 3 {
                std::thread::yield_now();
            }
            drop(pilot);
            assert!(matches!(waiting.join().unwrap(), Ok(Turn::Landed(Err(ReadError::Deadline)))));
        });
    }
}
