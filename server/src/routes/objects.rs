//! `GET /v1/artifacts/{id}`, `GET /v1/chunks/{id}`: single objects and chunks, by their hash; `POST /v1/chunks`,
//! `POST /v1/have`: many at once.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use cairn_net::wire::{BITMAP_TYPE, BYTES_TYPE, FRAME_TYPE, STREAM_TYPE, bitmap_to_bytes, ids_from_bytes};
use cairn_store::{ArtifactId, ChunkId, Error, Piece, Store};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Uri};
use tokio::sync::OwnedSemaphorePermit;

use super::query;
use crate::auth::Guest;
use crate::cached::{Cached, Keep};
use crate::incoming;
use crate::outflow::Outflow;
use crate::peer_api::PeerApi;
use crate::peer_error::PeerRefusal;
use crate::tokens::Scope;

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// An artifact's canonical bytes.
pub(crate) async fn artifact(
    State(api): State<Arc<PeerApi>>,
    Extension(guest): Extension<Guest>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, PeerRefusal> {
    let id: ArtifactId = parse_id(&id)?;
    let cached = Cached { guest: &guest, tag: id.to_string(), keep: Keep::ForEver, content_type: BYTES_TYPE };
    let (store, grant) = (api.store().clone(), guest.grant().clone());
    if !grant.covers_all() {
        let allowed = api.work.run(move || is_named(&store, &grant, &id)).await??;
        if !allowed {
            return Err(absent("artifact", id.into()));
        }
    }
    if let Some(response) = cached.not_modified(&headers) {
        return Ok(response);
    }
    let store = api.store().clone();
    let bytes = api.work.run(move || plain(&store, &id.into())).await?;
    Ok(cached.answer(Body::from(bytes.map_err(|error| name_absent(error, "artifact", id.into()))?)))
}

/// A chunk's plain bytes, or with `?frame=1` one frame that holds it.
pub(crate) async fn chunk(
    State(api): State<Arc<PeerApi>>,
    Extension(guest): Extension<Guest>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, PeerRefusal> {
    let id: ChunkId = parse_id(&id)?;
    let is_frame = match query(&uri, "frame")?.as_deref() {
        None | Some("0") => false,
        Some("1") => true,
        Some(other) => return Err(PeerRefusal::NotUnderstood(format!("frame={other} is neither 0 nor 1"))),
    };
    let (tag, content_type) =
        if is_frame { (format!("{id}-frame"), FRAME_TYPE) } else { (id.to_string(), BYTES_TYPE) };
    let cached = Cached { guest: &guest, tag, keep: Keep::ForEver, content_type };
    if let Some(response) = cached.not_modified(&headers) {
        return Ok(response);
    }
    let store = api.store().clone();
    let read = move || if is_frame { frame(&store, id) } else { plain(&store, &id) };
    let bytes = api.work.run(read).await?.map_err(|error| name_absent(error, "chunk", id))?;
    Ok(cached.answer(Body::from(bytes)))
}

/// Frames of many chunks.
pub(crate) async fn chunks(
    State(api): State<Arc<PeerApi>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, PeerRefusal> {
    let (ids, memory) = ids(&api, &headers, body).await?;
    let flow = Outflow { head: None, wanted: vec![ids.into()], is_immutable: false, held: Some(memory) };
    let headers = [(CONTENT_TYPE, HeaderValue::from_static(STREAM_TYPE)), (CACHE_CONTROL, NO_STORE)];
    Ok((headers, flow.into_body(&api)).into_response())
}

/// Which of many chunks are here.
pub(crate) async fn have(
    State(api): State<Arc<PeerApi>>,
    Extension(guest): Extension<Guest>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, PeerRefusal> {
    let (ids, _memory) = ids(&api, &headers, body).await?;
    if guest.scope(Scope::Publish).is_ok() {
        api.promise();
    }
    let store = api.store().clone();
    let bits = api.work.run(move || store.have(&ids)).await??;
    let headers = [(CONTENT_TYPE, HeaderValue::from_static(BITMAP_TYPE)), (CACHE_CONTROL, NO_STORE)];
    Ok((headers, bitmap_to_bytes(&bits)).into_response())
}

/// The ids in a body, and the memory that they take.
async fn ids(
    api: &PeerApi,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Vec<ChunkId>, OwnedSemaphorePermit), PeerRefusal> {
    let (bytes, memory) = incoming::collect(api, headers, body, api.limits().ids_bytes_max).await?;
    let ids = ids_from_bytes(&bytes).map_err(|error| PeerRefusal::NotUnderstood(error.to_string()))?;
    Ok((ids, memory))
}

/// An id in a path: 64 lower-case hexadecimal digits, so that each thing has one address.
pub(crate) fn parse_id<T: std::str::FromStr>(text: &str) -> Result<T, PeerRefusal> {
    let not_one = || PeerRefusal::NotUnderstood("an id is 64 lower-case hexadecimal digits".to_owned());
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(not_one());
    }
    text.parse().map_err(|_| not_one())
}

/// Whether a name that a token covers leads to an artifact.
pub(crate) fn is_named(
    store: &Store,
    grant: &crate::tokens::Grant,
    id: &ArtifactId,
) -> Result<bool, PeerRefusal> {
    let view = store.view()?;
    Ok(grant.covers_all() || view.refs_to(id).any(|key| grant.covers(key.name.as_str())))
}

pub(crate) fn absent(kind: &str, id: ChunkId) -> PeerRefusal {
    PeerRefusal::Absent { what: format!("{kind} {id}"), ids: vec![id] }
}

fn name_absent(error: Error, kind: &str, id: ChunkId) -> PeerRefusal {
    match error {
        Error::Absent { .. } => absent(kind, id),
        error => error.into(),
    }
}

fn plain(store: &Store, id: &ChunkId) -> Result<Bytes, Error> {
    store.chunk(id).map(|chunk| Bytes::copy_from_slice(&chunk))
}

/// One frame with the chunk.
fn frame(store: &Store, id: ChunkId) -> Result<Bytes, Error> {
    if let Some(Piece::Frame(_, bytes)) = store.sending(vec![id]).next().transpose()? {
        return Ok(Bytes::from(bytes));
    }
    Err(Error::Absent { what: format!("chunk {id}") })
}
