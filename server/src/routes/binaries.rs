//! `/api/binaries` and `/binaries`: what agents and scripts ask of the watched folder.
//!
//! Records have the fields, and lists the form, that existing clients know: a list is an array, `path` the file's name below
//! `/binaries/`, `uploaded_at` seconds since 1970. Whatever does not exist is 404, a platform or a version that cannot exist
//! too.

use std::ops::Range;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, RawQuery, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    RETRY_AFTER,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::{StatusCode, Uri};
use serde::{Deserialize, Serialize};

use super::range::{self, Part};
use crate::auth::Guest;
use crate::binaries::{Arch, Binaries, Opened, Registered, System, Unavailable};
use crate::error::{Failed, Failure, json};

/// Bytes of a file that are read at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Bytes of a request to verify, at most.
const VERIFY_BYTES_MAX: usize = 16 << 10;
/// In a version's place: the greatest one.
const LATEST: &str = "latest";
/// The SHA-256 of a file that is sent.
const CHECKSUM: HeaderName = HeaderName::from_static("x-checksum-sha256");

/// The routes with short answers.
pub(crate) fn records(binaries: Arc<Binaries>) -> Router {
    Router::new()
        .route("/api/binaries", get(list))
        .route("/api/binaries/status", get(status))
        .route("/api/binaries/{version}/{platform}/{arch}", get(find))
        .route("/api/binaries/{version}/{platform}/{arch}/verify", post(verify))
        .method_not_allowed_fallback(wrong_method)
        .with_state(binaries)
}

/// The route of the files themselves.
pub(crate) fn files(binaries: Arc<Binaries>) -> Router {
    Router::new()
        .route("/binaries/{filename}", get(download))
        .method_not_allowed_fallback(wrong_method)
        .with_state(binaries)
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    Refusal::WrongMethod { method: method.to_string(), path: uri.path().to_owned() }
}

/// Whoever asks, where there is a door that knows; who comes by none may see everything.
#[derive(Clone)]
struct Asker(Option<Guest>);

impl Asker {
    fn covers(&self, program: &str) -> bool {
        self.0.as_ref().is_none_or(|guest| guest.grant().covers(program))
    }

    fn check(&self, program: &str) -> Result<(), Refusal> {
        if self.covers(program) { Ok(()) } else { Err(Refusal::NotCovered(program.to_owned())) }
    }

    /// `Cache-Control` of what may be another thing tomorrow.
    fn changing(&self) -> HeaderValue {
        let is_public = self.0.as_ref().is_none_or(Guest::is_public);
        HeaderValue::from_static(if is_public { "no-cache" } else { "private, no-cache" })
    }

    fn json(&self, body: &impl Serialize) -> Response {
        let mut response = json(StatusCode::OK, body);
        response.headers_mut().insert(CACHE_CONTROL, self.changing());
        response
    }
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get().cloned()))
    }
}

/// A record, as clients see it.
#[derive(Debug, Serialize)]
struct Record<'a> {
    name: &'a str,
    version: &'a str,
    platform: &'static str,
    arch: &'static str,
    checksum: &'a str,
    size_bytes: u64,
    path: &'a str,
    uploaded_at: u64,
}

impl<'a> Record<'a> {
    fn of(binary: &'a Registered) -> Self {
        Self {
            name: &binary.name.program,
            version: binary.name.version.as_str(),
            platform: binary.name.system.name(),
            arch: binary.name.arch.name(),
            checksum: &binary.checksum,
            size_bytes: binary.size(),
            path: &binary.file,
            uploaded_at: binary.uploaded_at(),
        }
    }
}

#[derive(Deserialize)]
struct VerifyRequest {
    checksum: String,
}

#[derive(Serialize)]
struct Verified<'a> {
    valid: bool,
    expected_checksum: &'a str,
}

async fn list(
    State(binaries): State<Arc<Binaries>>,
    asker: Asker,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let name = name_of(query.as_deref())?;
    if let Some(name) = &name {
        asker.check(name)?;
    }
    let mut found = binaries.list(name.as_deref());
    found.retain(|binary| asker.covers(&binary.name.program));
    let records: Vec<_> = found.iter().map(|binary| Record::of(binary)).collect();
    Ok(asker.json(&records))
}

async fn status(State(binaries): State<Arc<Binaries>>, asker: Asker) -> Result<Response, Refusal> {
    // It names all files, and those that fit no program too.
    if asker.0.as_ref().is_some_and(|guest| !guest.grant().covers_all()) {
        return Err(Refusal::NotCovered("the whole folder".to_owned()));
    }
    Ok(asker.json(&binaries.status()))
}

