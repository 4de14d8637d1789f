//! `GET /metrics`: what was counted, and figures of the store, for Prometheus.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cairn_store::io::{Io, Os};
use cairn_store::pack::SEALED;
use cairn_store::scrub::ScrubState;
use cairn_store::{Error, Result, Store};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};

use crate::metrics::Text;
use crate::peer_api::PeerApi;
use crate::peer_error::PeerRefusal;

const TEXT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What of the store is told.
struct Figures {
    refs: usize,
    channels: usize,
    packs: usize,
    pack_bytes: u64,
    entries: usize,
    scrub: ScrubState,
}

pub(crate) async fn metrics(State(api): State<Arc<PeerApi>>) -> std::result::Result<Response, PeerRefusal> {
    let store = api.store().clone();
    let figures = api.work.run(move || look(&store)).await?;
    let mut text = Text::default();
    api.metrics().write(&mut text);
    let (open, transfers) = (api.open() as f64, api.transfers().load(Ordering::Relaxed) as f64);
    text.one("cairn_requests_running", "gauge", "Requests being answered.", open);
    text.one("cairn_transfers_running", "gauge", "Transfers that run.", transfers);
    let follows = api.follows().load(Ordering::Relaxed) as f64;
    text.one("cairn_streams_followed", "gauge", "Streams of events that are followed.", follows);
    text.one("cairn_uptime_seconds", "gauge", "Time since it began.", api.started().elapsed().as_secs_f64());
    let draining = f64::from(u8::from(api.is_draining()));
    text.one("cairn_draining", "gauge", "1 while it stops.", draining);
    text.family("cairn_info", "gauge", "Its version.");
    text.row("cairn_info", &[("version", api.version())], 1.0);
    match figures {
        Ok(Figures { refs, channels, packs, pack_bytes, entries, scrub }) => {
            let damaged = scrub.damage.len() as f64;
            text.one("cairn_scrub_damaged", "gauge", "Damaged places in packs that are not mended.", damaged);
            let lost = scrub.lost() as f64;
            text.one("cairn_scrub_lost_chunks", "gauge", "Chunks that cannot be read for that.", lost);
            text.one(
                "cairn_scrub_read_bytes",
                "gauge",
                "Bytes that this pass has read again.",
                scrub.bytes as f64,
            );
            let ended = scrub.last.map_or(0.0, |last| last.ended_ms as f64 / 1000.0);
            text.one("cairn_scrub_last_end_seconds", "gauge", "When the last whole pass ended.", ended);
            text.one("cairn_store_refs", "gauge", "Refs.", refs as f64);
            text.one("cairn_store_channels", "gauge", "Channels.", channels as f64);
            text.one("cairn_store_packs", "gauge", "Sealed packs.", packs as f64);
            text.one("cairn_store_pack_bytes", "gauge", "Bytes of them.", pack_bytes as f64);
            text.one(
                "cairn_store_index_entries",
                "gauge",
                "Chunks and objects in the index.",
                entries as f64,
            );
        }
        // The other figures are needed most when the store cannot be read.
        Err(error) => tracing::warn!(%error, "no figures of the store"),
    }
    let headers = [(CONTENT_TYPE, TEXT_TYPE), (CACHE_CONTROL, NO_STORE)];
    Ok((headers, text.finish()).into_response())
}

fn look(store: &Store) -> Result<Figures> {
    let view = store.view()?;
    let dir = store.path().join("packs");
    let listed = Os.list(&dir).map_err(|source| Error::Io { action: "list", path: dir, source })?;
    let sealed: Vec<u64> =
        listed.iter().filter(|file| file.name.ends_with(SEALED)).map(|file| file.len).collect();
    Ok(Figures {
        refs: view.refs.len(),
        channels: view.channels.len(),
        packs: sealed.len(),
        pack_bytes: sealed.iter().sum(),
        entries: store.index_summary()?.entries,
        scrub: ScrubState::of(store),
    })
}
