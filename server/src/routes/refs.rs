//! `GET /v1/refs`, `GET /v1/refs/{name}`: what is published; `GET /v1/refs/{name}/{version or channel}`: what one name
//! leads to, as the statement that travels. `PUT /v1/refs/{name}/{version}` is in `publish`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::Response;
use cairn_net::wire::{HexId, RefList, RemoteRef};
use cairn_store::{Channel, Error, Name, RefKey, View};
use hyper::HeaderMap;

use crate::auth::Guest;
use crate::cached::{Cached, Keep};
use crate::peer_api::PeerApi;
use crate::peer_error::PeerRefusal;
use crate::tokens::Grant;

/// All refs.
pub(crate) async fn all(
    State(api): State<Arc<PeerApi>>,
    Extension(guest): Extension<Guest>,
    headers: HeaderMap,
) -> Result<Response, PeerRefusal> {
    list(&api, &guest, None, &headers).await
}

/// Those of one name.
pub(crate) async fn of_name(
    State(api): State<Arc<PeerApi>>,
    Extension(guest): Extension<Guest>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, PeerRefusal> {
    let name: Name = name.parse().map_err(PeerRefusal::from)?;
    guest.name(name.as_str())?;
    list(&api, &guest, Some(name), &headers).await
}

async fn list(
    api: &Arc<PeerApi>,
    guest: &Guest,
    name: Option<Name>,
    headers: &HeaderMap,
) -> Result<Response, PeerRefusal> {
    let (store, grant) = (api.store().clone(), guest.grant().clone());
    let text = api
        .work
        .run(move || {
            let view = store.view()?;
            if let Some(name) = name.as_ref().filter(|name| view.refs_of(name).next().is_none()) {
                return Err(Error::Absent { what: name.to_string() });
            }
            // Names and numbers always have a JSON form.
            Ok(serde_json::to_vec(&listed(&view, &grant, name.as_ref())).unwrap_or_default())
        })
        .await??;
    Ok(brief(guest, text.into(), headers))
}

/// An answer that may change, with the hash of its bytes for a tag.
pub(crate) fn brief(guest: &Guest, text: Bytes, headers: &HeaderMap) -> Response {
    let tag = blake3::hash(&text).to_hex()[..32].to_owned();
    let cached = Cached { guest, tag, keep: Keep::Briefly, content_type: "application/json" };
    cached.not_modified(headers).unwrap_or_else(|| cached.answer(Body::from(text)))
}

fn listed(view: &View, grant: &Grant, name: Option<&Name>) -> RefList {
    let mut channels: BTreeMap<RefKey, Vec<Channel>> = BTreeMap::new();
    for (key, version) in view.channels.iter() {
        let (name, platform) = (key.name.clone(), key.platform.clone());
        let named = RefKey { name, version: version.clone(), platform };
        channels.entry(named).or_default().push(key.channel.clone());
    }
    let is_listed =
        |key: &RefKey| name.is_none_or(|name| key.name == *name) && grant.covers(key.name.as_str());
    let refs = view.refs.iter().filter(|(key, _)| is_listed(key)).map(|(key, record)| RemoteRef {
        name: key.name.clone(),
        version: key.version.clone(),
        platform: key.platform.clone(),
        artifact: HexId(record.artifact),
        files: record.files,
        bytes: record.bytes,
        chunks: record.chunks,
        channels: channels.remove(key).unwrap_or_default(),
    });
    RefList { refs: refs.collect() }
}
