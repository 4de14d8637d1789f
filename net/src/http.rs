//! The configured HTTP client: whom it trusts, how long it waits, and where it never goes.
//!
//! - TLS by rustls alone, with the system's certificates or with one file of them.
//! - A redirect is followed to the same scheme, host and port, or it is an error: tokens and requests go to whom they
//!   are meant for and nobody else.
//! - This machine is never asked through a proxy; others are where the environment says so.
//! - Nothing is decompressed: what is small on the wire is small in memory.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Client};

use crate::address::Source;
use crate::error::{Error, Result};
use crate::wire::{PROTOCOL, PROTOCOL_HEADER};

/// Redirects followed in one request, at most.
const REDIRECTS_MAX: usize = 5;
/// Longest file of certificates, in bytes.
const CA_LEN_MAX: u64 = 1 << 20;
/// Bytes that a peer may send ahead in one stream of HTTP/2.
const WINDOW_BYTES: u32 = 2 << 20;
/// Idle connections to one peer that are kept.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection, with its TLS.
    pub connect: Duration,
    /// For the head of an answer.
    pub answer: Duration,
    /// For any bytes of a body.
    pub idle: Duration,
    /// Over so much time of waiting, a body has to come at 2,048 bytes a second at least.
    pub patience: Duration,
}

/// Bytes a second below which a body counts as stalled.
pub(crate) const RATE_MIN: u64 = 2048;

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(20),
            idle: Duration::from_secs(15),
            patience: Duration::from_secs(30),
        }
    }
}

/// Makes the process's TLS use ring, unless somebody has chosen already.
pub(crate) fn choose_crypto() {
    // Another choice of the process is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client for one peer.
pub(crate) fn client(source: &Source, timeouts: &Timeouts) -> Result<Client> {
    choose_crypto();
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static(PROTOCOL_HEADER), HeaderValue::from(PROTOCOL));
    let mut builder = Client::builder()
        .default_headers(headers)
        .user_agent(concat!("cairn/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timeouts.connect)
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .tcp_keepalive(Duration::from_secs(30))
        .http2_initial_stream_window_size(WINDOW_BYTES)
        .http2_initial_connection_window_size(2 * WINDOW_BYTES)
        .referer(false)
        .redirect(Policy::custom(judge_redirect));
    if let Some(path) = &source.ca {
        builder = builder.tls_certs_only(certificates(path)?);
    } else if !source.url.is_encrypted() {
        // Spares reading the system's certificates, which nobody asks for here.
        builder = builder.tls_certs_only([]);
    }
    if source.url.is_loopback() {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| Error::Start(error.into()))
}

fn judge_redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let origin = attempt.previous().first().map(reqwest::Url::origin);
    if origin.as_ref() != Some(&attempt.url().origin()) {
        let host = attempt.url().host_str().unwrap_or("nowhere").to_owned();
        return attempt.error(format!("it redirects to another place ({host}), which is not followed"));
    }
    if attempt.previous().len() > REDIRECTS_MAX {
        return attempt.error("it redirects more than 5 times");
    }
    attempt.follow()
}

fn certificates(path: &std::path::Path) -> Result<Vec<Certificate>> {
    let refuse = |reason: String| Error::Invalid {
        what: "file of certificates",
        given: path.display().to_string(),
        reason,
    };
    let pem = crate::files::read(path, CA_LEN_MAX)?.ok_or_else(|| refuse("it is not there".to_owned()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| refuse(crate::error::chain(&error)))?;
    if found.is_empty() {
        return Err(refuse("there is no certificate in it (PEM)".to_owned()));
    }
    Ok(found)
}
