//! The API for peers and scripts: what its routes share, and the router of all of them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post, put};
use cairn_store::{ArtifactId, Store, Streams, Writer};
use hyper::{Method, Uri};
use tokio::sync::{Notify, Semaphore};

use crate::auth::Access;
use crate::deltas::{DeltaServing, Deltas};
use crate::entrance::{self, Door, behind};
use crate::enumerations::Enumerations;
use crate::incoming::BodyMemory;
use crate::metrics::Metrics;
use crate::peer_error::PeerRefusal;
use crate::peer_limits::PeerLimits;
use crate::peer_limits::clients::Clients;
use crate::promises::{Promises, ToldOf};
use crate::routes::snapshots::KnownSnapshots;
use crate::routes::{
    delta, figures, objects, openapi, packs, publish, ready, refs, snapshots, streams, upload,
};
use crate::work::Work;

/// Requests that append events at a time; more wait.
const APPENDS_MAX: usize = 64;

/// What is served, and to whom.
pub struct PeerOptions {
    /// The version of the program.
    pub version: &'static str,
    /// Who may do what.
    pub access: Access,
    /// How much of it.
    pub limits: PeerLimits,
    /// Proxies whose `X-Forwarded-For` says who asks.
    pub proxies: Vec<IpAddr>,
    /// How deltas are served.
    pub deltas: DeltaServing,
    /// The streams of the store, where it has its writer.
    pub streams: Option<Arc<Streams>>,
}

/// What the routes for peers share.
pub struct PeerApi {
    store: Store,
    /// None where the store is only read.
    writer: Option<Writer>,
    options: PeerOptions,
    clients: Clients,
    metrics: Metrics,
    pub(crate) work: Work,
    pub(crate) enumerations: Enumerations,
    pub(crate) deltas: Arc<Deltas>,
    pub(crate) bodies: BodyMemory,
    transfers: Arc<AtomicUsize>,
    uploads: Arc<AtomicUsize>,
    promises: Promises,
    told: ToldOf,
    pub(crate) snapshots: KnownSnapshots,
    /// Appends wait for the disk together; many of them cost it what one does.
    pub(crate) appending: Work,
    /// Memory of long events on their way to clients.
    pub(crate) long_events: Arc<Semaphore>,
    follows: Arc<AtomicUsize>,
    /// Woken when streams are to end.
    ending: Notify,
    is_ending: AtomicBool,
    /// Requests whose answers have not left.
    open: AtomicUsize,
    /// Woken when there is none.
    idle: Notify,
    is_draining: AtomicBool,
    started: Instant,
}

impl PeerApi {
    /// Serves a store that is only read.
    #[must_use]
    pub fn reading(store: Store, options: PeerOptions) -> Arc<Self> {
        Self::new(&store, None, options)
    }

    /// Serves a store, and takes what is published.
    #[must_use]
    pub fn writing(writer: Writer, options: PeerOptions) -> Arc<Self> {
        let store = Store::clone(&writer);
        Self::new(&store, Some(writer), options)
    }

    fn new(store: &Store, writer: Option<Writer>, options: PeerOptions) -> Arc<Self> {
        Arc::new(Self {
            // Who asks here is told what is here: two servers that asked each other would never end.
            store: store.local(),
            writer,
            clients: Clients::new(&options.limits),
            enumerations: Enumerations::default(),
            deltas: Arc::new(Deltas::new(store.local(), options.deltas.clone())),
            bodies: BodyMemory::new(options.limits.bodies_bytes_max),
            long_events: Arc::new(Semaphore::new(options.limits.answers_bytes_max / 1024)),
            options,
            metrics: Metrics::default(),
            work: Work::new(),
            transfers: Arc::default(),
            uploads: Arc::default(),
            promises: Promises::default(),
            told: ToldOf::default(),
            snapshots: KnownSnapshots::default(),
            appending: Work::with_places(APPENDS_MAX),
            follows: Arc::default(),
            ending: Notify::new(),
            is_ending: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            idle: Notify::new(),
            is_draining: AtomicBool::new(false),
            started: Instant::now(),
        })
    }

    /// The store that is served.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Its writer, where it is written.
    #[must_use]
    pub fn writer(&self) -> Option<&Writer> {
        self.writer.as_ref()
    }

    /// What is found here, or stored, from now on stays for a while: somebody is publishing.
    pub(crate) fn promise(&self) {
        if let Some(writer) = &self.writer {
            self.promises.renew(writer);
        }
    }

    /// An artifact of which somebody was just told stays for a while.
    pub(crate) fn told_of(&self, artifact: ArtifactId) {
        if let Some(writer) = &self.writer {
            self.told.renew(writer, artifact);
        }
    }

    /// The streams of the store.
    pub(crate) fn streams(&self) -> Option<&Arc<Streams>> {
        self.options.streams.as_ref()
    }

    /// Ends the streams that are followed, in order: who follows goes on elsewhere, or here later.
    pub fn end_streams(&self) {
        self.is_ending.store(true, Ordering::Release);
        self.ending.notify_waiters();
    }

