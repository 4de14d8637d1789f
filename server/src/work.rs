//! The one way from a request into the store: work that blocks or computes runs on threads for that, so many at a time.

use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::Semaphore;

use crate::peer_error::PeerRefusal;

/// Threads for each core: some wait for the disk while others compute.
const THREADS_PER_CORE: usize = 2;
const THREADS_MIN: usize = 4;

/// Bounds what runs at a time.
#[derive(Debug)]
pub(crate) struct Work {
    places: Arc<Semaphore>,
}

impl Work {
    /// As many as suit this machine.
    pub(crate) fn new() -> Self {
        let cores = available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with_places((cores * THREADS_PER_CORE).max(THREADS_MIN))
    }

    /// So many.
    pub(crate) fn with_places(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)) }
    }

    /// Runs something when there is a place. If nobody waits for it any more it begins not at all, or runs to its end.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, PeerRefusal>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        // It is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|error| PeerRefusal::Failed(error.into()))?;
        let span = tracing::Span::current();
        let work = move || {
            let _place = place;
            span.in_scope(work)
        };
        tokio::task::spawn_blocking(work).await.map_err(|panic| PeerRefusal::Failed(panic.into()))
    }
}