async fn find(
    State(binaries): State<Arc<Binaries>>,
    asker: Asker,
    path: Result<Path<(String, String, String)>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let binary = look_up(&binaries, &asker, path, query.as_deref())?;
    Ok(asker.json(&Record::of(&binary)))
}

async fn verify(
    State(binaries): State<Arc<Binaries>>,
    asker: Asker,
    path: Result<Path<(String, String, String)>, PathRejection>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Refusal> {
    let body = axum::body::to_bytes(body, VERIFY_BYTES_MAX).await.map_err(|_| Refusal::BodyTooLong)?;
    let request: VerifyRequest =
        serde_json::from_slice(&body).map_err(|error| Refusal::Body { detail: error.to_string() })?;
    let binary = look_up(&binaries, &asker, path, query.as_deref())?;
    let valid = request.checksum.eq_ignore_ascii_case(&binary.checksum);
    Ok(asker.json(&Verified { valid, expected_checksum: &binary.checksum }))
}

async fn download(
    State(binaries): State<Arc<Binaries>>,
    asker: Asker,
    path: Result<Path<String>, PathRejection>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Path(file) = path.map_err(|_| Refusal::NotText)?;
    let opened = tokio::task::spawn_blocking(move || binaries.open(&file).map_err(|why| (why, file))).await;
    let opened = opened.map_err(|error| Refusal::Failed(error.to_string()))?;
    let opened = opened.map_err(|(why, file)| match why {
        Unavailable::Unknown => Refusal::NoFile(file),
        Unavailable::Changed => Refusal::Changed(file),
    })?;
    asker.check(&opened.binary.name.program)?;
    let (size, etag) = (opened.binary.size(), format!("\"{}\"", opened.binary.checksum));
    let part = range::part(&headers, &etag, size, method == Method::GET);
    let mut response = Response::new(Body::empty());
    let (status, bytes) = match part {
        Part::Whole => (StatusCode::OK, Some(0..size)),
        Part::Bytes(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
        Part::NotModified => (StatusCode::NOT_MODIFIED, None),
        Part::Failed => return Err(Refusal::NotAsked(opened.binary.file.clone())),
        Part::Unsatisfiable => return Err(Refusal::Unsatisfiable { size }),
    };
    *response.status_mut() = status;
    let mut set = |name, value: String| {
        // Digits, letters and punctuation: always a header's value.
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    };
    set(CHECKSUM, opened.binary.checksum.clone());
    set(ETAG, etag);
    set(ACCEPT_RANGES, "bytes".to_owned());
    if let Some(bytes) = bytes {
        set(CONTENT_TYPE, "application/octet-stream".to_owned());
        set(CONTENT_LENGTH, (bytes.end - bytes.start).to_string());
        if status == StatusCode::PARTIAL_CONTENT {
            set(CONTENT_RANGE, format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1));
        }
        if method == Method::GET {
            *response.body_mut() = send(opened, bytes);
        }
    }
    response.headers_mut().insert(CACHE_CONTROL, asker.changing());
    Ok(response)
}

/// These bytes of a file, read piece by piece as they are taken. One that changes ends the connection.
fn send(opened: Opened, bytes: Range<u64>) -> Body {
    let pieces = futures_util::stream::try_unfold((Arc::new(opened), bytes), |(opened, bytes)| async move {
        if bytes.is_empty() {
            return Ok::<_, std::io::Error>(None);
        }
        let len = usize::try_from(bytes.end - bytes.start).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let (reader, start) = (Arc::clone(&opened), bytes.start);
        let read = tokio::task::spawn_blocking(move || reader.read(start, len)).await;
        let piece = Bytes::from(read.map_err(std::io::Error::other)??);
        Ok(Some((piece, (opened, start + len as u64..bytes.end))))
    });
    Body::from_stream(pieces)
}

/// The binary that a path and a query mean.
fn look_up(
    binaries: &Binaries,
    asker: &Asker,
    path: Result<Path<(String, String, String)>, PathRejection>,
    query: Option<&str>,
) -> Result<Arc<Registered>, Refusal> {
    let Path((version, platform, arch)) = path.map_err(|_| Refusal::NotText)?;
    let asked = name_of(query)?;
    let program = match asked {
        Some(program) => program,
        None => only_program(binaries, asker)?,
    };
    asker.check(&program)?;
    let missing = || Refusal::NoBinary {
        what: format!("{program} {version} for {platform} {arch}"),
        is_starting: !binaries.is_ready(),
    };
    let system = System::asked(&platform).ok_or_else(|| Refusal::NoPlatform(platform.clone()))?;
    let arch_asked = Arch::asked(&arch).ok_or_else(|| Refusal::NoArch(arch.clone()))?;
    let number = match &*version {
        LATEST => None,
        text => Some(text.parse().map_err(|_| missing())?),
    };
    binaries.find(&program, number.as_ref(), system, arch_asked).ok_or_else(missing)
}

fn only_program(binaries: &Binaries, asker: &Asker) -> Result<String, Refusal> {
    let mut programs = binaries.programs();
    programs.retain(|program| asker.covers(program));
    match (programs.pop(), programs.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            programs.push(last);
            Err(Refusal::WhichProgram(programs))
        }
        (None, _) => Err(Refusal::NoBinary {
            what: "binary of any program".to_owned(),
            is_starting: !binaries.is_ready(),
        }),
    }
}

