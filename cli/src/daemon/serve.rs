//! The daemon's side for other machines: an address that peers connect to.
//!
//! It is opened before the daemon is ready, so that an address that is taken is an error of the command line, and before a
//! daemon that is taken over lets anything go. A successor gets the listening socket itself: whoever connects at that
//! moment waits in its queue, and nobody is refused.

use std::net::SocketAddr;
use std::num::NonZero;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use cairn_server::binaries::{Binaries, BinariesOptions, BinariesStatus, StoreHold};
use cairn_server::{
    Access, Listen, PeerApi, PeerLimits, PeerOptions, Serving, Stop, TlsFiles, TokenFile, peer_router,
};
use cairn_store::{Streams, Writer};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Daemon;
use super::settings::Settings;
use crate::commands::serve::{LimitOptions, ServeOptions};
use crate::commands::token::TOKENS;

/// Who changes names for peers, as the journal records it.
const WHO: &str = "peer";
/// The same for programs of the watched folder.
const WHO_SHELVES: &str = "binaries";
/// Where checksums of that folder's files are kept, in the store.
const SUMS: &str = "cache/binaries.json";

/// An address that is listened on, where nobody is answered yet.
pub(crate) struct Opened {
    serving: Serving,
    access: Access,
    options: ServeOptions,
    tokens: PathBuf,
}

/// An address where peers are answered.
pub(crate) struct Served {
    serving: Arc<Serving>,
    api: Arc<PeerApi>,
    binaries: Arc<Binaries>,
    tokens: PathBuf,
    is_tls: bool,
    anonymous_reads: bool,
    /// Guards the end, which comes once.
    ending: Mutex<Option<Ending>>,
}

struct Ending {
    stop: oneshot::Sender<Stop>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Opened {
    /// Opens the address, or goes on with a socket that another daemon listened on, if that is at this address.
    pub(crate) fn new(
        store: &Path,
        address: SocketAddr,
        options: &ServeOptions,
        inherited: Option<OwnedFd>,
    ) -> anyhow::Result<Self> {
        let tokens = options.token_file.clone().unwrap_or_else(|| store.join(TOKENS));
        let access = access(&tokens, address, options)?;
        let tls = options.tls_cert.clone().zip(options.tls_key.clone());
        let tls = tls.map(|(cert, key)| TlsFiles { cert, key, client_ca: options.client_ca.clone() });
        let listen = Listen { address, tls, insecure_public: options.insecure_public };
        let serving = match inherited.filter(|socket| is_at(socket, address)) {
            Some(socket) => Serving::inherit(socket, &listen, &access)?,
            None => Serving::open(&listen, &access)?,
        };
        Ok(Self { serving, access, options: options.clone(), tokens })
    }

    /// Where, with the port that the system chose.
    pub(crate) fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// Answers from now on.
    ///
    /// # Errors
    /// Where the folder of binaries cannot be watched.
    pub(crate) fn begin(self, writer: &Writer, streams: &Arc<Streams>) -> anyhow::Result<Served> {
        let Self { serving, access, options, tokens } = self;
        let (is_tls, anonymous_reads) = (options.tls_cert.is_some(), access.anonymous_reads);
        let peer = PeerOptions {
            version: env!("CARGO_PKG_VERSION"),
            access,
            limits: limits(&options.limits),
            proxies: options.proxy,
            deltas: options.deltas.serving(),
            streams: Some(Arc::clone(streams)),
        };
        let api = PeerApi::writing(writer.signed(WHO.to_owned()), peer);
        let folder = BinariesOptions { dir: options.binaries_dir, sums: Some(writer.path().join(SUMS)) };
        let binaries = Binaries::start(folder, Some(writer.signed(WHO_SHELVES.to_owned())))
            .context("cannot watch the folder of binaries")?;
        let router = peer_router(Arc::clone(&api), binaries.router(&api));
        let serving = Arc::new(serving);
        let (stop, stopped) = oneshot::channel();
        let (listening, shared) = (Arc::clone(&serving), Arc::clone(&api));
        let task = tokio::spawn(async move {
            // It ends at once if nobody is left who could say how.
            let stopped = async { stopped.await.unwrap_or(Stop::Drain(Duration::ZERO)) };
            listening.serve(&shared, router, stopped).await
        });
        let ending = Mutex::new(Some(Ending { stop, task }));
        Ok(Served { serving, api, binaries, tokens, is_tls, anonymous_reads, ending })
    }
}

impl Served {
    /// Where peers connect, by address.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.serving.address())
    }

    /// Whether it speaks TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Whether everybody may read.
    pub(crate) fn anonymous_reads(&self) -> bool {
        self.anonymous_reads
    }

    /// The file of those who are let in.
    pub(crate) fn tokens(&self) -> &Path {
        &self.tokens
    }

    /// Requests that are being answered.
    pub(crate) fn requests(&self) -> usize {
        self.api.open()
    }

