//! `cairn join`: the newest state that peers agree on, and every event after it.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cairn_agent::{JoinOptions, JoinWatch, Joined, Step};
use cairn_store::streams::STREAM_BYTES_MAX;
use cairn_store::{Name, Progress};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::error::{Outcome, Usage};
use crate::exchange::FromArgs;
use crate::meter::Meter;
use crate::output::Output;
use crate::{text, wire};

const EXAMPLES: &str = "\
What lies at DIR stays until the new state is known to be what peers have, and comes back if it does not get so far. The
program that uses it must not run meanwhile. Whatever happens, the same command once more goes on from what came.

The replay command reads events from its standard input, each as a length (4 bytes, little-endian, of what follows), the
round (8 bytes), the BLAKE3 of the payload (32 bytes) and the payload, and acknowledges each with a line: ROUND, or
ROUND STATE_HASH with what the state hashes to after it. The verify command says what the state hashes to in the last word
that it prints. Both run by `sh -c` with $CAIRN_NAME, $CAIRN_DIR and $CAIRN_ROUND.

Examples:
  cairn join kv --from http://10.0.0.5:7001 --to /var/lib/kv --replay 'kv-node apply \"$CAIRN_DIR\"'
  cairn join kv --from http://a:7001 --from http://b:7001 --from http://c:7001 --agree 2 --to /var/lib/kv
  cairn join kv --from http://a:7001 --to /var/lib/kv --seed /mnt/old-disk/kv       what is there need not come
  cairn join kv --from http://a:7001 --to /var/lib/kv --replay 'kv-node apply \"$CAIRN_DIR\"' --follow
  cairn --json join kv --from http://a:7001 --to /var/lib/kv     each step as it happens, one object a line";

/// How long a command may take where nothing is said.
const HOOK_TIME: &str = "10m";
/// How often it is said how much came.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Get the newest state that peers agree on, and every event after it
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinArgs {
    /// The network: the name of its snapshots and of its stream of events
    pub(crate) name: Name,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) from: FromArgs,
    /// Where the state comes to lie
    #[arg(long, value_name = "DIR")]
    #[serde(with = "wire::path")]
    pub(crate) to: PathBuf,
    /// Take only a state, and events, that so many of the peers agree on
    #[arg(long, env = "CAIRN_JOIN_AGREE", value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=16), hide_env_values = true)]
    pub(crate) agree: u16,
    /// Look in this folder or file for what need not come; may be repeated
    #[arg(long, value_name = "PATH")]
    #[serde(default, with = "wire::paths")]
    pub(crate) seed: Vec<PathBuf>,
    /// The command that applies events
    #[arg(long, env = "CAIRN_JOIN_REPLAY", value_name = "CMD", hide_env_values = true)]
    #[serde(default)]
    pub(crate) replay: Option<String>,
    /// The command that says what the state hashes to
    #[arg(long, env = "CAIRN_JOIN_VERIFY", value_name = "CMD", hide_env_values = true)]
    #[serde(default)]
    pub(crate) verify: Option<String>,
    /// Go on applying events as they come, until this is interrupted
    #[arg(long)]
    #[serde(default)]
    pub(crate) follow: bool,
    /// Give up if the state is not what peers have by then
    #[arg(long, env = "CAIRN_JOIN_TIMEOUT", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    #[serde(default, with = "wire::millis_option")]
    pub(crate) timeout: Option<Duration>,
    /// Begin again so often where something fails
    #[arg(long, env = "CAIRN_JOIN_RETRIES", value_name = "N", default_value_t = 3, hide_env_values = true)]
    pub(crate) retries: u32,
    /// Keep so many bytes of events; where more come while the state is on its way, a newer snapshot is taken
    /// [default: 1GiB; what the daemon keeps of a stream, where one has the store]
    #[arg(long, env = "CAIRN_JOIN_BUFFER_MAX", value_name = "SIZE", value_parser = text::parse_size, hide_env_values = true)]
    #[serde(default)]
    pub(crate) buffer_max: Option<u64>,
    /// How long a command may take, the replay command for one event
    #[arg(long, env = "CAIRN_JOIN_HOOK_TIME", value_name = "DURATION", value_parser = text::parse_duration, default_value = HOOK_TIME, hide_env_values = true)]
    #[serde(with = "wire::millis")]
    pub(crate) hook_time: Duration,
    /// How long to wait for peers to offer a snapshot that will do
    #[arg(long, env = "CAIRN_JOIN_SNAPSHOT_WAIT", value_name = "DURATION", value_parser = text::parse_duration, default_value = "30s", hide_env_values = true)]
    #[serde(with = "wire::millis")]
    pub(crate) snapshot_wait: Duration,
}

impl JoinArgs {
    /// The paths in it.
    pub(crate) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        std::iter::once(&mut self.to).chain(&mut self.seed).chain(&mut self.from.access.ca)
    }
}

