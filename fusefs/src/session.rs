//! One connection being served: threads that read requests until the connection ends, and the news of that end.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use fuser::{Config, Filesystem, Session, SessionACL};

use crate::device::Line;

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The last use of the mount went: somebody unmounted it, or its mount point vanished.
    Unmounted,
    /// The connection broke, with this error.
    Broken(String),
}

/// A session that runs.
#[derive(Debug)]
pub(crate) struct Serving {
    line: Line,
    ending: Arc<Ending>,
}

#[derive(Debug, Default)]
struct Ending {
    /// Guards how it ended; taken alone.
    end: Mutex<Option<End>>,
    came: Condvar,
}

impl Ending {
    fn lock(&self) -> MutexGuard<'_, Option<End>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Threads that read the kernel's requests. One answers a few hundred thousand a second, and need not be woken for each
/// (see `linger`); what takes reading or decoding is done by others.
pub(crate) const THREADS: usize = 1;

/// What fuser is told: so many threads on one descriptor, and no checks of its own, since the kernel does them.
pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(THREADS);
    config
}

impl Serving {
    /// Serves until the connection ends, and reports that. `is_seen` tells whether the mount is in any place: the kernel
    /// breaks a connection off too when the last use of its mount goes while a request is on its way.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(crate) fn start<F: Filesystem>(
        session: Session<F>,
        is_seen: impl FnOnce() -> bool + Send + 'static,
        report: impl FnOnce(&End) + Send + 'static,
    ) -> io::Result<Self> {
        let serving = Self { line: Line::of(&session), ending: Arc::default() };
        let ending = Arc::clone(&serving.ending);
        let serve = move || {
            let end = match session.run() {
                Ok(()) => End::Unmounted,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted && !is_seen() => {
                    End::Unmounted
                }
                Err(error) => End::Broken(error.to_string()),
            };
            report(&end);
            *ending.lock() = Some(end);
            ending.came.notify_all();
        };
        std::thread::Builder::new().name("mount".to_owned()).spawn(serve)?;
        Ok(serving)
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<End> {
        self.ending.lock().clone()
    }

    /// Waits for the end.
    pub(crate) fn wait(&self) -> End {
        let mut end = self.ending.lock();
        loop {
            match &*end {
                Some(end) => return end.clone(),
                None => end = self.ending.came.wait(end).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    pub(crate) fn line(&self) -> Line {
        self.line.clone()
    }
}