    /// How it stands with the folder of binaries.
    pub(crate) fn binaries(&self) -> BinariesStatus {
        self.binaries.status()
    }

    /// Adds nothing from the folder of binaries to the store while what this returns lives.
    pub(crate) fn hold_binaries(&self) -> StoreHold<'_> {
        self.binaries.hold_store()
    }

    /// The listening socket, for a daemon that takes over.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.serving.socket()
    }

    /// Refuses what is new, and waits until what runs has ended: no longer than `grace`, and a moment.
    pub(crate) async fn drain(&self, grace: Duration) {
        self.end(Stop::Drain(grace)).await;
    }

    /// Leaves new connections to another process that has the socket too, and waits for those of this one.
    pub(crate) async fn leave(&self, grace: Duration) {
        self.end(Stop::Leave(grace)).await;
    }

    async fn end(&self, how: Stop) {
        let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Ending { stop, task }) = ending else { return };
        // A process that was taken over only ends.
        let is_over = matches!(how, Stop::Drain(_));
        let binaries = Arc::clone(&self.binaries);
        let stopped = is_over.then(|| tokio::task::spawn_blocking(move || binaries.stop()));
        // It may have ended by itself.
        let _ = stop.send(how);
        match task.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "peers were not served"),
            Err(error) => tracing::error!(%error, "serving peers broke off"),
        }
        if let Some(stopped) = stopped {
            // A thread that panicked has said so.
            let _ = stopped.await;
        }
    }
}

/// Opens the address for peers, if there is to be one; settings say from then on which port it has.
pub(super) fn open_peers(
    path: &Path,
    settings: &mut Settings,
    inherited: Vec<OwnedFd>,
) -> anyhow::Result<Option<Opened>> {
    let Some(address) = settings.serve.address(false, None) else { return Ok(None) };
    let opened = Opened::new(path, address, &settings.serve, inherited.into_iter().next())?;
    settings.serve.listen = Some(opened.address().into());
    Ok(Some(opened))
}

/// Answers peers no more, after what they have asked for.
pub(super) async fn drain_peers(daemon: &Daemon, grace: Duration) {
    if let Some(served) = daemon.served() {
        tracing::info!(requests = served.requests(), "leaves peers");
        served.drain(grace).await;
    }
}

/// Leaves new peers to a successor, and answers what was asked for.
pub(super) async fn leave_peers(daemon: &Daemon, patience: Duration) {
    if let Some(served) = daemon.served() {
        served.leave(patience).await;
    }
}

/// Who may do what. Where only this machine connects, and where that was asked for, everybody reads; a file of tokens
/// that is named says that nobody does without one.
fn access(tokens: &Path, address: SocketAddr, options: &ServeOptions) -> anyhow::Result<Access> {
    let file = TokenFile::open(tokens)?;
    let is_open = address.ip().to_canonical().is_loopback() || options.insecure_public;
    let anonymous_reads = is_open && options.token_file.is_none();
    // One without tokens lets nobody in, which nobody means.
    let has_tokens = anonymous_reads || !file.list()?.is_empty();
    Ok(Access { tokens: has_tokens.then(|| Arc::new(file)), anonymous_reads })
}

/// Whether a socket listens at an address.
fn is_at(socket: &OwnedFd, address: SocketAddr) -> bool {
    let there = rustix::net::getsockname(socket).ok().and_then(|there| SocketAddr::try_from(there).ok());
    there == Some(address)
}

fn limits(given: &LimitOptions) -> PeerLimits {
    let usual = PeerLimits::default();
    let count = |given: Option<NonZero<usize>>, usual: usize| given.map_or(usual, NonZero::get);
    let rate = given.rate.map_or(usual.rate_per_client, |rate| rate.get().into());
    PeerLimits {
        connections: count(given.connections, usual.connections),
        requests: count(given.requests, usual.requests),
        requests_per_client: count(given.requests_client, usual.requests_per_client),
        rate_per_client: rate,
        // Some seconds' worth may come at once.
        burst_per_client: given.rate.map_or(usual.burst_per_client, |rate| rate.get().saturating_mul(5)),
        transfers: count(given.transfers, usual.transfers),
        transfers_per_client: count(given.transfers_client, usual.transfers_per_client),
        uploads: count(given.uploads, usual.uploads),
        bandwidth: given.bandwidth,
        bandwidth_per_client: given.bandwidth_client,
        head_bytes_max: given.head_max.map_or(usual.head_bytes_max, in_memory),
        upload_bytes_max: given.upload_max.unwrap_or(usual.upload_bytes_max),
        head_time_max: given.head_time.unwrap_or(usual.head_time_max),
        idle_time_max: given.idle_time.unwrap_or(usual.idle_time_max),
        request_time_max: given.request_time.unwrap_or(usual.request_time_max),
        stall_time_max: given.stall_time.unwrap_or(usual.stall_time_max),
        ..usual
    }
}

fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
