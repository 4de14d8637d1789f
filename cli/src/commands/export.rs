//! `cairn export`: an artifact back as plain files, or artifacts as one archive (`archive`).

mod archive;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cairn_store::{RestoreOptions, Restored, Spec};
use clap::Args;
use serde::{Deserialize, Serialize};

pub(crate) use self::archive::About;
use crate::app::App;
use crate::args::{PlatformArg, ThreadsArg};
use crate::error::{Outcome, Usage, on_conflict};
use crate::exchange::read_healing;
use crate::output::{JsonPath, OutputResult, Table};
use crate::{text, wire};

const EXAMPLES: &str = "\
Examples:
  cairn export uv@stable ./uv
  cairn export uv@0.8.2 /opt/uv --force
  cairn export state@120000 ./data --seed ./data-of-yesterday
  cairn export --archive uv.cairn uv@stable node@22.3.0       for `cairn import` elsewhere
  cairn export --archive - uv@0.8.2 --since uv@0.8.1 | ssh far cairn import -";

const USAGE: &str = "\
cairn export [OPTIONS] <SPEC> <DEST>
       cairn export [OPTIONS] --archive <FILE> <SPEC>...";

/// Write an artifact as plain files, or artifacts as one archive, all or nothing
///
/// Everything is written beside DEST first and renamed into its place at the end. Files that DEST or a --seed folder
/// already has are cloned or copied from there after their bytes were verified.
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES, override_usage = USAGE)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportArgs {
    /// NAME@VERSION, NAME@CHANNEL, or the first digits of an artifact's id
    #[serde(with = "wire::written")]
    pub(crate) spec: Spec,
    /// The folder to make; it must not be there, or be empty. With --archive, further SPECs
    #[arg(value_name = "DEST|SPEC", required_unless_present = "archive")]
    #[serde(with = "wire::paths")]
    pub(crate) rest: Vec<PathBuf>,
    /// Write one file with all of it, its names and what was signed of them; - is standard output
    #[arg(long, value_name = "FILE")]
    #[serde(default, with = "wire::path_option")]
    pub(crate) archive: Option<PathBuf>,
    /// Leave out of the archive what this has: who imports it has that; may be repeated
    #[arg(long, value_name = "SPEC", requires = "archive")]
    #[serde(default, with = "wire::written_list")]
    pub(crate) since: Vec<Spec>,
    /// Replace a DEST that is not empty, as a whole, or a FILE that is there
    #[arg(long)]
    #[serde(default)]
    pub(crate) force: bool,
    /// Do not wait until the files are on disk: a power cut soon after may lose them
    #[arg(long)]
    #[serde(default)]
    pub(crate) no_sync: bool,
    /// A folder with files that may be the same, such as another version; may be repeated
    #[arg(long, value_name = "DIR", conflicts_with = "archive")]
    #[serde(default, with = "wire::paths")]
    pub(crate) seed: Vec<PathBuf>,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) platform: PlatformArg,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) threads: ThreadsArg,
}

impl ExportArgs {
    /// Where the archive goes that is wanted, if one is; - is standard output.
    pub(crate) fn archive(&self) -> Option<&Path> {
        self.archive.as_deref()
    }

    /// The paths that its caller names.
    pub(crate) fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        match &mut self.archive {
            Some(file) if file.as_os_str() == archive::OUTPUT => Vec::new(),
            Some(file) => vec![file],
            None => self.seed.iter_mut().chain(&mut self.rest).collect(),
        }
    }

    /// Whether it reads or writes at paths that its caller names.
    pub(crate) fn acts_on_paths(&self) -> bool {
        self.archive().is_none_or(|file| file.as_os_str() != archive::OUTPUT)
    }

    fn dest(&self) -> Result<&Path, Usage> {
        match &self.rest[..] {
            [dest] => Ok(dest),
            _ => Err(Usage {
                problem: "one artifact is written into one folder".to_owned(),
                hint: "--archive FILE takes several SPECs into one file",
            }),
        }
    }
}

/// What an `export` did.
pub(crate) struct Exported {
    artifact: cairn_store::ArtifactId,
    pub(crate) restored: Restored,
    pub(crate) elapsed: Duration,
}

/// The JSON form of [`Exported`].
#[derive(Serialize)]
struct Report<'a> {
    artifact: String,
    #[serde(flatten)]
    dest: JsonPath<'a>,
    files: u64,
    directories: u64,
    symlinks: u64,
    bytes: u64,
    seeded_bytes: u64,
    cloned_bytes: u64,
    hole_bytes: u64,
    elapsed_ms: u128,
}

pub(crate) fn run(app: &mut App, args: &ExportArgs) -> anyhow::Result<Outcome> {
    if let Some(file) = args.archive() {
        return archive::run(app, args, file);
    }
    let exported = export(app, args)?;
    let Restored { files, directories, symlinks, bytes, seeded_bytes, cloned_bytes, hole_bytes } =
        exported.restored;
    if app.json() {
        app.out.object(&Report {
            artifact: exported.artifact.to_string(),
            dest: JsonPath::of(args.dest()?),
            files,
            directories,
            symlinks,
            bytes,
            seeded_bytes,
            cloned_bytes,
            hole_bytes,
            elapsed_ms: exported.elapsed.as_millis(),
        })?;
    } else if !app.quiet() {
        print(app, args, &exported)?;
    }
    Ok(Outcome::Done)
}

/// Restores; prints nothing.
pub(crate) fn export(app: &App, args: &ExportArgs) -> anyhow::Result<Exported> {
    let options = RestoreOptions {
        force: args.force,
        seeds: args.seed.clone(),
        no_sync: args.no_sync,
        threads: args.threads.threads,
    };
    let dest = args.dest()?;
    let meter = app.meter("exporting");
    let started = Instant::now();
    let (artifact, restored) = read_healing(app, |store| {
        let (_, artifact) = store.view()?.resolve(&args.spec, args.platform.platform.as_ref())?;
        let _reading = app.hold(store, &artifact)?;
        let restored = store
            .restore(&artifact, dest, &options, &meter)
            .map_err(|error| on_conflict(error, "--force replaces what is there, as a whole"))?;
        Ok((artifact, restored))
    })?;
    Ok(Exported { artifact, restored, elapsed: started.elapsed() })
}

pub(crate) fn print(app: &mut App, args: &ExportArgs, exported: &Exported) -> OutputResult {
    let Exported { restored, elapsed, .. } = exported;
    let dest = args.rest.first().map(|dest| text::path(JsonPath::of(dest).0)).unwrap_or_default();
    app.out.line(format!("exported {} to {dest}", args.spec))?;
    let mut facts = Table::facts();
    facts.fact("  files", restored.files.to_string());
    facts.fact("  bytes", text::size(restored.bytes));
    if restored.seeded_bytes > 0 {
        let cloned = match restored.cloned_bytes {
            0 => String::new(),
            bytes => format!(", {} cloned", text::size(bytes)),
        };
        facts.fact("  already there", format!("{}{cloned}", text::size(restored.seeded_bytes)));
    }
    if restored.hole_bytes > 0 {
        facts.fact("  holes", text::size(restored.hole_bytes));
    }
    let rate = text::rate(restored.bytes, *elapsed);
    facts.fact("  time", format!("{} ({rate})", text::duration(*elapsed)));
    app.out.table(&facts)
}
