//! `cairn snapshot create`.

use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use cairn_agent::snapshot::{
    CheckpointOptions, Freezing, HOOK_TIME, RoundFrom, Snapshot, SnapshotError, SnapshotOptions,
};
use cairn_store::snapshots::parse_round;
use cairn_store::{Error, Name, StateHash};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::ThreadsArg;
use crate::error::{Outcome, on_conflict};
use crate::output::{OutputResult, Table};
use crate::{text, wire};

/// Take a snapshot of a state directory, under its round
///
/// The copy is of one moment: whoever writes the state is frozen meanwhile, or makes a checkpoint that is read instead,
/// or nobody writes it. If anything changes while it is read the snapshot fails. Files that have not changed
/// since the last one are not read.
///
/// Commands are run by `sh -c` in /, with CAIRN_NAME, CAIRN_DIR and, where it is known, CAIRN_ROUND. Where a daemon has the
/// store, it is the daemon that runs them.
#[derive(Debug, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateArgs {
    /// The name that it is made under: a-z 0-9 . _ + -
    pub(crate) name: Name,
    /// The state directory
    #[serde(with = "wire::path")]
    pub(crate) dir: PathBuf,
    /// The round after which the state is what it is
    #[arg(long, env = "CAIRN_ROUND", value_name = "N", value_parser = parse_round, required_unless_present = "round_cmd", hide_env_values = true)]
    #[serde(default)]
    pub(crate) round: Option<u64>,
    /// A command that prints the round, and after it the state's hash if it knows, of $CAIRN_SNAPSHOT_DIR
    #[arg(
        long,
        env = "CAIRN_ROUND_CMD",
        value_name = "CMD",
        conflicts_with = "round",
        hide_env_values = true
    )]
    #[serde(default)]
    pub(crate) round_cmd: Option<String>,
    /// What the state hashes to: up to 64 bytes in hexadecimal digits
    #[arg(long, env = "CAIRN_STATE_HASH", value_name = "HASH", hide_env_values = true)]
    #[serde(default)]
    pub(crate) state_hash: Option<StateHash>,
    /// A command that stops whoever writes the state
    #[arg(long, env = "CAIRN_FREEZE", value_name = "CMD", requires = "thaw", hide_env_values = true)]
    #[serde(default)]
    pub(crate) freeze: Option<String>,
    /// A command that lets him go on; it runs after --freeze whatever happens, also by whoever comes after a kill
    #[arg(long, env = "CAIRN_THAW", value_name = "CMD", requires = "freeze", hide_env_values = true)]
    #[serde(default)]
    pub(crate) thaw: Option<String>,
    /// A command that makes a checkpoint of the state, of hard links or reflinks, as the new directory $CAIRN_CHECKPOINT; that
    /// is read instead of DIR, and removed
    #[arg(long, env = "CAIRN_CHECKPOINT_CMD", value_name = "CMD", hide_env_values = true)]
    #[serde(default)]
    pub(crate) checkpoint_cmd: Option<String>,
    /// Where checkpoints lie, on DIR's file system [default: beside DIR]
    #[arg(
        long,
        env = "CAIRN_CHECKPOINT_IN",
        value_name = "DIR",
        requires = "checkpoint_cmd",
        hide_env_values = true
    )]
    #[serde(default, with = "wire::path_option")]
    pub(crate) checkpoint_in: Option<PathBuf>,
    /// Remove older snapshots of the name but so many whole ones, this one among them, and what a channel, a generation or a
    /// reader needs
    #[arg(long, env = "CAIRN_SNAPSHOT_KEEP", value_name = "N", hide_env_values = true)]
    #[serde(default)]
    pub(crate) keep: Option<NonZero<usize>>,
    /// How long each command may take until it is killed [default: 1m]
    #[arg(long, env = "CAIRN_HOOK_TIME", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    #[serde(default, with = "wire::millis_option")]
    pub(crate) hook_time: Option<Duration>,
    /// Let the round name this state even if it names another now
    #[arg(long)]
    #[serde(default)]
    pub(crate) replace: bool,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) threads: ThreadsArg,
}

