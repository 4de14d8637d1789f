//! `GET /v1/delta/{have}/{want}`: everything of an artifact that another lacks, metadata first, as one stream.
//!
//! It depends on the two ids alone, and so a cache may keep it for ever, unless something of it is not here. Who offers
//! codecs gets its chunks told in terms of those that `have` has, as soon as they are, and plainly where they are not: that
//! answer no cache keeps. Who would rather ask again says so (`Prefer: respond-async, wait=10`, RFC 7240), and gets 202, or
//! 404 where there will be none; or is shown a way through versions between (`via=1`), if one is kept that does not cost much.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use cairn_net::wire::{CODECS, Head, STREAM_TYPE, Step};
use cairn_store::{ArtifactId, ChunkId, Error, RefKey, Store};
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use hyper::{HeaderMap, Method, Uri};

use super::objects::{absent, is_named, parse_id};
use super::query;
use crate::auth::Guest;
use crate::cached::{Cached, Keep};
use crate::deltas::{BODY_AT, Pair, Standing};
use crate::enumerations::{Comparison, Enumeration, Part};
use crate::outflow::Outflow;
use crate::peer_api::PeerApi;
use crate::peer_error::PeerRefusal;
use crate::pieces::{Pieces, ReadAt};
use crate::tokens::Grant;

/// A way is shown that costs at most one part in so many of what goes without it.
const WAY_PARTS_MIN: u64 = 2;
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
    let codecs = query(&uri, "codecs")?;
    if let (Some(codecs), Some(have), &[part]) = (&codecs, have, parts)
        && offers_all(codecs)
    {
        let pair = Pair { have, want, part };
        let takes_ways = query(&uri, "via")?.as_deref() == Some("1");
        if let Some(response) = told(&api, &guest, pair, takes_ways, &method, &headers).await? {
            return Ok(response);
        }
    }
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
    // The same request has another answer once there is one.
    if !is_here || codecs.is_some() {
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

/// Whether a client understands all that there is: a delta uses whatever is smallest.
fn offers_all(codecs: &str) -> bool {
    CODECS.split(',').all(|codec| codecs.split(',').any(|offered| offered.trim() == codec))
}

/// What lacks, told in terms of what the client has; nothing where it is not told.
async fn told(
    api: &Arc<PeerApi>,
    guest: &Guest,
    pair: Pair,
    takes_ways: bool,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Option<Response>, PeerRefusal> {
    let (store, grant) = (api.store().clone(), guest.grant().clone());
    let patience = Patience::of(headers);
    let deltas = (takes_ways && patience.asks_again).then(|| Arc::clone(&api.deltas));
    let check = move || {
        let view = store.view()?;
        let is_covered = |key: &RefKey| grant.covers_all() || grant.covers(key.name.as_str());
        let is_shown = |id: &ArtifactId| view.refs_to(id).any(is_covered);
        for id in [pair.have, pair.want] {
            if !is_shown(&id) {
                return Err(absent("artifact", id.into()));
            }
        }
        Ok(deltas.and_then(|deltas| deltas.way(pair, &is_shown)).unwrap_or_default())
    };
    let via = if_cheap(api, pair, api.work.run(check).await??).await?;
    // Whoever is shown a way need not wait.
    let wait =
        if via.is_empty() { patience.wait.min(api.limits().request_time_max / 2) } else { Duration::ZERO };
    let counts = &api.metrics().deltas;
    let (file, len) = match api.deltas.get(pair, wait).await {
        Standing::Ready(file, len) => (file, len),
        Standing::Coming | Standing::Nothing if !via.is_empty() => {
            counts.add("way");
            return Err(PeerRefusal::Coming { via });
        }
        Standing::Coming if patience.asks_again => {
            counts.add("coming");
            return Err(PeerRefusal::Coming { via });
        }
        Standing::Nothing if patience.asks_again => {
            counts.add("none");
            let what = format!("a delta from {} to {}", pair.have.short(), pair.want.short());
            return Err(PeerRefusal::Absent { what, ids: Vec::new() });
        }
        Standing::Coming | Standing::Nothing => {
            counts.add("plain");
            return Ok(None);
        }
    };
    counts.add("told");
    let tag = format!("{}-{}-{:?}-told", pair.have, pair.want, pair.part).to_lowercase();
    let cached = Cached { guest, tag, keep: Keep::ForEver, content_type: STREAM_TYPE };
    if let Some(response) = cached.not_modified(headers) {
        return Ok(Some(response));
    }
    let body = match *method {
        Method::HEAD => Body::empty(),
        _ => Body::new(Pieces::new(api, Arc::new(Told(file)), BODY_AT..BODY_AT + len)),
    };
    let mut response = cached.answer(body);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(len));
    Ok(Some(response))
}

/// A way, if it costs far less than the chunks as they are.
async fn if_cheap(api: &PeerApi, pair: Pair, way: Vec<Step>) -> Result<Vec<Step>, PeerRefusal> {
    if way.is_empty() {
        return Ok(way);
    }
    let comparison = Comparison { have: Some(pair.have), want: pair.want, part: Part::Chunks };
    let counts = &api.metrics().enumerations;
    let plainly = api.enumerations.get(comparison, api.store(), &api.work, counts).await?.stored_bytes;
    let sum = way.iter().fold(0u64, |sum, step| sum.saturating_add(step.bytes));
    Ok(if sum <= plainly / WAY_PARTS_MIN { way } else { Vec::new() })
}

/// A delta's file.
struct Told(Arc<File>);

impl ReadAt for Told {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), PeerRefusal> {
        self.0.read_exact_at(buffer, offset).map_err(|error| PeerRefusal::Failed(error.into()))
    }
}

/// What a client prefers, by RFC 7240.
#[derive(Debug, Default, PartialEq, Eq)]
struct Patience {
    wait: Duration,
    asks_again: bool,
}

impl Patience {
    fn of(headers: &HeaderMap) -> Self {
        let mut patience = Self::default();
        let given = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        for preference in given.flat_map(|value| value.split(',')).map(str::trim) {
            if preference.eq_ignore_ascii_case("respond-async") {
                patience.asks_again = true;
            } else if let Some(seconds) =
                preference.strip_prefix("wait=").and_then(|text| text.trim().parse().ok())
            {
                patience.wait = Duration::from_secs(seconds);
            }
        }
        patience
    }
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
