//! The catalogue's tables in sled.
//!
//! | tree | key | value |
//! |---|---|---|
//! | `refs` | name, 0, version, 0, platform | postcard of `RefRecord` |
//! | `artifacts` | artifact id (32 bytes), then the key in `refs` | nothing |
//! | `channels` | name, 0, channel, 0, platform | version |
//! | `meta` | `at` | format and sequence number, both u64 little-endian |
//!
//! `at` is removed while the tables are built, so that half of them is never taken for all.

use std::path::Path;
use std::time::Duration;

use sled::transaction::{
    ConflictableTransactionError, TransactionError, Transactional, TransactionalTree,
    UnabortableTransactionError,
};
use sled::{Batch, Db, Tree};

use super::Trouble;
use crate::id::{ArtifactId, ID_LEN};
use crate::journal::{Op, Record};
use crate::refs::{ChannelKey, Platform, RefKey, RefRecord, View};

const FORMAT: u64 = 1;
const CACHE_BYTES: u64 = 16 << 20;
const OPEN_ATTEMPTS: u32 = 20;
const OPEN_PAUSE: Duration = Duration::from_millis(10);
const AT: &[u8] = b"at";
/// Entries that are built at a time.
const BATCH_ENTRIES: usize = 1024;

pub(super) struct Tables {
    db: Db,
    refs: Tree,
    artifacts: Tree,
    channels: Tree,
    meta: Tree,
    seq: Option<u64>,
}

type Abort = ConflictableTransactionError<Trouble>;

fn disagree(detail: impl Into<String>) -> Trouble {
    Trouble::Disagrees(detail.into())
}

fn ref_key(key: &RefKey) -> Vec<u8> {
    format!("{}\0{}\0{}", key.name, key.version, key.platform).into_bytes()
}

fn channel_key(key: &ChannelKey) -> Vec<u8> {
    format!("{}\0{}\0{}", key.name, key.channel, key.platform).into_bytes()
}

fn artifact_key(artifact: &ArtifactId, ref_key: &[u8]) -> Vec<u8> {
    [&artifact.0, ref_key].concat()
}

fn parse_ref_key(bytes: &[u8]) -> Option<RefKey> {
    let mut parts = std::str::from_utf8(bytes).ok()?.split('\0');
    let (name, version) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let platform: Platform = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some(RefKey { name, version, platform })
}

fn parse_record(bytes: &[u8]) -> Result<RefRecord, Trouble> {
    postcard::from_bytes(bytes).map_err(|_| disagree("a ref cannot be decoded"))
}

/// A ref by its key and its value, and the key that is written for it: for who feeds decoders with anything.
pub(crate) fn decode_entry(key: &[u8], value: &[u8]) -> Option<(RefKey, RefRecord, Vec<u8>)> {
    let parsed = parse_ref_key(key)?;
    let record = parse_record(value).ok()?;
    let written = ref_key(&parsed);
    Some((parsed, record, written))
}

fn encode_record(record: &RefRecord) -> Result<Vec<u8>, Trouble> {
    postcard::to_stdvec(record).map_err(|error| disagree(error.to_string()))
}

fn encode_at(seq: u64) -> Vec<u8> {
    [FORMAT.to_le_bytes(), seq.to_le_bytes()].concat()
}

/// Opens the database. sled locks its file, and a child that another thread is just starting may hold on to the lock
/// of an earlier opening until it runs its program: sled's one attempt is repeated for a moment. No other process has
/// the catalogue open, since the store is locked.
fn open_db(dir: &Path) -> Result<Db, sled::Error> {
    let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    for _ in 1..OPEN_ATTEMPTS {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().starts_with("could not acquire lock") => {}
            opened => return opened,
        }
        std::thread::sleep(OPEN_PAUSE);
    }
    config.open()
}

