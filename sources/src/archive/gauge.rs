//! How much of an archive was read and came out, held against the bounds at every read; and errors as they are told.
//!
//! Decompressors know only `io::Error`. What stops one (a bound, a cancellation, a disk that fails) is put down here, and told
//! instead of what the decompressor makes of it.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::archive::{Bounds, trail};
use crate::error::{Error, Result};
use crate::watch::Watch;

/// Of one archive, through all the times that it is read.
pub(super) struct Gauge<'a> {
    name: &'a str,
    bounds: &'a Bounds,
    watch: &'a dyn Watch,
    taken: Cell<u64>,
    given: Cell<u64>,
    entries: Cell<u64>,
    stop: RefCell<Option<Error>>,
}

impl<'a> Gauge<'a> {
    pub(super) fn new(name: &'a str, bounds: &'a Bounds, watch: &'a dyn Watch) -> Self {
        Self {
            name,
            bounds,
            watch,
            taken: Cell::new(0),
            given: Cell::new(0),
            entries: Cell::new(0),
            stop: RefCell::new(None),
        }
    }

    pub(super) fn bounds(&self) -> &Bounds {
        self.bounds
    }

    /// What the archive is called.
    pub(super) fn name(&self) -> &'a str {
        self.name
    }

    /// Counts what comes of the archive itself.
    pub(super) fn taking<R>(&self, inner: R, path: &Path) -> Taking<'_, 'a, R> {
        Taking { inner, path: path.to_owned(), gauge: self }
    }

    /// Counts what comes out of a decompressor.
    pub(super) fn giving<R>(&self, inner: R) -> Giving<'_, 'a, R> {
        Giving { inner, gauge: self }
    }

    /// One more entry.
    pub(super) fn entry(&self) -> Result<()> {
        self.entries.set(self.entries.get() + 1);
        if self.entries.get() > self.bounds.entries_max {
            return Err(self.refuse(format!("it has more than {} entries", self.bounds.entries_max)));
        }
        if self.watch.cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Another reading begins; bytes count on.
    pub(super) fn again(&self) {
        self.entries.set(0);
    }

    /// The archive is not one, or would do harm.
    pub(super) fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::Archive { archive: self.name.to_owned(), reason: reason.into() }
    }

    /// What a read of the archive failed by. `place` says where, for people: `in bin/app`.
    pub(super) fn error(&self, error: &io::Error, place: &str) -> Error {
        if let Some(stop) = self.stop.borrow_mut().take() {
            return stop;
        }
        let text = error.to_string();
        let is_memory = error.kind() == io::ErrorKind::OutOfMemory || text.contains("too much memory");
        self.refuse(if is_memory {
            let mib = self.bounds.window_bytes_max >> 20;
            format!("it needs more memory to unpack than the {mib} MiB that are allowed")
        } else if error.kind() == io::ErrorKind::UnexpectedEof || text.contains("incomplete frame") {
            format!("it is cut off {place}")
        } else {
            format!("it is damaged {place}: {}", trail::shown(text.as_bytes()))
        })
    }

    fn stop(&self, error: Error) -> io::Error {
        self.stop.borrow_mut().get_or_insert(error);
        io::Error::other("stopped")
    }

    fn count_given(&self, bytes: usize) -> io::Result<()> {
        let given = self.given.get().saturating_add(bytes as u64);
        self.given.set(given);
        let bounds = self.bounds;
        if given > bounds.total_bytes_max {
            let reason = format!("it is longer than {} bytes when it is unpacked", bounds.total_bytes_max);
            return Err(self.stop(self.refuse(reason)));
        }
        if given > Bounds::RATIO_FROM_BYTES && given / bounds.ratio_max.max(1) > self.taken.get() {
            let taken = self.taken.get();
            let reason =
                format!("{given} bytes came out of {taken}, and no end: it is made to fill the disk");
            return Err(self.stop(self.refuse(reason)));
        }
        self.look()
    }

    fn look(&self) -> io::Result<()> {
        if self.watch.cancelled() { Err(self.stop(Error::Cancelled)) } else { Ok(()) }
    }
}

/// The archive as it lies there.
pub(super) struct Taking<'g, 'a, R> {
    inner: R,
    path: PathBuf,
    gauge: &'g Gauge<'a>,
}

impl<R: Read> Read for Taking<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.gauge.look()?;
        match self.inner.read(buffer) {
            Ok(read) => {
                self.gauge.taken.set(self.gauge.taken.get().saturating_add(read as u64));
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => Err(self.gauge.stop(Error::io("read", &self.path)(error))),
        }
    }
}

impl<R: Seek> Seek for Taking<'_, '_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

/// What comes out of it.
pub(super) struct Giving<'g, 'a, R> {
    inner: R,
    gauge: &'g Gauge<'a>,
}

impl<R: Read> Read for Giving<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.gauge.count_given(read)?;
        Ok(read)
    }
}
