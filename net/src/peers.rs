//! The peers that a store knows: where they are, what lets us in, and how they did. One file of JSON in the store,
//! `peers.json`, which only its owner may read, for it has tokens. It is replaced whole, with a lock beside it held, so
//! that a pull and `peers add` do not undo each other.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::address::{PeerUrl, Secret, Source};
use crate::error::{Error, Result};
use crate::files;

/// Peers of a store, at most.
pub const PEERS_MAX: usize = 64;
/// Longest file, in bytes.
const FILE_LEN_MAX: u64 = 1 << 20;
/// Longest reason that is kept, in bytes.
const DETAIL_LEN_MAX: usize = 500;
const VERSION: u32 = 1;

/// A peer that a store knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownPeer {
    /// Where it is.
    pub url: PeerUrl,
    /// What lets us in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// A file with the certificates by which alone it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// When it was added, in milliseconds since 1970.
    #[serde(default)]
    pub added_ms: u64,
    /// When it last brought something.
    #[serde(default)]
    pub success_ms: Option<u64>,
    /// Bytes a second at which it did.
    #[serde(default)]
    pub rate: Option<u64>,
    /// Failures since it last brought something.
    #[serde(default)]
    pub failures: u32,
    /// What the last failure was.
    #[serde(default)]
    pub failure: Option<Noted>,
    /// How often it sent what did not verify.
    #[serde(default)]
    pub lies: u32,
    /// What it sent last that did not.
    #[serde(default)]
    pub lie: Option<Noted>,
}

/// Something that happened with a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// What, for people.
    pub detail: String,
}

impl KnownPeer {
    /// How it is asked.
    #[must_use]
    pub fn source(&self) -> Source {
        Source { url: self.url.clone(), token: self.token.clone(), ca: self.ca.clone() }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    version: u32,
    peers: Vec<KnownPeer>,
}

/// The file of a store's peers.
#[derive(Debug, Clone)]
pub struct Peers {
    path: PathBuf,
}

impl Peers {
    /// The peers of a store. Nothing is read yet, and there need not be a file.
    #[must_use]
    pub fn open(store: &Path) -> Self {
        Self { path: store.join("peers.json") }
    }

    /// All, in the order in which they were added.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`Error::Invalid`] when it is not what it should be.
    pub fn list(&self) -> Result<Vec<KnownPeer>> {
        let Some(bytes) = files::read(&self.path, FILE_LEN_MAX)? else { return Ok(Vec::new()) };
        let refuse = |reason: String| Error::Invalid {
            what: "file of peers",
            given: self.path.display().to_string(),
            reason,
        };
        let file: File = serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        if file.version != VERSION {
            return Err(refuse(format!("it has version {}, and this cairn reads {VERSION}", file.version)));
        }
        Ok(file.peers)
    }

    /// How all of them are asked, those first that did well.
    ///
    /// # Errors
    /// As [`Peers::list`].
    pub fn sources(&self) -> Result<Vec<Source>> {
        let mut peers = self.list()?;
        peers.sort_by_key(|peer| (peer.lies > 0, peer.failures > 0, std::cmp::Reverse(peer.rate)));
        Ok(peers.iter().map(KnownPeer::source).collect())
    }

    /// Adds a peer, or changes how one is asked that is known. Whether it was new.
    ///
    /// # Errors
    /// As [`Peers::list`]; [`Error::Invalid`] when there are too many.
    pub fn add(&self, source: &Source) -> Result<bool> {
        self.change(|peers| {
            if let Some(peer) = peers.iter_mut().find(|peer| peer.url == source.url) {
                (peer.token, peer.ca) = (source.token.clone(), source.ca.clone());
                (peer.failures, peer.failure) = (0, None);
                (peer.lies, peer.lie) = (0, None);
                return Ok(false);
            }
            if peers.len() >= PEERS_MAX {
                let reason = format!("a store knows {PEERS_MAX} peers at most");
                return Err(Error::Invalid { what: "peer", given: source.url.to_string(), reason });
            }
            peers.push(KnownPeer {
                url: source.url.clone(),
                token: source.token.clone(),
                ca: source.ca.clone(),
                added_ms: now_ms(),
                success_ms: None,
                rate: None,
                failures: 0,
                failure: None,
                lies: 0,
                lie: None,
            });
            Ok(true)
        })
    }

    /// Forgets a peer. Whether it was known.
    ///
    /// # Errors
    /// As [`Peers::list`].
    pub fn remove(&self, url: &PeerUrl) -> Result<bool> {
        self.change(|peers| {
            let before = peers.len();
            peers.retain(|peer| peer.url != *url);
            Ok(peers.len() < before)
        })
    }

