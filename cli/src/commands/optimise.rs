//! `cairn optimise`: tell older versions in terms of newer ones, so that they take less.

mod stay;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cairn_server::DeltaServing;
use cairn_store::delta::CodecTotals;
use cairn_store::{OptimiseOptions, OptimisePlan, Optimised, Writer};
use clap::Args;
use serde::{Deserialize, Serialize};

use self::stay::Staying;
use super::serve::EffortArg;
use crate::app::App;
use crate::error::Outcome;
use crate::output::Align::{Left, Right};
use crate::output::{OutputResult, Table};
use crate::priority::behind_others;
use crate::text;

const EXAMPLES: &str = "\
The newest version of each package, what channels name, and what current and pinned generations show stay as they are,
and as fast. It can be stopped at any time, and run again to go on. Reads, adds and pulls go on meanwhile.

Examples:
  cairn optimise --dry-run
  cairn optimise
  cairn optimise --effort max --max-time 1h --rate 50MB
  cairn stats                                  what takes how much afterwards, by codec";

/// Tell older versions in terms of newer ones, so that they take less
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct OptimiseArgs {
    /// Say which versions would be told in terms of which, and change nothing
    #[arg(long)]
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// How hard it is tried to make them small [default: normal]
    #[arg(long, env = "CAIRN_OPTIMISE_EFFORT", value_name = "EFFORT", hide_env_values = true)]
    #[serde(default)]
    pub(crate) effort: Option<EffortArg>,
    /// Stop after this time; what was told by then stays told
    #[arg(long, env = "CAIRN_OPTIMISE_MAX_TIME", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    #[serde(default)]
    pub(crate) max_time: Option<Duration>,
    /// Read and write no more than this in a second
    #[arg(long, env = "CAIRN_OPTIMISE_RATE", value_name = "SIZE", value_parser = text::parse_rate, hide_env_values = true)]
    #[serde(default)]
    pub(crate) rate: Option<u64>,
    /// Memory that telling one file may take; executables for which it does not do are told without prediction [default: 1G]
    #[arg(long, env = "CAIRN_OPTIMISE_MEMORY", value_name = "SIZE", value_parser = text::parse_size, hide_env_values = true)]
    #[serde(default)]
    pub(crate) memory: Option<u64>,
}

/// Memory that telling one file may take, where nothing is said.
const MEMORY: u64 = 1 << 30;

/// The longest executable that is predicted with so much memory, in bytes.
pub(crate) fn file_max(memory: Option<u64>) -> u64 {
    memory.unwrap_or(MEMORY) / DeltaServing::MEMORY_FACTOR
}

impl OptimiseArgs {
    fn options(&self) -> OptimiseOptions {
        OptimiseOptions {
            effort: self.effort.map(Into::into).unwrap_or_default(),
            bandwidth: self.rate,
            max_time: self.max_time,
            file_max: file_max(self.memory),
        }
    }
}

/// What is told anew, by codec.
pub(crate) fn codecs(done: &Optimised) -> [(&'static str, CodecTotals); 2] {
    [("prefix", done.prefix), ("relocation", done.relocation)]
}

/// The JSON form of a plan and of what came of it.
#[derive(Serialize)]
struct Report {
    dry_run: bool,
    versions: Vec<VersionReport>,
    planned_bytes: u64,
    unfolded_chunks: u64,
    unfolded_bytes: u64,
    stay: Vec<StayReport>,
    done: Option<Done>,
    plan_ms: u128,
    elapsed_ms: u128,
}

/// A version that is told in terms of another, or would be.
#[derive(Serialize)]
struct VersionReport {
    version: String,
    artifact: String,
    base: String,
    base_artifact: String,
    chunks: u64,
    plain_bytes: u64,
    stored_bytes: u64,
}

/// A version that stays as it is.
#[derive(Serialize)]
struct StayReport {
    version: String,
    artifact: String,
    why: Vec<&'static str>,
}

#[derive(Serialize)]
struct Done {
    versions: u64,
    codecs: BTreeMap<&'static str, CodecTotals>,
    unfolded_chunks: u64,
    unfolded_bytes: u64,
    bytes_before: u64,
    bytes_after: u64,
    freed_bytes: u64,
    written_bytes: u64,
    gone: usize,
    made: usize,
    complete: bool,
    stopped: Option<&'static str>,
    kept_back: Vec<KeptBack>,
}

#[derive(Serialize)]
struct KeptBack {
    pack: String,
    why: String,
}

/// Why it did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    Time,
    DiskFull,
    Interrupted,
}

