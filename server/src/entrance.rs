//! What every request passes: a name in the log, then, by the door that leads to its route, the limits and the token.
//!
//! From outside to inside: id, log and counts ([`enter`]); then [`pass`], which refuses while the server stops, asks for
//! the token, counts requests by client and, where bodies are long, transfers; then the route.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use cairn_net::wire::{PROTOCOL, PROTOCOL_HEADER, REQUEST_ID_HEADER};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode, Version};
use tracing::Instrument;

use crate::auth::Guest;
use crate::listen::connection::Connection;
use crate::metrics::Metrics;
use crate::peer_api::PeerApi;
use crate::peer_error::{LimitHit, PeerRefusal};
use crate::peer_limits::clients::{ClientKey, Follows, Place, Requests, Transfers};
use crate::tokens::Scope;
use crate::visit::{OfClient, Outgoing, RequestId, Transfer, Visit};

/// Longest id of a request that a client may give it.
const REQUEST_ID_MAX: usize = 64;
/// Longest path that is logged.
const LOGGED_PATH_MAX: usize = 256;
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What stands before a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Short answers for whoever may read.
    Reads,
    /// Long answers for whoever may read: each is a transfer.
    Transfers,
    /// Answers for whoever may read that may go on for ever.
    Follows,
    /// Short bodies of whoever may publish.
    Publishes,
    /// The same, as often as he likes: what is appended together costs little.
    Appends,
    /// Long bodies of whoever may publish: each is a transfer.
    Uploads,
}

impl Door {
    fn scope(self) -> Scope {
        match self {
            Self::Reads | Self::Transfers | Self::Follows => Scope::Read,
            Self::Publishes | Self::Appends | Self::Uploads => Scope::Publish,
        }
    }

    /// How long an answer may take to begin.
    fn time_max(self, api: &PeerApi) -> Option<Duration> {
        (self != Self::Uploads).then_some(api.limits().request_time_max)
    }
}

/// Puts a door before all routes of a router.
pub fn behind(door: Door, router: Router, api: &Arc<PeerApi>) -> Router {
    router.route_layer(from_fn_with_state((Arc::clone(api), door), pass))
}

/// Around everything: the request's name, its log line and its counts.
pub(crate) async fn enter(State(api): State<Arc<PeerApi>>, request: Request, next: Next) -> Response {
    let visit = begin(&api, &request);
    let id = visit.id.clone();
    let span = tracing::info_span!("request", id = id.as_str());
    let head_bytes = head_bytes(&request);
    let mut response = if head_bytes > api.limits().head_bytes_max {
        api.metrics().limits_hit.add("head bytes");
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response()
    } else {
        let mut request = request;
        request.extensions_mut().insert(id.clone());
        next.run(request).instrument(span).await
    };
    if let Some(LimitHit(limit)) = response.extensions().get() {
        api.metrics().limits_hit.add(limit);
    }
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static(PROTOCOL_HEADER), HeaderValue::from(PROTOCOL));
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        headers.insert(HeaderName::from_static(REQUEST_ID_HEADER), value);
    }
    finish(visit, response)
}

fn begin(api: &Arc<PeerApi>, request: &Request) -> Visit {
    let connection = request.extensions().get::<Arc<Connection>>();
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let path = request.uri().path();
    Visit {
        api: Arc::clone(api),
        id: request_id(request.headers()),
        method: method_text(request.method()),
        path: path[..path.floor_char_boundary(LOGGED_PATH_MAX)].to_owned(),
        route: Arc::from(route.unwrap_or("none")),
        address: connection.map(|connection| connection.address.to_string()).unwrap_or_default(),
        started: Instant::now(),
        step: connection.map(|connection| connection.begin(request.version() == Version::HTTP_2)),
        _running: api.run(),
        status: None,
        token: None,
        transfer: None,
        sent: 0,
        is_whole: false,
    }
}

fn finish(mut visit: Visit, response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    visit.status = Some(parts.status);
    let guest = parts.extensions.remove::<Guest>();
    visit.token = guest.as_ref().and_then(|guest| guest.grant().id.clone());
    visit.transfer = parts.extensions.remove::<Arc<Transfer>>();
    let outgoing = Outgoing::new(body, visit, guest.map(|guest| guest.client));
    Response::from_parts(parts, Body::new(outgoing))
}

/// The client's own name for the request, or a new one.
fn request_id(headers: &HeaderMap) -> RequestId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static BEGAN: std::sync::LazyLock<u64> = std::sync::LazyLock::new(cairn_store::time::now_ms);
    let given = headers.get(REQUEST_ID_HEADER).and_then(|value| value.to_str().ok());
    let is_fine = |text: &&str| {
        !text.is_empty()
            && text.len() <= REQUEST_ID_MAX
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    RequestId(match given.filter(is_fine) {
        Some(text) => Arc::from(text),
        None => Arc::from(format!("{:x}-{:x}", *BEGAN, NEXT.fetch_add(1, Ordering::Relaxed))),
    })
}

