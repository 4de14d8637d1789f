//! Asking web servers: whom a token is for, how long is waited for what, and what is asked again.
//!
//! - TLS by rustls, with the system's certificates. Proxies are those of the environment; this machine is never asked through one.
//! - A token goes to the scheme, host and port that it is for and nowhere else, not through a redirect either, and is neither
//!   in an error nor in a log. From `https` to `http` nothing is followed.
//! - Every wait has a bound, and ends within 100 ms once it is to stop.
//! - Nothing is decompressed: a file is the bytes that were sent.
//!
//! It knows no API and no file of this machine but its own cache of answers.

pub(crate) mod address;
mod body;
mod cache;
mod exchange;
mod fault;
mod token;
mod whole;

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::Client;
use reqwest::redirect::Policy;
use tokio::runtime::{Builder, Runtime};
use url::Url;

use crate::error::{Error, Result};
use crate::watch::Watch;

pub(crate) use exchange::{Answer, Get, Range};
pub(crate) use fault::Fault;
pub(crate) use token::Token;
pub(crate) use whole::Text;

/// Threads that drive connections. What is expensive runs on the callers'.
const THREADS: usize = 2;
/// How often a waiting thread asks whether it is to stop.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes that a server may send ahead in one stream of HTTP/2, and in one connection: enough for 1 Gbit/s over 60 ms.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Idle connections to one host that are kept.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// Looks up a variable of the environment.
pub type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// How servers are asked.
#[derive(Clone)]
pub struct HttpOptions {
    /// A folder for answers that a server can say are still good. It is made once it is needed.
    pub cache: Option<PathBuf>,
    /// How long is waited for what.
    pub timeouts: HttpTimeouts,
    /// How often something is asked again, and when.
    pub retries: Retries,
    /// How long a rate limit is waited out, altogether for one answer.
    pub rate_wait_max: Duration,
    /// Looks up variables that may have a token.
    pub tokens: Variables,
}

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct HttpTimeouts {
    /// For a connection, with its TLS.
    pub connect: Duration,
    /// For the head of an answer.
    pub answer: Duration,
    /// In so much time at least 1 KiB a second has to come of a body.
    pub idle: Duration,
}

/// How often something is asked again.
#[derive(Debug, Clone, Copy)]
pub struct Retries {
    /// How often it is asked in a row, the first time included.
    pub tries: u32,
    /// How long is waited before the second time; twice as long before each further one.
    pub first: Duration,
    /// The longest of these waits.
    pub max: Duration,
}

impl Default for HttpTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            idle: Duration::from_secs(20),
        }
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self { tries: 5, first: Duration::from_millis(200), max: Duration::from_secs(5) }
    }
}

impl Default for HttpOptions {
    /// No cache, and tokens from the environment of this process.
    fn default() -> Self {
        Self {
            cache: None,
            timeouts: HttpTimeouts::default(),
            retries: Retries::default(),
            rate_wait_max: Duration::from_secs(60),
            tokens: Arc::new(|name| std::env::var(name).ok()),
        }
    }
}

/// Asks web servers, from any thread but those of an async runtime. It costs nothing before it is first used.
pub struct Http {
    options: HttpOptions,
    runtime: OnceLock<Runtime>,
    /// One for each [`Way`].
    clients: [OnceLock<Client>; 3],
}

/// How a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// This machine, in the clear: no proxy, and no certificates that would have to be read.
    Here,
    /// This machine, encrypted: no proxy.
    HereEncrypted,
    /// Another machine.
    Far,
}

impl Http {
    /// Makes ready.
    ///
    /// # Errors
    /// None yet: what it needs is made when it is first used.
    pub fn start(options: HttpOptions) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { options, runtime: OnceLock::new(), clients: Default::default() }))
    }

    fn runtime(&self) -> Result<&Runtime> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(4)
            .thread_name("cairn-sources")
            .enable_all()
            .build()
            .map_err(|source| Error::Program { program: "threads for the network".to_owned(), source })?;
        Ok(self.runtime.get_or_init(|| runtime))
    }

    fn client(&self, url: &Url) -> Result<&Client, Fault> {
        let way = match (address::is_loopback(url), url.scheme()) {
            (true, "http") => Way::Here,
            (true, _) => Way::HereEncrypted,
            (false, _) => Way::Far,
        };
        let slot = &self.clients[way as usize];
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let client = self.build(way).map_err(|error| Fault::Passing(fault::chain(&error)))?;
        Ok(slot.get_or_init(|| client))
    }

    fn build(&self, way: Way) -> reqwest::Result<Client> {
        // Another choice of the process is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("cairn/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.options.timeouts.connect)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .tcp_keepalive(Duration::from_secs(30))
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .referer(false)
            // Redirects are followed by `exchange`, which knows whom a token is for.
            .redirect(Policy::none());
        if way != Way::Far {
            builder = builder.no_proxy();
        }
        if way == Way::Here {
            builder = builder.tls_certs_only([]);
        }
        builder.build()
    }

    /// Does async work on this thread, until it is done or is to stop. What it leaves half done is dropped.
    pub(crate) fn wait<T>(&self, watch: &dyn Watch, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime()?.block_on(async {
            let mut work = pin!(work);
            loop {
                if watch.cancelled() {
                    return Err(Error::Cancelled);
                }
                if let Ok(done) = tokio::time::timeout(PAUSE, &mut work).await {
                    return done;
                }
            }
        })
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It may be dropped where nothing may block.
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("timeouts", &self.options.timeouts).finish_non_exhaustive()
    }
}