/// What was planned and done.
struct Told {
    plan: OptimisePlan,
    stay: Vec<Staying>,
    done: Option<Optimised>,
    max_time: Option<Duration>,
    planning: Duration,
    elapsed: Duration,
}

impl Told {
    fn stopped(&self, done: &Optimised) -> Option<Stopped> {
        match done {
            Optimised { disk_full: true, .. } => Some(Stopped::DiskFull),
            Optimised { complete: true, .. } => None,
            _ if self.max_time.is_some_and(|max| self.elapsed >= max) => Some(Stopped::Time),
            _ => Some(Stopped::Interrupted),
        }
    }
}

pub(crate) fn run(app: &mut App, args: &OptimiseArgs) -> anyhow::Result<Outcome> {
    let writer = app.writer_of_existing(&app.meter("waiting"))?;
    // Readers of the machine go first.
    let told = behind_others(|| optimise(app, &writer, args))?;
    if app.json() {
        app.out.object(&report(&told))?;
    } else if !app.quiet() {
        print(app, &told)?;
    }
    Ok(Outcome::Done)
}

/// Planning is of the time that it may take, too.
fn optimise(app: &App, writer: &Writer, args: &OptimiseArgs) -> anyhow::Result<Told> {
    let begun = Instant::now();
    let plan = writer.plan_optimise(&app.meter("looking"))?;
    let stay = stay::staying(&writer.names(), &plan);
    let planning = begun.elapsed();
    let mut options = args.options();
    options.max_time = options.max_time.map(|max| max.saturating_sub(planning));
    let done = match args.dry_run {
        true => None,
        false => Some(writer.optimise(&plan, &options, &app.transfer_meter("optimising"))?),
    };
    Ok(Told { plan, stay, done, max_time: args.max_time, planning, elapsed: begun.elapsed() })
}

fn report(told: &Told) -> Report {
    let versions = told.plan.versions.iter().map(|version| VersionReport {
        version: version.version.to_string(),
        artifact: version.artifact.to_string(),
        base: version.base.to_string(),
        base_artifact: version.base_artifact.to_string(),
        chunks: version.chunks,
        plain_bytes: version.plain_bytes,
        stored_bytes: version.stored_bytes,
    });
    let stay = told.stay.iter().map(|staying| StayReport {
        version: staying.version.to_string(),
        artifact: staying.artifact.to_string(),
        why: staying.why.iter().map(|why| why.name()).collect(),
    });
    let done = told.done.as_ref().map(|done| Done {
        versions: done.versions,
        codecs: codecs(done).into_iter().collect(),
        unfolded_chunks: done.unfolded_chunks,
        unfolded_bytes: done.unfolded_bytes,
        bytes_before: done.bytes_before,
        bytes_after: done.bytes_after(),
        freed_bytes: done.freed_bytes,
        written_bytes: done.written_bytes,
        gone: done.gone.len(),
        made: done.made.len(),
        complete: done.complete,
        stopped: told.stopped(done).map(|stopped| match stopped {
            Stopped::Time => "time",
            Stopped::DiskFull => "disk_full",
            Stopped::Interrupted => "interrupted",
        }),
        kept_back: done
            .kept_back
            .iter()
            .map(|(pack, why)| KeptBack { pack: pack.to_string(), why: why.to_string() })
            .collect(),
    });
    Report {
        dry_run: told.done.is_none(),
        versions: versions.collect(),
        planned_bytes: told.plan.stored_bytes(),
        unfolded_chunks: told.plan.unfolded_chunks,
        unfolded_bytes: told.plan.unfolded_bytes,
        stay: stay.collect(),
        done,
        plan_ms: told.planning.as_millis(),
        elapsed_ms: told.elapsed.as_millis(),
    }
}

