//! `GET /healthz`, `GET /readyz`: whether it runs, and whether it takes requests; `GET /v1/peer`: who answers.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cairn_net::wire::{PROTOCOL, PeerAnswer};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderValue};

use crate::auth::Guest;
use crate::error::json;
use crate::peer_api::PeerApi;
use crate::peer_error::PeerRefusal;

const NO_STORE: (hyper::header::HeaderName, HeaderValue) =
    (CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// It answers: that is all there is to it.
pub(crate) async fn healthz() -> Response {
    ([NO_STORE], "ok\n").into_response()
}

/// Whether names can be read, and the server does not stop.
pub(crate) async fn readyz(State(api): State<Arc<PeerApi>>) -> Result<Response, PeerRefusal> {
    if api.is_draining() {
        return Err(PeerRefusal::Draining);
    }
    let store = api.store().clone();
    api.work.run(move || store.view()).await??;
    Ok(([NO_STORE], "ready\n").into_response())
}

/// Who answers.
pub(crate) async fn peer(State(api): State<Arc<PeerApi>>, Extension(guest): Extension<Guest>) -> Response {
    let answer =
        PeerAnswer { name: "cairn".to_owned(), version: api.version().to_owned(), protocol: PROTOCOL };
    let (name, value) = guest.changing();
    let mut response = json(StatusCode::OK, &answer);
    response.headers_mut().insert(name, value);
    response
}
