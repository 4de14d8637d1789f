//! A token: for whom it is, and that nobody sees it.

use std::fmt;

use reqwest::header::HeaderValue;
use url::{Origin, Url};

use super::{Http, address};
use crate::error::{Error, Result};
use crate::watch::Watch;

/// What lets us in at one server. It is shown nowhere.
#[derive(Clone)]
pub(crate) struct Token {
    /// The whole header, marked so that it is not shown.
    header: HeaderValue,
    /// The token's hash, for keys of what was answered to its owner.
    pub(super) mark: String,
    /// The variable that it is from.
    pub(crate) variable: String,
    origin: Origin,
}

impl Token {
    /// What is sent with a request to `url`; nothing where the token is for somebody else.
    pub(super) fn header_for(&self, url: &Url) -> Option<HeaderValue> {
        (url.origin() == self.origin).then(|| self.header.clone())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("variable", &self.variable).finish_non_exhaustive()
    }
}

impl Http {
    /// The token for the server of `url`: of the first variable that has one. It is sent encrypted, or not at all.
    ///
    /// # Errors
    /// `Usage` where a variable has what cannot be a token.
    pub(crate) fn token(&self, variables: &[String], url: &Url, watch: &dyn Watch) -> Result<Option<Token>> {
        let set = variables.iter().find_map(|variable| {
            let text = (self.options.tokens)(variable)?;
            let text = text.trim();
            (!text.is_empty()).then(|| (variable, text.to_owned()))
        });
        let Some((variable, text)) = set else { return Ok(None) };
        if url.scheme() != "https" && !address::is_loopback(url) {
            let place = url.host_str().unwrap_or_default();
            watch.warn(&format!("the token of ${variable} is not sent to {place}, which is not encrypted"));
            return Ok(None);
        }
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        let header = HeaderValue::try_from(format!("Bearer {text}")).ok().filter(|_| is_plain);
        let Some(mut header) = header else {
            return Err(Error::Usage {
                problem: format!("${variable} is no token: it has characters that no token has"),
                hint: format!("set ${variable} to the token alone, without blanks and line ends in it"),
            });
        };
        header.set_sensitive(true);
        let mark = crate::Sha256::of(text.as_bytes()).to_string();
        Ok(Some(Token { header, mark, variable: variable.clone(), origin: url.origin() }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::http::HttpOptions;
    use crate::watch::NoWatch;

    #[test]
    fn a_token_is_for_one_origin_that_is_encrypted() {
        let tokens = Arc::new(|name: &str| match name {
            "EMPTY" => Some(" ".to_owned()),
            "SET" => Some(" secret\n".to_owned()),
            _ => None,
        });
        let http = Http::start(HttpOptions { tokens, ..HttpOptions::default() }).unwrap();
        let variables = ["UNSET", "EMPTY", "SET"].map(str::to_owned);
        let token = |url: &str| http.token(&variables, &Url::parse(url).unwrap(), &NoWatch).unwrap();
        assert!(token("http://api.example.org").is_none());
        assert!(token("http://127.0.0.1:1").is_some());
        let token = token("https://api.example.org/v3").unwrap();
        assert_eq!(token.variable, "SET");
        assert!(!format!("{token:?}").contains("secret"));
        let header = |url: &str| token.header_for(&Url::parse(url).unwrap());
        let sent = header("https://api.example.org/other").unwrap();
        assert!(sent == "Bearer secret" && sent.is_sensitive());
        for other in [
            "http://api.example.org/v3",
            "https://api.example.org:444/v3",
            "https://example.org/v3",
            "https://api.example.org.evil.org/v3",
        ] {
            assert!(header(other).is_none(), "{other}");
        }
    }
}