/// One of a few, for the metrics.
fn method_text(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        _ => "other",
    }
}

fn head_bytes(request: &Request) -> usize {
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    request.uri().path_and_query().map_or(0, |path| path.as_str().len()) + headers.sum::<usize>()
}

/// Before each route: may this client do this now?
async fn pass(State((api, door)): State<(Arc<PeerApi>, Door)>, mut request: Request, next: Next) -> Response {
    let (guest, _request, transfer) = match admit(&api, door, &request) {
        Ok(admitted) => admitted,
        Err(refusal) => {
            if matches!(refusal, PeerRefusal::WrongToken) {
                Metrics::add(&api.metrics().refused_tokens, 1);
            }
            return refusal.into_response();
        }
    };
    request.extensions_mut().insert(guest.clone());
    let answer = next.run(request);
    let mut response = match door.time_max(&api) {
        None => answer.await,
        Some(time) => match tokio::time::timeout(time, answer).await {
            Ok(response) => response,
            Err(_) => PeerRefusal::Late(time).into_response(),
        },
    };
    response.extensions_mut().insert(guest);
    if let Some(transfer) = transfer {
        response.extensions_mut().insert(Arc::new(transfer));
    }
    response
}

type Admitted = (Guest, Place<Requests>, Option<Transfer>);

fn admit(api: &Arc<PeerApi>, door: Door, request: &Request) -> Result<Admitted, PeerRefusal> {
    if api.is_draining() {
        return Err(PeerRefusal::Draining);
    }
    let (limits, now) = (api.limits(), Instant::now());
    if api.open() > limits.requests {
        return Err(PeerRefusal::Full { limit: "requests" });
    }
    let grant = api.access().identify(request.headers());
    let key = match grant.as_ref().ok().and_then(|grant| grant.id.clone()) {
        Some(id) => ClientKey::Token(id),
        None => address_key(api, request),
    };
    let client = api.clients().get(key, now);
    let may_publish = grant.as_ref().is_ok_and(|grant| grant.scope >= Scope::Publish);
    if door != Door::Appends || !may_publish {
        // Who has no good token pays for his guesses.
        let full = |wait| PeerRefusal::ClientFull { limit: "requests a second", wait: Some(wait) };
        client.ask(now).map_err(full)?;
    }
    let guest = Guest::new(grant?, api.access().anonymous_reads, Arc::clone(&client));
    if door.scope() > Scope::Read && !api.writes() {
        return Err(PeerRefusal::ReadOnly);
    }
    guest.scope(door.scope())?;
    let requests_max = limits.requests_per_client;
    let place = Place::take(Requests(Arc::clone(&client)), requests_max)
        .ok_or(PeerRefusal::ClientFull { limit: "requests at a time", wait: None })?;
    let transfer = match door {
        Door::Reads | Door::Publishes | Door::Appends => None,
        Door::Transfers | Door::Uploads => {
            let of_client = Place::take(Transfers(client), limits.transfers_per_client)
                .ok_or(PeerRefusal::ClientFull { limit: "transfers of a client", wait: None })?;
            let of_all = Place::take(api.transfers(), limits.transfers)
                .ok_or(PeerRefusal::Full { limit: "transfers" })?;
            Metrics::add(&api.metrics().transfers, 1);
            Some(Transfer { _of_all: of_all, of_client: OfClient::Transfer(of_client) })
        }
        Door::Follows => {
            let of_client = Place::take(Follows(client), limits.streams_per_client)
                .ok_or(PeerRefusal::ClientFull { limit: "streams of a client", wait: None })?;
            let of_all =
                Place::take(api.follows(), limits.streams).ok_or(PeerRefusal::Full { limit: "streams" })?;
            Some(Transfer { _of_all: of_all, of_client: OfClient::Stream(of_client) })
        }
    };
    Ok((guest, place, transfer))
}

/// The address that a request came from, as a proxy says that is known.
fn address_key(api: &PeerApi, request: &Request) -> ClientKey {
    let connection = request.extensions().get::<Arc<Connection>>();
    let Some(address) = connection.map(|connection| connection.address.ip().to_canonical()) else {
        return ClientKey::of(std::net::Ipv4Addr::UNSPECIFIED.into());
    };
    let forwarded = || {
        let value = request.headers().get_all(FORWARDED_FOR).iter().next_back()?;
        // The last one is what the proxy itself saw.
        value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
    };
    let is_proxy = api.proxies().contains(&address);
    ClientKey::of(if is_proxy { forwarded().unwrap_or(address) } else { address })
}
