//! A node joins: the newest snapshot that its peers agree on, every event after it, and nothing believed that was not
//! compared.
//!
//! Roles: this module tries as often as it may, and says what happens; `attempt` is one attempt, step by step; `search` asks
//! what there is, and `choose` (pure) decides on a snapshot; `feed` follows the events of peers while the snapshot is on its way, `merge` (pure) makes one stream
//! of what they say; `place` is where the state comes to lie; `replay` gives events to whoever applies them, `rounds` in order; `network` is
//! what of peers tests replace.
//!
//! Invariants:
//! - what lies at the state's place is what was there, or a whole snapshot that was read again and verified, and what was
//!   replayed onto it;
//! - what was there before stays until the state is known to be what peers have;
//! - no event is left out, comes twice or comes in another order: the log has no gaps, and the replay reads the log;
//! - whatever happens, what came of chunks and events is kept, and a further attempt goes on from there.

mod attempt;
mod choose;
mod feed;
mod merge;
mod network;
mod place;
mod replay;
mod rounds;
mod search;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cairn_net::{Net, PeerUrl, Source, Watch};
use cairn_store::streams::Streams;
use cairn_store::{ArtifactId, Name, Progress, StateHash, Writer};
use serde::Serialize;

use self::attempt::{Attempt, Lessons};
use self::network::Peers;
use self::place::Place;
pub use self::replay::{Replay, frame};
use crate::error::{JoinError, Result};

/// The rest after the first attempt; each further one is twice as long.
const FIRST_REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(30);
/// How often a rest looks whether to stop.
const PAUSE: Duration = Duration::from_millis(50);

/// How a node joins.
#[derive(Debug, Clone)]
pub struct JoinOptions {
    /// The network: the name of its snapshots and of its events.
    pub name: Name,
    /// Where the state comes to lie.
    pub dir: PathBuf,
    /// Peers of the network.
    pub sources: Vec<Source>,
    /// How many of them have to agree on a snapshot and on each event.
    pub agree: usize,
    /// Folders and files that may have some of the state already.
    pub seeds: Vec<PathBuf>,
    /// The command that applies events, if one does.
    pub replay: Option<String>,
    /// The command that says what the state hashes to, in the last word of its output, or fails.
    pub verify: Option<String>,
    /// How long all of it may take, until the state is known to be what peers have.
    pub timeout: Option<Duration>,
    /// How long each command may take, and the replay for one event.
    pub hook_time: Duration,
    /// How long is waited for peers to offer a snapshot that will do.
    pub snapshot_wait: Duration,
    /// Further attempts after the first.
    pub retries: u32,
    /// Bytes of events that are kept; as many as of any other stream of the store where nothing is said.
    pub buffer_bytes_max: Option<u64>,
    /// Whether to go on following events.
    pub follow: bool,
}

/// What happens while a node joins.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Step {
    /// Events are being buffered.
    Subscribed {
        /// From this round on.
        from_round: u64,
        /// Who spoke first.
        #[serde(serialize_with = "as_text")]
        peer: PeerUrl,
    },
    /// A snapshot is taken.
    Chosen {
        /// Its round.
        round: u64,
        /// Its artifact.
        #[serde(serialize_with = "as_text")]
        artifact: ArtifactId,
        /// What its state hashes to, as peers say.
        state_hash: Option<StateHash>,
        /// How many peers say so.
        peers: usize,
    },
    /// What lacks of it is on its way.
    Transferring {
        /// Plain bytes that came.
        bytes: u64,
        /// Plain bytes that are to come.
        total: u64,
        /// Plain bytes that were here or in seeds.
        here: u64,
    },
    /// All of it is here.
    Transferred {
        /// Bytes that came over the wire, with heads.
        bytes: u64,
        /// Chunks that came.
        chunks: u64,
    },
    /// It is written and read again.
    Verifying,
    /// It is in place.
    Applied {
        /// Regular files.
        files: u64,
        /// Their bytes.
        bytes: u64,
        /// Its round.
        round: u64,
    },
    /// Events after it are applied.
    Replaying {
        /// How many there are by now.
        events: u64,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// The state is what peers have.
    Consistent {
        /// At this round.
        round: u64,
        /// What it hashes to, if that is known.
        state_hash: Option<StateHash>,
        /// Whether a hash of it was compared with what others say.
        compared: bool,
    },
    /// Events are applied as they come.
    Following {
        /// From this round on.
        round: u64,
    },
    /// An attempt failed, and another begins.
    Retrying {
        /// The number of the next one; the first was 1.
        attempt: u32,
        /// Why.
        reason: String,
        /// What is kept of it.
        kept: String,
    },
}

fn as_text<T: std::fmt::Display, S: serde::Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Who is told what happens. Called from the thread that joins, but for [`JoinWatch::cancelled`].
pub trait JoinWatch: Sync {
    /// Something has happened.
    fn step(&self, step: &Step);
    /// Something is not as it was meant, and it goes on.
    fn warn(&self, warning: &str) {
        let _ = warning;
    }
    /// So many plain bytes are to come.
    fn expect(&self, bytes: u64) {
        let _ = bytes;
    }
    /// So many came. Adds to earlier calls.
    fn received(&self, bytes: u64) {
        let _ = bytes;
    }
    /// An event was applied.
    fn replayed(&self, round: u64) {
        let _ = round;
    }
    /// Whom to tell of local work: `applying`, `verifying`.
    fn progress(&self, task: &'static str) -> Box<dyn Progress + '_>;
    /// Whether to stop.
    fn cancelled(&self) -> bool {
        false
    }
}

/// What joining came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The round of the state.
    pub round: u64,
    /// The snapshot that it began with.
    pub artifact: ArtifactId,
    /// What the state hashes to, if that is known.
    pub state_hash: Option<StateHash>,
    /// Whether a hash of it was compared with what others say.
    pub is_compared: bool,
}

