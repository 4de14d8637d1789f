//! The connections that there are, so that one of them can make room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::connection::Connection;

/// The connections of a listener.
pub(crate) struct Table {
    seats_max: usize,
    seats: Arc<Mutex<Seats>>,
}

#[derive(Default)]
struct Seats {
    taken: HashMap<u64, Arc<Connection>>,
    next: u64,
}

/// A connection's place, given up when dropped.
pub(crate) struct Seat {
    number: u64,
    /// Guards the table. A leaf lock.
    seats: Arc<Mutex<Seats>>,
}

impl Table {
    pub(crate) fn new(seats_max: usize) -> Self {
        Self { seats_max, seats: Arc::default() }
    }

    /// A place, if need be that of the connection that has been idle longest; none if all are busy.
    pub(crate) fn seat(&self, connection: &Arc<Connection>) -> Option<Seat> {
        let mut seats = lock(&self.seats);
        if seats.taken.len() >= self.seats_max && !make_room(&seats) {
            return None;
        }
        let number = seats.next;
        seats.next += 1;
        seats.taken.insert(number, Arc::clone(connection));
        Some(Seat { number, seats: Arc::clone(&self.seats) })
    }

    /// Has the connection closed that has been idle longest.
    pub(crate) fn make_room(&self) {
        make_room(&lock(&self.seats));
    }
}

fn make_room(seats: &Seats) -> bool {
    let idle = seats.taken.values().filter_map(|connection| Some((connection.idle_since()?, connection)));
    let oldest = idle.min_by_key(|(since, _)| *since);
    if let Some((_, connection)) = oldest {
        connection.evict();
    }
    oldest.is_some()
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.seats).taken.remove(&self.number);
    }
}

fn lock(seats: &Mutex<Seats>) -> MutexGuard<'_, Seats> {
    // Each change is one insertion or removal: a panic elsewhere leaves it sound.
    seats.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_idle_makes_room_and_who_is_busy_does_not() {
        let address = "127.0.0.1:1".parse().unwrap();
        let table = Table::new(2);
        let [first, second, third, fourth] = [(); 4].map(|()| Connection::new(address));
        let _first = table.seat(&first).unwrap();
        let seat = table.seat(&second).unwrap();
        let step = first.begin(false);
        // The second one is the only one that is idle.
        let _third = table.seat(&third).unwrap();
        assert!(second.idle_since().is_none() && third.idle_since().is_some());
        drop(seat);
        let _busy = third.begin(false);
        assert!(table.seat(&fourth).is_none());
        drop(step);
        assert!(table.seat(&fourth).is_some());
    }
}
