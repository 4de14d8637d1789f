//! A pack that is synced in the background while it is filled, so that sealing it has little left to wait for.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::{FrameRow, PackKind, PackWriter};
use crate::block::Frame;
use crate::error::{Error, Result};
use crate::id::PackId;
use crate::io::{Io, WriteFile};

/// Bytes appended after which a pack is synced in the background.
const SYNC_STRIDE: u64 = 16 << 20;

/// A pack on its way to being sealed.
pub(crate) struct Filling {
    writer: PackWriter,
    syncer: Option<Syncer>,
    /// Bytes whose sync was asked for.
    synced: u64,
}

impl Filling {
    /// Begins a pack in `dir`.
    ///
    /// # Errors
    /// As [`PackWriter::create`].
    pub(crate) fn create(io: Arc<dyn Io>, dir: &Path, kind: PackKind) -> Result<Self> {
        Ok(Self { writer: PackWriter::create(io, dir, kind)?, syncer: None, synced: 0 })
    }

    /// Appends a frame; gives where it lies.
    ///
    /// # Errors
    /// As [`PackWriter::append`].
    pub(crate) fn append(&mut self, frame: &Frame) -> Result<FrameRow> {
        let row = self.writer.append(frame)?;
        if self.writer.len() - self.synced > SYNC_STRIDE {
            self.synced = self.writer.len();
            self.syncer.get_or_insert_with(Syncer::start).request(self.writer.file());
        }
        Ok(row)
    }

    /// Bytes written so far.
    pub(crate) fn len(&self) -> u64 {
        self.writer.len()
    }

    /// Whether it is time to seal it.
    pub(crate) fn is_full(&self) -> bool {
        self.writer.is_full()
    }

    /// Where it lies until it is sealed.
    pub(crate) fn path(&self) -> &Path {
        self.writer.path()
    }

    /// Seals it, as [`PackWriter::seal`] does; `claim` is told its id before it gets its name. A sync in the background that
    /// failed fails this.
    ///
    /// # Errors
    /// As [`PackWriter::seal`].
    pub(crate) fn seal(&mut self, claim: &dyn Fn(&PackId)) -> Result<PackId> {
        if let Some(syncer) = self.syncer.take() {
            syncer.finish().map_err(Error::io("sync", self.writer.path()))?;
        }
        self.writer.seal_as(claim)
    }

    /// Whether sealing it replaced a pack of the same id, which others may need.
    pub(crate) fn replaced(&self) -> bool {
        self.writer.replaced()
    }
}

/// Syncs a pack while more is appended to it. A failure is kept until the pack is sealed, and fails it. Dropping it waits
/// for the sync that runs.
struct Syncer {
    requests: Option<SyncSender<Arc<dyn WriteFile>>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Syncer {
    fn start() -> Self {
        let (requests, files) = sync_channel::<Arc<dyn WriteFile>>(1);
        let thread = thread::spawn(move || files.iter().try_for_each(|file| file.sync()));
        Self { requests: Some(requests), thread: Some(thread) }
    }

    fn request(&self, file: Arc<dyn WriteFile>) {
        // While one sync runs and one waits, sealing will do the rest.
        let _ = self.requests.as_ref().map(|requests| requests.try_send(file));
    }

    fn finish(mut self) -> std::io::Result<()> {
        self.join()
    }

    fn join(&mut self) -> std::io::Result<()> {
        self.requests = None;
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the syncing thread panicked")))
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        // Whoever drops it instead of finishing it has given the pack up.
        let _ = self.join();
    }
}
