//! What was found damaged while files were read: each chunk once, with the first path it was met under, logged when it
//! is news and listed by `status`. A bounded number is told apart; what comes after that many is neither logged nor
//! counted, for it may have been met before.

use std::sync::{Mutex, PoisonError};

use cairn_store::{ChunkId, PackId};

use crate::files::ReadError;

/// Findings that are told apart, at most.
const KNOWN_MAX: usize = 4096;
/// Findings that are listed, at most.
const LISTED_MAX: usize = 64;

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The chunk, where one is named.
    pub chunk: Option<ChunkId>,
    /// The pack it lies in, where known.
    pub pack: Option<PackId>,
    /// The offset in that pack, where known.
    pub offset: Option<u64>,
    /// A path it was met under.
    pub path: Vec<u8>,
    /// What does not hold.
    pub detail: String,
    /// How often it was met.
    pub times: u64,
    /// Whether a sound copy came from another machine since.
    pub healed: bool,
}

/// Those that are known, oldest first.
#[derive(Default)]
struct Found {
    known: Vec<Damage>,
    /// Whether it was said that there are more.
    is_full: bool,
}

impl Found {
    /// What is known of a chunk, or where none is named of what the store calls so.
    fn get(&mut self, chunk: Option<ChunkId>, what: &str) -> Option<&mut Damage> {
        self.known.iter_mut().find(|known| match chunk {
            Some(_) => known.chunk == chunk,
            None => known.chunk.is_none() && known.detail.starts_with(what),
        })
    }
}

/// Remembers findings.
#[derive(Default)]
pub(crate) struct DamageLog {
    /// Guards the findings; a leaf lock.
    found: Mutex<Found>,
}

impl DamageLog {
    /// Remembers a failed read, if it failed because something is damaged.
    pub(crate) fn note(&self, error: &ReadError, path: impl FnOnce() -> Vec<u8>) {
        let ReadError::Damaged { chunk, source } = error else { return };
        let cairn_store::Error::Damaged { what, pack, offset, detail, .. } = &**source else { return };
        {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = found.get(*chunk, what) {
                known.times += 1;
                known.healed = false;
                return;
            }
            if found.known.len() >= KNOWN_MAX {
                if !found.is_full {
                    found.is_full = true;
                    tracing::error!(
                        known = KNOWN_MAX,
                        "more is damaged than is told apart: verify tells all"
                    );
                }
                return;
            }
        }
        // The caller may take locks of its own to find the path.
        let path = path();
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = found.get(*chunk, what) {
            // Somebody else was faster.
            known.times += 1;
            return;
        }
        let shown = String::from_utf8_lossy(&path).into_owned();
        let id = chunk.map(|chunk| chunk.to_string());
        tracing::error!(chunk = id, path = shown, what, offset, detail, "a file is damaged in the store");
        let detail = format!("{what}: {detail}");
        found.known.push(Damage {
            chunk: *chunk,
            pack: *pack,
            offset: *offset,
            path,
            detail,
            times: 1,
            healed: false,
        });
    }

    /// A sound copy of what a read found damaged is here now.
    pub(crate) fn note_healed(&self, error: &ReadError) {
        let ReadError::Damaged { chunk, source } = error else { return };
        let cairn_store::Error::Damaged { what, .. } = &**source else { return };
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(damage) = found.get(*chunk, what) else { return };
        damage.healed = true;
        drop(found);
        tracing::info!(what, "what was damaged is healed: another machine had a sound copy");
    }

    /// The latest findings, oldest first, and how many are known.
    pub(crate) fn list(&self) -> (Vec<Damage>, u64) {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &found.known;
        (known[known.len().saturating_sub(LISTED_MAX)..].to_vec(), known.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn damaged(number: u32) -> ReadError {
        let chunk = Some(ChunkId::of(&number.to_le_bytes()));
        let source = cairn_store::Error::Damaged {
            what: format!("chunk {number}"),
            chunk,
            pack: None,
            offset: None,
            detail: "its bytes are others".to_owned(),
        };
        ReadError::Damaged { chunk, source: Arc::new(source) }
    }

    #[test]
    fn each_finding_is_kept_once_and_the_latest_are_listed() {
        let log = DamageLog::default();
        log.note(&ReadError::Deadline, || panic!("it is no damage"));
        log.note(&damaged(0), || b"first".to_vec());
        log.note(&damaged(0), || panic!("it is known"));
        assert_eq!(log.list().0[0].times, 2);
        log.note_healed(&damaged(1));
        assert!(!log.list().0[0].healed);
        log.note_healed(&damaged(0));
        assert!(log.list().0[0].healed);
        log.note(&damaged(0), || panic!("it is known"));
        assert!(!log.list().0[0].healed, "it is damaged again");
        for number in 1..200 {
            log.note(&damaged(number), || number.to_string().into_bytes());
        }
        let (listed, count) = log.list();
        assert_eq!((listed.len(), count), (LISTED_MAX, 200));
        assert_eq!(listed[LISTED_MAX - 1].path, b"199");
        // What is not listed any more is no news either.
        log.note(&damaged(0), || panic!("it is known"));
        assert_eq!(log.list().1, 200);
        for number in 200..10_000 {
            log.note(&damaged(number), || number.to_string().into_bytes());
        }
        log.note(&damaged(20_000), || panic!("it is not told apart"));
        assert_eq!(log.list().1, KNOWN_MAX as u64);
    }
}