fn print(app: &mut App, told: &Told) -> OutputResult {
    match &told.done {
        _ if told.plan.is_nothing() => {
            app.out.line("nothing is to be told in terms of other versions")?;
            stay::print(app, &told.stay)
        }
        None => print_plan(app, told),
        Some(done) => print_done(app, told, done),
    }
}

fn print_plan(app: &mut App, told: &Told) -> OutputResult {
    let heading = [("VERSION", Left), ("ON", Left), ("CHUNKS", Right), ("PLAIN", Right), ("NOW", Right)];
    print_unfolded(app, "would make", told.plan.unfolded_chunks, told.plan.unfolded_bytes)?;
    if told.plan.versions.is_empty() {
        return stay::print(app, &told.stay);
    }
    let mut table = Table::new(&heading);
    for version in &told.plan.versions {
        table.row([
            version.version.to_string(),
            version.base.version.to_string(),
            version.chunks.to_string(),
            text::size(version.plain_bytes),
            text::size(version.stored_bytes),
        ]);
    }
    app.out.table(&table)?;
    let versions = text::count(told.plan.versions.len() as u64, "version");
    let bytes = text::size(told.plan.stored_bytes());
    app.out.line(format!("would tell {versions} in terms of others, which take {bytes} now"))?;
    stay::print(app, &told.stay)
}

/// What is plain again for the sake of those who read it.
fn print_unfolded(app: &mut App, verb: &str, chunks: u64, bytes: u64) -> OutputResult {
    if chunks == 0 {
        return Ok(());
    }
    let (chunks, bytes) = (text::count(chunks, "chunk"), text::size(bytes));
    app.out.line(format!(
        "{verb} {chunks} plain again, {bytes}: what needs them is shown, named by a channel or the newest"
    ))
}

fn print_done(app: &mut App, told: &Told, done: &Optimised) -> OutputResult {
    let time = text::duration(told.elapsed);
    let stopped = told.stopped(done);
    print_unfolded(app, "made", done.unfolded_chunks, done.unfolded_bytes)?;
    if done.versions == 0 && stopped.is_none() {
        let versions = text::count(told.plan.versions.len() as u64, "version");
        if !told.plan.versions.is_empty() {
            let line = format!("nothing was told anew: {versions} would not take less in terms of others");
            app.out.line(line)?;
        }
    } else {
        let versions = text::count(done.versions, "version");
        let (before, after) = (text::size(done.bytes_before), text::size(done.bytes_after()));
        app.out.line(format!("told {versions} in terms of others in {time}: {before} -> {after}"))?;
    }
    let mut facts = Table::facts();
    for (name, totals) in codecs(done).into_iter().filter(|(_, totals)| totals.blocks > 0) {
        let (blocks, chunks) = (text::count(totals.blocks, "block"), text::count(totals.chunks, "chunk"));
        let (plain, bytes) = (text::size(totals.plain_bytes), text::size(totals.bytes));
        facts.fact(name, format!("{blocks}, {chunks}, {plain} as {bytes}"));
    }
    if !done.gone.is_empty() {
        let freed = text::size(done.freed_bytes.saturating_sub(done.written_bytes));
        let (gone, made) = (text::count(done.gone.len() as u64, "pack"), done.made.len());
        facts.fact("freed", format!("{freed}: {gone} gone, {made} made"));
    }
    app.out.table(&facts)?;
    let mut reasons = BTreeMap::<String, u64>::new();
    done.kept_back.iter().for_each(|(_, why)| *reasons.entry(why.to_string()).or_default() += 1);
    for (why, count) in reasons {
        app.out.line(format!("{} stayed: {why}", text::count(count, "pack")))?;
    }
    let why = match stopped {
        None => return Ok(()),
        Some(Stopped::Time) => "its time was over",
        Some(Stopped::DiskFull) => "the disk is full",
        Some(Stopped::Interrupted) => "it was stopped",
    };
    app.out.line(format!("{why} before its end: `cairn optimise` goes on"))
}
