//! `GET /v1/packs/{id}`: a whole pack as it lies on disk, or one range of it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Extension;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Path, State};
use axum::response::Response;
use cairn_net::wire::BYTES_TYPE;
use cairn_store::{Error, PackFile, PackId};
use hyper::body::{Frame, SizeHint};
use hyper::header::{ACCEPT_RANGES, CONTENT_RANGE, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};

use super::objects::parse_id;
use super::range::{self, Part};
use crate::auth::Guest;
use crate::cached::{Cached, Keep};
use crate::peer_api::PeerApi;
use crate::peer_error::{Chain, PeerRefusal};
use crate::work::Started;

/// Bytes that are read at a time.
const PIECE_BYTES: u64 = 256 << 10;

pub(crate) async fn pack(
    State(api): State<Arc<PeerApi>>,
    Extension(guest): Extension<Guest>,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, PeerRefusal> {
    if !guest.grant().covers_all() {
        return Err(PeerRefusal::Name("whole packs, which hold bytes of every name".to_owned()));
    }
    let id: PackId = parse_id(&id)?;
    let store = api.store().clone();
    let file = api.work.run(move || store.pack_file(&id)).await?.map_err(|error| match error {
        Error::Absent { .. } => PeerRefusal::Absent { what: format!("pack {id}"), ids: Vec::new() },
        error => error.into(),
    })?;
    let len = file.len();
    let cached = Cached { guest: &guest, tag: id.to_string(), keep: Keep::ForEver, content_type: BYTES_TYPE };
    let (bytes, status) = match range::part(&headers, &cached.etag(), len, method == Method::GET) {
        Part::Whole => (0..len, StatusCode::OK),
        Part::Bytes(bytes) => (bytes, StatusCode::PARTIAL_CONTENT),
        Part::NotModified => return Ok(cached.unchanged()),
        Part::Unsatisfiable => return Err(PeerRefusal::Range { len }),
        Part::Failed => return Err(PeerRefusal::Changed),
    };
    let range =
        HeaderValue::from_str(&format!("bytes {}-{}/{len}", bytes.start, bytes.end.saturating_sub(1)));
    let body = Pieces { api: Arc::clone(&api), file: Arc::new(file), left: bytes, reading: VecDeque::new() };
    let mut response = cached.answer(Body::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let (StatusCode::PARTIAL_CONTENT, Ok(range)) = (status, range) {
        headers.insert(CONTENT_RANGE, range);
    }
    Ok(response)
}

/// A range of a pack as a body: one piece is read while the one before is on its way.
struct Pieces {
    api: Arc<PeerApi>,
    file: Arc<PackFile>,
    /// What is not being read yet.
    left: std::ops::Range<u64>,
    reading: VecDeque<Reading>,
}

struct Reading {
    len: u64,
    bytes: Started<Result<Bytes, Error>>,
}

impl Pieces {
    fn begin(&mut self) {
        let len = PIECE_BYTES.min(self.left.end - self.left.start);
        if len == 0 {
            return;
        }
        let (file, at) = (Arc::clone(&self.file), self.left.start);
        self.left.start += len;
        let read = move || {
            // Bounded by the piece.
            let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
            file.read_exact_at(&mut bytes, at).map(|()| Bytes::from(bytes))
        };
        self.reading.push_back(Reading { len, bytes: self.api.work.start(read) });
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if this.reading.is_empty() {
            this.begin();
        }
        let Some(first) = this.reading.front_mut() else { return Poll::Ready(None) };
        let read = ready!(Pin::new(&mut first.bytes).poll(context));
        this.reading.pop_front();
        let bytes = read.and_then(|bytes| Ok(bytes?)).map_err(|refusal| {
            tracing::error!(error = %Chain(&refusal), "a pack cannot be read");
            io::Error::other(refusal.to_string())
        })?;
        if this.api.has_room_ahead(PIECE_BYTES) {
            this.begin();
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.reading.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let reading: u64 = self.reading.iter().map(|reading| reading.len).sum();
        SizeHint::with_exact(self.left.end - self.left.start + reading)
    }
}
