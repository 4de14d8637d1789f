//! `cairn gc`: take away what nothing needs, and say what keeps the rest.

mod explain;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::time::{Duration, Instant};

use cairn_store::collect::{CollectOptions, CollectPlan, Collected, Verdict, WhyKept};
use cairn_store::{ProfileName, RefKey, Retention, RetentionPlan, Retired, Writer};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::changes::of_profile;
use crate::error::Outcome;
use crate::output::{OutputResult, Table};
use crate::priority::behind_others;
use crate::text;

const EXAMPLES: &str = "\
What a version, a channel, a generation, a pin, an open file, a running process or a transfer needs stays. It can be
stopped at any time, and run again to go on. Reads, adds and pulls go on meanwhile.

Examples:
  cairn gc --dry-run
  cairn gc
  cairn gc --keep-generations 5 --keep-versions 30d
  cairn gc --max-time 10m --rate 50MB
  cairn gc --explain uv@0.8.1
  cairn gc --explain 3f2a9c…                   an artifact, a pack, a chunk or an object, by all 64 digits of its id";

/// Free what no version, generation, process or transfer needs any more
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct GcArgs {
    /// Say what would be freed, and change nothing
    #[arg(long)]
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// Say what keeps a version, or an artifact, pack, chunk or object of this id, and change nothing
    #[arg(long, value_name = "SPEC|ID", conflicts_with_all = ["max_time", "keep_generations", "keep_versions", "dry_run"])]
    #[serde(default)]
    pub(crate) explain: Option<String>,
    /// Stop after this time; what was freed by then stays free
    #[arg(long, env = "CAIRN_GC_MAX_TIME", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    #[serde(default)]
    pub(crate) max_time: Option<Duration>,
    /// First forget the generations of each profile but so many of the newest, the current and the pinned
    #[arg(long, value_name = "N")]
    #[serde(default)]
    pub(crate) keep_generations: Option<usize>,
    /// First remove versions older than this that no channel and no generation names, but the latest of each package
    #[arg(long, value_name = "DURATION", value_parser = text::parse_duration)]
    #[serde(default)]
    pub(crate) keep_versions: Option<Duration>,
    /// Write packs anew of which less than this part is needed
    #[arg(long, env = "CAIRN_GC_LIVE_RATIO", value_name = "0..1", value_parser = parse_part, hide_env_values = true)]
    #[serde(default)]
    pub(crate) live_ratio: Option<f64>,
    /// Read and write no more than this in a second
    #[arg(long, env = "CAIRN_GC_RATE", value_name = "SIZE", value_parser = text::parse_rate, hide_env_values = true)]
    #[serde(default)]
    pub(crate) rate: Option<u64>,
    /// Worker threads [default: one a core]
    #[arg(long, env = "CAIRN_THREADS", value_name = "N", hide_env_values = true)]
    #[serde(default)]
    pub(crate) threads: Option<NonZero<usize>>,
}

fn parse_part(text: &str) -> Result<f64, String> {
    let part: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    if (0.0..=1.0).contains(&part) { Ok(part) } else { Err("it is not between 0 and 1".to_owned()) }
}

impl GcArgs {
    fn options(&self) -> CollectOptions {
        let usual = CollectOptions::default();
        CollectOptions {
            live_ratio: self.live_ratio.unwrap_or(usual.live_ratio),
            bandwidth: self.rate,
            max_time: self.max_time,
            threads: self.threads,
            ..usual
        }
    }

    fn retention(&self) -> Retention {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Retention { generations: self.keep_generations, versions_ms: self.keep_versions.map(millis) }
    }
}

/// The JSON form of a plan and of what came of it.
#[derive(Serialize)]
struct Report<'a> {
    dry_run: bool,
    generations: Vec<GenerationsReport<'a>>,
    versions: Vec<String>,
    needed_chunks: u64,
    needed_bytes: u64,
    garbage_chunks: u64,
    garbage_bytes: u64,
    planned_bytes: u64,
    held: Vec<&'a str>,
    packs: Vec<PackReport>,
    done: Option<Done>,
    mark_ms: u128,
    elapsed_ms: u128,
}

/// Generations that go, or went, by the rule.
#[derive(Serialize)]
struct GenerationsReport<'a> {
    profile: &'a str,
    generations: &'a [u64],
}

