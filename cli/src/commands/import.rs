//! `cairn import`: artifacts from an archive.

use std::fs::OpenOptions;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cairn_store::archive::{ArchiveReader, ImportOptions, Imported, ImportedArtifact};
use cairn_store::{Error, Progress};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::add::INPUT;
use super::export::About;
use crate::app::App;
use crate::error::{Outcome, imported_conflict};
use crate::output::{JsonPath, OutputResult, Table};
use crate::{text, wire};

const EXAMPLES: &str = "\
Everything is verified as it is read. The versions can be seen when the end of the archive is reached and holds, not
before; what came until then is kept whatever happens, and the same command once more goes on from there.

Examples:
  cairn import uv.cairn
  ssh near cairn export --archive - uv@stable | cairn import -
  cairn import uv.cairn --dry-run              what is in it, verified, and what of that is new";

/// Take artifacts in from an archive that `cairn export --archive` made
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportArgs {
    /// The archive; - is standard input
    #[serde(with = "wire::path")]
    pub(crate) file: PathBuf,
    /// Verify all of it and say what it would bring; keep nothing
    #[arg(long)]
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// Let versions name this content even if they name other content here
    #[arg(long)]
    #[serde(default)]
    pub(crate) replace: bool,
}

/// The JSON form of one artifact.
#[derive(Serialize)]
struct Report<'a> {
    r#type: &'static str,
    name: &'a str,
    version: &'a str,
    platform: &'a str,
    artifact: String,
    channels: Vec<&'a str>,
    unchanged: Option<bool>,
    replaced: Option<String>,
    seq: Option<u64>,
    new_chunks: u64,
    new_bytes: u64,
    stored_bytes: u64,
    dry_run: bool,
}

/// The JSON form of the archive as a whole.
#[derive(Serialize)]
struct Whole<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    path: JsonPath<'a>,
    archive_bytes: u64,
    artifacts: u32,
    since: Vec<About<'a>>,
    metadata_frames: u64,
    data_frames: u64,
    chunks: u64,
    plain_bytes: u64,
    elapsed_ms: u128,
    dry_run: bool,
}

pub(crate) fn run(app: &mut App, args: &ImportArgs) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let meter = app.transfer_meter("importing");
    let (mut stream, name) = open(app, &args.file, &meter)?;
    // What is no archive is found before anything waits for the store.
    let archive = ArchiveReader::open(&mut *stream, &name)?;
    let writer = app.writer(&app.meter("waiting"))?;
    let options = ImportOptions { replace: args.replace };
    let imported = if args.dry_run {
        writer.weigh_archive(archive, &options, &meter)
    } else {
        writer.import_archive(archive, &options, &meter)
    };
    let imported = imported.map_err(|error| match error {
        // Standard input that is cut off because the client went away fails as it would otherwise.
        Error::Tree { .. } if meter.cancelled() => Error::Cancelled.into(),
        error => imported_conflict(error),
    })?;
    drop(meter);
    app.wake_background();
    if app.json() {
        tell_json(app, args, &imported, began.elapsed())?;
    } else if !app.quiet() || args.dry_run {
        tell(app, args, &imported, began.elapsed())?;
    }
    Ok(Outcome::Done)
}

/// The archive, and what it is called.
fn open(app: &App, file: &Path, meter: &dyn Progress) -> anyhow::Result<(Box<dyn Read>, PathBuf)> {
    if file.as_os_str() == INPUT {
        let input =
            app.input().map_or_else(|| Box::new(std::io::empty()) as Box<dyn Read>, |input| Box::new(input));
        return Ok((input, "standard input".into()));
    }
    let failed = |source| Error::Tree { action: "read", path: file.to_owned(), source };
    let opened = OpenOptions::new().read(true).open(file).map_err(failed)?;
    let about = opened.metadata().map_err(failed)?;
    if about.is_dir() {
        let problem = "it is a folder; `cairn add` stores it".to_owned();
        return Err(Error::Input { path: file.to_owned(), problem }.into());
    }
    if about.is_file() {
        meter.expect(about.len(), 0);
    }
    Ok((Box::new(opened), file.to_owned()))
}

fn tell_json(app: &mut App, args: &ImportArgs, imported: &Imported, elapsed: Duration) -> OutputResult {
    for about in &imported.artifacts {
        let ImportedArtifact { key, artifact, channels, new, published } = about;
        app.out.object(&Report {
            r#type: "artifact",
            name: key.name.as_str(),
            version: key.version.as_str(),
            platform: key.platform.as_str(),
            artifact: artifact.to_string(),
            channels: channels.iter().map(|channel| channel.channel.as_str()).collect(),
            unchanged: published.as_ref().map(|published| published.unchanged),
            replaced: published.as_ref().and_then(|published| published.replaced).map(|old| old.to_string()),
            seq: published.as_ref().and_then(|published| published.seq),
            new_chunks: new.chunks,
            new_bytes: new.plain_bytes,
            stored_bytes: new.stored_bytes,
            dry_run: args.dry_run,
        })?;
    }
    app.out.object(&Whole {
        r#type: "archive",
        path: JsonPath::of(&args.file),
        archive_bytes: imported.archive_bytes,
        artifacts: imported.totals.artifacts,
        since: imported.bases.iter().map(About::base).collect(),
        metadata_frames: imported.totals.metadata_frames,
        data_frames: imported.totals.data_frames,
        chunks: imported.totals.chunks,
        plain_bytes: imported.totals.plain_bytes,
        elapsed_ms: elapsed.as_millis(),
        dry_run: args.dry_run,
    })
}

fn tell(app: &mut App, args: &ImportArgs, imported: &Imported, elapsed: Duration) -> OutputResult {
    for about in &imported.artifacts {
        let verb = match &about.published {
            None => "would import",
            Some(published) if published.replaced.is_some() => "replaced",
            Some(published) if published.unchanged => "unchanged",
            Some(_) => "imported",
        };
        let channels: Vec<_> = about.channels.iter().map(|channel| channel.channel.as_str()).collect();
        let channels =
            if channels.is_empty() { String::new() } else { format!(" ({})", channels.join(", ")) };
        app.out.line(format!("{verb} {}{channels}", about.key))?;
        let mut facts = Table::facts();
        facts.fact("  artifact", about.artifact.to_string());
        let new = match about.new.chunks {
            0 => "nothing: all of it is here".to_owned(),
            chunks => format!("{} in {}", text::size(about.new.plain_bytes), text::count(chunks, "chunk")),
        };
        facts.fact("  new", new);
        app.out.table(&facts)?;
    }
    let (bytes, rate) = (text::size(imported.archive_bytes), text::rate(imported.archive_bytes, elapsed));
    let time = text::duration(elapsed);
    let verb = if args.dry_run { "verified" } else { "read" };
    app.out.line(format!("{verb} {bytes} in {time} ({rate}); every byte holds"))
}
