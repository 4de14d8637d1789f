//! What an answer that is no success comes to: asked again, waited out, or an error that says what to do.

use std::error::Error as StdError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{HeaderName, RETRY_AFTER};
use serde::Deserialize;

use super::exchange::{Answer, Get};
use super::{Http, Retries, address};
use crate::error::{Error, Result};
use crate::watch::Watch;

/// Longest body of an error that is looked at, in bytes.
const ERROR_LEN_MAX: usize = 64 << 10;
/// How long it may take.
const ERROR_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest text of a server that is shown, in bytes.
const MESSAGE_SHOWN_MAX: usize = 300;
/// How long is waited where a server has enough of us and does not say for how long: as GitHub asks for.
const LIMIT_WAIT: Duration = Duration::from_secs(60);

/// How an exchange failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It may go better next time.
    Passing(String),
    /// It goes better after a while, and not before.
    Limited {
        /// How long that is.
        wait: Duration,
        /// What it is if that is too long.
        otherwise: Error,
    },
    /// It will not go better.
    Final(Error),
}

/// How often something is asked still.
#[derive(Debug)]
pub(crate) struct Tries {
    retries: Retries,
    asked: u32,
    rate_wait_left: Duration,
}

impl Tries {
    pub(super) fn new(http: &Http) -> Self {
        Self { retries: http.options.retries, asked: 0, rate_wait_left: http.options.rate_wait_max }
    }

    /// What was asked last went well: what fails from now on fails for the first time.
    pub(crate) fn succeed(&mut self) {
        self.asked = 0;
    }

