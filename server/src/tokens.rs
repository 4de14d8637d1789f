//! Tokens: who may read, who may publish, until when, and under which names.
//!
//! A token is 32 random bytes in text form, shown once when it is made. The file keeps their BLAKE3 hashes: the bytes are
//! random, so that nothing slower is needed, and hashes are compared in constant time. The file is replaced whole, with a
//! lock beside it held, and read again whenever it has changed: a token that is revoked is refused from the next request
//! on. A file that is gone or not understood lets nobody in.

mod glob;
mod kept;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

pub use self::glob::{Glob, GlobError};
use self::kept::{Kept, Listed};
use crate::files::{self, Identity};

/// What every token begins with, by which one that leaked is recognised.
const PREFIX: &str = "cairn_";
/// Random bytes of a token.
const SECRET_LEN: usize = 32;
/// Tokens in a file, at most.
const TOKENS_MAX: usize = 1024;
/// Globs of a token, at most.
const GLOBS_MAX: usize = 64;
/// How old the last use in the file may be before it is written again.
const USE_EVERY_MS: u64 = 60_000;

/// What a token allows. Each allows what those before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// To read.
    Read,
    /// To publish new versions and to move channels.
    Publish,
    /// To put another artifact under a version that is there.
    Admin,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Read => "read",
            Self::Publish => "publish",
            Self::Admin => "admin",
        })
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "read" => Ok(Self::Read),
            "publish" => Ok(Self::Publish),
            "admin" => Ok(Self::Admin),
            _ => Err("a scope is read, publish or admin".to_owned()),
        }
    }
}

/// By which a token is known to people: the first digits of its hash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(String);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&str> for TokenId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A token's text. It is not shown by `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret(String);

impl TokenSecret {
    /// The text, to be shown once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(…)")
    }
}

/// What a new token is to allow.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What.
    pub scope: Scope,
    /// Under which names; none for all.
    pub names: Vec<Glob>,
    /// Until when, milliseconds since 1970; for ever if absent.
    pub expires_ms: Option<u64>,
}

/// A token, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// What it allows.
    pub scope: Scope,
    /// Under which names; none for all.
    pub names: Vec<Glob>,
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
    /// Until when it is good.
    pub expires_ms: Option<u64>,
    /// When it was used last, to the minute.
    pub last_used_ms: Option<u64>,
}

/// What a request may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The token; none for one who has none.
    pub id: Option<TokenId>,
    /// What it allows.
    pub scope: Scope,
    /// Under which names; none for all.
    pub names: Vec<Glob>,
}

impl Grant {
    /// Whether it covers a name.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        self.covers_all() || self.names.iter().any(|glob| glob.matches(name))
    }

    /// Whether it covers every name.
    #[must_use]
    pub fn covers_all(&self) -> bool {
        self.names.is_empty()
    }
}

/// Why tokens cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// Verb phrase: `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{} is not a file of tokens: {detail}", path.display())]
    NotUnderstood {
        /// The file.
        path: PathBuf,
        /// Why not.
        detail: String,
    },
    /// Others could let themselves in.
    #[error("{} may be written by other users", .0.display())]
    Exposed(PathBuf),
    /// No token has this id.
    #[error("no token has the id {0}")]
    Unknown(TokenId),
    /// There is no room for another.
    #[error("a file holds at most {TOKENS_MAX} tokens, and a token at most {GLOBS_MAX} patterns of names")]
    TooMany,
}

/// A file of tokens. One that is not there yet holds none.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    /// Guards what was read of the file. `used` is not held with it.
    known: Mutex<Known>,
    /// Guards the uses that the file does not have yet. A leaf lock.
    used: Mutex<BTreeMap<TokenId, u64>>,
}

#[derive(Debug)]
struct Known {
    identity: Option<Identity>,
    tokens: Arc<[Listed]>,
}

