//! One request and its answer, redirects followed. A token stays with the server that it is for.

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, HeaderName, IF_NONE_MATCH, IF_RANGE, LOCATION,
    RANGE,
};
use reqwest::{Method, RequestBuilder, Response};
use url::Url;

use super::fault::{self, Fault};
use super::token::Token;
use super::{Http, address};
use crate::error::Error;

/// Redirects followed in one request, at most.
const REDIRECTS_MAX: usize = 10;
/// The version of GitHub's API that is spoken.
const API_VERSION: &str = "2022-11-28";
/// What answers of GitHub's API are.
const API_ACCEPT: &str = "application/vnd.github+json";

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Get {
    pub(crate) url: Url,
    pub(crate) token: Option<Token>,
    /// The variable that a token would be in.
    pub(crate) variable: Option<String>,
    /// Whether it is a question to GitHub's API.
    pub(crate) is_api: bool,
    /// Whether the bytes of an asset are meant where else its description would come.
    pub(crate) is_asset: bool,
    /// Whether nobody on the way may answer with what it kept.
    pub(crate) is_fresh: bool,
    /// Only what comes behind these bytes.
    pub(crate) range: Option<Range>,
    /// Only if it is not this.
    pub(crate) etag: Option<String>,
}

/// The rest of a file.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    /// So many bytes are here.
    pub(crate) from: u64,
    /// Of what they are: an `ETag` or a `Last-Modified`.
    pub(crate) validator: Option<String>,
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    /// Where it came from in the end.
    pub(crate) url: Url,
    /// Whether that is another server than the one that was asked.
    pub(crate) is_elsewhere: bool,
}

impl Get {
    /// A plain one.
    pub(crate) fn of(url: Url) -> Self {
        Self {
            url,
            token: None,
            variable: None,
            is_api: false,
            is_asset: false,
            is_fresh: false,
            range: None,
            etag: None,
        }
    }
}

impl Answer {
    /// A header that is text.
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The length of the body, if it is said.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH)?.trim().parse().ok()
    }
}

impl Http {
    /// Asks once. What is no success is judged by [`fault::judge`].
    pub(super) async fn exchange(&self, get: &Get, method: Method) -> Result<Answer, Fault> {
        let mut url = get.url.clone();
        // Once it has left its server, a token stays away, also if it is led back.
        let mut is_elsewhere = false;
        for _ in 0..=REDIRECTS_MAX {
            let request = self.client(&url)?.request(method.clone(), url.clone());
            let request = dress(request, get, &url, is_elsewhere);
            let sent = tokio::time::timeout(self.options.timeouts.answer, request.send()).await;
            let response = match sent {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(fault::transport(&error)),
                Err(_) => {
                    let seconds = self.options.timeouts.answer.as_secs_f64();
                    return Err(Fault::Passing(format!("it did not answer for {seconds:.1} s")));
                }
            };
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer { response, url, is_elsewhere });
            }
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let Some(location) = location else {
                return Err(refuse(&url, "it redirects without saying where to"));
            };
            let next = address::follow(&url, location).map_err(|reason| refuse(&url, &reason))?;
            is_elsewhere |= next.origin() != get.url.origin();
            url = next;
        }
        Err(refuse(&get.url, "it redirects more than 10 times"))
    }
}

/// Puts the headers on.
fn dress(request: RequestBuilder, get: &Get, url: &Url, is_elsewhere: bool) -> RequestBuilder {
    let mut request = request;
    if get.is_api && !is_elsewhere {
        request = request.header("x-github-api-version", API_VERSION);
    }
    let accept = match (get.is_asset, get.is_api) {
        (true, _) => "application/octet-stream",
        (false, true) => API_ACCEPT,
        (false, false) => "*/*",
    };
    request = request.header(ACCEPT, accept);
    if let Some(header) = get.token.as_ref().and_then(|token| token.header_for(url)).filter(|_| !is_elsewhere)
    {
        request = request.header(AUTHORIZATION, header);
    }
    if get.is_fresh {
        request = request.header(CACHE_CONTROL, "no-cache");
    }
    if let Some(etag) = &get.etag {
        request = request.header(IF_NONE_MATCH, etag);
    }
    if let Some(range) = &get.range {
        request = request.header(RANGE, format!("bytes={}-", range.from));
        if let Some(validator) = &range.validator {
            request = request.header(IF_RANGE, validator);
        }
    }
    request
}

fn refuse(url: &Url, reason: &str) -> Fault {
    Fault::Final(Error::Unavailable {
        what: address::shown(url),
        reason: reason.to_owned(),
        hint: "see whether the address in the configuration is still right".to_owned(),
    })
}
