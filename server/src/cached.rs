//! What makes answers fit for caches: entity tags, and answers to whoever has it already.

use axum::body::Body;
use axum::response::Response;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use hyper::{HeaderMap, StatusCode};

use crate::auth::Guest;

/// How long an answer may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// For ever: what is named by its hash.
    ForEver,
    /// For a moment, and then asked again with its tag.
    Briefly,
    /// Not at all.
    Never,
}

/// An answer's head.
pub(crate) struct Cached<'a> {
    pub(crate) guest: &'a Guest,
    /// Without quotes; one of the characters that tags may have.
    pub(crate) tag: String,
    pub(crate) keep: Keep,
    pub(crate) content_type: &'static str,
}

impl Cached<'_> {
    /// The tag as it travels.
    pub(crate) fn etag(&self) -> String {
        format!("\"{}\"", self.tag)
    }

    /// 304, if whoever asks has it.
    pub(crate) fn not_modified(&self, headers: &HeaderMap) -> Option<Response> {
        let is_it = |tag: &str| {
            let tag = tag.trim();
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.etag()
        };
        let mut given = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        given.any(|tags| tags.split(',').any(is_it)).then(|| self.unchanged())
    }

    /// 304.
    pub(crate) fn unchanged(&self) -> Response {
        let mut response = self.answer(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().remove(CONTENT_TYPE);
        response
    }

    /// 200 with a body.
    pub(crate) fn answer(&self, body: Body) -> Response {
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        let (name, value) = match self.keep {
            Keep::ForEver => self.guest.immutable(),
            Keep::Briefly => self.guest.changing(),
            Keep::Never => (hyper::header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        };
        headers.insert(name, value);
        if self.keep != Keep::Never
            && let Ok(tag) = HeaderValue::from_str(&self.etag())
        {
            headers.insert(ETAG, tag);
        }
        response
    }
}