impl TokenFile {
    /// Opens the tokens in a file.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        let (identity, kept) = (files::identity(path), kept::read(path)?);
        let known = Known { identity, tokens: kept.tokens.into() };
        Ok(Self { path: path.to_owned(), known: Mutex::new(known), used: Mutex::default() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a token. Its text is given once, and is nowhere else.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn create(&self, new: NewToken, now_ms: u64) -> Result<(TokenId, TokenSecret), TokenError> {
        if new.names.len() > GLOBS_MAX {
            return Err(TokenError::TooMany);
        }
        let mut bytes = [0; SECRET_LEN];
        fill_random(&mut bytes).map_err(|source| TokenError::Io {
            action: "get random bytes for",
            path: self.path.clone(),
            source,
        })?;
        let secret = TokenSecret(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)));
        let hash = blake3::hash(secret.0.as_bytes());
        let token = Token {
            id: TokenId(hash.to_hex()[..12].to_owned()),
            scope: new.scope,
            names: new.names,
            created_ms: now_ms,
            expires_ms: new.expires_ms,
            last_used_ms: None,
        };
        let id = token.id.clone();
        self.change(|tokens| {
            if tokens.len() >= TOKENS_MAX {
                return Err(TokenError::TooMany);
            }
            tokens.push(Listed { token, hash });
            Ok(())
        })?;
        Ok((id, secret))
    }

    /// All tokens, oldest first.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn list(&self) -> Result<Vec<Token>, TokenError> {
        let mut tokens: Vec<Token> =
            kept::read(&self.path)?.tokens.into_iter().map(|listed| listed.token).collect();
        let used = lock(&self.used);
        for token in &mut tokens {
            token.last_used_ms = token.last_used_ms.max(used.get(&token.id).copied());
        }
        Ok(tokens)
    }

    /// Takes a token away. It is refused from now on, by every process that reads this file.
    ///
    /// # Errors
    /// [`TokenError::Unknown`] and the others.
    pub fn revoke(&self, id: &TokenId) -> Result<(), TokenError> {
        self.change(|tokens| {
            let before = tokens.len();
            tokens.retain(|listed| listed.token.id != *id);
            if tokens.len() == before { Err(TokenError::Unknown(id.clone())) } else { Ok(()) }
        })
    }

    /// What a token allows, if it is one and is good at `now_ms`.
    #[must_use]
    pub fn check(&self, secret: &str, now_ms: u64) -> Option<Grant> {
        let hash = blake3::hash(secret.as_bytes());
        let tokens = self.current();
        // Hashes are compared in constant time, and all of them, so that time tells nothing of where one is.
        let mut found = None;
        for listed in tokens.iter() {
            if listed.hash == hash {
                found = Some(&listed.token);
            }
        }
        let token = found.filter(|token| token.expires_ms.is_none_or(|expires| now_ms < expires))?;
        if now_ms.saturating_sub(token.last_used_ms.unwrap_or(0)) >= USE_EVERY_MS {
            lock(&self.used).insert(token.id.clone(), now_ms);
        }
        Some(Grant { id: Some(token.id.clone()), scope: token.scope, names: token.names.clone() })
    }

    /// Whether uses should be written by now.
    #[must_use]
    pub fn has_uses(&self) -> bool {
        !lock(&self.used).is_empty()
    }

    /// Writes when tokens were last used. Blocks.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn keep_uses(&self) -> Result<(), TokenError> {
        let used = std::mem::take(&mut *lock(&self.used));
        if used.is_empty() {
            return Ok(());
        }
        self.change(|tokens| {
            for listed in tokens {
                let token = &mut listed.token;
                token.last_used_ms = token.last_used_ms.max(used.get(&token.id).copied());
            }
            Ok(())
        })
    }

    /// The tokens of the file as it is now.
    fn current(&self) -> Arc<[Listed]> {
        let identity = files::identity(&self.path);
        let mut known = lock(&self.known);
        if known.identity != identity {
            known.tokens = match kept::read(&self.path) {
                Ok(kept) => kept.tokens.into(),
                Err(error) => {
                    tracing::error!(%error, "nobody is let in by a token until this is mended");
                    Arc::default()
                }
            };
            known.identity = identity;
        }
        Arc::clone(&known.tokens)
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Vec<Listed>) -> Result<(), TokenError>,
    ) -> Result<(), TokenError> {
        let _alone = kept::lock(&self.path)?;
        let Kept { mut tokens } = kept::read(&self.path)?;
        change(&mut tokens)?;
        kept::write(&self.path, &Kept { tokens })
    }
}

