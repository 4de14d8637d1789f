//! The demo's second act: another store pulls both releases from the first, over HTTP on this machine, and it is told how
//! little the second one takes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use cairn_net::{DeltaUse, PeerUrl, Source};
use cairn_server::{
    Access, DeltaServing, Listen, PeerApi, PeerLimits, PeerOptions, Serving, Stop, peer_router,
};
use cairn_store::{Writer, WriterOptions};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::scratch::Scratch;
use super::{NAME, is_told, say, spec};
use crate::app::App;
use crate::exchange::{self, Extent, Wanted};

/// Bytes that went over the wire for each release.
pub(super) struct Moved {
    pub(super) first: u64,
    pub(super) second: u64,
}

/// The first store, served until this is dropped.
struct Server {
    url: PeerUrl,
    runtime: Runtime,
    stop: Option<oneshot::Sender<Stop>>,
    task: Option<JoinHandle<std::io::Result<()>>>,
}

impl Server {
    fn start(app: &App) -> anyhow::Result<Self> {
        // What is published carries the store's name, which it draws once.
        app.writer(&app.meter("waiting"))?.origin()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.context("cannot start the runtime")?;
        let listen = Listen { address: ([127, 0, 0, 1], 0).into(), tls: None, insecure_public: false };
        let serving = Serving::open(&listen, &Access::open())?;
        let url = format!("http://{}", serving.address()).parse()?;
        let options = PeerOptions {
            version: env!("CARGO_PKG_VERSION"),
            access: Access::open(),
            limits: PeerLimits::default(),
            proxies: Vec::new(),
            deltas: DeltaServing::default(),
            streams: None,
        };
        let api = PeerApi::reading(app.store()?, options);
        let router = peer_router(Arc::clone(&api), Default::default());
        let (stop, stopped) = oneshot::channel();
        let task = runtime.spawn(async move {
            let stopped = async { stopped.await.unwrap_or(Stop::Drain(Duration::ZERO)) };
            serving.serve(&api, router, stopped).await
        });
        Ok(Self { url, runtime, stop: Some(stop), task: Some(task) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.stop.take().map(|stop| stop.send(Stop::Drain(Duration::ZERO)));
        if let Some(task) = self.task.take() {
            let _ = self.runtime.block_on(task);
        }
    }
}

/// Serves the demo's store, and pulls both releases into another.
pub(super) fn pull(app: &mut App, scratch: &Scratch) -> anyhow::Result<Moved> {
    let server = Server::start(app)?;
    let lines = ["", "Now the store is served, and another one on this machine pulls from it.", ""];
    say(app, &lines)?;
    say(app, &[&format!("$ cairn serve --listen {}", server.url.as_str().trim_start_matches("http://"))])?;
    let options = WriterOptions {
        wait: Duration::ZERO,
        command: "cairn demo".to_owned(),
        who: crate::app::who(rustix::process::geteuid().as_raw()),
    };
    let writer = Writer::open(&scratch.path().join("second"), &options, &())?;
    let first = pull_one(app, &writer, &server.url, "1")?;
    scratch.stop_if_asked()?;
    let second = pull_one(app, &writer, &server.url, "2")?;
    Ok(Moved { first, second })
}

fn pull_one(app: &mut App, writer: &Writer, url: &PeerUrl, version: &str) -> anyhow::Result<u64> {
    say(app, &["", &format!("$ cairn pull {NAME}@{version} --from {url} --store second")])?;
    let spec = spec(version)?;
    let sources = vec![Source::open(url.clone())];
    let wanted = Wanted {
        spec: &spec,
        platform: None,
        sources,
        extent: Extent::Full,
        replace: false,
        deltas: DeltaUse::default(),
    };
    let planned = exchange::plan(app, writer, &wanted)?;
    if is_told(app) {
        exchange::tell_plan(app, &planned, false, None)?;
    }
    let pulled = exchange::pull(app, writer, planned)?;
    if is_told(app) {
        exchange::tell_pulled(app, &pulled)?;
    }
    Ok(pulled.report.wire_bytes)
}
