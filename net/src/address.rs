//! Who is asked, and with what: the address of a peer, the token that lets us in, the certificate authority that it is
//! known by.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Longest address, in bytes.
const URL_LEN_MAX: usize = 1024;

/// The address of a peer: `http` or `https`, a host, maybe a port and a folder; no user, query or fragment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerUrl {
    /// Without a slash at its end.
    text: Arc<str>,
}

impl PeerUrl {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether what is sent there is encrypted on its way.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.text.starts_with("https:")
    }

    /// Whether it is this machine, by its address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let url = Url::parse(&self.text).ok();
        let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// What stands for `path`, which begins with a slash, there.
    pub(crate) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.text)
    }
}

impl FromStr for PeerUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |reason: &str| {
            let given = text.chars().take(200).collect();
            Err(Error::Invalid { what: "address of a peer", given, reason: reason.to_owned() })
        };
        let too_long = "it is longer than 1,024 bytes";
        if text.len() > URL_LEN_MAX {
            return refuse(too_long);
        }
        let url = match Url::parse(text.trim()) {
            Ok(url) => url,
            Err(error) => return refuse(&error.to_string()),
        };
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return refuse("it has to begin with http:// or https:// and a host");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("a token is given apart, with --token-file or in CAIRN_TOKEN");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refuse("it must not have a query or a fragment");
        }
        let normal = url.as_str().trim_end_matches('/');
        // What is kept has to be read again: escapes make an address longer, and some hosts are no host once they are in
        // their normal form.
        if normal.len() > URL_LEN_MAX {
            return refuse(too_long);
        }
        if Url::parse(normal).ok().as_ref().is_none_or(|again| again.as_str().trim_end_matches('/') != normal)
        {
            return refuse("its normal form is no address");
        }
        Ok(Self { text: normal.into() })
    }
}

impl TryFrom<String> for PeerUrl {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<PeerUrl> for String {
    fn from(url: PeerUrl) -> Self {
        url.text.as_ref().to_owned()
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

/// A token. It is shown nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Secret {
    text: Arc<str>,
}

impl Secret {
    /// The token itself, for the request that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for Secret {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        let text = text.trim();
        if text.is_empty() || text.len() > 512 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            // What was given is not repeated: it may be nearly the token.
            let reason = "it has to be 1 to 512 printable ASCII characters".to_owned();
            return Err(Error::Invalid { what: "token", given: "…".to_owned(), reason });
        }
        Ok(Self { text: text.into() })
    }
}

impl FromStr for Secret {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::try_from(text.to_owned())
    }
}

impl From<Secret> for String {
    fn from(secret: Secret) -> Self {
        secret.text.as_ref().to_owned()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A peer to ask, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it is.
    pub url: PeerUrl,
    /// What lets us in.
    pub token: Option<Secret>,
    /// A file with the certificates (PEM) by which alone it is known; without it, those that the system trusts.
    pub ca: Option<PathBuf>,
}

impl Source {
    /// A peer that lets everybody in.
    #[must_use]
    pub fn open(url: PeerUrl) -> Self {
        Self { url, token: None, ca: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_form() {
        for (text, expected) in [
            ("http://127.0.0.1:7001", "http://127.0.0.1:7001"),
            (" https://Cache.Example.org/ ", "https://cache.example.org"),
            ("http://[::1]:80/cairn/", "http://[::1]/cairn"),
        ] {
            let url: PeerUrl = text.parse().unwrap();
            assert_eq!(url.as_str(), expected);
            assert_eq!(url.join("/v1/refs"), format!("{expected}/v1/refs"));
        }
        for bad in [
            "",
            "127.0.0.1:7001",
            "ftp://host",
            "http://",
            "http://user:token@host",
            "http://host?q",
            "http://host#f",
        ] {
            assert!(matches!(bad.parse::<PeerUrl>(), Err(Error::Invalid { .. })), "{bad}");
        }
        assert!("x".repeat(2000).parse::<PeerUrl>().is_err());
        // Six bytes each, once it is escaped.
        let letters = |count: usize| format!("http://host/{}", "é".repeat(count)).parse::<PeerUrl>();
        assert_eq!(letters(168).unwrap().as_str().len(), 12 + 168 * 6);
        assert!(matches!(letters(170), Err(Error::Invalid { .. })));
        for (text, loopback) in [
            ("http://127.0.0.9", true),
            ("http://localhost:1", true),
            ("http://[::1]", true),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(text.parse::<PeerUrl>().unwrap().is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn tokens_are_not_shown() {
        let source =
            Source { token: Some("cairn_abc".parse().unwrap()), ..Source::open("http://h".parse().unwrap()) };
        assert!(!format!("{source:?}").contains("cairn_abc"));
        let error = "cairn abc".parse::<Secret>().unwrap_err();
        assert!(!format!("{error:?} {error}").contains("abc"));
    }
}
