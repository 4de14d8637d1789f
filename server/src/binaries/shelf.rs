//! Registered files in the store: `NAME@VERSION` for the platform, each an artifact of one executable at its root, so that
//! peers and `cairn fetch` get it by chunks.
//!
//! What goes into the store is hashed on its way, and is the registered bytes or nothing. A version that this put there is
//! replaced when its file is; one that somebody else put there is not touched. A file that vanishes leaves its version.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cairn_store::{
    ArtifactId, Error, IngestOptions, Input, Kind, Name, Progress, PublishOptions, RefKey, Writer,
};
use sha2::{Digest, Sha256};

use super::folder::Folder;
use super::platform;
use super::registry::Registered;
use super::watch::hex;
use super::{Shared, lock};

/// The fact in an artifact's provenance that says that it was made here, and of what bytes.
pub const CHECKSUM_FACT: &str = "binary.sha256";
/// How long after a failure a file is tried again.
const FAILED_PAUSE: Duration = Duration::from_secs(30);

/// Wakes the thread that adds to the store.
#[derive(Debug, Default)]
pub(super) struct Signal {
    /// Guards whether something is new. A leaf lock.
    is_raised: Mutex<bool>,
    raised: Condvar,
}

impl Signal {
    pub(super) fn ring(&self) {
        *self.is_raised.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.raised.notify_one();
    }

    fn wait(&self, patience: Duration) {
        let is_raised = self.is_raised.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.raised.wait_timeout_while(is_raised, patience, |is_raised| !*is_raised);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// What came of a registered file, by its checksum.
#[derive(Debug)]
enum Fate {
    Added,
    /// Why it is not in the store, and will not be.
    Refused,
    Failed(Instant),
}

/// Why a file is not in the store.
#[derive(Debug, thiserror::Error)]
enum ShelfError {
    #[error(transparent)]
    Store(#[from] Error),
    #[error("the store has {0} from elsewhere, with other content")]
    Foreign(RefKey),
    #[error("the file is not what was registered")]
    Changed,
}

/// Adds what is registered, until it is told to stop.
pub(super) fn fill(shared: &Shared, folder: &Folder, writer: &Writer) {
    let mut fates: BTreeMap<String, (String, Fate)> = BTreeMap::new();
    while !shared.is_stopped() {
        let all: Vec<_> = shared.registry().all().cloned().collect();
        fates.retain(|file, _| all.iter().any(|binary| binary.file == *file));
        lock(&shared.not_shelved).retain(|file, _| fates.contains_key(file));
        for binary in all {
            let fate = fates.get(&binary.file).filter(|(checksum, _)| *checksum == binary.checksum);
            let is_due = match fate {
                None => true,
                Some((_, Fate::Failed(at))) => at.elapsed() >= FAILED_PAUSE,
                Some(_) => false,
            };
            if !is_due || shared.is_stopped() {
                continue;
            }
            // Whoever holds the store back is waited for here.
            let _gate = lock(&shared.gate);
            if let Some(fate) = add_one(shared, folder, writer, &binary) {
                fates.insert(binary.file.clone(), (binary.checksum.clone(), fate));
            }
        }
        shared.registered.wait(FAILED_PAUSE);
    }
}

/// `None` where it was stopped.
fn add_one(shared: &Shared, folder: &Folder, writer: &Writer, binary: &Registered) -> Option<Fate> {
    let stopper = Stopper(shared);
    let error = match add(folder, writer, binary, &stopper) {
        Ok(artifact) => {
            tracing::info!(file = binary.file, %artifact, "a binary is in the store");
            lock(&shared.not_shelved).remove(&binary.file);
            return Some(Fate::Added);
        }
        Err(_) if stopper.cancelled() => return None,
        Err(error) => error,
    };
    let is_final = match &error {
        ShelfError::Foreign(_) => true,
        ShelfError::Changed => false,
        ShelfError::Store(error) => matches!(error.kind(), Kind::Conflict | Kind::Misuse),
    };
    tracing::warn!(file = binary.file, %error, "a binary is not added to the store");
    lock(&shared.not_shelved).insert(binary.file.clone(), error.to_string());
    Some(if is_final { Fate::Refused } else { Fate::Failed(Instant::now()) })
}

struct Stopper<'a>(&'a Shared);

impl Progress for Stopper<'_> {
    fn cancelled(&self) -> bool {
        self.0.is_stopped() || self.0.is_held()
    }
}

fn add(
    folder: &Folder,
    writer: &Writer,
    binary: &Registered,
    progress: &dyn Progress,
) -> Result<ArtifactId, ShelfError> {
    let name: Name = binary.name.program.parse()?;
    let key = RefKey {
        name,
        version: binary.name.version.clone(),
        platform: platform::of_store(binary.name.system, binary.name.arch),
    };
    let old = writer.names().refs.get(&key).map(|record| record.artifact);
    let mut replace = false;
    if let Some(old) = old {
        let provenance = writer.artifact(&old)?.provenance;
        match provenance.get(CHECKSUM_FACT) {
            Some(checksum) if *checksum == binary.checksum => return Ok(old),
            Some(_) => replace = true,
            None => return Err(ShelfError::Foreign(key)),
        }
    }
    let (file, stamp) = folder.open_file(&binary.file).map_err(|_| ShelfError::Changed)?;
    if !stamp.has_bytes_of(&binary.stamp) {
        return Err(ShelfError::Changed);
    }
    let suffix = if binary.name.is_exe { ".exe" } else { "" };
    let input = Input::Reader {
        name: format!("{}{suffix}", binary.name.program),
        executable: true,
        reader: Box::new(Checked { file, hasher: Some(Sha256::new()), expected: binary.checksum.clone() }),
    };
    let mut options = IngestOptions::package(key.name, key.version);
    options.platform = Some(key.platform);
    options.provenance.insert(CHECKSUM_FACT.to_owned(), binary.checksum.clone());
    let ingested = writer.ingest(input, &options, progress)?;
    writer.publish(&ingested, &PublishOptions { replace, channel: None })?;
    Ok(ingested.artifact)
}

/// Reads a file, and fails at its end if it was not what it should be.
struct Checked {
    file: File,
    /// None when the end was reached.
    hasher: Option<Sha256>,
    expected: String,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        if read > 0 || buffer.is_empty() {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..read]);
            }
        } else if self.hasher.take().is_some_and(|hasher| hex(&hasher.finalize()) != self.expected) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the bytes are not those that were registered",
            ));
        }
        Ok(read)
    }
}