    /// Waits until streams are to end.
    pub(crate) async fn streams_end(&self) {
        let mut ending = std::pin::pin!(self.ending.notified());
        // Before the flag is looked at, so that it is not missed.
        ending.as_mut().enable();
        if !self.is_ending() {
            ending.await;
        }
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }

    /// The count of streams that are followed.
    pub(crate) fn follows(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.follows)
    }

    /// What peers may take.
    #[must_use]
    pub fn limits(&self) -> &PeerLimits {
        &self.options.limits
    }

    /// From now on new requests are refused, and this server is not ready. Those that run go on, but for streams that are
    /// followed: these end.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
        self.end_streams();
    }

    /// Requests whose answers have not left.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Waits until no request is being answered.
    pub async fn idle(&self) {
        let mut idle = std::pin::pin!(self.idle.notified());
        loop {
            // Before the count is looked at, so that no end is missed.
            idle.as_mut().enable();
            if self.open() == 0 {
                return;
            }
            idle.as_mut().await;
            idle.set(self.idle.notified());
        }
    }

    pub(crate) fn run(self: &Arc<Self>) -> Running {
        self.open.fetch_add(1, Ordering::AcqRel);
        Running(Arc::clone(self))
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    pub(crate) fn writes(&self) -> bool {
        self.writer.is_some()
    }

    pub(crate) fn version(&self) -> &'static str {
        self.options.version
    }

    pub(crate) fn access(&self) -> &Access {
        &self.options.access
    }

    pub(crate) fn proxies(&self) -> &[IpAddr] {
        &self.options.proxies
    }

    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The count of transfers that run.
    pub(crate) fn transfers(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.transfers)
    }

    /// The count of uploads that run.
    pub(crate) fn uploads(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.uploads)
    }

    /// Whether every transfer may have so many bytes ready while as many are on their way.
    pub(crate) fn has_room_ahead(&self, bytes: u64) -> bool {
        let transfers = self.transfers.load(Ordering::Relaxed) as u64;
        2 * transfers * bytes <= self.limits().answers_bytes_max as u64
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Has it written when tokens were used last.
    pub(crate) fn keep_uses(&self) {
        let Some(tokens) = self.options.access.tokens.clone().filter(|tokens| tokens.has_uses()) else {
            return;
        };
        let keep = move || {
            if let Err(error) = tokens.keep_uses() {
                tracing::warn!(%error, "when tokens were last used is not kept");
            }
        };
        // It is one small file; nobody waits for it.
        drop(tokio::task::spawn_blocking(keep));
    }
}

/// A request that is being answered.
pub(crate) struct Running(Arc<PeerApi>);

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

/// The router of all that peers and scripts ask for. `more` are routes of others, each behind a [`Door`] by [`behind`].
pub fn peer_router(api: Arc<PeerApi>, more: Router) -> Router {
    let open = Router::new()
        .route("/healthz", get(ready::healthz))
        .route("/readyz", get(ready::readyz))
        .route("/openapi.json", get(openapi::document));
    let reads = Router::new()
        .route("/v1/peer", get(ready::peer))
        .route("/v1/refs", get(refs::all))
        .route("/v1/refs/{name}", get(refs::of_name))
        .route("/v1/refs/{name}/{tag}", get(refs::one))
        .route("/v1/artifacts/{id}", get(objects::artifact))
        .route("/v1/have", post(objects::have))
        .route("/v1/streams", get(streams::all))
        .route("/v1/snapshots", get(snapshots::all))
        .route("/v1/snapshots/{name}", get(snapshots::of_name))
        .route("/v1/snapshots/{name}/{round}", get(snapshots::one))
        .route("/metrics", get(figures::metrics));
    let transfers = Router::new()
        .route("/v1/chunks/{id}", get(objects::chunk))
        .route("/v1/chunks", post(objects::chunks))
        .route("/v1/delta/{have}/{want}", get(delta::delta))
        .route("/v1/packs/{id}", get(packs::pack));
    let follows = Router::new().route("/v1/streams/{name}", get(streams::follow));
    let appends = Router::new().route("/v1/streams/{name}/events", post(streams::append));
    let publishes = Router::new().route("/v1/refs/{name}/{tag}", put(publish::publish));
    let uploads = Router::new().route("/v1/upload", post(upload::upload));
    let with = |router: Router<Arc<PeerApi>>| router.with_state(Arc::clone(&api));
    Router::new()
        .merge(with(open))
        .merge(behind(Door::Reads, with(reads), &api))
        .merge(behind(Door::Transfers, with(transfers), &api))
        .merge(behind(Door::Follows, with(follows), &api))
        .merge(behind(Door::Publishes, with(publishes), &api))
        .merge(behind(Door::Appends, with(appends), &api))
        .merge(behind(Door::Uploads, with(uploads), &api))
        .merge(more)
        .fallback(|uri: Uri| async move { PeerRefusal::NoRoute(path_of(&uri)) })
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            PeerRefusal::WrongMethod { method: method.to_string(), path: path_of(&uri) }
        })
        .layer(from_fn_with_state(api, entrance::enter))
}

/// Enough of a path to be recognised.
fn path_of(uri: &Uri) -> String {
    uri.path().chars().take(200).collect()
}
