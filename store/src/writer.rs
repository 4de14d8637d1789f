//! The one process that writes a store.
//!
//! Order of durability: data packs, metadata packs, their directory (all in [`crate::ingest`]), then the journal's
//! record, then the acknowledgement. The catalogue follows the journal and is never ahead of it.

use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::catalogue::Catalogue;
use crate::error::{Error, Result};
use crate::id::ArtifactId;
use crate::ingest::{self, IngestOptions, Ingested, Input};
use crate::io::{Io, Os};
use crate::journal::{Journal, Op};
use crate::lock::Lock;
use crate::pack::{self, UNSEALED};
use crate::progress::Progress;
use crate::refs::{Channel, ChannelKey, RefKey, RefRecord, Version, View};
use crate::store::{Store, check_format, lock, write_format};
use crate::time::now_ms;

/// Changes after which the catalogue catches up unasked.
const FOLLOW_EVERY: u64 = 64;

/// How a store is opened for writing.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// How long to wait for another writer.
    pub wait: Duration,
    /// What this writer is, for those who wait for it: its command line.
    pub command: String,
    /// Who makes the changes, for the log: `user@host`.
    pub who: String,
}

/// A store, open for writing. There is one at a time, on one machine; it dereferences to the [`Store`] it writes.
pub struct Writer {
    store: Store,
    who: String,
    /// Guards the journal and the catalogue that follows it; held while a change is made durable.
    names: Mutex<Names>,
    _lock: Option<Lock>,
}

struct Names {
    journal: Journal,
    /// Absent where the store is on a simulated file system, which sled does not know.
    catalogue: Option<Catalogue>,
}

/// What publishing does beside naming the artifact.
#[derive(Debug, Clone, Default)]
pub struct PublishOptions {
    /// Whether a version that exists with other content is replaced.
    pub replace: bool,
    /// A channel that is to point to the version.
    pub channel: Option<Channel>,
}

/// What publishing changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Sequence number of the journal's record; none where nothing changed.
    pub seq: Option<u64>,
    /// What the version was before, if something else.
    pub replaced: Option<ArtifactId>,
    /// Whether the version was there with the same content.
    pub unchanged: bool,
}

impl Deref for Writer {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Writer {
    /// Opens the store in a folder, or makes one where there is none, and recovers what a crash left.
    ///
    /// # Errors
    /// [`Error::Busy`] when another process holds it for longer than the wait, [`Error::Invalid`] when the folder holds
    /// something else, [`Error::NewerFormat`], [`Error::Io`].
    pub fn open(path: &Path, options: &WriterOptions, progress: &dyn Progress) -> Result<Self> {
        let io: Arc<dyn Io> = Arc::new(Os);
        make(&*io, path)?;
        let held = Lock::acquire(path, options.wait, &options.command, &|| progress.cancelled())?;
        Self::begin(io, path, options, Some(held), Some(Catalogue::at(&path.join("catalogue"))))
    }

    /// Opens a store on another file system, which nobody else writes: without lock and catalogue.
    ///
    /// # Errors
    /// As [`Writer::open`].
    pub fn open_with(io: Arc<dyn Io>, path: &Path, options: &WriterOptions) -> Result<Self> {
        make(&*io, path)?;
        Self::begin(io, path, options, None, None)
    }

    fn begin(
        io: Arc<dyn Io>,
        path: &Path,
        options: &WriterOptions,
        held: Option<Lock>,
        catalogue: Option<Catalogue>,
    ) -> Result<Self> {
        // Nothing was written before the lock was held, except by whoever held it.
        if !check_format(&*io, path)? {
            write_format(&*io, path)?;
        }
        recover_packs(&*io, &path.join("packs"))?;
        let journal = Journal::open_write(Arc::clone(&io), &path.join("journal"))?;
        let names = Names { journal, catalogue };
        let store = Store::assemble(io, path);
        Ok(Self { store, who: options.who.clone(), names: Mutex::new(names), _lock: held })
    }

    /// The store, for readers that outlive this.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Stores a tree or a stream. The artifact is durable afterwards, and not visible until [`Writer::publish`].
    ///
    /// # Errors
    /// [`Error::Tree`] and [`Error::Input`] when the input cannot be read, [`Error::Cancelled`], [`Error::Io`].
    pub fn ingest(&self, input: Input, options: &IngestOptions, progress: &dyn Progress) -> Result<Ingested> {
        let ingested = ingest::ingest(&self.store, input, options, progress)?;
        if ingested.metadata_bytes > 0 || ingested.stored_bytes > 0 {
            self.store.refresh_index();
        }
        Ok(ingested)
    }

