//! `GET /v1/delta/{have}/{want}`: everything of an artifact that another lacks, metadata first, as one stream.
//!
//! It depends on the two ids alone, and so a cache may keep it for ever, unless something of it is not here.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use cairn_net::wire::{Head, STREAM_TYPE};
use cairn_store::{ArtifactId, ChunkId, Error, Store};
use hyper::{HeaderMap, Method, Uri};

use super::objects::{absent, is_named, parse_id};
use super::query;
use crate::auth::Guest;
use crate::cached::{Cached, Keep};
use crate::enumerations::{Comparison, Enumeration, Part};
use crate::outflow::Outflow;
use crate::peer_api::PeerApi;
use crate::peer_error::PeerRefusal;
use crate::tokens::Grant;

/// What stands for an artifact where nothing is held.
const NONE: &str = "none";

pub(crate) async fn delta(
    State(api): State<Arc<PeerApi>>,
    Extension(guest): Extension<Guest>,
    Path((have, want)): Path<(String, String)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, PeerRefusal> {
    let have: Option<ArtifactId> = if have == NONE { None } else { Some(parse_id(&have)?) };
    let want: ArtifactId = parse_id(&want)?;
    let part = query(&uri, "part")?;
    let parts = match part.as_deref() {
        None => &[Part::Objects, Part::Chunks][..],
        Some("objects") => &[Part::Objects],
        Some("chunks") => &[Part::Chunks],
        Some(_) => return Err(PeerRefusal::NotUnderstood("part is objects or chunks".to_owned())),
    };
    let have_text = have.map_or(NONE.to_owned(), |have| have.to_string());
    let tag = format!("{have_text}-{want}-{}", part.as_deref().unwrap_or("all"));
    let (store, grant) = (api.store().clone(), guest.grant().clone());
    api.work.run(move || check_known(&store, &grant, have, want)).await??;
    let mut cached = Cached { guest: &guest, tag, keep: Keep::ForEver, content_type: STREAM_TYPE };
    if let Some(response) = cached.not_modified(&headers) {
        return Ok(response);
    }
    // Who asks for objects alone wants to know what the chunks will come to.
    let counted = if parts == [Part::Objects] { &[Part::Objects, Part::Chunks][..] } else { parts };
    let mut lists = Vec::with_capacity(counted.len());
    for &part in counted {
        let comparison = Comparison { have, want, part };
        let counts = &api.metrics().enumerations;
        lists.push((part, api.enumerations.get(comparison, api.store(), &api.work, counts).await?));
    }
    let is_here = lists.iter().filter(|(part, _)| parts.contains(part)).all(|(_, list)| list.is_here);
    if !is_here {
        cached.keep = Keep::Never;
    }
    if method == Method::HEAD {
        return Ok(cached.answer(Body::empty()));
    }
    let head = head(&lists);
    let sent = lists.into_iter().filter(|(part, _)| parts.contains(part));
    let wanted = sent.map(|(_, list)| list.ids.clone()).collect();
    let flow = Outflow { head: Some(head), wanted, is_immutable: is_here, held: None };
    Ok(cached.answer(flow.into_body(&api)))
}

fn head(lists: &[(Part, Arc<Enumeration>)]) -> Head {
    let mut head = Head::default();
    for (part, list) in lists {
        let (count, bytes) = match part {
            Part::Objects => (&mut head.objects, &mut head.object_bytes),
            Part::Chunks => (&mut head.chunks, &mut head.plain_bytes),
        };
        *count += list.ids.len() as u64;
        *bytes += list.plain_bytes;
        head.stored_bytes += list.stored_bytes;
    }
    head
}

/// Whether both artifacts are here; the answer names which is not.
fn check_known(
    store: &Store,
    grant: &Grant,
    have: Option<ArtifactId>,
    want: ArtifactId,
) -> Result<(), PeerRefusal> {
    if !grant.covers_all() && !is_named(store, grant, &want)? {
        return Err(absent("artifact", want.into()));
    }
    for id in [Some(want), have].into_iter().flatten() {
        match store.artifact(&id) {
            Ok(_) => {}
            Err(Error::Absent { .. }) => return Err(absent("artifact", ChunkId::from(id))),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
