//! Directories that cannot be read: each is logged once, and a bounded number is remembered for `status`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use cairn_store::id::TreeId;
use cairn_store::{ChunkId, Error};

use crate::damage::Damage;

/// Directories that are remembered, so as not to be logged again.
const KNOWN_MAX: usize = 4096;
/// Of these so many are listed, at most.
const LISTED_MAX: usize = 64;

/// What is known of them.
#[derive(Default)]
pub(super) struct Damaged {
    count: AtomicU64,
    /// Guards those that are known, by the id of what cannot be read. A leaf lock.
    known: Mutex<HashMap<[u8; 32], Damage>>,
}

impl Damaged {
    /// Takes note of a failure, and logs the first of each directory.
    pub(super) fn note(&self, id: [u8; 32], path: &[u8], error: &Error) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = known.len() >= KNOWN_MAX;
        match known.entry(id) {
            Entry::Occupied(mut met) => {
                met.get_mut().times += 1;
                met.get_mut().healed = false;
            }
            Entry::Vacant(place) if !is_full => {
                let (chunk, pack, offset) = match error {
                    Error::Damaged { chunk, pack, offset, .. } => (*chunk, *pack, *offset),
                    _ => (None, None, None),
                };
                let (shown, directory) = (path.escape_ascii(), TreeId(id));
                tracing::error!(id = %directory, path = %shown, %error, "a directory cannot be read");
                let chunk = chunk.or(Some(ChunkId(id)));
                let (path, detail) = (path.to_vec(), format!("directory: {error}"));
                place.insert(Damage { chunk, pack, offset, path, detail, times: 1, healed: false });
            }
            Entry::Vacant(_) => {}
        }
    }

    /// Takes note of what was damaged and was read after all, since another machine had a sound copy. `id` is that of what
    /// was wanted, in which the error may name a part.
    pub(super) fn note_healed(&self, id: Option<[u8; 32]>, error: &Error, path: impl FnOnce() -> Vec<u8>) {
        let Error::Damaged { chunk, pack, offset, .. } = error else { return };
        let Some(chunk) = chunk.or(id.map(ChunkId)) else { return };
        let (pack, offset) = (*pack, *offset);
        let path = path();
        tracing::info!(%chunk, path = %path.escape_ascii(), "a damaged directory is healed");
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = known.len() >= KNOWN_MAX;
        for damage in known.values_mut().filter(|damage| damage.chunk == Some(chunk)) {
            damage.healed = true;
        }
        if !is_full {
            let detail = format!("directory: {error}");
            let damage = Damage { chunk: Some(chunk), pack, offset, path, detail, times: 1, healed: true };
            known.entry(chunk.0).or_insert(damage);
        }
    }

    /// How often one could not be read.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Some of them, by path, and how many there are.
    pub(super) fn list(&self) -> (Vec<Damage>, u64) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut listed: Vec<Damage> = known.values().cloned().collect();
        listed.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        listed.truncate(LISTED_MAX);
        (listed, known.len() as u64)
    }
}