#[derive(Serialize)]
struct PackReport {
    pack: String,
    metadata: bool,
    file_bytes: u64,
    needed_bytes: u64,
    chunks: u64,
    needed_chunks: u64,
    verdict: &'static str,
    why: Option<String>,
}

#[derive(Serialize)]
struct Done {
    freed_bytes: u64,
    written_bytes: u64,
    dropped: usize,
    rewritten: usize,
    made: usize,
    disk_full: bool,
    complete: bool,
    kept_back: Vec<KeptBack>,
}

#[derive(Serialize)]
struct KeptBack {
    pack: String,
    why: String,
}

/// What was planned and done.
struct Told {
    retention: RetentionPlan,
    retired: Retired,
    plan: CollectPlan,
    done: Option<Collected>,
    mark: Duration,
    elapsed: Duration,
}

impl Told {
    /// Generations that go, or went, by profile.
    fn generations(&self) -> Vec<(&ProfileName, &[u64])> {
        match self.done {
            None => self.retention.prunes.iter().map(|prune| (&prune.profile, &prune.remove[..])).collect(),
            Some(_) => self.retired.generations.iter().map(|(name, numbers)| (name, &numbers[..])).collect(),
        }
    }

    fn versions(&self) -> &[RefKey] {
        if self.done.is_none() { &self.retention.versions } else { &self.retired.versions }
    }

    fn count(&self, is_it: impl Fn(&Verdict) -> bool) -> u64 {
        self.plan.packs.iter().filter(|pack| is_it(&pack.verdict)).count() as u64
    }
}

pub(crate) fn run(app: &mut App, args: &GcArgs) -> anyhow::Result<Outcome> {
    let writer = app.writer_of_existing(&app.meter("waiting"))?;
    if let Some(asked) = &args.explain {
        return explain::run(app, &writer, asked);
    }
    // Readers of the machine go first.
    let told = behind_others(|| collect(app, &writer, args))?;
    if app.json() {
        app.out.object(&report(&told))?;
    } else if !app.quiet() {
        print(app, &told)?;
    }
    Ok(Outcome::Done)
}

/// Planning is of the time that it may take, too.
fn collect(app: &App, writer: &Writer, args: &GcArgs) -> anyhow::Result<Told> {
    let begun = Instant::now();
    let retention = writer.plan_retention(&args.retention(), cairn_store::time::now_ms())?;
    // What would go by the rule is not gone in a dry run, and so it counts as needed.
    let retired = if args.dry_run { Retired::default() } else { writer.retire(&retention)? };
    let mut options = args.options();
    let plan = writer.plan_collection(&options, &app.meter("marking"))?;
    let mark = begun.elapsed();
    options.max_time = options.max_time.map(|max| max.saturating_sub(mark));
    let done = match args.dry_run {
        true => None,
        false => Some(writer.collect(&plan, &options, &app.transfer_meter("collecting"))?),
    };
    Ok(Told { retention, retired, plan, done, mark, elapsed: begun.elapsed() })
}

fn report(told: &Told) -> Report<'_> {
    let plan = &told.plan;
    let generations = told.generations().into_iter();
    let packs = plan.packs.iter().map(|pack| {
        let (verdict, why) = match &pack.verdict {
            Verdict::Drop => ("drop", None),
            Verdict::Rewrite => ("rewrite", None),
            Verdict::Merge => ("merge", None),
            Verdict::Keep(why) => ("keep", Some(why.to_string())),
        };
        PackReport {
            pack: pack.pack.to_string(),
            metadata: pack.metadata,
            file_bytes: pack.file_bytes,
            needed_bytes: pack.needed_bytes,
            chunks: pack.chunks,
            needed_chunks: pack.needed_chunks,
            verdict,
            why,
        }
    });
    let done = told.done.as_ref().map(|done| Done {
        freed_bytes: done.freed_bytes,
        written_bytes: done.written_bytes,
        dropped: done.dropped.len(),
        rewritten: done.rewritten.len(),
        made: done.made.len(),
        disk_full: done.disk_full,
        complete: done.complete,
        kept_back: kept_back(done).map(|(pack, why)| KeptBack { pack, why }).collect(),
    });
    Report {
        dry_run: told.done.is_none(),
        generations: generations
            .map(|(profile, generations)| GenerationsReport { profile: profile.as_str(), generations })
            .collect(),
        versions: told.versions().iter().map(ToString::to_string).collect(),
        needed_chunks: plan.needed_chunks,
        needed_bytes: plan.needed_bytes,
        garbage_chunks: plan.garbage_chunks,
        garbage_bytes: plan.garbage_bytes,
        planned_bytes: plan.freed_bytes,
        held: plan.holds.iter().map(|hold| hold.by.as_str()).collect(),
        packs: packs.collect(),
        done,
        mark_ms: told.mark.as_millis(),
        elapsed_ms: told.elapsed.as_millis(),
    }
}

