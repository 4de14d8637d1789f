//! `cairn demo`: the whole story in a temporary folder. It calls what the commands call; nothing is made up.

mod compare;
mod damage;
mod material;
mod mounted;
mod neighbour;
mod scratch;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::ensure;
use cairn_store::{ArtifactId, Spec, VerifyOptions};
use clap::Args;
use serde::{Deserialize, Serialize};

use self::material::Release;
use self::mounted::Shown;
use self::neighbour::Moved;
use self::scratch::Scratch;
use super::{add, diff, export, ls, stats, verify};
use crate::app::App;
use crate::args::{PlatformArg, ThreadsArg};
use crate::error::Outcome;
use crate::output::Align::{Left, Right};
use crate::output::{OutputResult, Table};
use crate::{text, wire};

const EXAMPLES: &str = "\
Needs up to six times the size of a release in the temporary folder ($TMPDIR, else /tmp), which it removes at the
end and on Ctrl-C. Nothing else is touched. Where something can be mounted, a command of each release is run through
the mount with --version; of folders that you give it is the first command.

Examples:
  cairn demo
  cairn demo --from ./uv-0.8.1 ./uv-0.8.2";

/// Lines of the comparison that are shown.
const DIFFERENCES_SHOWN: usize = 12;
/// The name that the releases get.
const NAME: &str = "demo";

/// Show it all: two releases chunked, deduplicated, listed, compared, restored, mounted, flipped, pulled and verified
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct DemoArgs {
    /// Two folders to use as releases [default: executables of this machine]
    #[arg(long, num_args = 2, value_names = ["DIR_V1", "DIR_V2"])]
    #[serde(default, with = "wire::paths")]
    pub(crate) from: Vec<PathBuf>,
}

/// The measured life of one release.
struct Told {
    version: &'static str,
    source: PathBuf,
    added: add::Added,
    exported: Option<Duration>,
}

/// The JSON form of the story.
#[derive(Serialize)]
struct Report {
    releases: Vec<ReleaseReport>,
    logical_bytes: u64,
    stored_bytes: u64,
    ratio: Option<f64>,
    transfer_bytes: u64,
    pulled_bytes: [u64; 2],
    identical: bool,
    damage_found: bool,
    flips: Option<u64>,
    elapsed_ms: u128,
}

#[derive(Serialize)]
struct ReleaseReport {
    version: &'static str,
    artifact: String,
    files: u64,
    bytes: u64,
    new_bytes: u64,
    stored_bytes: u64,
    add_ms: u128,
    export_ms: u128,
}

pub(crate) fn run(app: &mut App, args: DemoArgs) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let scratch = Scratch::new(app.stopper())?;
    app.use_store(scratch.path().join("store"));
    say(app, &[&format!("This happens in {}, which is removed at the end.", scratch.path().display())])?;
    let releases =
        if args.from.is_empty() { material::gather(&scratch)? } else { material::given(args.from)? };
    for (release, version) in releases.iter().zip(["1", "2"]) {
        say(app, &["", &format!("Release {version}: {}", release.description)])?;
    }

    let mut told = Vec::new();
    for (release, version) in releases.into_iter().zip(["1", "2"]) {
        told.push(publish(app, release, version)?);
    }
    let transfer_bytes = list_and_compare(app, &told)?;
    for release in &mut told {
        release.exported = Some(export_and_check(app, &scratch, release)?);
    }
    let shown = mounted::show(app, &scratch, [&told[0].source, &told[1].source])?;
    let moved = neighbour::pull(app, &scratch)?;
    prove_damage_is_found(app, &scratch)?;
    finish(app, &told, transfer_bytes, &moved, &shown, started.elapsed())?;
    Ok(Outcome::Done)
}

/// Whether the story is told, and not only its end.
fn is_told(app: &App) -> bool {
    !app.json() && !app.quiet()
}

/// Lines of the story, shown at once.
fn say(app: &mut App, lines: &[&str]) -> OutputResult {
    if is_told(app) {
        lines.iter().try_for_each(|line| app.out.line(line))?;
        app.out.flush()?;
    }
    Ok(())
}

fn spec(version: &str) -> anyhow::Result<Spec> {
    Ok(format!("{NAME}@{version}").parse()?)
}

