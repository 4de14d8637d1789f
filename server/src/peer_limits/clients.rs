//! What each client takes at the moment.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::PeerLimits;
use super::bucket::Bucket;
use crate::tokens::TokenId;

/// Clients that are told apart; those beyond share one allowance.
const CLIENTS_MAX: usize = 16_384;
/// How often those that take nothing are forgotten, when there is no room.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How much of a second's bandwidth may go at once.
const BURST: f64 = 0.1;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum ClientKey {
    Token(TokenId),
    Address(IpAddr),
}

impl ClientKey {
    /// The client at an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            address => address,
        })
    }
}

/// What one client takes.
#[derive(Debug)]
pub(crate) struct Client {
    /// Guards how many requests it may still make. A leaf lock.
    rate: Mutex<Bucket>,
    /// Guards when its bytes may go on. A leaf lock.
    pace: Option<Mutex<Bucket>>,
    pub(crate) requests: AtomicUsize,
    pub(crate) transfers: AtomicUsize,
    pub(crate) streams: AtomicUsize,
}

impl Client {
    fn new(limits: &PeerLimits, now: Instant) -> Self {
        Self {
            rate: Mutex::new(Bucket::new(limits.rate_per_client, f64::from(limits.burst_per_client), now)),
            pace: limits.bandwidth_per_client.map(|bytes| pace(bytes, now)),
            requests: AtomicUsize::new(0),
            transfers: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
        }
    }

    /// One more request, or how long until it may come.
    pub(crate) fn ask(&self, now: Instant) -> Result<(), Duration> {
        lock(&self.rate).take(1, now)
    }

    /// How long `bytes` of it have to wait.
    pub(crate) fn reserve(&self, bytes: usize, now: Instant) -> Duration {
        self.pace.as_ref().map_or(Duration::ZERO, |pace| lock(pace).reserve(bytes, now))
    }

    fn is_idle(&self, now: Instant) -> bool {
        lock(&self.rate).is_full(now) && self.pace.as_ref().is_none_or(|pace| lock(pace).is_full(now))
    }
}

/// All clients, and what they take together.
#[derive(Debug)]
pub(crate) struct Clients {
    limits: PeerLimits,
    /// Guards the table. Clients' own locks are taken under it.
    known: Mutex<Known>,
    /// Those that there is no room for.
    others: Arc<Client>,
    /// Guards when anybody's bytes may go on. A leaf lock.
    pace: Option<Mutex<Bucket>>,
}

#[derive(Debug)]
struct Known {
    clients: HashMap<ClientKey, Arc<Client>>,
    swept: Instant,
}

impl Clients {
    pub(crate) fn new(limits: &PeerLimits) -> Self {
        let now = Instant::now();
        Self {
            limits: limits.clone(),
            known: Mutex::new(Known { clients: HashMap::new(), swept: now }),
            others: Arc::new(Client::new(limits, now)),
            pace: limits.bandwidth.map(|bytes| pace(bytes, now)),
        }
    }

    /// A client's state.
    pub(crate) fn get(&self, key: ClientKey, now: Instant) -> Arc<Client> {
        let mut known = lock(&self.known);
        if let Some(client) = known.clients.get(&key) {
            return Arc::clone(client);
        }
        if known.clients.len() >= CLIENTS_MAX && now.duration_since(known.swept) >= SWEEP_EVERY {
            known.swept = now;
            known.clients.retain(|_, client| Arc::strong_count(client) > 1 || !client.is_idle(now));
        }
        if known.clients.len() >= CLIENTS_MAX {
            return Arc::clone(&self.others);
        }
        let client = Arc::new(Client::new(&self.limits, now));
        known.clients.insert(key, Arc::clone(&client));
        client
    }

    /// Whether bytes are ever made to wait.
    pub(crate) fn are_paced(&self) -> bool {
        self.pace.is_some() || self.limits.bandwidth_per_client.is_some()
    }

    /// The most bytes that are best sent at a time: a twentieth of a second's.
    pub(crate) fn slice_max(&self) -> usize {
        let rates = [self.limits.bandwidth, self.limits.bandwidth_per_client];
        let least = rates.into_iter().flatten().min().unwrap_or(u64::MAX) / 20;
        usize::try_from(least).unwrap_or(usize::MAX).clamp(1024, 256 << 10)
    }