fn kept_back(done: &Collected) -> impl Iterator<Item = (String, String)> {
    done.kept_back.iter().map(|(pack, why)| (pack.to_string(), why.to_string()))
}

fn print(app: &mut App, told: &Told) -> OutputResult {
    let Some(done) = &told.done else { return print_plan(app, told) };
    for (profile, numbers) in told.generations() {
        let (of, count) = (of_profile(profile), text::count(numbers.len() as u64, "generation"));
        app.out.line(format!("forgot {count}{of}"))?;
    }
    for version in told.versions() {
        app.out.line(format!("removed {version}"))?;
    }
    let freed = done.freed_bytes.saturating_sub(done.written_bytes);
    let (dropped, rewritten) = (done.dropped.len() as u64, done.rewritten.len() as u64);
    let (time, made) = (text::duration(told.elapsed), done.made.len() as u64);
    match (dropped, rewritten) {
        (0, 0) => app.out.line(format!("nothing was freed: {}", needed(told)))?,
        (dropped, 0) => {
            app.out.line(format!(
                "freed {} in {time}: {} gone",
                text::size(freed),
                text::count(dropped, "pack")
            ))?;
        }
        (dropped, rewritten) => app.out.line(format!(
            "freed {} in {time}: {} gone, {} written anew as {made}",
            text::size(freed),
            text::count(dropped, "pack"),
            text::count(rewritten, "pack"),
        ))?,
    }
    for (why, count) in reasons(done) {
        app.out.line(format!("{} stayed: {why}", text::count(count, "pack")))?;
    }
    if done.disk_full {
        app.out
            .line("the disk is full: what it takes to write packs anew is freed by packs that go whole")?;
    }
    if !done.complete {
        app.out.line("it was stopped before its end: `cairn gc` goes on")?;
    }
    Ok(())
}

/// Why packs stayed that were to go, and how many for each reason.
fn reasons(done: &Collected) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (_, why) in kept_back(done) {
        *counts.entry(why).or_default() += 1;
    }
    counts
}

fn needed(told: &Told) -> String {
    let plan = &told.plan;
    let (bytes, chunks) = (text::size(plan.needed_bytes), text::count(plan.needed_chunks, "chunk"));
    let garbage = match plan.garbage_bytes {
        0 => String::new(),
        bytes => format!("; {} that is not lies among it", text::size(bytes)),
    };
    format!("{bytes} in {chunks} is needed{garbage}")
}

fn print_plan(app: &mut App, told: &Told) -> OutputResult {
    let plan = &told.plan;
    for (profile, numbers) in told.generations() {
        let (of, count) = (of_profile(profile), text::count(numbers.len() as u64, "generation"));
        app.out.line(format!("would forget {count}{of}, and what only they need (not counted below)"))?;
    }
    for version in told.versions() {
        app.out.line(format!("would remove {version}, and what only it needs (not counted below)"))?;
    }
    let dropped = told.count(|verdict| *verdict == Verdict::Drop);
    let rewritten = told.count(|verdict| matches!(verdict, Verdict::Rewrite | Verdict::Merge));
    let mut facts = Table::facts();
    facts.fact("would free", text::size(plan.freed_bytes));
    facts.fact("packs that go", dropped.to_string());
    facts.fact("written anew", rewritten.to_string());
    facts.fact(
        "needed",
        format!("{} in {}", text::size(plan.needed_bytes), text::count(plan.needed_chunks, "chunk")),
    );
    let garbage = text::count(plan.garbage_chunks, "chunk");
    facts.fact("not needed", format!("{} in {garbage}", text::size(plan.garbage_bytes)));
    for hold in &plan.holds {
        facts.fact("in use", text::path(hold.by.as_bytes()));
    }
    for pack in &plan.packs {
        if let Verdict::Keep(why @ WhyKept::Damaged(_)) = &pack.verdict {
            facts.fact("damaged", format!("pack {}: {why}", pack.pack));
        }
    }
    app.out.table(&facts)
}
