//! Streams: what happens in networks, one event a round, in bounded durable logs.
//!
//! # Roles
//! [`Streams`] has the logs of a store; the store's writer owns them. An [`EventLog`] is appended to by any number of callers,
//! who share its syncs, and read by any number beside them.
//!
//! # Bytes
//! `streams/NAME/` holds segments, `<epoch>-<first round>.events`, both 16 lower-case hexadecimal digits; `record` has what
//! is in them. Of several epochs the highest counts, and the files of all others are remains: [`EventLog::reset`] begins one.
//! Each segment names the first round of the one before it. Where that is not the next older file the log begins, for
//! removals are not synced and a crash may bring some of them back.
//!
//! # Order of durability
//! - Append: take room, write records, sync, acknowledge. On a full disk nothing is written, or what was written is cut off
//!   and that synced: the events are refused, and the next append may succeed. Any other failure poisons the log.
//! - New segment, when the newest is long enough: its header is written under `*.part`, synced, renamed, the directory synced;
//!   then it is appended to.
//! - Reset: the same with a new epoch; then the older files are removed.
//! - Opening: cut a torn end off, write the last batch again as it is and sync: a sync that failed under an earlier process
//!   may have left it in memory only.
//!
//! # Bounds
//! A log keeps the newest segments that together have at most `bytes_max` bytes, and the newest one whatever it has.
//! In memory there are 16 bytes for 64 KiB of it, and at most 32 MiB that wait to be written.

mod log;
mod probe;
mod record;
mod recover;
mod segment;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

pub use log::{EventLog, Watch};
pub(crate) use probe::open_segment;

use crate::io::Io;
use crate::refs::Name;
use crate::store::lock;
use crate::writer::Writer;
use crate::{Error, Result};

/// The folder of a store that they are in.
pub const STREAMS: &str = "streams";
/// Streams of one store, at most.
pub const STREAMS_MAX: usize = 1024;
/// What is kept of a stream where nothing else is said.
pub const STREAM_BYTES_MAX: u64 = 1 << 30;

/// How much is kept of each stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamBounds {
    /// Bytes of its files, about: the newest segment stays whatever it has.
    pub bytes_max: u64,
}

impl Default for StreamBounds {
    fn default() -> Self {
        Self { bytes_max: STREAM_BYTES_MAX }
    }
}

/// What is kept of a stream: the rounds from `first` on, before `next`. Where both are equal there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The oldest round that is kept.
    pub first: u64,
    /// The round after the newest.
    pub next: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

impl Span {
    /// Whether no event is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first == self.next
    }
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Events that were not there before.
    pub appended: u64,
    /// The round after the newest.
    pub next: u64,
}

/// The streams of a store. There is one of these at a time, with the store's writer.
pub struct Streams {
    io: Arc<dyn Io>,
    dir: PathBuf,
    /// What keeps the store's lock as long as anybody has a log. None where nobody else writes.
    writer: Option<Arc<Writer>>,
    /// Guards the open logs. Held while one is opened; the locks of logs are taken under it.
    logs: Mutex<Open>,
}

struct Open {
    logs: BTreeMap<Name, Arc<EventLog>>,
    bounds: StreamBounds,
    mode: log::Mode,
}

impl Streams {
    /// The streams of the store that `writer` writes. Each log is opened when it is first asked for.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(writer: &Writer, bounds: StreamBounds) -> Result<Arc<Self>> {
        let (io, dir) = (Arc::clone(writer.io()), writer.path().join(STREAMS));
        Ok(Self::assemble(io, dir, Some(Arc::new(writer.signed(String::new()))), bounds))
    }

    fn assemble(
        io: Arc<dyn Io>,
        dir: PathBuf,
        writer: Option<Arc<Writer>>,
        bounds: StreamBounds,
    ) -> Arc<Self> {
        let open = Open { logs: BTreeMap::new(), bounds, mode: log::Mode::Running };
        Arc::new(Self { io, dir, writer, logs: Mutex::new(open) })
    }

    /// The log of a stream, if there is one.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::NewerFormat`], [`Error::Io`].
    pub fn get(&self, name: &Name) -> Result<Option<Arc<EventLog>>> {
        let mut open = lock(&self.logs);
        match open.logs.get(name) {
            Some(log) => Ok(Some(Arc::clone(log))),
            None if self.names()?.contains(name) => self.open_log(&mut open, name).map(Some),
            None => Ok(None),
        }
    }

    /// The log of a stream, which is made if there is none. That it is there is durable.
    ///
    /// # Errors
    /// As [`Streams::get`]; [`Error::Conflict`] if there are too many.
    pub fn make(&self, name: &Name) -> Result<Arc<EventLog>> {
        let mut open = lock(&self.logs);
        if let Some(log) = open.logs.get(name) {
            return Ok(Arc::clone(log));
        }
        let names = self.names()?;
        if !names.contains(name) {
            if names.len() >= STREAMS_MAX {
                let detail = format!("the store has {STREAMS_MAX} streams, and no more are possible");
                return Err(Error::Conflict { what: format!("stream {name}"), detail });
            }
            let dir = self.dir.join(name.as_str());
            self.io.create_dir_all(&dir).map_err(Error::io("create", &dir))?;
            for above in dir.ancestors().skip(1).take(2) {
                self.io.sync_dir(above).map_err(Error::io("sync", above))?;
            }
        }
        self.open_log(&mut open, name)
    }

    /// The streams that there are.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<Name>> {
        self.names()
    }

    /// How much is kept of each from now on, of those that are made later too.
    pub fn set_bounds(&self, bounds: StreamBounds) {
        let mut open = lock(&self.logs);
        open.bounds = bounds;
        open.logs.values().for_each(|log| log.set_bytes_max(bounds.bytes_max));
    }

    /// Lets every append that has begun end, and those that come wait, until [`Streams::resume`] or [`Streams::close`]:
    /// another process is about to have the store.
    pub fn suspend(&self) {
        self.set_mode(log::Mode::Suspended);
    }

    /// Nobody took over after [`Streams::suspend`]: this goes on.
    pub fn resume(&self) {
        self.set_mode(log::Mode::Running);
    }

    /// Another process has the store: whoever appends, or waits to, is told that this is no longer available. What was
    /// appended can still be read.
    pub fn close(&self) {
        self.set_mode(log::Mode::Closed);
    }

    fn set_mode(&self, mode: log::Mode) {
        let mut open = lock(&self.logs);
        open.mode = mode;
        open.logs.values().for_each(|log| log.set_mode(mode));
    }

    fn open_log(&self, open: &mut Open, name: &Name) -> Result<Arc<EventLog>> {
        let log =
            EventLog::open(Arc::clone(&self.io), self.dir.join(name.as_str()), name.clone(), open.bounds)?;
        log.set_mode(open.mode);
        let log = Arc::new(log.keeping(self.writer.clone()));
        open.logs.insert(name.clone(), Arc::clone(&log));
        Ok(log)
    }

    fn names(&self) -> Result<Vec<Name>> {
        let listed = match self.io.list(&self.dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(Error::io("list", &self.dir))?,
        };
        let folders = listed.into_iter().filter(|entry| entry.is_dir);
        let mut names: Vec<Name> = folders.filter_map(|entry| entry.name.parse().ok()).collect();
        names.sort();
        Ok(names)
    }
}
