//! The front door: connections, the threads that drive them, and how a thread that does not know async waits for what
//! does. Callers are threads of jobs, never those of an async runtime.

use std::future::Future;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::Client;
use tokio::runtime::{Builder, Runtime};

use crate::address::Source;
use crate::error::{Error, Result};
use crate::http::{self, Timeouts};
use crate::peer::Peer;

/// Threads that drive connections. What is expensive runs elsewhere.
const THREADS: usize = 2;
/// Clients that are kept, each with its open connections, at most.
const CLIENTS_MAX: usize = 64;
/// How often a waiting thread asks whether it is to stop.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// How connections are made.
#[derive(Debug, Clone, Copy, Default)]
pub struct NetOptions {
    /// How long is waited for what.
    pub timeouts: Timeouts,
}

/// The exchange with peers. It costs nothing before it is first used.
pub struct Net {
    options: NetOptions,
    runtime: OnceLock<Runtime>,
    /// Guards the clients; a leaf lock.
    clients: Mutex<Vec<(Source, Client)>>,
}

impl Net {
    /// Makes ready.
    ///
    /// # Errors
    /// [`Error::Start`].
    pub fn start(options: NetOptions) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { options, runtime: OnceLock::new(), clients: Mutex::default() }))
    }

    pub(crate) fn runtime(&self) -> Result<&Runtime> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(4)
            .thread_name("cairn-net")
            .enable_all()
            .build()
            .map_err(|error| Error::Start(error.into()))?;
        Ok(self.runtime.get_or_init(|| runtime))
    }

    /// A peer with a count of its own of what goes over the wire.
    pub(crate) fn peer(&self, source: &Source) -> Result<Peer> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let known = clients.iter().find(|(known, _)| known == source).map(|(_, client)| client.clone());
        let client = match known {
            Some(client) => client,
            None => {
                let client = http::client(source, &self.options.timeouts)?;
                if clients.len() >= CLIENTS_MAX {
                    clients.remove(0);
                }
                clients.push((source.clone(), client.clone()));
                client
            }
        };
        Ok(Peer::new(source.clone(), client, self.options.timeouts))
    }

    pub(crate) fn peers(&self, sources: &[Source]) -> Result<Vec<Peer>> {
        sources.iter().map(|source| self.peer(source)).collect()
    }

    /// Runs async work and waits for it, or until it is to stop.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<T> {
        let (sender, receiver) = channel();
        let task = self.runtime()?.spawn(async move {
            // Nobody listens after a cancellation.
            let _ = sender.send(work.await);
        });
        loop {
            match receiver.recv_timeout(PAUSE) {
                Ok(value) => return Ok(value),
                Err(RecvTimeoutError::Timeout) if cancelled() => {
                    task.abort();
                    return Err(Error::Cancelled);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Start("a task ended without its result".into()));
                }
            }
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It may be dropped on one of its own threads.
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").field("options", &self.options).finish_non_exhaustive()
    }
}