/// Joins a network. `replay` applies the events, if the program that joins does that itself.
///
/// # Errors
/// What kept the last attempt from it. Then what lay at the state's place before lies there again.
pub fn join(
    writer: &Writer,
    net: &Arc<Net>,
    streams: &Streams,
    options: &JoinOptions,
    mut replay: Option<&mut dyn Replay>,
    watch: &dyn JoinWatch,
) -> Result<Joined> {
    let mut place = Place::new(&options.dir, writer.path())?;
    let sources = options.sources.clone();
    let network = Arc::new(Peers { net: Arc::clone(net), name: options.name.clone(), sources });
    let log = streams.make(&options.name)?;
    // What somebody else keeps here is his.
    let is_own_log = log.span().is_empty();
    if let Some(bytes_max) = options.buffer_bytes_max {
        log.set_bytes_max(bytes_max);
    }
    let deadline = options.timeout.map(|time| (Instant::now() + time, time));
    let watching = Watching { watch, deadline, is_joined: AtomicBool::new(false) };
    let (mut lessons, mut rest) = (Lessons::default(), FIRST_REST);
    let has_replay = replay.is_some() || options.replay.is_some();
    let mut cause = None;
    for number in 1.. {
        let replay: Option<&mut dyn Replay> = match &mut replay {
            Some(replay) => Some(&mut **replay),
            None => None,
        };
        let mut attempt = Attempt {
            writer,
            net,
            network: Arc::clone(&network),
            log: Arc::clone(&log),
            options,
            place: &mut place,
            lessons: &mut lessons,
            watch: &watching,
            replay,
            hashes: std::collections::VecDeque::new(),
        };
        let error = match attempt.run() {
            Ok(joined) => {
                // Who does not go on following needs no events any more.
                if is_own_log && has_replay && !options.follow {
                    log.reset(joined.round + 1)?;
                }
                return Ok(joined);
            }
            Err(error) => watching.check().err().unwrap_or(error),
        };
        let left = place.give_back();
        if number > options.retries || !error.may_pass() {
            if let (Ok(left), false) = (&left, watching.is_joined.load(Ordering::Relaxed)) {
                let dir = options.dir.display();
                watch.warn(&format!(
                    "{dir}: {left}; what came of the snapshot is kept, and another join goes on from there"
                ));
            }
            // That nothing is left to be tried is not what went wrong.
            let is_left = !matches!(error, JoinError::NoSnapshot { .. } | JoinError::NoEvents { .. });
            return Err(if is_left { error } else { cause.unwrap_or(error) });
        }
        let kept = left.map(|left| format!("what came of it; in its place, {left}"))?;
        let (attempt, reason) = (number + 1, with_sources(&error));
        watch.step(&Step::Retrying { attempt, reason, kept });
        if matches!(error, JoinError::Inconsistent { .. } | JoinError::Disagree { .. }) {
            cause = Some(error);
        }
        watching.rest(rest)?;
        rest = (rest * 2).min(REST_MAX);
    }
    Err(JoinError::Cancelled)
}

fn with_sources(error: &dyn std::error::Error) -> String {
    match error.source() {
        // A transparent error says what its source says.
        Some(source) if source.to_string() != error.to_string() => {
            format!("{error}: {}", with_sources(source))
        }
        _ => error.to_string(),
    }
}

/// Who is told, and until when it may take.
struct Watching<'a> {
    watch: &'a dyn JoinWatch,
    deadline: Option<(Instant, Duration)>,
    /// From then on it takes as long as it is wanted.
    is_joined: AtomicBool,
}

impl Watching<'_> {
    fn step(&self, step: &Step) {
        self.watch.step(step);
    }

    fn warn(&self, warning: &str) {
        self.watch.warn(warning);
    }

    fn expect(&self, bytes: u64) {
        self.watch.expect(bytes);
    }

    fn replayed(&self, round: u64) {
        self.watch.replayed(round);
    }

    /// There is no deadline any more.
    fn set_joined(&self) {
        self.is_joined.store(true, Ordering::Relaxed);
    }

    /// Whether it may go on.
    fn check(&self) -> Result<()> {
        match self.deadline {
            _ if self.watch.cancelled() => Err(JoinError::Cancelled),
            Some((deadline, time))
                if Instant::now() > deadline && !self.is_joined.load(Ordering::Relaxed) =>
            {
                Err(JoinError::Late { time })
            }
            _ => Ok(()),
        }
    }

    fn rest(&self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.check()?;
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn progress(&self, task: &'static str) -> Box<dyn Progress + '_> {
        Box::new(Limited { inner: self.watch.progress(task), watching: self })
    }
}

impl Watch for Watching<'_> {
    fn kept(&self, plain_bytes: u64, _: u64) {
        self.watch.received(plain_bytes);
    }

    fn dropped(&self, peer: &PeerUrl, why: &str) {
        self.watch.warn(&format!("{peer} is not asked any more: {why}"));
    }

    fn cancelled(&self) -> bool {
        self.check().is_err()
    }
}

/// Local work that ends with the time that joining may take.
struct Limited<'a> {
    inner: Box<dyn Progress + 'a>,
    watching: &'a Watching<'a>,
}

impl Progress for Limited<'_> {
    fn expect(&self, bytes: u64, files: u64) {
        self.inner.expect(bytes, files);
    }

    fn advance(&self, bytes: u64, files: u64) {
        self.inner.advance(bytes, files);
    }

    fn cancelled(&self) -> bool {
        self.inner.cancelled() || self.watching.check().is_err()
    }
}