fn publish(app: &mut App, release: Release, version: &'static str) -> anyhow::Result<Told> {
    let source = release.folder;
    let is_second = version == "2";
    let channel = if is_second { " --channel stable" } else { "" };
    let command = format!("$ cairn add {} --name {NAME} --version {version}{channel}", source.display());
    say(app, &["", &command])?;
    let added = add::add(
        app,
        add::AddArgs {
            paths: vec![source.clone()],
            name: NAME.parse()?,
            version: version.parse()?,
            platform: None,
            metadata: add::Metadata::Portable,
            special_files: false,
            channel: is_second.then(|| "stable".parse()).transpose()?,
            replace: false,
            file_name: None,
            executable: false,
            provenance: Vec::new(),
            threads: ThreadsArg { threads: None },
        },
    )?;
    if is_told(app) {
        add::print(app, &added)?;
    }
    Ok(Told { version, source, added, exported: None })
}

/// Lists both and compares them; gives the bytes that going from the first to the second transfers.
fn list_and_compare(app: &mut App, told: &[Told]) -> anyhow::Result<u64> {
    let store = app.store()?;
    let ids: Vec<ArtifactId> = told.iter().map(|release| release.added.ingested.artifact).collect();
    let &[first, second] = ids.as_slice() else { anyhow::bail!("a demo has two releases") };
    if !is_told(app) {
        let transfer = store.transfer(&first, &second, &app.meter("comparing"))?;
        return Ok(transfer.stored_bytes + transfer.metadata_bytes);
    }
    say(app, &["", "$ cairn ls"])?;
    ls::run(app, &ls::LsArgs { filter: None, platform: PlatformArg { platform: None } })?;
    say(app, &["", &format!("$ cairn diff {NAME}@1 {NAME}@stable --bytes")])?;
    let transfer = diff::compare(app, &store, (first, second), Some(None), DIFFERENCES_SHOWN)?;
    let transfer = transfer.unwrap_or_default().transfer;
    say(app, &["", "$ cairn stats"])?;
    stats::run(app, &stats::StatsArgs {})?;
    Ok(transfer.stored_bytes + transfer.metadata_bytes)
}

/// Restores a release and holds it against its source, byte for byte.
fn export_and_check(app: &mut App, scratch: &Scratch, release: &Told) -> anyhow::Result<Duration> {
    let version = release.version;
    let dest = scratch.path().join(format!("export-{version}"));
    say(app, &["", &format!("$ cairn export {NAME}@{version} {}", dest.display())])?;
    let args = export::ExportArgs {
        spec: spec(version)?,
        rest: vec![dest.clone()],
        archive: None,
        since: Vec::new(),
        force: false,
        no_sync: false,
        seed: Vec::new(),
        platform: PlatformArg { platform: None },
        threads: ThreadsArg { threads: None },
    };
    let exported = export::export(app, &args)?;
    if is_told(app) {
        export::print(app, &args, &exported)?;
    }
    let compared = compare::compare(&release.source, &dest)?;
    let (files, bytes) = (text::count(compared.files, "file"), text::size(compared.bytes));
    say(app, &[&format!("compared with {}: {files}, {bytes}, all identical", release.source.display())])?;
    Ok(exported.elapsed)
}

/// Verifies the store, then a copy of it with one bit flipped.
fn prove_damage_is_found(app: &mut App, scratch: &Scratch) -> anyhow::Result<()> {
    say(app, &["", "$ cairn verify"])?;
    let store = app.store()?;
    let (report, elapsed) = verify::verify(app, &store, VerifyOptions::default())?;
    if is_told(app) {
        verify::print(app, &report, elapsed)?;
    }
    ensure!(report.is_clean(), "the store that was just made does not verify");

    let copy = scratch.path().join("copy");
    let flipped = damage::copy_and_flip(&store, &copy)?;
    let place = format!("bit 0 of byte {} of {}", flipped.offset, relative(&flipped.pack, scratch).display());
    say(app, &["", &format!("Now one bit of a copy of the store is flipped: {place}.")])?;
    say(app, &["", &format!("$ cairn verify --store {}", copy.display())])?;
    let damaged = crate::app::open(&copy)?;
    let (report, elapsed) = verify::verify(app, &damaged, VerifyOptions::default())?;
    if is_told(app) {
        verify::print(app, &report, elapsed)?;
    }
    let is_named = report.damage.iter().any(|damage| damage.file == flipped.pack);
    ensure!(is_named, "the flipped bit was not found");
    let id = damaged.view()?.resolve(&spec("2")?, None)?.1;
    let reads = damage::read_all(&damaged, &id);
    let readable = text::count(reads.readable, "file");
    let refused = match &reads.first_refusal {
        Some(refusal) => format!("{} refused: {refusal}", reads.refused),
        None => "none refused".to_owned(),
    };
    say(app, &[&format!("of release 2 in that copy, {readable} still read; {refused}")])?;
    Ok(())
}

