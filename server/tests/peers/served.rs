//! A server of a test's own, and a store behind it.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn_server::{
    Access, DeltaServing, Listen, NewToken, PeerApi, PeerLimits, PeerOptions, Scope, Serving, Stop, TlsFiles,
    TokenFile, peer_router,
};
use cairn_store::{ArtifactId, Store, StreamBounds, Streams, Writer};
use harness::{bytes, scratch::Scratch, stores};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// How a server is to be.
pub(crate) struct Setup {
    pub(crate) limits: PeerLimits,
    pub(crate) access: Access,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) writes: bool,
    /// Whether whoever connects is a proxy that says for whom.
    pub(crate) by_proxy: bool,
    pub(crate) deltas: DeltaServing,
    pub(crate) streams: StreamBounds,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: PeerLimits::default(),
            access: Access::open(),
            tls: None,
            writes: false,
            by_proxy: false,
            deltas: DeltaServing::default(),
            streams: StreamBounds::default(),
        }
    }
}

/// A folder with a store in it.
pub(crate) struct Folder {
    pub(crate) scratch: Scratch,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self { scratch: Scratch::new() }
    }

    pub(crate) fn store_path(&self) -> PathBuf {
        self.scratch.join("store")
    }

    pub(crate) fn writer(&self) -> Writer {
        stores::writer(&self.store_path())
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.store_path()).unwrap()
    }

    pub(crate) fn tokens(&self) -> Arc<TokenFile> {
        Arc::new(TokenFile::open(&self.scratch.join("tokens.json")).unwrap())
    }

    /// Adds a package of one file of so many bytes that do not compress, and a few small ones.
    pub(crate) fn add(&self, name: &str, version: &str, seed: u64, len: usize) -> ArtifactId {
        let tree = self.scratch.folder(&format!("{name}-{version}"));
        fs::write(tree.join("large"), bytes::noise(seed, len)).unwrap();
        fs::write(tree.join("text"), bytes::text(seed, 300_000)).unwrap();
        fs::write(tree.join("same"), bytes::noise(7, 200_000)).unwrap();
        stores::add(&self.writer(), &tree, &stores::options(name, version)).artifact
    }

    /// Serves the store.
    pub(crate) fn serve(&self, mut setup: Setup) -> Served {
        if setup.limits.burst_per_client == PeerLimits::default().burst_per_client {
            // Tests ask again and again until something is so.
            setup.limits.burst_per_client = u32::MAX;
        }
        let writer = setup.writes.then(|| self.writer());
        let streams = writer.as_ref().map(|writer| Streams::open(writer, setup.streams).unwrap());
        let options = PeerOptions {
            version: "1.2.3",
            access: setup.access.clone(),
            limits: setup.limits,
            proxies: setup.by_proxy.then_some([127, 0, 0, 1].into()).into_iter().collect(),
            deltas: setup.deltas,
            streams,
        };
        let api = if let Some(writer) = writer {
            PeerApi::writing(writer, options)
        } else {
            // A store without anything in it is one, too.
            drop(self.writer());
            PeerApi::reading(self.store(), options)
        };
        let address = "127.0.0.1:0".parse().unwrap();
        let listen = Listen { address, tls: setup.tls, insecure_public: false };
        let serving = Serving::open(&listen, &setup.access).unwrap();
        Served::start(api, serving)
    }
}

/// A token's text.
pub(crate) fn token(tokens: &TokenFile, scope: Scope, names: &[&str]) -> String {
    let names = names.iter().map(|glob| glob.parse().unwrap()).collect();
    let new = NewToken { scope, names, expires_ms: None };
    let (_, secret) = tokens.create(new, cairn_store::time::now_ms()).unwrap();
    secret.reveal().to_owned()
}

/// A server that runs. It ends when this is dropped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) api: Arc<PeerApi>,
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<Stop>>,
    ended: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
}

impl Served {
    fn start(api: Arc<PeerApi>, serving: Serving) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (stop, stopped) = oneshot::channel();
        let (address, router) = (serving.address(), peer_router(Arc::clone(&api), axum::Router::new()));
        let served = Arc::clone(&api);
        let stopped = async { stopped.await.unwrap_or(Stop::Drain(Duration::ZERO)) };
        let ended = runtime.spawn(async move { serving.serve(&served, router, stopped).await });
        Self { address, api, runtime: Some(runtime), stop: Some(stop), ended: Some(ended) }
    }

    /// Tells it to stop, with so much time for what runs.
    pub(crate) fn stop(&mut self, grace: Duration) {
        let _ = self.stop.take().expect("it is told once").send(Stop::Drain(grace));
    }

    /// Waits until it has ended.
    pub(crate) fn ended(&mut self) {
        let (runtime, ended) = (self.runtime.as_ref().unwrap(), self.ended.take().unwrap());
        let ended = runtime.block_on(async { tokio::time::timeout(crate::http::PATIENCE, ended).await });
        ended.expect("it ends in time").expect("it does not panic").expect("it served");
    }

    /// A figure of its metrics; 0 where there is no such row.
    pub(crate) fn metric(&self, row: &str) -> f64 {
        let page = crate::http::get(self.address, "/metrics").text();
        let found = page.lines().find_map(|line| line.strip_prefix(row)?.strip_prefix(' '));
        found.map_or(0.0, |value| value.parse().unwrap())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(5));
    }
}
