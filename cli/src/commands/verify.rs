//! `cairn verify`: read everything and say what is not as it should be.

use std::time::{Duration, Instant};

use cairn_store::verify::{Affected, Damage, NotYetWhole, VerifyReport};
use cairn_store::{Depth, RefKey, Spec, Store, VerifyOptions};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::{PlatformArg, ThreadsArg};
use crate::commands::repair::{self, MendArgs, Mending};
use crate::error::Outcome;
use crate::output::{JsonPath, OutputResult, Table};
use crate::{text, wire};

const EXAMPLES: &str = "\
Exit code 4 says that something is damaged or missing; the report says what, and what it touches.

Examples:
  cairn verify
  cairn verify uv@stable --json
  cairn verify --fast                          names, directories and tables; no byte of a file
  cairn verify --sample 5%                     the same, and a twentieth of all frames
  cairn verify --repair                        from the peers that the store knows
  cairn verify --repair --from http://10.0.0.5:7001
  cairn verify --repair --dry-run";

/// So many chunks of one damage, and paths of one artifact, are printed for people; JSON has more.
pub(crate) const SHOWN: usize = 20;

/// Check every stored byte and that every artifact is complete
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyArgs {
    /// Only what this artifact needs
    #[serde(default, with = "wire::written_option")]
    pub(crate) spec: Option<Spec>,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) platform: PlatformArg,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) threads: ThreadsArg,
    /// Read no byte of a file: only what leads to them, and whether they are here
    #[arg(long, conflicts_with_all = ["repair", "sample"])]
    #[serde(default)]
    pub(crate) fast: bool,
    /// The same, and so many of a hundred frames, chosen at random
    #[arg(long, value_name = "PERCENT", conflicts_with = "repair", value_parser = parse_percent)]
    #[serde(default)]
    pub(crate) sample: Option<f64>,
    /// Choose the frames that this number chose before [default: others each time]
    #[arg(long, value_name = "NUMBER", requires = "sample")]
    #[serde(default)]
    pub(crate) seed: Option<u64>,
    /// Replace what is damaged, with what is sound in it and with what peers have
    #[arg(long)]
    #[serde(default)]
    pub(crate) repair: bool,
    /// Say what a repair would do, and change nothing
    #[arg(long, requires = "repair")]
    #[serde(default)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) from: MendArgs,
}

/// `5%`, `0.5%` or `5`.
fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let percent: f64 = number.parse().map_err(|_| "it is no number, as 5% is one".to_owned())?;
    if percent > 0.0 && percent <= 100.0 {
        Ok(percent)
    } else {
        Err("it is not above 0% and up to 100%".to_owned())
    }
}

impl VerifyArgs {
    fn depth(&self) -> anyhow::Result<Depth> {
        Ok(match self.sample {
            Some(percent) => Depth::Sample { percent, seed: self.seed.map_or_else(random_seed, Ok)? },
            None if self.fast => Depth::Structure,
            None => Depth::Full,
        })
    }
}

/// Small enough for every reader of JSON to keep it exactly.
fn random_seed() -> anyhow::Result<u64> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u32::from_le_bytes(bytes).into())
}

/// The JSON form of the report.
#[derive(Serialize)]
struct Report<'a> {
    clean: bool,
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    packs: u64,
    frames: u64,
    chunks: u64,
    plain_bytes: u64,
    stored_bytes: u64,
    artifacts: u64,
    elapsed_ms: u128,
    damage: Vec<DamageReport<'a>>,
    affected: Vec<AffectedReport<'a>>,
    derived: Vec<DamageReport<'a>>,
    partial: Vec<PartialReport<'a>>,
}

/// An artifact that is not whole yet.
#[derive(Serialize)]
struct PartialReport<'a> {
    artifact: String,
    refs: Vec<RefReport<'a>>,
    chunks: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct DamageReport<'a> {
    #[serde(flatten)]
    file: JsonPath<'a>,
    pack: Option<String>,
    offset: Option<u64>,
    chunks: Vec<String>,
    detail: &'a str,
}