fn relative<'a>(path: &'a Path, scratch: &Scratch) -> &'a Path {
    path.strip_prefix(scratch.path()).unwrap_or(path)
}

fn finish(
    app: &mut App,
    told: &[Told],
    transfer_bytes: u64,
    moved: &Moved,
    shown: &Shown,
    elapsed: Duration,
) -> anyhow::Result<()> {
    let stats = app.store()?.stats()?;
    let stored_bytes = stats.data.file_bytes + stats.metadata.file_bytes;
    if app.json() {
        let releases = told.iter().map(release_report).collect();
        let ratio = text::quotient(stats.logical_bytes, stored_bytes);
        app.out.object(&Report {
            releases,
            logical_bytes: stats.logical_bytes,
            stored_bytes,
            ratio,
            transfer_bytes,
            pulled_bytes: [moved.first, moved.second],
            identical: true,
            damage_found: true,
            flips: match shown {
                Shown::Flipped(flips) => Some(flips.count),
                Shown::Refused(_) => None,
            },
            elapsed_ms: elapsed.as_millis(),
        })?;
        return Ok(());
    }
    let mut table = Table::new(&[
        ("RELEASE", Left),
        ("FILES", Right),
        ("SIZE", Right),
        ("NEW", Right),
        ("STORED", Right),
        ("SIZE/STORED", Right),
        ("ADD", Right),
        ("EXPORT", Right),
        ("RESTORED", Left),
    ]);
    for Told { version, added, exported, .. } in told {
        let ingested = &added.ingested;
        let stored = ingested.stored_bytes + ingested.metadata_bytes;
        table.row([
            format!("{NAME}@{version}"),
            ingested.files.to_string(),
            text::size(ingested.bytes),
            text::size(ingested.new_bytes),
            text::size(stored),
            text::ratio(ingested.bytes, stored),
            text::duration(added.elapsed),
            exported.map(text::duration).unwrap_or_default(),
            "byte for byte".to_owned(),
        ]);
    }
    table.row([
        "both".to_owned(),
        stats.files.to_string(),
        text::size(stats.logical_bytes),
        text::size(stats.data.plain_bytes),
        text::size(stored_bytes),
        text::ratio(stats.logical_bytes, stored_bytes),
        String::new(),
        String::new(),
        String::new(),
    ]);
    app.out.line("")?;
    app.out.table(&table)?;
    let (transfer, elapsed) = (text::size(transfer_bytes), text::duration(elapsed));
    if let (Shown::Refused(why), true) = (shown, app.quiet()) {
        app.warn(&format!("nothing was mounted: {why}"));
    }
    let (first, second) = (text::size(moved.first), text::size(moved.second));
    app.out.line(format!(
        "\nWho has release 1 transfers {transfer} to have release 2. The second store pulled release 1 with {first} over \
         the wire, and release 2 with {second}. All of this took {elapsed}."
    ))?;
    Ok(())
}

fn release_report(told: &Told) -> ReleaseReport {
    let ingested = &told.added.ingested;
    ReleaseReport {
        version: told.version,
        artifact: ingested.artifact.to_string(),
        files: ingested.files,
        bytes: ingested.bytes,
        new_bytes: ingested.new_bytes,
        stored_bytes: ingested.stored_bytes + ingested.metadata_bytes,
        add_ms: told.added.elapsed.as_millis(),
        export_ms: told.exported.unwrap_or_default().as_millis(),
    }
}