pub(crate) fn run(app: &mut App, args: &JoinArgs) -> anyhow::Result<Outcome> {
    let writer = app.writer(&app.meter("waiting"))?;
    let sources = args.from.sources(writer.path())?;
    check(args, sources.len())?;
    let options = JoinOptions {
        name: args.name.clone(),
        dir: args.to.clone(),
        sources,
        agree: args.agree.into(),
        seeds: args.seed.clone(),
        replay: args.replay.clone(),
        verify: args.verify.clone(),
        timeout: args.timeout,
        hook_time: args.hook_time,
        snapshot_wait: args.snapshot_wait,
        retries: args.retries,
        // A daemon knows how much it keeps.
        buffer_bytes_max: args.buffer_max.or(app.daemon().is_none().then_some(STREAM_BYTES_MAX)),
        follow: args.follow,
    };
    let (net, streams) = (app.net()?, app.streams(&writer)?);
    let out = Mutex::new(app.take_output());
    let telling = Telling {
        app,
        out: &out,
        bar: Mutex::default(),
        total: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        told: Mutex::new(Instant::now()),
    };
    let joined = cairn_agent::join(&writer, &net, &streams, &options, None, &telling);
    drop(telling);
    app.out = out.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Joined { is_compared, .. } = joined?;
    if !is_compared {
        app.warn("no hash of the state was compared: its snapshot or its events have none, or --verify and --replay say none");
    }
    Ok(Outcome::Done)
}

fn check(args: &JoinArgs, sources: usize) -> Result<(), Usage> {
    if sources == 0 {
        let problem = "there is no peer to join from".to_owned();
        return Err(Usage { problem, hint: "--from URL names one; `cairn peers add URL` adds one for good" });
    }
    if usize::from(args.agree) > sources {
        let problem = format!("{} peers cannot agree where {sources} are asked", args.agree);
        return Err(Usage { problem, hint: "name as many with --from, or lower --agree" });
    }
    if args.follow && args.replay.is_none() {
        let problem = "there is nobody who applies the events that are followed".to_owned();
        return Err(Usage { problem, hint: "--replay CMD names the command that does" });
    }
    Ok(())
}

/// Says what happens, as it does.
struct Telling<'a> {
    app: &'a App,
    out: &'a Mutex<Output>,
    /// The transfer that runs.
    bar: Mutex<Option<Meter>>,
    total: AtomicU64,
    bytes: AtomicU64,
    /// When it was said last how much came.
    told: Mutex<Instant>,
}

impl Telling<'_> {
    fn print(&self, step: &Step) {
        if matches!(step, Step::Transferred { chunks: 0, .. }) && !self.app.json() {
            return;
        }
        let mut out = self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Who no longer reads this has cancelled the command.
        let _ = if self.app.json() {
            out.object(step)
        } else if self.app.quiet() {
            Ok(())
        } else {
            out.line(line(step))
        }
        .and_then(|()| out.flush());
    }

    fn set_bar(&self, bar: Option<Meter>) {
        *self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = bar;
    }
}

impl JoinWatch for Telling<'_> {
    fn step(&self, step: &Step) {
        match step {
            Step::Transferring { .. } => self.set_bar(Some(self.app.transfer_meter("pulling"))),
            _ => self.set_bar(None),
        }
        self.print(step);
    }

    fn warn(&self, warning: &str) {
        self.app.warn(warning);
    }

    fn expect(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        if let Some(bar) = &*self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            bar.expect(bytes, 0);
        }
    }

    fn received(&self, bytes: u64) {
        let came = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(bar) = &*self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            bar.advance(bytes, 0);
        }
        let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if told.elapsed() >= TELL_EVERY {
            *told = Instant::now();
            drop(told);
            let total = self.total.load(Ordering::Relaxed).max(came);
            self.print(&Step::Transferring { bytes: came, total, here: 0 });
        }
    }

    fn progress(&self, task: &'static str) -> Box<dyn Progress + '_> {
        Box::new(self.app.meter(task))
    }

    fn cancelled(&self) -> bool {
        self.app.is_cancelled()
    }
}

/// A step for people.
fn line(step: &Step) -> String {
    match step {
        Step::Subscribed { from_round, peer } => {
            format!("subscribed: events from round {from_round} on, of {peer}")
        }
        Step::Chosen { round, state_hash, peers, .. } => {
            let hash = state_hash.as_ref().map(|hash| format!(", state {}", hash.short()));
            let peers = if *peers == 1 { "one peer".to_owned() } else { format!("{peers} peers") };
            format!("snapshot chosen: round {round}{}, offered by {peers}", hash.unwrap_or_default())
        }
        Step::Transferring { total: 0, .. } => "nothing of it lacks here".to_owned(),
        Step::Transferring { bytes, total, .. } => {
            format!("{} ({} / {})", text::percent(*bytes, *total), text::size(*bytes), text::size(*total))
        }
        Step::Transferred { bytes, chunks } => {
            format!("transferred: {}, {} over the wire", text::count(*chunks, "chunk"), text::size(*bytes))
        }
        Step::Verifying => "verifying".to_owned(),
        Step::Applied { files, bytes, round } => {
            format!("applied: {}, {}, round {round}", text::count(*files, "file"), text::size(*bytes))
        }
        Step::Replaying { events: 0, .. } => "nothing to replay".to_owned(),
        Step::Replaying { events, from, to } => {
            format!("replaying {} {from}..{to}", text::count(*events, "event"))
        }
        Step::Consistent { round, state_hash, compared } => {
            let hash = state_hash.as_ref().map(|hash| format!(", state {}", hash.short()));
            let what = if *compared { "consistent" } else { "complete" };
            format!("{what} at {round}{}", hash.unwrap_or_default())
        }
        Step::Following { round } => format!("following from round {} on", round + 1),
        Step::Retrying { attempt, reason, kept } => {
            format!("retrying (attempt {attempt}): {reason}; kept: {kept}")
        }
    }
}