/// An artifact that is not as it should be.
#[derive(Serialize)]
pub(crate) struct AffectedReport<'a> {
    artifact: String,
    refs: Vec<RefReport<'a>>,
    paths: Vec<JsonPath<'a>>,
    path_count: u64,
    missing: Vec<String>,
}

#[derive(Serialize)]
struct RefReport<'a> {
    name: &'a str,
    version: &'a str,
    platform: String,
}

pub(crate) fn run(app: &mut App, args: &VerifyArgs) -> anyhow::Result<Outcome> {
    let writer = match args.repair {
        true => Some(app.writer_of_existing(&app.meter("waiting"))?),
        false => None,
    };
    let store = match &writer {
        Some(writer) => writer.store().clone(),
        None => app.store()?,
    };
    let artifact = match &args.spec {
        Some(spec) => Some(store.view()?.resolve(spec, args.platform.platform.as_ref())?.1),
        None => None,
    };
    let options = VerifyOptions { artifact, depth: args.depth()?, threads: args.threads.threads };
    let (report, elapsed) = verify(app, &store, options.clone())?;
    tell(app, &options, &report, elapsed)?;
    if let Some(writer) = &writer {
        app.out.flush()?;
        let mending = Mending { options: &options, from: &args.from, dry_run: args.dry_run };
        return repair::mend(app, writer, &mending, report);
    }
    Ok(if report.is_clean() { Outcome::Done } else { Outcome::DamageFound })
}

/// Prints a report, as it was asked for.
pub(crate) fn tell(
    app: &mut App,
    options: &VerifyOptions,
    report: &VerifyReport,
    elapsed: Duration,
) -> OutputResult {
    if app.json() {
        return app.out.object(&json(options, report, elapsed));
    }
    if app.quiet() && report.is_clean() {
        return Ok(());
    }
    if let Depth::Sample { percent, seed } = options.depth {
        app.out.line(format!("{percent}% of all frames, chosen by --seed {seed}"))?;
    }
    print(app, report, elapsed)
}

/// Verifies; prints nothing.
pub(crate) fn verify(
    app: &App,
    store: &Store,
    options: VerifyOptions,
) -> anyhow::Result<(VerifyReport, Duration)> {
    let meter = app.meter("verifying");
    let started = Instant::now();
    let report = store.verify(&options, &meter)?;
    Ok((report, started.elapsed()))
}

fn json<'a>(options: &VerifyOptions, report: &'a VerifyReport, elapsed: Duration) -> Report<'a> {
    let (mode, percent, seed) = match options.depth {
        Depth::Full => ("full", None, None),
        Depth::Structure => ("fast", None, None),
        Depth::Sample { percent, seed } => ("sample", Some(percent), Some(seed)),
    };
    Report {
        clean: report.is_clean(),
        mode,
        percent,
        seed,
        packs: report.packs,
        frames: report.frames,
        chunks: report.chunks,
        plain_bytes: report.plain_bytes,
        stored_bytes: report.stored_bytes,
        artifacts: report.artifacts,
        elapsed_ms: elapsed.as_millis(),
        damage: report.damage.iter().map(damage).collect(),
        affected: report.affected.iter().map(affected).collect(),
        derived: report.derived.iter().map(damage).collect(),
        partial: report.partial.iter().map(partial).collect(),
    }
}

fn partial(partial: &NotYetWhole) -> PartialReport<'_> {
    PartialReport {
        artifact: partial.artifact.to_string(),
        refs: partial.refs.iter().map(ref_report).collect(),
        chunks: partial.missing.chunks,
        bytes: partial.missing.bytes,
    }
}

fn damage(damage: &Damage) -> DamageReport<'_> {
    DamageReport {
        file: JsonPath::of(&damage.file),
        pack: damage.pack.map(|pack| pack.to_string()),
        offset: damage.offset,
        chunks: damage.chunks.iter().map(ToString::to_string).collect(),
        detail: &damage.detail,
    }
}

