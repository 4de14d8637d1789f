//! `GET /openapi.json`: docs/openapi.json, the description of all routes that peers and scripts call.

use axum::response::{IntoResponse, Response};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};

/// The document, in OpenAPI 3.1.
pub(crate) const DOCUMENT: &str = include_str!("../../../docs/openapi.json");

pub(crate) async fn document() -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=60")),
    ];
    (headers, DOCUMENT).into_response()
}