impl Tables {
    pub(super) fn open(dir: &Path) -> Result<Self, Trouble> {
        let db = open_db(dir)?;
        let (refs, artifacts) = (db.open_tree("refs")?, db.open_tree("artifacts")?);
        let (channels, meta) = (db.open_tree("channels")?, db.open_tree("meta")?);
        let at = meta.get(AT)?;
        let seq = at.and_then(|at| {
            let (format, seq) = (at.get(..8)?, at.get(8..)?);
            (format == FORMAT.to_le_bytes()).then_some(u64::from_le_bytes(seq.try_into().ok()?))
        });
        Ok(Self { db, refs, artifacts, channels, meta, seq })
    }

    /// The sequence number that the tables have reached; `None` if they have to be built.
    pub(super) fn seq(&self) -> Option<u64> {
        self.seq
    }

    /// Throws everything away and takes in `view`.
    pub(super) fn build(&mut self, view: &View) -> Result<(), Trouble> {
        self.seq = None;
        self.meta.remove(AT)?;
        self.db.flush()?;
        for tree in [&self.refs, &self.artifacts, &self.channels] {
            tree.clear()?;
        }
        let (mut refs, mut artifacts) = (Batch::default(), Batch::default());
        for (n, (key, record)) in view.refs.iter().enumerate() {
            let key = ref_key(key);
            artifacts.insert(artifact_key(&record.artifact, &key), &[]);
            refs.insert(key, encode_record(record)?);
            if n % BATCH_ENTRIES == BATCH_ENTRIES - 1 {
                self.refs.apply_batch(std::mem::take(&mut refs))?;
                self.artifacts.apply_batch(std::mem::take(&mut artifacts))?;
            }
        }
        self.refs.apply_batch(refs)?;
        self.artifacts.apply_batch(artifacts)?;
        let mut channels = Batch::default();
        for (key, version) in &view.channels {
            channels.insert(channel_key(key), version.as_str());
        }
        self.channels.apply_batch(channels)?;
        self.reach(view.seq)
    }

    /// The tables are complete up to record `seq`, durably.
    pub(super) fn reach(&mut self, seq: u64) -> Result<(), Trouble> {
        self.meta.insert(AT, encode_at(seq))?;
        self.db.flush()?;
        self.seq = Some(seq);
        Ok(())
    }

    /// Takes in `records`, all or none: each has to replace what it says it does.
    pub(super) fn apply(&mut self, records: &[Record]) -> Result<(), Trouble> {
        let Some(last) = records.last() else { return Ok(()) };
        let trees = (&self.refs, &self.artifacts, &self.channels, &self.meta);
        let done = trees.transaction(|(refs, artifacts, channels, meta)| {
            for record in records {
                match &record.op {
                    Op::SetRef { key, old, record } => {
                        swap_ref(refs, artifacts, key, old.as_ref(), Some(record))?
                    }
                    Op::RemoveRef { key, old } => swap_ref(refs, artifacts, key, Some(old), None)?,
                    Op::SetChannel { key, old, version } => {
                        let old = old.as_ref().map(|old| old.as_str());
                        swap_channel(channels, key, old, Some(version.as_str()))?;
                    }
                    Op::RemoveChannel { key, old } => swap_channel(channels, key, Some(old.as_str()), None)?,
                    Op::AddGeneration { .. }
                    | Op::SetCurrent { .. }
                    | Op::RemoveGeneration { .. }
                    | Op::Pin { .. }
                    | Op::Unpin { .. }
                    | Op::SetOrigin { .. }
                    | Op::SetWitness { .. }
                    | Op::SetPartial { .. }
                    | Op::SetWhole { .. } => {}
                }
            }
            meta.insert(AT, encode_at(last.seq))?;
            Ok(())
        });
        done.map_err(|error| match error {
            TransactionError::Abort(trouble) => trouble,
            TransactionError::Storage(error) => error.into(),
        })?;
        self.seq = Some(last.seq);
        Ok(())
    }

    pub(super) fn get(&self, key: &RefKey) -> Result<Option<RefRecord>, Trouble> {
        self.refs.get(ref_key(key))?.map(|record| parse_record(&record)).transpose()
    }