fn fill_random(mut bytes: &mut [u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let filled = rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty())?;
        bytes = &mut bytes[filled..];
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these locks guard is replaced whole: a panic elsewhere leaves it sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn new(scope: Scope, names: &[&str], expires_ms: Option<u64>) -> NewToken {
        NewToken { scope, names: names.iter().map(|glob| glob.parse().unwrap()).collect(), expires_ms }
    }

    #[test]
    fn a_token_lives_from_its_creation_to_its_revocation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        let (ours, theirs) = (TokenFile::open(&path).unwrap(), TokenFile::open(&path).unwrap());
        let (id, secret) = ours.create(new(Scope::Publish, &["bitcoin*"], Some(2000)), 1000).unwrap();
        assert!(secret.reveal().starts_with("cairn_") && secret.reveal().len() == 6 + 43);
        // Another process sees it at once.
        let grant = theirs.check(secret.reveal(), 1999).unwrap();
        assert_eq!((grant.id.as_ref(), grant.scope), (Some(&id), Scope::Publish));
        assert!(grant.covers("bitcoin") && !grant.covers("bitcoi") && !grant.covers_all());
        assert_eq!(theirs.check(secret.reveal(), 2000), None);
        for wrong in ["", "cairn_", "cairn_x", &secret.reveal()[1..], &format!("{}A", secret.reveal())] {
            assert_eq!(theirs.check(wrong, 1000), None);
        }
        ours.revoke(&id).unwrap();
        assert_eq!(theirs.check(secret.reveal(), 1999), None);
        assert!(matches!(ours.revoke(&id), Err(TokenError::Unknown(_))));
    }

    #[test]
    fn the_file_has_no_token_and_nobody_else_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        let tokens = TokenFile::open(&path).unwrap();
        let (_, secret) = tokens.create(new(Scope::Read, &[], None), 1).unwrap();
        let text = String::from_utf8(files::read(&path, 1 << 20).unwrap()).unwrap();
        assert!(!text.contains(&secret.reveal()[6..]));
        assert!(!format!("{secret:?} {tokens:?}").contains(&secret.reveal()[6..]));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).unwrap();
        assert_eq!(tokens.check(secret.reveal(), 1), None);
        assert!(matches!(TokenFile::open(&path), Err(TokenError::Exposed(_))));
    }

    #[test]
    fn uses_are_kept_once_a_minute() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = TokenFile::open(&folder.path().join("tokens.json")).unwrap();
        let (_, secret) = tokens.create(new(Scope::Admin, &[], None), 1).unwrap();
        let used = |tokens: &TokenFile| tokens.list().unwrap()[0].last_used_ms;
        assert_eq!(used(&tokens), None);
        tokens.check(secret.reveal(), 100_000).unwrap();
        assert!(tokens.has_uses());
        tokens.keep_uses().unwrap();
        assert_eq!(used(&TokenFile::open(tokens.path()).unwrap()), Some(100_000));
        tokens.check(secret.reveal(), 100_000 + USE_EVERY_MS - 1).unwrap();
        assert!(!tokens.has_uses());
        tokens.check(secret.reveal(), 100_000 + USE_EVERY_MS).unwrap();
        assert!(tokens.has_uses());
    }

    #[test]
    fn a_file_that_is_broken_lets_nobody_in() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = TokenFile::open(&folder.path().join("tokens.json")).unwrap();
        let (id, secret) = tokens.create(new(Scope::Read, &[], None), 1).unwrap();
        let whole = files::read(tokens.path(), 1 << 20).unwrap();
        for broken in [&whole[..whole.len() / 2], b"", b"{}", b"{\"version\":2,\"tokens\":[]}"] {
            std::fs::File::options()
                .write(true)
                .truncate(true)
                .open(tokens.path())
                .and_then(|mut file| std::io::Write::write_all(&mut file, broken))
                .unwrap();
            assert_eq!(tokens.check(secret.reveal(), 1), None);
            assert!(matches!(TokenFile::open(tokens.path()), Err(TokenError::NotUnderstood { .. })));
            tokens.revoke(&id).unwrap_err();
        }
        rustix::fs::unlink(tokens.path()).unwrap();
        assert_eq!(tokens.check(secret.reveal(), 1), None);
    }

    #[test]
    fn several_processes_change_it_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let tokens = TokenFile::open(&path).unwrap();
                    for _ in 0..5 {
                        tokens.create(new(Scope::Read, &[], None), 1).unwrap();
                    }
                });
            }
        });
        assert_eq!(TokenFile::open(&path).unwrap().list().unwrap().len(), 20);
    }
}