impl CreateArgs {
    pub(super) fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        [&mut self.dir].into_iter().chain(&mut self.checkpoint_in).collect()
    }

    fn options(&self) -> SnapshotOptions {
        let round = match (self.round, &self.round_cmd) {
            (None, Some(command)) => RoundFrom::Command(command.clone()),
            // One of them is there: clap says so.
            (round, _) => RoundFrom::Given(round.unwrap_or_default()),
        };
        let freezing = self.freeze.clone().zip(self.thaw.clone());
        let checkpoint = self.checkpoint_cmd.clone();
        SnapshotOptions {
            state_hash: self.state_hash.clone(),
            freezing: freezing.map(|(freeze, thaw)| Freezing { freeze, thaw }),
            checkpoint: checkpoint
                .map(|command| CheckpointOptions { command, within: self.checkpoint_in.clone() }),
            keep: self.keep,
            hook_time: self.hook_time.unwrap_or(HOOK_TIME),
            replace: self.replace,
            threads: self.threads.threads,
            ..SnapshotOptions::new(self.name.clone(), self.dir.clone(), round)
        }
    }
}

/// The JSON form of a snapshot that was made.
#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    round: u64,
    state_hash: Option<&'a StateHash>,
    artifact: String,
    unchanged: bool,
    replaced: Option<String>,
    files: u64,
    unchanged_files: u64,
    bytes: u64,
    chunks: u64,
    new_chunks: u64,
    new_bytes: u64,
    stored_bytes: u64,
    metadata_bytes: u64,
    removed: &'a [u64],
    in_use: &'a [u64],
    frozen_ms: Option<u128>,
    elapsed_ms: u128,
}

pub(super) fn run(app: &mut App, args: &CreateArgs) -> anyhow::Result<Outcome> {
    let meter = app.meter("reading");
    let writer = app.writer(&meter)?;
    let made = {
        // Nobody is frozen while another one's turn is waited for.
        let _turn = app.turn(&meter)?;
        cairn_agent::snapshot::create(&writer, &args.options(), &meter).map_err(failure)?
    };
    if app.json() {
        app.out.object(&report(&made))?;
    } else if !app.quiet() {
        print(app, &made)?;
    }
    Ok(Outcome::Done)
}

/// What is to be said where no snapshot was made.
fn failure(error: SnapshotError) -> anyhow::Error {
    match error {
        SnapshotError::Store(error @ Error::Conflict { .. }) => {
            on_conflict(error, "the round names another state already; --replace lets it name this one")
        }
        SnapshotError::Store(error) => error.into(),
        other => other.into(),
    }
}

fn report(made: &Snapshot) -> Report<'_> {
    let ingested = &made.ingested;
    Report {
        name: made.name.as_str(),
        round: made.round,
        state_hash: made.state_hash.as_ref(),
        artifact: made.artifact.to_string(),
        unchanged: made.unchanged,
        replaced: made.replaced.map(|old| old.to_string()),
        files: ingested.files,
        unchanged_files: ingested.unchanged_files,
        bytes: ingested.bytes,
        chunks: ingested.chunks,
        new_chunks: ingested.new_chunks,
        new_bytes: ingested.new_bytes,
        stored_bytes: ingested.stored_bytes,
        metadata_bytes: ingested.metadata_bytes,
        removed: &made.kept.removed,
        in_use: &made.kept.in_use,
        frozen_ms: made.frozen.map(|time| time.as_millis()),
        elapsed_ms: made.took.as_millis(),
    }
}

fn print(app: &mut App, made: &Snapshot) -> OutputResult {
    let ingested = &made.ingested;
    let verb = match (made.unchanged, made.replaced) {
        (true, _) => "unchanged",
        (false, Some(_)) => "replaced",
        (false, None) => "made",
    };
    app.out.line(format!("{verb} {}@{}", made.name, made.round))?;
    let mut facts = Table::facts();
    facts.fact("  artifact", made.artifact.to_string());
    if let Some(hash) = &made.state_hash {
        facts.fact("  state hash", hash.to_string());
    }
    let unchanged = match ingested.unchanged_files {
        0 => String::new(),
        files => format!(", {files} of them unchanged and not read"),
    };
    facts.fact("  files", format!("{}{unchanged}", ingested.files));
    facts.fact("  bytes", text::size(ingested.bytes));
    let part = text::percent(ingested.new_bytes, ingested.bytes);
    facts.fact("  new", format!("{} ({part})", text::size(ingested.new_bytes)));
    let metadata = text::size(ingested.metadata_bytes);
    facts.fact("  stored", format!("{} and {metadata} of metadata", text::size(ingested.stored_bytes)));
    if let Some(frozen) = made.frozen {
        facts.fact("  frozen", text::duration(frozen));
    }
    facts.fact("  time", text::duration(made.took));
    let rounds = |rounds: &[u64]| rounds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    if !made.kept.removed.is_empty() {
        facts.fact("  removed", format!("rounds {}", rounds(&made.kept.removed)));
    }
    if !made.kept.in_use.is_empty() {
        facts.fact("  still in use", format!("rounds {}", rounds(&made.kept.in_use)));
    }
    app.out.table(&facts)
}
