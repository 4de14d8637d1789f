//! One connection through a line: in each direction a thread that reads and one that writes what is due.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Fault, Shared};

/// Bytes that are read at a time: on a line of 100 Mbit/s they take 1.3 ms.
const PIECE_BYTES: usize = 16 << 10;
/// Pieces on their way in one direction: 4 MiB, more than a fast line of 100 ms has.
const PIECES_MAX: usize = 256;
/// Between looks at whether a line that stalls has been cut.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// Bytes, and when they arrive at the earliest.
type Piece = (Instant, Vec<u8>);

pub(super) struct Pump {
    shared: Arc<Shared>,
    direction: Direction,
    /// Whether the client spoke last, for both directions.
    client_spoke: Arc<AtomicBool>,
}

impl Pump {
    pub(super) fn start(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
        for socket in [&client, &server] {
            socket.set_nodelay(true)?;
            let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.push(socket.try_clone()?);
        }
        let client_spoke = Arc::new(AtomicBool::new(false));
        let ends =
            [(Direction::Up, client.try_clone()?, server.try_clone()?), (Direction::Down, server, client)];
        for (direction, from, to) in ends {
            let pump =
                Pump { shared: Arc::clone(shared), direction, client_spoke: Arc::clone(&client_spoke) };
            let (pieces, due) = sync_channel(PIECES_MAX);
            let theirs = Arc::clone(shared);
            thread::Builder::new().name("link-in".to_owned()).spawn(move || pump.read(from, &pieces))?;
            thread::Builder::new()
                .name("link-out".to_owned())
                .spawn(move || write(to, &due, direction, &theirs))?;
        }
        Ok(())
    }

    fn read(&self, mut from: TcpStream, pieces: &SyncSender<Piece>) {
        let mut buffer = vec![0; PIECE_BYTES];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            self.count(len);
            let due = Instant::now() + self.shared.quality.delay;
            if pieces.send((due, buffer[..len].to_vec())).is_err() {
                break;
            }
        }
    }

    fn count(&self, len: usize) {
        let (counter, is_client) = match self.direction {
            Direction::Up => (&self.shared.up, true),
            Direction::Down => (&self.shared.down, false),
        };
        counter.fetch_add(len as u64, Ordering::SeqCst);
        if self.client_spoke.swap(is_client, Ordering::SeqCst) != is_client && is_client {
            self.shared.round_trips.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn write(mut to: TcpStream, due: &Receiver<Piece>, direction: Direction, shared: &Shared) {
    while let Ok((due, bytes)) = due.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        shared.send(direction, bytes.len());
        match shared.fault() {
            Some(Fault::Dies) => shared.cut(),
            Some(Fault::Stalls) => {
                while !shared.is_cut() {
                    thread::sleep(LOOK_EVERY);
                }
            }
            None => {}
        }
        if shared.is_cut() || to.write_all(&bytes).is_err() {
            break;
        }
    }
    // The other end may be gone already.
    let _ = to.shutdown(Shutdown::Write);
}
