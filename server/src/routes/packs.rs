//! `GET /v1/packs/{id}`: a whole pack as it lies on disk, or one range of it.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use cairn_net::wire::BYTES_TYPE;
use cairn_store::{Error, PackFile, PackId};
use hyper::header::{ACCEPT_RANGES, CONTENT_RANGE, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};

use super::objects::parse_id;
use super::range::{self, Part};
use crate::auth::Guest;
use crate::cached::{Cached, Keep};
use crate::peer_api::PeerApi;
use crate::peer_error::PeerRefusal;
use crate::pieces::{Pieces, ReadAt};

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
    let body = Pieces::new(&api, Arc::new(file), bytes);
    let mut response = cached.answer(Body::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let (StatusCode::PARTIAL_CONTENT, Ok(range)) = (status, range) {
        headers.insert(CONTENT_RANGE, range);
    }
    Ok(response)
}

impl ReadAt for PackFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), PeerRefusal> {
        Ok(self.read_exact_at(buffer, offset)?)
    }
}
