//! `GET /v1/refs`, `GET /v1/refs/{name}`: what is published; `GET /v1/refs/{name}/{version or channel}`: what one name
//! leads to, as the statement that travels. `PUT /v1/refs/{name}/{version}` is in `publish`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::Response;
use cairn_net::wire::{HexId, RefAnswer, RefList, RemoteRef};
use cairn_store::{Channel, ChannelKey, Error, Name, Platform, RefKey, Spec, View, Writer};
use hyper::{HeaderMap, Uri};

use super::query;
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
    let name: Name = name.parse()?;
    guest.name(name.as_str())?;
    list(&api, &guest, Some(name), &headers).await
}

/// What a version or a channel leads to, as the statements that travel.
pub(crate) async fn one(
    State(api): State<Arc<PeerApi>>,
    Extension(guest): Extension<Guest>,
    Path((name, tag)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, PeerRefusal> {
    let name: Name = name.parse()?;
    guest.name(name.as_str())?;
    let spec: Spec = format!("{name}@{tag}").parse()?;
    let platform: Option<Platform> = query(&uri, "platform")?.map(|text| text.parse()).transpose()?;
    let (store, writer) = (api.store().clone(), api.writer().map(|writer| writer.signed(String::new())));
    let find = move || {
        let view = store.view()?;
        let key = resolve(&view, &spec, platform.as_ref())?;
        if let Some(answer) = answer(&view, &key, &tag) {
            return Ok(answer);
        }
        // A store that has published nothing since it could speak for itself gets a name to do so by.
        writer.as_ref().map(Writer::origin).transpose()?;
        let what =
            format!("a statement about {key}: this store has not been written since it makes any, and");
        answer(&*store.view()?, &key, &tag).ok_or(Error::Absent { what })
    };
    let answer = api.work.run(find).await??;
    // Texts always have a JSON form.
    Ok(brief(&guest, serde_json::to_vec(&answer).unwrap_or_default().into(), &headers))
}

/// The ref for a platform, or the one for any.
fn resolve(view: &View, spec: &Spec, platform: Option<&Platform>) -> Result<RefKey, Error> {
    let absent = || Error::Absent { what: spec.to_string() };
    let found = match view.resolve(spec, platform) {
        Err(error @ Error::Absent { .. }) if platform.is_some() => {
            view.resolve(spec, Some(&Platform::any())).map_err(|_| error)?
        }
        found => found?,
    };
    found.0.ok_or_else(absent)
}

fn answer(view: &View, key: &RefKey, tag: &str) -> Option<RefAnswer> {
    let reference = view.statement_of(key)?;
    let channel = if tag == key.version.as_str() {
        None
    } else {
        let (name, platform) = (key.name.clone(), key.platform.clone());
        let channel = ChannelKey { name, channel: tag.parse().ok()?, platform };
        Some(view.channel_statement_of(&channel)?)
    };
    Some(RefAnswer { reference, channel })
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