fn ref_report(key: &RefKey) -> RefReport<'_> {
    RefReport { name: key.name.as_str(), version: key.version.as_str(), platform: key.platform.to_string() }
}

/// The JSON form of an artifact that is damaged.
pub(crate) fn affected(affected: &Affected) -> AffectedReport<'_> {
    AffectedReport {
        artifact: affected.artifact.to_string(),
        refs: affected.refs.iter().map(ref_report).collect(),
        paths: affected.paths.iter().map(|path| JsonPath(path)).collect(),
        path_count: affected.path_count,
        missing: affected.missing.iter().map(ToString::to_string).collect(),
    }
}

/// Prints the report for people: damage, then what it touches, then the figures.
pub(crate) fn print(app: &mut App, report: &VerifyReport, elapsed: Duration) -> OutputResult {
    for damage in &report.damage {
        let at = damage.offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default();
        let file = text::path(JsonPath::of(&damage.file).0);
        app.out.line(format!("damaged {file}{at}: {}", damage.detail))?;
        for chunk in damage.chunks.iter().take(SHOWN) {
            app.out.line(format!("  chunk {chunk}"))?;
        }
        if damage.chunks.len() > SHOWN {
            app.out.line(format!("  and {} more", damage.chunks.len() - SHOWN))?;
        }
    }
    for affected in &report.affected {
        print_affected(app, "affected", affected)?;
    }
    for partial in &report.partial {
        let refs: Vec<String> = partial.refs.iter().map(ToString::to_string).collect();
        let (artifact, missing) = (partial.artifact.short(), partial.missing);
        let (chunks, size) = (text::count(missing.chunks, "chunk"), text::size(missing.bytes));
        app.out.line(format!(
            "partial {} (artifact {artifact}): {chunks} of {size} not here yet",
            refs.join(", ")
        ))?;
    }
    for derived in &report.derived {
        let file = text::path(JsonPath::of(&derived.file).0);
        app.out.line(format!(
            "derived {file}: {}; nothing is lost by that: `cairn repair` makes it again",
            derived.detail
        ))?;
    }
    app.out.line(if report.is_clean() {
        "everything is as it should be"
    } else {
        "NOT everything is as it should be"
    })?;
    let mut facts = Table::facts();
    facts.fact("  artifacts", report.artifacts.to_string());
    facts.fact("  packs", format!("{}, {} read", report.packs, text::count(report.frames, "frame")));
    if report.frames > 0 {
        facts.fact("  chunks", format!("{} of {}", report.chunks, text::size(report.plain_bytes)));
        facts.fact("  stored", text::size(report.stored_bytes));
    }
    let rate = text::rate(report.plain_bytes, elapsed);
    let rate = if report.frames > 0 { format!(" ({rate})") } else { String::new() };
    facts.fact("  time", format!("{}{rate}", text::duration(elapsed)));
    app.out.table(&facts)
}

/// Prints which artifact is damaged, and which of its paths.
pub(crate) fn print_affected(app: &mut App, how: &str, affected: &Affected) -> OutputResult {
    let refs: Vec<String> = affected.refs.iter().map(ToString::to_string).collect();
    let lost = match affected.missing.len() {
        0 => "incomplete".to_owned(),
        count => format!("{} lost", text::count(count as u64, "chunk")),
    };
    let artifact = affected.artifact.short();
    app.out.line(format!("{how} {} (artifact {artifact}): {lost}", refs.join(", ")))?;
    for path in affected.paths.iter().take(SHOWN) {
        // The root has no name: then everything is touched.
        let shown = if path.is_empty() { "/".to_owned() } else { text::path(path) };
        app.out.line(format!("  {shown}"))?;
    }
    let more = affected.path_count.saturating_sub(SHOWN as u64);
    if more > 0 {
        app.out.line(format!("  and {more} more"))?;
    }
    Ok(())
}
