//! The one way from a request into the store: work that blocks or computes runs on threads for that, so many at a time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::available_parallelism;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::peer_error::PeerRefusal;

/// Threads for each core: some wait for the disk while others compute.
const THREADS_PER_CORE: usize = 2;
const THREADS_MIN: usize = 4;

/// Bounds what runs at a time. Clones share the places.
#[derive(Debug, Clone)]
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

    /// Like [`Work::run`], and goes on however long nobody asks for the outcome: who waits in a body that its client does
    /// not take is not asked, and would keep a place that it was given from all others.
    pub(crate) fn start<T, F>(&self, work: F) -> Started<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let places = self.clone();
        Started(tokio::spawn(async move { places.run(work).await }))
    }
}

/// Work that goes on by itself. It is given up when this is dropped, unless it has begun.
#[derive(Debug)]
pub(crate) struct Started<T>(JoinHandle<Result<T, PeerRefusal>>);

impl<T> Future for Started<T> {
    type Output = Result<T, PeerRefusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|joined| joined.unwrap_or_else(|end| Err(PeerRefusal::Failed(end.into()))))
    }
}

impl<T> Drop for Started<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_not_asked_keeps_no_place() {
        let work = Work::with_places(1);
        let held = Arc::clone(&work.places).acquire_owned().await.unwrap();
        let mut forgotten = work.start(|| 1);
        assert!(
            std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut forgotten).poll(context)))
                .await
                .is_pending()
        );
        let next = work.start(|| 2);
        drop(held);
        assert_eq!(next.await.unwrap(), 2);
        assert_eq!(forgotten.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_is_dropped_does_not_begin() {
        let work = Work::with_places(1);
        let held = Arc::clone(&work.places).acquire_owned().await.unwrap();
        drop(work.start(|| panic!("nobody waits for this")));
        drop(held);
        assert_eq!(work.start(|| 3).await.unwrap(), 3);
    }
}
