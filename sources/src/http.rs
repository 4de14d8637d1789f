//! Asking web servers: whom a token is for, how long is waited for what, and what is asked again.
//!
//! - TLS by rustls, with the system's certificates. Proxies are those of the environment; this machine is never asked through one.
//! - A token goes to the scheme, host and port that it is for and nowhere else, not through a redirect either, and is neither
//!   in an error nor in a log. From `https` to `http` nothing is followed.
//! - Every wait has a bound, and ends within 100 ms once it is to stop.
//! - Nothing is decompressed: a file is the bytes that were sent.
//!
//! It knows no API and no file of this machine but its own cache of answers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;

/// How servers are asked.
#[derive(Clone)]
pub struct HttpOptions {
    /// A folder for answers that a server can say are still good. It is made if it is not there.
    pub cache: Option<PathBuf>,
    /// How long is waited for what.
    pub timeouts: HttpTimeouts,
    /// How often something is asked again, and when.
    pub retries: Retries,
    /// How long a rate limit is waited out, altogether for one answer.
    pub rate_wait_max: Duration,
    /// Looks up a variable of the environment that may have a token.
    pub tokens: Arc<dyn Fn(&str) -> Option<String> + Send + Sync>,
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
    /// How often it is asked, altogether; at least once.
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
}

impl Http {
    /// Makes ready.
    ///
    /// # Errors
    /// `Io` where the cache cannot be made.
    pub fn start(options: HttpOptions) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { options }))
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("timeouts", &self.options.timeouts).finish_non_exhaustive()
    }
}
