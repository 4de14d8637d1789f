//! Answers that are read whole: bounded in bytes and time, asked again where that may help, kept where a server can say whether
//! they are still good.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{ETAG, LINK};
use url::Url;

use super::body::Body;
use super::cache::Cache;
use super::exchange::{Answer, Get};
use super::fault::{self, Fault, Tries};
use super::{Http, address};
use crate::error::{Error, Result};
use crate::watch::Watch;

/// How long one answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(300);

/// An answer that is here whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) body: Vec<u8>,
    /// The header `Link`.
    pub(crate) link: Option<String>,
    /// Where it came from in the end.
    pub(crate) url: Url,
}

enum Read {
    /// With its `ETag`.
    New(Text, Option<String>),
    /// What is kept is still good.
    Same,
    Absent,
}

impl Http {
    /// Asks once; what is no success is an error.
    pub(crate) async fn ask(&self, get: &Get) -> Result<Answer, Fault> {
        fault::judge(self.exchange(get, Method::GET).await?, get).await
    }

    /// How often something is asked.
    pub(crate) fn tries(&self) -> Tries {
        Tries::new(self)
    }

    /// The body of an answer.
    pub(crate) fn body(&self, answer: Answer) -> Body {
        Body::new(answer, self.options.timeouts.idle)
    }

    /// A whole answer of at most `max` bytes; nothing where the server has none.
    pub(crate) fn whole(&self, get: &Get, max: usize, watch: &dyn Watch) -> Result<Option<Text>> {
        match self.read_again(get, max, watch)? {
            Read::New(text, _) => Ok(Some(text)),
            Read::Absent => Ok(None),
            Read::Same => Err(unasked(get)),
        }
    }

    /// [`whole`](Self::whole), where the server is asked whether what was answered before is still good.
    pub(crate) fn whole_kept(&self, get: &Get, max: usize, watch: &dyn Watch) -> Result<Option<Text>> {
        let Some(cache) = self.options.cache.as_deref().map(Cache::new) else {
            return self.whole(get, max, watch);
        };
        let key = Cache::key(get);
        let kept = cache.find(&key, max);
        let get = Get { etag: kept.as_ref().map(|kept| kept.etag.clone()), ..get.clone() };
        match self.read_again(&get, max, watch)? {
            Read::New(text, Some(etag)) => {
                cache.keep(&key, &text, &etag);
                Ok(Some(text))
            }
            Read::New(text, None) => Ok(Some(text)),
            Read::Absent => Ok(None),
            Read::Same => kept.map(|kept| Some(kept.text)).ok_or_else(|| unasked(&get)),
        }
    }

    /// The length in bytes that the server tells of a file, if it does; nothing where it has none. It is asked once: who needs
    /// the file will see.
    pub(crate) fn length(&self, url: &Url, watch: &dyn Watch) -> Result<Option<Option<u64>>> {
        let get = Get::of(url.clone());
        self.wait(watch, async {
            let Ok(answer) = self.exchange(&get, Method::HEAD).await else { return Ok(Some(None)) };
            match answer.response.status().as_u16() {
                404 | 410 => Ok(None),
                // Zero is what servers say that do not know.
                200 => Ok(Some(answer.length().filter(|&length| length > 0))),
                _ => Ok(Some(None)),
            }
        })
    }

    fn read_again(&self, get: &Get, max: usize, watch: &dyn Watch) -> Result<Read> {
        self.wait(watch, async {
            let mut tries = self.tries();
            loop {
                let read = tokio::time::timeout(ANSWER_TIME_MAX, self.read(get, max)).await;
                match read.unwrap_or_else(|_| Err(Fault::Passing("its answer does not end".to_owned()))) {
                    Ok(read) => return Ok(read),
                    Err(fault) => tries.wait(fault, get, watch).await?,
                }
            }
        })
    }

    async fn read(&self, get: &Get, max: usize) -> Result<Read, Fault> {
        let answer = self.ask(get).await?;
        match answer.response.status().as_u16() {
            304 => return Ok(Read::Same),
            404 | 410 => return Ok(Read::Absent),
            200 => {}
            status => return Err(Fault::Passing(format!("it answers {status} to a plain question"))),
        }
        let etag = answer.header(ETAG).map(str::to_owned);
        let link = answer.header(LINK).map(str::to_owned);
        let url = answer.url.clone();
        let too_long = || {
            Fault::Final(Error::Unavailable {
                what: address::shown(&get.url),
                reason: format!("its answer is longer than {max} bytes"),
                hint: "see whether the address in the configuration is right".to_owned(),
            })
        };
        if answer.length().is_some_and(|length| length > max as u64) {
            return Err(too_long());
        }
        let (mut bytes, mut body) = (Vec::new(), self.body(answer));
        while let Some(piece) = body.next().await? {
            if bytes.len() + piece.len() > max {
                return Err(too_long());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Read::New(Text { body: bytes, link, url }, etag))
    }
}

/// A server that says that nothing changed of what it was not asked.
fn unasked(get: &Get) -> Error {
    Error::Unavailable {
        what: address::shown(&get.url),
        reason: "it answers 304 to what is new here".to_owned(),
        hint: String::new(),
    }
}