    /// Notes that a peer brought something, at so many bytes a second. Peers that are not known are passed over, here and
    /// below.
    ///
    /// # Errors
    /// As [`Peers::list`].
    pub fn note_success(&self, url: &PeerUrl, rate: u64) -> Result<()> {
        self.note(url, |peer| {
            (peer.success_ms, peer.rate) = (Some(now_ms()), Some(rate));
            (peer.failures, peer.failure) = (0, None);
        })
    }

    /// Notes that a peer failed.
    ///
    /// # Errors
    /// As [`Peers::list`].
    pub fn note_failure(&self, url: &PeerUrl, detail: &str) -> Result<()> {
        self.note(url, |peer| {
            peer.failures = peer.failures.saturating_add(1);
            peer.failure = Some(Noted::now(detail));
        })
    }

    /// Notes that a peer sent what does not verify.
    ///
    /// # Errors
    /// As [`Peers::list`].
    pub fn note_lie(&self, url: &PeerUrl, detail: &str) -> Result<()> {
        self.note(url, |peer| {
            peer.lies = peer.lies.saturating_add(1);
            peer.lie = Some(Noted::now(detail));
        })
    }

    fn note(&self, url: &PeerUrl, note: impl FnOnce(&mut KnownPeer)) -> Result<()> {
        if !self.list()?.iter().any(|peer| peer.url == *url) {
            return Ok(());
        }
        self.change(|peers| {
            peers.iter_mut().find(|peer| peer.url == *url).map(note);
            Ok(())
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<KnownPeer>) -> Result<T>) -> Result<T> {
        let _lock = files::lock(&self.path)?;
        let before = self.list()?;
        let mut peers = before.clone();
        let result = change(&mut peers)?;
        if peers != before {
            let file = File { version: VERSION, peers };
            let mut text = serde_json::to_vec_pretty(&file).expect("strings and numbers are always JSON");
            text.push(b'\n');
            files::replace(&self.path, &text)?;
        }
        Ok(result)
    }
}

impl Noted {
    fn now(detail: &str) -> Self {
        let end = detail.floor_char_boundary(DETAIL_LEN_MAX);
        Self { time_ms: now_ms(), detail: detail[..end].to_owned() }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn url(text: &str) -> PeerUrl {
        text.parse().unwrap()
    }

    #[test]
    fn peers_are_kept_with_how_they_did() {
        let folder = tempfile::tempdir().unwrap();
        let peers = Peers::open(folder.path());
        assert_eq!(peers.list().unwrap(), []);
        let first =
            Source { token: Some("cairn_secret".parse().unwrap()), ..Source::open(url("http://a:1")) };
        assert!(peers.add(&first).unwrap());
        assert!(peers.add(&Source::open(url("http://b:1"))).unwrap());
        assert!(!peers.add(&first).unwrap());
        peers.note_success(&url("http://b:1"), 1000).unwrap();
        peers.note_failure(&url("http://a:1"), "it is away").unwrap();
        peers.note_lie(&url("http://a:1"), "chunk 12 is not what its id says").unwrap();
        peers.note_failure(&url("http://nobody:1"), "passed over").unwrap();
        let list = peers.list().unwrap();
        assert_eq!((list[0].failures, list[0].lies), (1, 1));
        assert_eq!(list[0].lie.as_ref().unwrap().detail, "chunk 12 is not what its id says");
        assert_eq!(list[0].source(), first);
        assert_eq!((list[1].rate, list.len()), (Some(1000), 2));
        assert_eq!(peers.sources().unwrap()[0].url, url("http://b:1"));
        let mode = std::fs::metadata(folder.path().join("peers.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(peers.remove(&url("http://a:1")).unwrap());
        assert!(!peers.remove(&url("http://a:1")).unwrap());
        assert_eq!(peers.list().unwrap().len(), 1);
    }

    #[test]
    fn many_who_change_it_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let peers = Peers::open(folder.path());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let peers = &peers;
                scope.spawn(move || {
                    for number in 0..8 {
                        peers.add(&Source::open(url(&format!("http://h{thread}-{number}")))).unwrap();
                    }
                });
            }
        });
        assert_eq!(peers.list().unwrap().len(), 32);
    }

    #[test]
    fn there_is_a_limit_and_what_is_no_file_of_peers_is_said_to_be_none() {
        let folder = tempfile::tempdir().unwrap();
        let peers = Peers::open(folder.path());
        for number in 0..PEERS_MAX {
            peers.add(&Source::open(url(&format!("http://h{number}")))).unwrap();
        }
        assert!(matches!(peers.add(&Source::open(url("http://more"))), Err(Error::Invalid { .. })));
        for text in ["", "{}", r#"{"version":2,"peers":[]}"#] {
            files::replace(&folder.path().join("peers.json"), text.as_bytes()).unwrap();
            assert!(matches!(peers.list(), Err(Error::Invalid { .. })), "{text}");
        }
    }
}
