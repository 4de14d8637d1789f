//! The TCP side: an address that peers connect to, with or without TLS, HTTP/1.1 and HTTP/2 on one port.
//!
//! An address that other machines reach is refused without TLS and tokens, unless that is asked for by name. Connections
//! are bounded; when all places are taken, the one that has been idle longest makes room, so that whoever opens many and
//! says nothing keeps nobody else out. A server that stops goes on answering what it began until its grace ends, and
//! refuses what is new with 503.

pub(crate) mod connection;
mod table;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use self::connection::{Connection, Counted};
use self::table::Table;
use crate::auth::Access;
use crate::peer_api::PeerApi;
use crate::peer_limits::PeerLimits;
use crate::tls::{Tls, TlsError, TlsFiles};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// How long to wait when the system is out of descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// How long answers that are whole may take to leave after the grace.
const LAST_BYTES: Duration = Duration::from_secs(2);
/// How long connections go on as they are when new ones are left to another process.
const LAST_REQUESTS: Duration = Duration::from_millis(500);
/// Requests on one connection at a time, over HTTP/2.
const STREAMS_MAX: u32 = 128;
/// What one HTTP/2 connection may send before it is read.
const WINDOW_BYTES: u32 = 1 << 20;
/// What of one HTTP/2 request's answer is buffered.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// hyper takes no smaller heads than this.
const HEAD_BYTES_MIN: usize = 8192;
/// How often an HTTP/2 client has to show that it is there.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How often uses of tokens are written.
const KEEP_USES_EVERY: Duration = Duration::from_secs(60);

/// Where to listen.
#[derive(Debug, Clone)]
pub struct Listen {
    /// The address; port 0 lets the system choose.
    pub address: SocketAddr,
    /// With TLS, or without.
    pub tls: Option<TlsFiles>,
    /// Whether to listen where other machines connect though there is no TLS or no token.
    pub insecure_public: bool,
}

/// How serving ends. What runs may go on for so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Whoever comes meanwhile is told to come back later.
    Drain(Duration),
    /// Whoever comes meanwhile is left to another process, which has the socket too.
    Leave(Duration),
}

/// Why nobody can connect.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Anybody could read, or listen to, what goes over it.
    #[error("{address} can be reached from other machines, and there is no {lacks}")]
    Insecure {
        /// The address.
        address: SocketAddr,
        /// `TLS`, `file of tokens`.
        lacks: &'static str,
    },
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// An address that is listened on.
pub struct Serving {
    listener: std::net::TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
}

impl Serving {
    /// Listens. Connections wait until [`Serving::serve`].
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn open(listen: &Listen, access: &Access) -> Result<Self, ListenError> {
        Self::check(listen, access)?;
        let failed = |source| ListenError::Bind { address: listen.address, source };
        Self::with(bind(listen.address).map_err(failed)?, listen)
    }

