//! Chunks that somebody waits for: reads of a lazy mount, and reads that met damage.
//!
//! Threads that read wait here with a deadline. What they want goes into one list, each chunk once however many want it;
//! a task takes from it what came together within a moment and asks one peer for it, and another one too where the first
//! is late. What comes is verified and kept, and whoever waits for it goes on. When nobody answers, the task keeps trying
//! for as long as somebody waits, so that reads succeed again as soon as a peer is back.
//!
//! Chunks that are damaged here are replaced by the thread that waits for them: it is the one of which the store knows
//! that it must not fetch in turn.

mod health;
mod serve;
mod wants;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use cairn_store::pack::PackKind;
use cairn_store::{ChunkRef, Fetch, Intake, Why, Writer};
use tokio::sync::{Notify, Semaphore};

use crate::address::Source;
use crate::net::Net;
use health::Health;
use wants::{Outcome, Wants};

/// How long those who read wait, by default.
const DEADLINE: Duration = Duration::from_secs(30);
/// What is wanted within so short a time is asked for together.
const GATHER: Duration = Duration::from_micros(500);
/// Chunks in one request, at most.
const REQUEST_CHUNKS_MAX: usize = 1024;
/// Requests at a time, at most, a second one for what is late not counted.
const REQUESTS_MAX: usize = 6;

/// What is done for those who wait.
#[derive(Debug, Clone, Copy)]
pub struct FetchPolicy {
    /// How long a read waits, at most.
    pub deadline: Duration,
}

impl Default for FetchPolicy {
    fn default() -> Self {
        Self { deadline: DEADLINE }
    }
}

/// Who is asked, best first; read again for each request, so that a peer that was just added is asked at once.
pub type Sources = Arc<dyn Fn() -> Vec<Source> + Send + Sync>;

/// Brings chunks that are read and not here.
struct Fetcher {
    shared: Arc<Shared>,
    policy: FetchPolicy,
    has_begun: AtomicBool,
}

/// What those who wait and those who ask have in common.
struct Shared {
    /// It lives as long as whoever made it; the task must not keep it.
    net: Weak<Net>,
    intake: Arc<Intake>,
    sources: Sources,
    wants: Wants,
    health: Health,
    more: Notify,
    slots: Arc<Semaphore>,
    known: crate::peers::Peers,
}

impl Net {
    /// What a store asks for chunks that are not here, or damaged.
    pub fn fetcher(
        self: &Arc<Self>,
        writer: &Writer,
        sources: Sources,
        policy: FetchPolicy,
    ) -> Arc<dyn Fetch> {
        let shared = Shared {
            net: Arc::downgrade(self),
            intake: writer.intake(),
            sources,
            wants: Wants::default(),
            health: Health::default(),
            more: Notify::new(),
            slots: Arc::new(Semaphore::new(REQUESTS_MAX)),
            known: crate::peers::Peers::open(writer.store().path()),
        };
        Arc::new(Fetcher { shared: Arc::new(shared), policy, has_begun: AtomicBool::new(false) })
    }
}

impl Fetcher {
    /// Starts the task with the first want.
    fn begin(&self) -> cairn_store::Result<()> {
        if self.has_begun.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let gone = || unavailable("chunks", "the exchange with peers has ended");
        let net = self.shared.net.upgrade().ok_or_else(gone)?;
        let runtime = net.runtime().map_err(|error| unavailable("chunks", &error.to_string()))?;
        let shared = Arc::downgrade(&self.shared);
        runtime.spawn(async move {
            while let Some(next) = next(&shared).await {
                tokio::spawn(next);
            }
        });
        Ok(())
    }
}

/// Waits until something is wanted and can be asked for, and gives the work. Nothing when nobody can want anything more.
async fn next(shared: &Weak<Shared>) -> Option<impl Future<Output = ()> + Send + use<>> {
    loop {
        let now = shared.upgrade()?;
        if now.wants.is_idle() {
            // Ends by itself when the last who could want something is gone: the notice comes with their end.
            let more = now.more.notified();
            let waiting = tokio::time::timeout(Duration::from_secs(1), more).await;
            drop(waiting);
            continue;
        }
        let slots = Arc::clone(&now.slots);
        drop(now);
        let permit = slots.acquire_owned().await.ok()?;
        tokio::time::sleep(GATHER).await;
        let now = shared.upgrade()?;
        let taken = now.wants.take(REQUEST_CHUNKS_MAX, Instant::now());
        if !taken.is_empty() {
            return Some(async move {
                serve::serve(now, taken).await;
                drop(permit);
            });
        }
    }
}

impl Fetch for Fetcher {
    fn fetch(&self, wanted: &[ChunkRef], why: Why) -> cairn_store::Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        self.begin()?;
        let deadline = Instant::now() + self.policy.deadline;
        let waiter = self.shared.wants.add(wanted, why, deadline);
        self.shared.more.notify_one();
        let outcome = waiter.wait(deadline);
        match outcome {
            Outcome::Came(frames) => {
                for (kind, frame) in frames {
                    self.shared.intake.heal(kind, &frame)?;
                }
                Ok(())
            }
            Outcome::Failed(detail) => Err(unavailable(&describe(wanted), &detail)),
            Outcome::Broken(error) => Err(error),
            Outcome::Late(left) => {
                let seconds = self.policy.deadline.as_secs_f64();
                let detail =
                    format!("{left} of them did not come within {seconds} s: {}", self.shared.reasons());
                Err(unavailable(&describe(wanted), &detail))
            }
        }
    }
}

impl Shared {
    /// What the peers' last failures were.
    fn reasons(&self) -> String {
        let sources = (self.sources)();
        if sources.is_empty() {
            return "no peer is known".to_owned();
        }
        let reason = |source: &Source| {
            let last = self.health.last_failure(&source.url);
            format!("{}: {}", source.url, last.unwrap_or_else(|| "no answer yet".to_owned()))
        };
        sources.iter().map(reason).collect::<Vec<_>>().join("; ")
    }
}

fn describe(wanted: &[ChunkRef]) -> String {
    match wanted {
        [] => "nothing".to_owned(),
        [one] => format!("chunk {}", one.id),
        [first, rest @ ..] => format!("chunk {} and {} more", first.id, rest.len()),
    }
}

fn unavailable(what: &str, detail: &str) -> cairn_store::Error {
    cairn_store::Error::Unavailable { what: what.to_owned(), detail: detail.to_owned() }
}

/// Which packs a frame goes to.
type Placed = (PackKind, Arc<cairn_store::VerifiedFrame>);