    /// Names an artifact.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the version exists with other content and is not to be replaced, or when a version and a
    /// channel would have one name, [`Error::Io`].
    pub fn publish(&self, ingested: &Ingested, options: &PublishOptions) -> Result<Published> {
        let mut names = lock(&self.names);
        let view = Arc::clone(names.journal.view());
        let key = &ingested.key;
        let old = view.refs.get(key).map(|record| record.artifact);
        let replaced = old.filter(|old| *old != ingested.artifact);
        if replaced.is_some() && !options.replace {
            return Err(Error::Conflict {
                what: format!("{key}"),
                detail: "it exists with other content; choose another version, or replace it".to_owned(),
            });
        }
        check_channel(&view, key, options.channel.as_ref())?;
        let unchanged = old == Some(ingested.artifact);
        let mut ops = Vec::new();
        if !unchanged {
            let record = RefRecord {
                artifact: ingested.artifact,
                files: ingested.files,
                bytes: ingested.bytes,
                chunks: ingested.chunks,
                new_bytes: ingested.new_bytes,
                stored_bytes: ingested.stored_bytes + ingested.metadata_bytes,
                time_ms: now_ms(),
            };
            ops.push(Op::SetRef { key: key.clone(), old, record });
        }
        ops.extend(options.channel.as_ref().and_then(|channel| point(&view, key, channel)));
        if ops.is_empty() {
            return Ok(Published { seq: None, replaced: None, unchanged });
        }
        let seq = names.change(ops, &self.who)?;
        drop(names);
        self.persist_index();
        Ok(Published { seq: Some(seq), replaced, unchanged })
    }

    /// Takes a version's name away. Its bytes stay until they are collected.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Conflict`] when a channel points to it and it is not forced (then the channel goes
    /// too), [`Error::Io`].
    pub fn remove_ref(&self, key: &RefKey, force: bool) -> Result<ArtifactId> {
        let mut names = lock(&self.names);
        let view = Arc::clone(names.journal.view());
        let old = view.refs.get(key).ok_or_else(|| Error::Absent { what: key.to_string() })?.artifact;
        let channels: Vec<_> = view
            .channels
            .iter()
            .filter(|(channel, version)| {
                channel.name == key.name && channel.platform == key.platform && **version == key.version
            })
            .collect();
        if let Some((channel, _)) = channels.first().filter(|_| !force) {
            return Err(Error::Conflict {
                what: key.to_string(),
                detail: format!(
                    "channel {} points to it; point it elsewhere first, or force this",
                    channel.channel
                ),
            });
        }
        let mut ops: Vec<_> = channels
            .into_iter()
            .map(|(channel, version)| Op::RemoveChannel { key: channel.clone(), old: version.clone() })
            .collect();
        ops.push(Op::RemoveRef { key: key.clone(), old });
        names.change(ops, &self.who)?;
        Ok(old)
    }

    /// Points a channel to a version; gives where it pointed before.
    ///
    /// # Errors
    /// [`Error::Absent`] when there is no such version, [`Error::Conflict`] when a version has the channel's name,
    /// [`Error::Io`].
    pub fn tag(&self, key: &RefKey, channel: &Channel) -> Result<Option<Version>> {
        let mut names = lock(&self.names);
        let view = Arc::clone(names.journal.view());
        if !view.refs.contains_key(key) {
            return Err(Error::Absent { what: key.to_string() });
        }
        check_channel(&view, key, Some(channel))?;
        let Some(op) = point(&view, key, channel) else { return Ok(Some(key.version.clone())) };
        let old = match &op {
            Op::SetChannel { old, .. } => old.clone(),
            _ => None,
        };
        names.change(vec![op], &self.who)?;
        Ok(old)
    }

    /// Takes a channel away; gives the version that it pointed to.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Io`].
    pub fn remove_channel(&self, key: &ChannelKey) -> Result<Version> {
        let mut names = lock(&self.names);
        let view = Arc::clone(names.journal.view());
        let old = view.channels.get(key).ok_or_else(|| Error::Absent { what: key.to_string() })?.clone();
        names.change(vec![Op::RemoveChannel { key: key.clone(), old: old.clone() }], &self.who)?;
        Ok(old)
    }

