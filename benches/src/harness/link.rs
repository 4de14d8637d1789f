//! A slow, long or bad line between a client and a server on this machine: a proxy that counts what passes, delays it,
//! lets through so many bytes a second in each direction, and breaks as it is told.
//!
//! The kernel may have no `netem`, and a bench should not need to change the machine's network. What a plain proxy gets
//! wrong is what TCP itself does about distance (slow start, loss): connections here are as quick to open up as on
//! loopback, for all who are measured alike.

mod pump;

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pump::{Direction, Pump};

/// What a line is like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quality {
    /// How long each byte travels one way.
    pub(crate) delay: Duration,
    /// Bytes a second in each direction; as many as there are where nothing is said.
    pub(crate) bytes_per_s: Option<f64>,
    /// What happens once so many bytes have come from the server, if anything.
    pub(crate) fault: Option<(u64, Fault)>,
}

/// How a line breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// All connections end, and nobody can connect any more.
    Dies,
    /// Nothing passes any more, and connections stay open.
    Stalls,
}

/// What has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Bytes from the server.
    pub(crate) down: u64,
    /// Bytes from clients.
    pub(crate) up: u64,
    /// How often a client spoke after it had listened, the first time included, on all connections.
    pub(crate) round_trips: u64,
    pub(crate) connections: u64,
}

/// A line. It is cut when this is dropped.
pub(crate) struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What all connections of a line share.
struct Shared {
    quality: Quality,
    down: AtomicU64,
    up: AtomicU64,
    round_trips: AtomicU64,
    connections: AtomicU64,
    is_cut: AtomicBool,
    /// Guards, for each direction, when what was sent last will have left.
    leaves: [Mutex<Instant>; 2],
    /// Guards the sockets that are open, which are shut when the line is cut.
    open: Mutex<Vec<TcpStream>>,
}

impl Link {
    /// A line to a server, with an address of its own.
    pub(crate) fn to(server: SocketAddr, quality: Quality) -> io::Result<Link> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let now = Instant::now();
        let shared = Arc::new(Shared {
            quality,
            down: AtomicU64::new(0),
            up: AtomicU64::new(0),
            round_trips: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
            leaves: [Mutex::new(now), Mutex::new(now)],
            open: Mutex::default(),
        });
        let (theirs, accepting) = (Arc::clone(&shared), listener);
        thread::Builder::new().name("link".to_owned()).spawn(move || accept(&accepting, server, &theirs))?;
        Ok(Link { address, shared })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn passed(&self) -> Passed {
        let get = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let Shared { down, up, round_trips, connections, .. } = &*self.shared;
        Passed { down: get(down), up: get(up), round_trips: get(round_trips), connections: get(connections) }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.cut();
        // Wakes the thread that accepts, which then sees that the line is cut.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl Shared {
    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for socket in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // It may have ended by itself.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::SeqCst)
    }

    /// What is to happen now that so many bytes have come from the server.
    fn fault(&self) -> Option<Fault> {
        let (after, fault) = self.quality.fault?;
        (self.down.load(Ordering::SeqCst) >= after).then_some(fault)
    }

    /// Waits until so many bytes have left, behind all that were sent before them.
    fn send(&self, direction: Direction, bytes: usize) {
        let Some(rate) = self.quality.bytes_per_s else { return };
        let takes = Duration::from_secs_f64(super::to_f64(bytes as u64) / rate);
        let left = {
            let mut leaves = self.leaves[direction as usize].lock().unwrap_or_else(PoisonError::into_inner);
            *leaves = (*leaves).max(Instant::now()) + takes;
            *leaves
        };
        thread::sleep(left.saturating_duration_since(Instant::now()));
    }
}

fn accept(listener: &TcpListener, server: SocketAddr, shared: &Arc<Shared>) {
    while let Ok((client, _)) = listener.accept() {
        if shared.is_cut() {
            return;
        }
        // A server that is not there is a connection that ends at once.
        if let Ok(server) = TcpStream::connect(server) {
            shared.connections.fetch_add(1, Ordering::SeqCst);
            // Threads that do not start are a connection that ends, too.
            let _ = Pump::start(client, server, shared);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    /// A server that answers each byte with so many.
    fn server(answer: usize) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                thread::spawn(move || {
                    let mut byte = [0];
                    while client.read_exact(&mut byte).is_ok()
                        && client.write_all(&vec![byte[0]; answer]).is_ok()
                    {}
                });
            }
        });
        address
    }

    fn ask(client: &mut TcpStream, byte: u8, answer: usize) -> io::Result<()> {
        client.write_all(&[byte])?;
        let mut bytes = vec![0; answer];
        client.read_exact(&mut bytes)?;
        assert!(bytes.iter().all(|there| *there == byte));
        Ok(())
    }

    #[test]
    fn what_passes_is_counted() {
        let link = Link::to(server(100_000), Quality::default()).unwrap();
        let mut client = TcpStream::connect(link.address()).unwrap();
        for byte in 0..3 {
            ask(&mut client, byte, 100_000).unwrap();
        }
        let Passed { down, up, round_trips, connections } = link.passed();
        assert_eq!((down, up, round_trips, connections), (300_000, 3, 3, 1));
    }

    #[test]
    fn a_long_line_delays_and_a_thin_one_takes_its_time() {
        let begun = Instant::now();
        let delay = Duration::from_millis(20);
        let link = Link::to(server(1), Quality { delay, ..Quality::default() }).unwrap();
        let mut client = TcpStream::connect(link.address()).unwrap();
        ask(&mut client, 1, 1).unwrap();
        assert!(begun.elapsed() >= delay * 2);

        let begun = Instant::now();
        let link =
            Link::to(server(100_000), Quality { bytes_per_s: Some(1e6), ..Quality::default() }).unwrap();
        let mut client = TcpStream::connect(link.address()).unwrap();
        ask(&mut client, 1, 100_000).unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(99));
    }

    #[test]
    fn a_line_that_dies_lets_nobody_through() {
        let quality = Quality { fault: Some((1, Fault::Dies)), ..Quality::default() };
        let link = Link::to(server(10), quality).unwrap();
        let mut client = TcpStream::connect(link.address()).unwrap();
        assert!((0..2).any(|_| ask(&mut client, 1, 10).is_err()));
        let again = TcpStream::connect(link.address());
        assert!(again.is_err() || ask(&mut again.unwrap(), 1, 10).is_err());
    }
}