    /// Waits until it can be asked again.
    ///
    /// # Errors
    /// Where it is not asked again: what to tell.
    pub(crate) async fn wait(&mut self, fault: Fault, get: &Get, watch: &dyn Watch) -> Result<()> {
        self.asked += 1;
        let what = || address::shown(&get.url);
        match fault {
            Fault::Final(error) => Err(error),
            Fault::Passing(reason) if self.asked < self.retries.tries => {
                let doubled = self.retries.first.saturating_mul(1 << (self.asked - 1).min(16));
                tracing::debug!(what = what(), reason, asked = self.asked, "asked again");
                tokio::time::sleep(doubled.min(self.retries.max)).await;
                Ok(())
            }
            Fault::Passing(reason) => {
                let hint = hint(&reason);
                let reason = match self.asked {
                    1 => reason,
                    times => format!("{reason} (asked {times} times)"),
                };
                Err(Error::Unavailable { what: what(), reason, hint })
            }
            Fault::Limited { wait, .. } if wait <= self.rate_wait_left && self.asked < self.retries.tries => {
                self.rate_wait_left -= wait;
                let place = get.url.host_str().unwrap_or_default();
                watch.say(&format!("{place} wants us to wait {} s", wait.as_secs_f64().ceil()));
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Fault::Limited { otherwise, .. } => Err(otherwise),
        }
    }
}

/// What to do about a failed exchange.
fn hint(reason: &str) -> String {
    let hint = if reason.contains("certificate") || reason.contains("UnknownIssuer") {
        "this machine's certificates do not vouch for it; SSL_CERT_FILE can name other ones"
    } else if reason.contains("dns error") || reason.contains("lookup") {
        "see whether the name is right and this machine reaches a name server"
    } else if reason.contains("refused") {
        "nothing listens there: see whether host and port are right, and whether a proxy is needed (HTTPS_PROXY)"
    } else {
        "try again later; what has come so far is kept"
    };
    hint.to_owned()
}

/// What a failed exchange comes to.
pub(super) fn transport(error: &reqwest::Error) -> Fault {
    // The address is named apart, and may have a secret in it.
    let text = StdError::source(error).map_or_else(|| "the exchange failed".to_owned(), chain);
    let plain = ["client error (Connect): ", "client error (SendRequest): "];
    let plain = plain.iter().find_map(|prefix| text.strip_prefix(prefix));
    Fault::Passing(plain.unwrap_or(&text).to_owned())
}

/// An error with its causes.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

/// What a success is, and what else its asker has to know by itself: what did not change, is not there, or has no such range.
pub(super) async fn judge(answer: Answer, get: &Get) -> Result<Answer, Fault> {
    let status = answer.response.status();
    if status.is_success() || matches!(status.as_u16(), 304 | 404 | 410 | 416) {
        return Ok(answer);
    }
    let is_elsewhere = answer.is_elsewhere;
    let limit = limit(&answer);
    let what = address::shown(&answer.url);
    let said = message(answer).await;
    let is_about_rates = said.to_lowercase().contains("rate limit");
    let with_message = |reason: String| if said.is_empty() { reason } else { format!("{reason}: {said}") };
    let refused = |reason: String, hint: String| Error::Refused { what: what.clone(), reason, hint };
    let unavailable = |hint: String| Error::Unavailable {
        what: what.clone(),
        reason: with_message(format!("it answers {status}")),
        hint,
    };
    Err(match status.as_u16() {
        429 | 403 if limit.is_some() || status.as_u16() == 429 || is_about_rates => {
            let wait = limit.unwrap_or(LIMIT_WAIT);
            let reason = format!("we asked it too often; it answers again at {}", clock(wait));
            Fault::Limited { wait, otherwise: refused(reason, hint_of_limit(get)) }
        }
        // What GitHub leads to is signed for some minutes: asked again, it leads to another one.
        400 | 401 | 403 if is_elsewhere => Fault::Passing(with_message(format!("it answers {status}"))),
        401 => {
            let (reason, hint) = unknown(get);
            Fault::Final(refused(with_message(reason), hint))
        }
        403 => {
            let token = get.token.as_ref();
            let hint = token.map(|token| format!("see what the token of ${} may do", token.variable));
            Fault::Final(refused(with_message("it refuses".to_owned()), hint.unwrap_or_default()))
        }
        503 if let Some(wait) = limit => {
            let otherwise = unavailable(format!("it asks to come back at {}", clock(wait)));
            Fault::Limited { wait, otherwise }
        }
        408 | 500..=599 => Fault::Passing(with_message(format!("it answers {status}"))),
        _ => Fault::Final(unavailable("see whether the address in the configuration is right".to_owned())),
    })
}

fn hint_of_limit(get: &Get) -> String {
    match (&get.token, &get.variable) {
        (Some(token), _) => format!("wait until then; the limit is that of the token in ${}", token.variable),
        (None, Some(variable)) => {
            format!("wait until then, or set a token in ${variable}, which raises the limit")
        }
        (None, None) => "wait until then".to_owned(),
    }
}

/// What it means that a server does not know who asks, and what to do.
fn unknown(get: &Get) -> (String, String) {
    match (&get.token, &get.variable) {
        (Some(token), _) => {
            let variable = &token.variable;
            let hint = format!(
                "the token is wrong or has expired: set ${variable} to one that is good, or unset it"
            );
            (format!("it does not take the token of ${variable}"), hint)
        }
        (None, Some(variable)) => {
            ("it wants to know who asks".to_owned(), format!("set a token in ${variable}"))
        }
        (None, None) => ("it wants to know who asks".to_owned(), String::new()),
    }
}

/// How long a server wants us to wait, if it says so.
fn limit(answer: &Answer) -> Option<Duration> {
    let number = |name: HeaderName| answer.header(name)?.trim().parse::<u64>().ok();
    if let Some(seconds) = number(RETRY_AFTER) {
        return Some(Duration::from_secs(seconds));
    }
    if number(HeaderName::from_static("x-ratelimit-remaining"))? != 0 {
        return None;
    }
    let reset = number(HeaderName::from_static("x-ratelimit-reset"))?;
    // Its clock may be a little behind ours.
    Some(Duration::from_secs(reset.saturating_add(1)).saturating_sub(since_epoch()))
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The time of day in so long, with how long that is.
fn clock(wait: Duration) -> String {
    let minutes = since_epoch().saturating_add(wait).as_secs().div_ceil(60);
    let (hour, minute) = (minutes / 60 % 24, minutes % 60);
    match wait.as_secs() {
        seconds @ 0..120 => format!("{hour:02}:{minute:02} UTC (in {seconds} s)"),
        seconds @ 120..86_400 => format!("{hour:02}:{minute:02} UTC (in {} min)", seconds.div_ceil(60)),
        seconds => format!("{hour:02}:{minute:02} UTC (in {} days)", seconds / 86_400),
    }
}

#[derive(Deserialize)]
struct Message {
    message: String,
}

/// What the server says about it.
async fn message(answer: Answer) -> String {
    let mut response = answer.response;
    let read = async {
        let mut bytes = Vec::new();
        while let Ok(Some(piece)) = response.chunk().await {
            bytes.extend_from_slice(&piece[..piece.len().min(ERROR_LEN_MAX - bytes.len())]);
            if bytes.len() == ERROR_LEN_MAX {
                break;
            }
        }
        bytes
    };
    let bytes = tokio::time::timeout(ERROR_TIME_MAX, read).await.unwrap_or_default();
    let Ok(Message { message }) = serde_json::from_slice(&bytes) else { return String::new() };
    let clean: String = message.chars().filter(|c| !c.is_control()).collect();
    clean[..clean.floor_char_boundary(MESSAGE_SHOWN_MAX)].to_owned()
}