    /// Writes an index run if many chunks are in none. Failing costs time at the next opening only.
    fn persist_index(&self) {
        let persisted =
            self.store.index().and_then(|index| index.persist(&**self.store.io(), self.store.path(), false));
        if let Err(error) = persisted {
            tracing::warn!(%error, "cannot write the index; it is derived from the packs each time");
        }
    }
}

impl Names {
    /// Makes a change durable. The catalogue catches up when it is asked something, and every [`FOLLOW_EVERY`] changes,
    /// so that it never has much to catch up with: opening it costs 8 ms, as much as adding a small release.
    fn change(&mut self, ops: Vec<Op>, who: &str) -> Result<u64> {
        let before = self.journal.view().seq;
        let seq = self.journal.append(ops, who, now_ms())?;
        if before / FOLLOW_EVERY != seq / FOLLOW_EVERY
            && let Some(catalogue) = &mut self.catalogue
        {
            // It is derived, and the next one to ask it something tries again.
            if let Err(error) = catalogue.follow(&self.journal) {
                tracing::warn!(%error, "the catalogue does not follow the journal");
            }
        }
        Ok(seq)
    }
}

/// A version and a channel of one name cannot both be meant by it.
fn check_channel(view: &View, key: &RefKey, channel: Option<&Channel>) -> Result<()> {
    let is_this = |channel: &Channel| channel.as_str() == key.version.as_str();
    let shadowed = channel.filter(|channel| view.shadows(&key.name, channel) || is_this(channel));
    if let Some(channel) = shadowed {
        return Err(Error::Conflict {
            what: format!("channel {channel}"),
            detail: format!("{} has a version of that name", key.name),
        });
    }
    let is_new = !view.refs.contains_key(key);
    if is_new && view.channels.keys().any(|channel| channel.name == key.name && is_this(&channel.channel)) {
        return Err(Error::Conflict {
            what: key.to_string(),
            detail: format!("{} has a channel of that name", key.name),
        });
    }
    Ok(())
}

/// The change that points a channel to a version, unless it does.
fn point(view: &View, key: &RefKey, channel: &Channel) -> Option<Op> {
    let channel =
        ChannelKey { name: key.name.clone(), channel: channel.clone(), platform: key.platform.clone() };
    let old = view.channels.get(&channel).cloned();
    (old.as_ref() != Some(&key.version)).then(|| Op::SetChannel {
        key: channel,
        old,
        version: key.version.clone(),
    })
}

/// Makes the folders of a store, in an empty folder or one that is a store.
fn make(io: &dyn Io, path: &Path) -> Result<()> {
    let is_new = !check_format(io, path)?;
    if is_new {
        match io.list(path) {
            Ok(listed) if listed.iter().any(|entry| !is_ours(&entry.name)) => {
                return Err(Error::Invalid {
                    what: "store",
                    given: path.display().to_string(),
                    reason: "the folder is neither empty nor a store".to_owned(),
                });
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("list", path)(error)),
        }
    }
    for dir in ["packs", "journal", "index", "cache"] {
        let dir = path.join(dir);
        io.create_dir_all(&dir).map_err(Error::io("create", dir))?;
    }
    io.sync_dir(path).map_err(Error::io("sync", path))?;
    if is_new { sync_names_above(io, path) } else { Ok(()) }
}

/// Makes the names that lead to a folder durable. Those that the user may not list were not made here.
fn sync_names_above(io: &dyn Io, path: &Path) -> Result<()> {
    for dir in path.ancestors().skip(1) {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        match io.sync_dir(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            synced => synced.map_err(Error::io("sync", dir))?,
        }
    }
    Ok(())
}

/// What a crash in the middle of making a store leaves.
fn is_ours(name: &str) -> bool {
    ["packs", "journal", "index", "cache", "catalogue", "lock", "cairn-store.part"].contains(&name)
}

/// Seals the data packs that a crash left open, so that what they hold need not be stored again; throws open metadata
/// packs away, since their objects may name chunks that were lost. Makes the names of all packs durable: an ingest that
/// was cut off may have sealed some whose names are not.
fn recover_packs(io: &dyn Io, dir: &Path) -> Result<()> {
    for entry in io.list(dir).map_err(Error::io("list", dir))? {
        if entry.name.strip_suffix(UNSEALED).is_some_and(|stem| stem.ends_with('.')) {
            let path = dir.join(&entry.name);
            let sealed = match pack::recover(io, dir, &path) {
                // No room for a footer: what it holds is stored again when it is added again.
                Err(error) if error.is_disk_full() => {
                    io.remove(&path).map_err(Error::io("remove", &path))?;
                    None
                }
                recovered => recovered?,
            };
            tracing::info!(file = entry.name, pack = ?sealed, "recovered what an interrupted writer left");
        }
    }
    io.sync_dir(dir).map_err(Error::io("sync", dir))
}