/// `name` of a query.
fn name_of(query: Option<&str>) -> Result<Option<String>, Refusal> {
    let mut names = form_urlencoded::parse(query.unwrap_or("").as_bytes()).filter(|(key, _)| key == "name");
    match (names.next(), names.next()) {
        (Some(_), Some(_)) => Err(Refusal::TwoNames),
        (name, _) => Ok(name.map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty())),
    }
}

/// A request that is not answered with what it asks for.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("there is no {what} here")]
    NoBinary { what: String, is_starting: bool },
    #[error("there is no file {0:?} here")]
    NoFile(String),
    #[error("{0:?} is no platform that is known: linux, darwin and windows are")]
    NoPlatform(String),
    #[error("{0:?} is no architecture that is known: x86_64, aarch64, arm and x86 are")]
    NoArch(String),
    #[error("the path is not text")]
    NotText,
    #[error("binaries of several programs are here: {}", .0.join(", "))]
    WhichProgram(Vec<String>),
    #[error("the token does not cover {0}")]
    NotCovered(String),
    #[error("the query has more than one name")]
    TwoNames,
    #[error("{0} was changed and is not registered again yet")]
    Changed(String),
    #[error("{0} has other bytes than are asked for")]
    NotAsked(String),
    #[error("none of the bytes that are asked for is there: it has {size}")]
    Unsatisfiable { size: u64 },
    #[error("the body is not {{\"checksum\": \"…\"}}: {detail}")]
    Body { detail: String },
    #[error("the body is longer than {VERIFY_BYTES_MAX} bytes, or did not come whole")]
    BodyTooLong,
    #[error("{path} does not take {method}")]
    WrongMethod { method: String, path: String },
    #[error("it cannot be read: {0}")]
    Failed(String),
}

impl Refusal {
    fn judge(&self) -> (StatusCode, &'static str, Option<&'static str>) {
        const LISTED: Option<&str> = Some(
            "GET /api/binaries lists what there is, GET /api/binaries/status what is not registered, and why",
        );
        match self {
            Self::NoBinary { is_starting: true, .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                Some("the folder is being read; ask again in a moment"),
            ),
            Self::NoBinary { .. } | Self::NoFile(_) => (StatusCode::NOT_FOUND, "not_found", LISTED),
            Self::NoPlatform(_) | Self::NoArch(_) => (StatusCode::NOT_FOUND, "not_found", None),
            Self::NotText => (StatusCode::BAD_REQUEST, "usage", None),
            Self::WhichProgram(_) => (StatusCode::BAD_REQUEST, "usage", Some("say which with ?name=")),
            Self::NotCovered(_) => (StatusCode::FORBIDDEN, "refused", None),
            Self::TwoNames | Self::Body { .. } => (StatusCode::BAD_REQUEST, "usage", None),
            Self::Changed(_) => (StatusCode::CONFLICT, "busy", Some("ask again in a moment")),
            Self::NotAsked(_) => (StatusCode::PRECONDITION_FAILED, "conflict", None),
            Self::Unsatisfiable { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "usage", None),
            Self::BodyTooLong => (StatusCode::PAYLOAD_TOO_LARGE, "usage", None),
            Self::WrongMethod { .. } => (StatusCode::METHOD_NOT_ALLOWED, "usage", None),
            Self::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed", None),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, kind, hint) = self.judge();
        let error =
            Failure { kind: kind.to_owned(), message: self.to_string(), hint: hint.map(ToOwned::to_owned) };
        let mut response = json(status, &Failed { error });
        if let Self::Unsatisfiable { size } = self
            && let Ok(value) = HeaderValue::try_from(format!("bytes */{size}"))
        {
            response.headers_mut().insert(CONTENT_RANGE, value);
        }
        if matches!(status, StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
