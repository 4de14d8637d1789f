//! `GET /v1/streams`: the streams that there are; `GET /v1/streams/{name}`: what happens, followed; `POST
//! /v1/streams/{name}/events`: what happened, appended.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use cairn_net::wire::{AppendAnswer, EVENTS_TYPE, EventDecoder, EventItem, StreamAnswer, StreamList};
use cairn_store::{Error, Event, EventHash, EventLog, Name, Span, StateHash, Streams};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, StatusCode, Uri};

use super::query;
use crate::auth::Guest;
use crate::error::json;
use crate::follow::Follow;
use crate::incoming;
use crate::metrics::Metrics;
use crate::peer_api::PeerApi;
use crate::peer_error::PeerRefusal;

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The streams that there are.
pub(crate) async fn all(
    State(api): State<Arc<PeerApi>>,
    Extension(guest): Extension<Guest>,
) -> Result<Response, PeerRefusal> {
    let mut list = StreamList::default();
    if let Some(streams) = api.streams() {
        let (streams, grant) = (Arc::clone(streams), guest.grant().clone());
        let look = move || -> Result<Vec<StreamAnswer>, Error> {
            let names = streams.list()?.into_iter().filter(|name| grant.covers(name.as_str()));
            let logs = names.map(|name| streams.get(&name));
            logs.filter_map(Result::transpose).map(|log| Ok(answer(&*log?))).collect()
        };
        list.streams = api.work.run(look).await??;
    }
    Ok(fresh(StatusCode::OK, &list))
}

/// The events of one from a round on, or what is kept of it.
pub(crate) async fn follow(
    State(api): State<Arc<PeerApi>>,
    Extension(guest): Extension<Guest>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Response, PeerRefusal> {
    let name: Name = name.parse()?;
    guest.name(name.as_str())?;
    let (is_span, heads) = (flag(&uri, "span", false)?, flag(&uri, "heads", false)?);
    let goes_on = flag(&uri, "follow", true)?;
    let from = query(&uri, "from_round")?.map(|text| round(&text)).transpose()?;
    let absent = || PeerRefusal::Absent { what: format!("stream {name}"), ids: Vec::new() };
    let streams = Arc::clone(api.streams().ok_or_else(absent)?);
    let asked = name.clone();
    let log = api.work.run(move || streams.get(&asked)).await??.ok_or_else(absent)?;
    if is_span {
        return Ok(fresh(StatusCode::OK, &answer(&log)));
    }
    let (has_begun, span) = (log.has_begun(), log.span());
    if has_begun && from.is_some_and(|from| from < span.first) {
        return Err(PeerRefusal::Gone { span });
    }
    let from = from.or(has_begun.then_some(span.next));
    let follow = Follow { log, from, heads, upto: (!goes_on).then_some(span.next) };
    let headers = [(CONTENT_TYPE, HeaderValue::from_static(EVENTS_TYPE)), (CACHE_CONTROL, NO_STORE)];
    Ok((headers, follow.into_body(&api)).into_response())
}

/// Events of consecutive rounds. A stream that is not there is begun.
pub(crate) async fn append(
    State(api): State<Arc<PeerApi>>,
    Extension(guest): Extension<Guest>,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, PeerRefusal> {
    let name: Name = name.parse()?;
    guest.name(name.as_str())?;
    let streams = Arc::clone(api.streams().ok_or(PeerRefusal::ReadOnly)?);
    let (bytes, memory) = incoming::collect(&api, &headers, body, api.limits().events_bytes_max).await?;
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let events = if content_type.split(';').next().map(str::trim) == Some(EVENTS_TYPE) {
        decode(&bytes)?
    } else {
        vec![opaque(&uri, bytes)?]
    };
    let append = move || {
        let _memory = memory;
        put(&streams, &name, &events)
    };
    let appended = api.appending.run(append).await??;
    Metrics::add(&api.metrics().events_appended, appended.appended);
    let status = if appended.appended > 0 { StatusCode::CREATED } else { StatusCode::OK };
    Ok(fresh(status, &appended))
}

fn put(streams: &Streams, name: &Name, events: &[Event]) -> Result<AppendAnswer, PeerRefusal> {
    let log = streams.make(name)?;
    match log.append(events) {
        Ok(done) => Ok(AppendAnswer { appended: done.appended, next_round: done.next }),
        Err(error @ (Error::RoundGap { .. } | Error::Conflict { .. })) => {
            Err(PeerRefusal::Rounds { detail: error.to_string(), span: log.span() })
        }
        Err(Error::Unavailable { .. }) => Err(PeerRefusal::Draining),
        Err(error) => Err(error.into()),
    }
}

/// The events of a body of items.
fn decode(mut bytes: &[u8]) -> Result<Vec<Event>, PeerRefusal> {
    let not_understood = |detail: String| PeerRefusal::NotUnderstood(detail);
    let (mut decoder, mut events) = (EventDecoder::new(), Vec::new());
    while let Some(item) = decoder.next(&mut bytes).map_err(|error| not_understood(error.to_string()))? {
        match item {
            EventItem::Event(event) => events.push(event),
            EventItem::End { .. } => {}
            EventItem::Failure(text) => return Err(PeerRefusal::CutOff(text)),
            EventItem::Span { .. } | EventItem::Head(_) => {
                return Err(not_understood("what is appended are events and an end".to_owned()));
            }
        }
    }
    decoder.finish().map_err(|error| PeerRefusal::CutOff(error.to_string()))?;
    // The decoder looks at what is behind the end only when it is asked again.
    if !bytes.is_empty() {
        return Err(not_understood("there are bytes after the end".to_owned()));
    }
    Ok(events)
}

/// One event that is all of a body.
fn opaque(uri: &Uri, payload: Vec<u8>) -> Result<Event, PeerRefusal> {
    let missing = || PeerRefusal::NotUnderstood("`round` is missing".to_owned());
    let round = round(&query(uri, "round")?.ok_or_else(missing)?)?;
    let state_hash = query(uri, "state_hash")?.map(|text| text.parse::<StateHash>()).transpose()?;
    let said = query(uri, "hash")?.map(|text| text.parse::<EventHash>()).transpose()?;
    let hash = EventHash::of(&payload);
    if let Some(said) = said.filter(|said| *said != hash) {
        return Err(PeerRefusal::NotUnderstood(format!("the body hashes to {hash}, and `hash` says {said}")));
    }
    Ok(Event { round, state_hash, payload })
}

fn round(text: &str) -> Result<u64, PeerRefusal> {
    // Each round has one text.
    let is_one = |round: &u64| round.to_string() == text;
    let round = text.parse().ok().filter(is_one);
    round.ok_or_else(|| {
        PeerRefusal::NotUnderstood("a round is a decimal number without leading zeros".to_owned())
    })
}

fn flag(uri: &Uri, name: &str, usual: bool) -> Result<bool, PeerRefusal> {
    match query(uri, name)?.as_deref() {
        None => Ok(usual),
        Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(_) => Err(PeerRefusal::NotUnderstood(format!("{name} is 0 or 1"))),
    }
}

fn answer(log: &EventLog) -> StreamAnswer {
    let Span { first, next, bytes } = log.span();
    StreamAnswer { name: log.name().clone(), first_round: first, next_round: next, bytes }
}

/// An answer that nobody keeps.
fn fresh(status: StatusCode, value: &impl serde::Serialize) -> Response {
    let mut response = json(status, value);
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}
