//! Who asks, and what they may: the token of a request, or what may be done without one.
//!
//! A token of some names sees and publishes these alone. What is named by its hash is given to whoever has a good token
//! and knows the hash: it cannot be guessed, and is learnt only from a ref or an artifact that he may see. Whole packs,
//! which hold everything, are for tokens of all names.

use std::sync::Arc;

use cairn_store::time::now_ms;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, HeaderValue};

use crate::peer_error::PeerRefusal;
use crate::peer_limits::clients::Client;
use crate::tokens::{Grant, Scope, TokenFile};

/// Who may do what.
#[derive(Debug, Clone)]
pub struct Access {
    /// The tokens; without them nobody publishes.
    pub tokens: Option<Arc<TokenFile>>,
    /// Whether everybody may read. Then answers may be kept by caches that serve everybody.
    pub anonymous_reads: bool,
}

impl Access {
    /// Everybody reads, and nobody publishes.
    #[must_use]
    pub fn open() -> Self {
        Self { tokens: None, anonymous_reads: true }
    }

    /// Who has a token does what it allows, and nobody else anything.
    #[must_use]
    pub fn by_tokens(tokens: Arc<TokenFile>) -> Self {
        Self { tokens: Some(tokens), anonymous_reads: false }
    }

    /// What a request's token allows.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Grant, PeerRefusal> {
        let anonymous = || Grant { id: None, scope: Scope::Read, names: Vec::new() };
        let Some(tokens) = &self.tokens else {
            return if self.anonymous_reads { Ok(anonymous()) } else { Err(PeerRefusal::NoToken) };
        };
        match headers.get(AUTHORIZATION) {
            Some(value) => {
                let grant = bearer(value).and_then(|token| tokens.check(token, now_ms()));
                grant.ok_or(PeerRefusal::WrongToken)
            }
            None if self.anonymous_reads => Ok(anonymous()),
            None => Err(PeerRefusal::NoToken),
        }
    }
}

/// The token of `Authorization: Bearer TOKEN`.
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
}

/// Whoever asks, once it is known. Handlers find it among a request's extensions.
#[derive(Debug, Clone)]
pub struct Guest {
    grant: Grant,
    is_public: bool,
    pub(crate) client: Arc<Client>,
}

impl Guest {
    pub(crate) fn new(grant: Grant, anonymous_reads: bool, client: Arc<Client>) -> Self {
        let is_public = anonymous_reads && grant.covers_all();
        Self { grant, is_public, client }
    }

    /// What may be done.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Whether what is answered may be kept by a cache that serves everybody.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.is_public
    }

    /// `Cache-Control` of what never changes.
    #[must_use]
    pub fn immutable(&self) -> (hyper::header::HeaderName, HeaderValue) {
        let value = if self.is_public {
            "public, max-age=31536000, immutable"
        } else {
            "private, max-age=31536000, immutable"
        };
        (CACHE_CONTROL, HeaderValue::from_static(value))
    }

    /// `Cache-Control` of what may change at any time.
    #[must_use]
    pub fn changing(&self) -> (hyper::header::HeaderName, HeaderValue) {
        let value = if self.is_public { "public, max-age=1" } else { "private, no-cache" };
        (CACHE_CONTROL, HeaderValue::from_static(value))
    }

    /// Whether it may see or publish a name.
    pub(crate) fn name(&self, name: &str) -> Result<(), PeerRefusal> {
        if self.grant.covers(name) { Ok(()) } else { Err(PeerRefusal::Name(name.to_owned())) }
    }

    /// Whether it may do what takes a scope.
    pub(crate) fn scope(&self, scope: Scope) -> Result<(), PeerRefusal> {
        match &self.grant {
            grant if grant.scope >= scope => Ok(()),
            Grant { id: None, .. } => Err(PeerRefusal::NoToken),
            _ => Err(PeerRefusal::Scope(scope)),
        }
    }
}