    /// Goes on with a socket that another process listened on.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn inherit(socket: OwnedFd, listen: &Listen, access: &Access) -> Result<Self, ListenError> {
        Self::check(listen, access)?;
        Self::with(socket, listen)
    }

    fn check(listen: &Listen, access: &Access) -> Result<(), ListenError> {
        let address = listen.address;
        let lacks = match (&listen.tls, &access.tokens) {
            (None, _) => "TLS",
            (_, None) => "file of tokens",
            _ => return Ok(()),
        };
        if listen.insecure_public || address.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        Err(ListenError::Insecure { address, lacks })
    }

    fn with(socket: OwnedFd, listen: &Listen) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Bind { address: listen.address, source };
        let listener = std::net::TcpListener::from(socket);
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = listen.tls.as_ref().map(Tls::open).transpose()?;
        Ok(Self { listener, address, tls })
    }

    /// Where it listens, with the port that the system chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket, for a process that takes over.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Answers connections with `router`, which is [`peer_router`](crate::peer_router)'s, until `stop` comes. From then on
    /// new requests are refused or left to another process, and those that run may go on for as long as `stop` says.
    ///
    /// # Errors
    /// When the runtime does not take the socket.
    pub async fn serve(
        &self,
        api: &Arc<PeerApi>,
        router: Router,
        stop: impl Future<Output = Stop>,
    ) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener.try_clone()?)?;
        let (stopping, stopped) = watch::channel(false);
        let mut room = Room {
            server: Arc::new(Server { api: Arc::clone(api), router, http: http(api.limits()), stopped }),
            table: Table::new(seats(api.limits().connections)),
            connections: JoinSet::new(),
        };
        let mut keep_uses = tokio::time::interval(KEEP_USES_EVERY);
        let mut stop = std::pin::pin!(stop);
        let stop = loop {
            tokio::select! {
                stop = &mut stop => break stop,
                Some(_) = room.connections.join_next() => {}
                _ = keep_uses.tick() => api.keep_uses(),
                accepted = listener.accept() => self.admit(&mut room, accepted).await,
            }
        };
        let grace = match stop {
            Stop::Drain(grace) => grace,
            Stop::Leave(grace) => {
                drop(listener);
                api.end_streams();
                // Whoever was let in just before is about to ask: closed now, that would be a refusal.
                tokio::time::sleep(LAST_REQUESTS).await;
                end(room, api, &stopping, grace).await;
                return Ok(());
            }
        };
        api.drain();
        let mut ended = std::pin::pin!(tokio::time::timeout(grace, api.idle()));
        loop {
            tokio::select! {
                ended = &mut ended => {
                    if ended.is_err() {
                        tracing::warn!(requests = api.open(), "requests are cut off that did not end in time");
                    }
                    break;
                }
                Some(_) = room.connections.join_next() => {}
                accepted = listener.accept() => self.admit(&mut room, accepted).await,
            }
        }
        drop(listener);
        end(room, api, &stopping, LAST_BYTES.min(grace)).await;
        Ok(())
    }

    async fn admit(&self, room: &mut Room, accepted: io::Result<(TcpStream, SocketAddr)>) {
        let metrics = room.server.api.metrics();
        match accepted {
            Ok((stream, address)) => {
                crate::metrics::Metrics::add(&metrics.connections, 1);
                let connection = Connection::new(address);
                let Some(seat) = room.table.seat(&connection) else {
                    metrics.limits_hit.add("connections");
                    return;
                };
                let tls = self.tls.as_ref().map(|tls| tls.acceptor(Instant::now()));
                let server = Arc::clone(&room.server);
                room.connections.spawn(async move {
                    let _seat = seat;
                    server.converse(stream, connection, tls).await;
                });
            }
            Err(error) if is_of_one(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                room.table.make_room();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Ends all connections, each after what it is at, those that take longer than `patience` at once.
async fn end(mut room: Room, api: &Arc<PeerApi>, stopping: &watch::Sender<bool>, patience: Duration) {
    stopping.send_replace(true);
    let last = async { while room.connections.join_next().await.is_some() {} };
    // Those that still run are cut off with the set.
    let _ = tokio::time::timeout(patience, last).await;
    room.connections.shutdown().await;
    api.keep_uses();
}

/// Connections and what they are served with.
struct Room {
    server: Arc<Server>,
    table: Table,
    connections: JoinSet<()>,
}

struct Server {
    api: Arc<PeerApi>,
    router: Router,
    http: auto::Builder<TokioExecutor>,
    stopped: watch::Receiver<bool>,
}

impl Server {
    /// One connection to its end.
    async fn converse(&self, stream: TcpStream, connection: Arc<Connection>, tls: Option<TlsAcceptor>) {
        // Answers are written in large pieces: waiting for more of them only delays the last.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a socket keeps Nagle's algorithm");
        }
        let stream = Counted::new(stream, Arc::clone(&connection));
        let talk = async {
            match tls {
                None => self.talk(stream, &connection).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => self.talk(stream, &connection).await,
                    Err(error) => tracing::debug!(client = %connection.address, %error, "no TLS"),
                },
            }
        };
        tokio::select! {
            () = talk => {}
            why = connection.overdue(self.api.limits()) => {
                tracing::debug!(client = %connection.address, why, "a connection is closed");
                self.api.metrics().connections_closed.add(why);
            }
        }
    }

    async fn talk<S>(&self, stream: S, connection: &Arc<Connection>)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    {
        let known = Arc::clone(connection);
        let router = self.router.clone();
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(Arc::clone(&known));
            router.clone().oneshot(request.map(Body::new))
        });
        let mut serving = std::pin::pin!(self.http.serve_connection(TokioIo::new(stream), service));
        let mut stopped = self.stopped.clone();
        let stopped = async { drop(stopped.wait_for(|stopped| *stopped).await) };
        let result = tokio::select! {
            result = &mut serving => result,
            () = stopped => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(client = %connection.address, %error, "a connection ended early");
        }
    }
}

/// As many connections as are allowed, and leave descriptors for the store's own files.
fn seats(allowed: usize) -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let most = descriptors.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
    if most / 4 * 3 < allowed {
        tracing::warn!(
            descriptors = most,
            allowed,
            "fewer connections than allowed: raise the limit of open files"
        );
    }
    allowed.min(most / 4 * 3)
}

/// Whether an error of accept(2) is one connection's, and says nothing of the next.
fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn bind(address: SocketAddr) -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // Connections of a process that has just ended keep no new one away.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn http(limits: &PeerLimits) -> auto::Builder<TokioExecutor> {
    let head_bytes_max = limits.head_bytes_max.max(HEAD_BYTES_MIN);
    let mut http = auto::Builder::new(TokioExecutor::new());
    // Slow heads are the connection's own watch to notice, whatever the protocol.
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(head_bytes_max)
        .half_close(true);
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(head_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY);
    http
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::TokenFile;

    #[test]
    fn a_public_address_needs_tls_and_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Arc::new(TokenFile::open(&folder.path().join("tokens.json")).unwrap());
        let tls = TlsFiles { cert: "c".into(), key: "k".into(), client_ca: None };
        let check = |address: &str, tls: Option<&TlsFiles>, has_tokens: bool, insecure_public| {
            let access = Access { tokens: has_tokens.then(|| Arc::clone(&tokens)), ..Access::open() };
            let address = address.parse().unwrap();
            let listen = Listen { address, tls: tls.cloned(), insecure_public };
            match Serving::check(&listen, &access) {
                Ok(()) => "",
                Err(ListenError::Insecure { lacks, .. }) => lacks,
                Err(error) => panic!("{error}"),
            }
        };
        for local in ["127.0.0.1:0", "127.3.2.1:80", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            assert_eq!(check(local, None, false, false), "");
        }
        for public in ["0.0.0.0:0", "[::]:0", "10.0.0.1:0", "[::ffff:10.0.0.1]:0"] {
            assert_eq!(check(public, None, false, false), "TLS");
            assert_eq!(check(public, None, true, false), "TLS");
            assert_eq!(check(public, Some(&tls), false, false), "file of tokens");
            assert_eq!(check(public, Some(&tls), true, false), "");
            assert_eq!(check(public, None, false, true), "");
        }
    }
}