    /// How long `bytes` of a client have to wait.
    pub(crate) fn reserve(&self, client: &Client, bytes: usize, now: Instant) -> Duration {
        let all = self.pace.as_ref().map_or(Duration::ZERO, |pace| lock(pace).reserve(bytes, now));
        all.max(client.reserve(bytes, now))
    }
}

fn pace(bytes_per_second: u64, now: Instant) -> Mutex<Bucket> {
    let rate = bytes_per_second as f64;
    Mutex::new(Bucket::new(rate, rate * BURST, now))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change under these locks is whole: a panic elsewhere leaves it sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of a number of places, given up when dropped.
#[derive(Debug)]
pub(crate) struct Place<C: AsRef<AtomicUsize>>(C);

impl<C: AsRef<AtomicUsize>> Place<C> {
    /// None if all `max` are taken.
    pub(crate) fn take(count: C, max: usize) -> Option<Self> {
        let taken = count.as_ref().fetch_add(1, Ordering::AcqRel);
        let place = Self(count);
        (taken < max).then_some(place)
    }
}

impl<C: AsRef<AtomicUsize>> Drop for Place<C> {
    fn drop(&mut self) {
        self.0.as_ref().fetch_sub(1, Ordering::AcqRel);
    }
}

/// A client's count of requests.
#[derive(Debug)]
pub(crate) struct Requests(pub(crate) Arc<Client>);

impl AsRef<AtomicUsize> for Requests {
    fn as_ref(&self) -> &AtomicUsize {
        &self.0.requests
    }
}

/// A client's count of transfers.
#[derive(Debug)]
pub(crate) struct Transfers(pub(crate) Arc<Client>);

impl AsRef<AtomicUsize> for Transfers {
    fn as_ref(&self) -> &AtomicUsize {
        &self.0.transfers
    }
}

/// A client's count of streams that it follows.
#[derive(Debug)]
pub(crate) struct Follows(pub(crate) Arc<Client>);

impl AsRef<AtomicUsize> for Follows {
    fn as_ref(&self) -> &AtomicUsize {
        &self.0.streams
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_a_network() {
        let of = |text: &str| ClientKey::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_takes_nothing() {
        let limits = PeerLimits { rate_per_client: 1.0, burst_per_client: 1, ..PeerLimits::default() };
        let (clients, now) = (Clients::new(&limits), Instant::now());
        let key = |n: usize| ClientKey::of(IpAddr::from(u32::try_from(n).unwrap().to_be_bytes()));
        for n in 0..CLIENTS_MAX {
            clients.get(key(n), now).ask(now).unwrap();
        }
        // All of them have used their allowance: there is no room, and the others share one.
        let soon = now + SWEEP_EVERY / 2;
        clients.get(key(CLIENTS_MAX), soon).ask(soon).unwrap();
        clients.get(key(CLIENTS_MAX + 1), soon).ask(soon).unwrap_err();
        let later = now + 2 * SWEEP_EVERY;
        let kept = clients.get(key(3), later);
        kept.ask(later).unwrap();
        clients.get(key(CLIENTS_MAX), later).ask(later).unwrap();
        assert!(lock(&clients.known).clients.len() < 10);
        assert!(Arc::ptr_eq(&kept, &clients.get(key(3), later)));
    }

    #[test]
    fn places_are_given_back() {
        let client = Arc::new(Client::new(&PeerLimits::default(), Instant::now()));
        let take = || Place::take(Transfers(Arc::clone(&client)), 2);
        let (first, _second) = (take().unwrap(), take().unwrap());
        assert!(take().is_none());
        drop(first);
        assert!(take().is_some());
        assert_eq!(client.transfers.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_all_take_together_is_bounded_too() {
        let limits =
            PeerLimits { bandwidth: Some(1000), bandwidth_per_client: Some(800), ..PeerLimits::default() };
        let (clients, now) = (Clients::new(&limits), Instant::now());
        let (a, b) =
            (clients.get(ClientKey::of([1; 4].into()), now), clients.get(ClientKey::of([2; 4].into()), now));
        let mut last = Duration::ZERO;
        for _ in 0..10 {
            last = last.max(clients.reserve(&a, 100, now)).max(clients.reserve(&b, 100, now));
        }
        assert!((last.as_secs_f64() - 1.8).abs() < 0.05, "{last:?}");
    }
}