    pub(super) fn refs_named(&self, prefix: &str) -> Result<Vec<(RefKey, RefRecord)>, Trouble> {
        let mut found = Vec::new();
        for entry in self.refs.scan_prefix(prefix) {
            let (key, record) = entry?;
            let key = parse_ref_key(&key).ok_or_else(|| disagree("a ref's key cannot be decoded"))?;
            found.push((key, parse_record(&record)?));
        }
        // sled orders by bytes.
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(found)
    }

    pub(super) fn refs_to(&self, artifact: &ArtifactId) -> Result<Vec<RefKey>, Trouble> {
        let mut found = Vec::new();
        for entry in self.artifacts.scan_prefix(artifact.0) {
            let (key, _) = entry?;
            let key = key.get(ID_LEN..).and_then(parse_ref_key);
            found.push(key.ok_or_else(|| disagree("an artifact's key cannot be decoded"))?);
        }
        found.sort();
        Ok(found)
    }

    /// Changes what a table says, behind its back.
    #[cfg(test)]
    pub(super) fn spoil(&self, tree: &str, key: &[u8], value: Option<&[u8]>) {
        let tree = self.db.open_tree(tree).unwrap();
        match value {
            Some(value) => drop(tree.insert(key, value).unwrap()),
            None => drop(tree.remove(key).unwrap()),
        }
    }

    /// Whether the tables say exactly what `view` says.
    pub(super) fn compare(&self, view: &View) -> Result<(), Trouble> {
        let counts = [
            ("refs", self.refs.iter().count(), view.refs.len()),
            ("artifacts", self.artifacts.iter().count(), view.refs.len()),
            ("channels", self.channels.iter().count(), view.channels.len()),
        ];
        for (tree, found, expected) in counts {
            if found != expected {
                return Err(disagree(format!("it has {found} {tree}, the journal has {expected}")));
            }
        }
        for (key, record) in &view.refs {
            let raw = ref_key(key);
            let same = self
                .refs
                .get(&raw)?
                .is_some_and(|found| parse_record(&found).is_ok_and(|found| found == *record));
            if !same || self.artifacts.get(artifact_key(&record.artifact, &raw))?.is_none() {
                return Err(disagree(format!("{key} is not what it is in the journal")));
            }
        }
        for (key, version) in &view.channels {
            if self.channels.get(channel_key(key))?.as_deref() != Some(version.as_str().as_bytes()) {
                return Err(disagree(format!("{key} is not what it is in the journal")));
            }
        }
        Ok(())
    }
}

fn swap_ref(
    refs: &TransactionalTree,
    artifacts: &TransactionalTree,
    key: &RefKey,
    old: Option<&ArtifactId>,
    new: Option<&RefRecord>,
) -> Result<(), Abort> {
    let raw = ref_key(key);
    let found = refs.get(&raw)?.map(|record| parse_record(&record)).transpose().map_err(Abort::Abort)?;
    if found.map(|record| record.artifact) != old.copied() {
        return Err(Abort::Abort(disagree(format!("{key} is not what a record replaces"))));
    }
    if let Some(old) = old {
        artifacts.remove(artifact_key(old, &raw))?;
    }
    let Some(new) = new else {
        refs.remove(raw)?;
        return Ok(());
    };
    artifacts.insert(artifact_key(&new.artifact, &raw), &[])?;
    refs.insert(raw, encode_record(new).map_err(Abort::Abort)?)?;
    Ok(())
}

fn swap_channel(
    channels: &TransactionalTree,
    key: &ChannelKey,
    old: Option<&str>,
    new: Option<&str>,
) -> Result<(), Abort> {
    let raw = channel_key(key);
    if channels.get(&raw)?.as_deref() != old.map(str::as_bytes) {
        return Err(Abort::Abort(disagree(format!("{key} is not what a record replaces"))));
    }
    let swapped: Result<_, UnabortableTransactionError> = match new {
        Some(new) => channels.insert(raw, new),
        None => channels.remove(raw),
    };
    swapped?;
    Ok(())
}
