//! `cairn export --archive`: artifacts as one file.
//!
//! The file is written beside its place, synced, and renamed: it is there as a whole or not at all. A pipe or a device
//! that has the name is written into.

use std::ffi::OsString;
use std::fs::{OpenOptions, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use cairn_store::archive::{ArchivePlan, ArchiveTotals, Archived, Base};
use cairn_store::{ArchiveRequest, Error, RefKey, Store};
use serde::Serialize;
use tempfile::NamedTempFile;

use super::ExportArgs;
use crate::app::{App, Reading};
use crate::error::{Outcome, Usage, on_conflict};
use crate::meter::Meter;
use crate::output::{JsonPath, OutputResult, Table};
use crate::text;

/// What stands for standard output.
pub(super) const OUTPUT: &str = "-";
/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// The JSON form of what was written.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    path: JsonPath<'a>,
    artifacts: Vec<About<'a>>,
    since: Vec<About<'a>>,
    archive_bytes: u64,
    metadata_frames: u64,
    data_frames: u64,
    chunks: u64,
    plain_bytes: u64,
    elapsed_ms: u128,
}

/// The JSON form of an artifact in an archive, or left out of one.
#[derive(Serialize)]
pub(crate) struct About<'a> {
    name: &'a str,
    version: &'a str,
    platform: &'a str,
    artifact: String,
    channels: Vec<&'a str>,
}

impl<'a> About<'a> {
    fn of(key: &'a RefKey, artifact: &cairn_store::ArtifactId, channels: Vec<&'a str>) -> Self {
        let RefKey { name, version, platform } = key;
        let (name, version, platform) = (name.as_str(), version.as_str(), platform.as_str());
        Self { name, version, platform, artifact: artifact.to_string(), channels }
    }

    fn archived(archived: &'a Archived) -> Self {
        let channels = archived.channels.iter().map(|channel| channel.channel.as_str()).collect();
        Self::of(&archived.key, &archived.artifact, channels)
    }

    pub(crate) fn base(base: &'a Base) -> Self {
        Self::of(&base.key, &base.artifact, Vec::new())
    }
}

pub(super) fn run(app: &mut App, args: &ExportArgs, file: &Path) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let meter = app.meter("exporting");
    let (store, plan, _reading) = plan(app, args, &meter)?;
    let is_output = file.as_os_str() == OUTPUT;
    let (totals, len) = if is_output {
        let mut out = app.take_output();
        let mut to = Counted { to: &mut Standard(&mut out), written: 0 };
        let totals = store.write_archive(&plan, &mut to, Path::new("standard output"), &meter);
        let len = to.written;
        app.out = out;
        (totals.map_err(who_went_away)?, len)
    } else {
        Place::new(file, args.force)?.write(args.no_sync, &mut |to| {
            let mut to = Counted { to, written: 0 };
            let totals = store.write_archive(&plan, &mut to, file, &meter)?;
            Ok((totals, to.written))
        })?
    };
    drop(meter);
    match (is_output, app.json()) {
        (true, _) => {}
        (false, true) => app.out.object(&report(file, &plan, &totals, len, began.elapsed()))?,
        (false, false) if app.quiet() => {}
        (false, false) => print(app, file, &plan, &totals, len, began.elapsed())?,
    }
    Ok(Outcome::Done)
}

/// What goes in, which stays for as long as the last of the results lives.
fn plan(app: &App, args: &ExportArgs, meter: &Meter) -> anyhow::Result<(Store, ArchivePlan, Vec<Reading>)> {
    let mut specs = vec![args.spec.clone()];
    for spec in &args.rest {
        let text = spec.to_str().ok_or_else(|| Usage {
            problem: format!("{} is no SPEC", spec.display()),
            hint: "with --archive FILE all else that is named is an artifact",
        })?;
        specs.push(text.parse()?);
    }
    let request =
        ArchiveRequest { specs, since: args.since.clone(), platform: args.platform.platform.clone() };
    let store = app.store()?;
    let view = store.view()?;
    let named =
        request.specs.iter().chain(&request.since).map(|spec| view.resolve(spec, request.platform.as_ref()));
    // What is not named is told of when it is looked for again, held.
    let reading =
        named.flatten().map(|(_, artifact)| app.hold(&store, &artifact)).collect::<Result<_, _>>()?;
    let plan = match store.plan_archive(&request, meter) {
        // It has not stated anything yet, and needs a name for that.
        Err(Error::Unavailable { .. }) => {
            app.writer_of_existing(&app.meter("waiting"))?.origin()?;
            store.plan_archive(&request, meter)?
        }
        plan => plan?,
    };
    Ok((store, plan, reading))
}

/// Whoever reads standard output has enough: that ends a command quietly.
fn who_went_away(error: Error) -> anyhow::Error {
    match error {
        Error::Tree { action: "write", source, .. } => crate::output::OutputError(source).into(),
        error => error.into(),
    }
}

/// Standard output as a place to write to.
struct Standard<'a>(&'a mut crate::output::Output);

impl Write for Standard<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.bytes(bytes).map(|()| bytes.len()).map_err(|error| error.0)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush().map_err(|error| error.0)
    }
}

/// Counts what is written.
struct Counted<'a> {
    to: &'a mut dyn Write,
    written: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// Where the archive is to be.
struct Place {
    path: PathBuf,
    folder: PathBuf,
    /// It is there, and no regular file: a pipe, a tape.
    is_special: bool,
    replace: bool,
}

type Wrote<'a> = &'a mut dyn FnMut(&mut dyn Write) -> Result<(ArchiveTotals, u64), Error>;

impl Place {
    fn new(path: &Path, replace: bool) -> anyhow::Result<Self> {
        let there = path.metadata().ok();
        if there.as_ref().is_some_and(std::fs::Metadata::is_dir) {
            let problem = format!("{} is a folder", path.display());
            return Err(Usage {
                problem,
                hint: "--archive names the file to make; without it DEST is a folder",
            }
            .into());
        }
        let is_special = there.as_ref().is_some_and(|there| !there.is_file());
        if there.is_some() && !is_special && !replace {
            return Err(taken(path));
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        Ok(Self { path: path.to_owned(), folder: folder.to_owned(), is_special, replace })
    }

    fn write(&self, no_sync: bool, write: Wrote<'_>) -> anyhow::Result<(ArchiveTotals, u64)> {
        let failed = || format!("cannot write {}", self.path.display());
        if self.is_special {
            let file = OpenOptions::new().write(true).open(&self.path).with_context(failed)?;
            return Ok(write(&mut BufWriter::with_capacity(BUFFER_BYTES, file))?);
        }
        let file = self.beside().with_context(failed)?;
        let wrote = write(&mut BufWriter::with_capacity(BUFFER_BYTES, file.as_file()))?;
        if !no_sync {
            file.as_file().sync_all().with_context(failed)?;
        }
        let persisted =
            if self.replace { file.persist(&self.path) } else { file.persist_noclobber(&self.path) };
        match persisted {
            Ok(_) => {}
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(taken(&self.path));
            }
            Err(error) => return Err(error.error).with_context(failed),
        }
        if !no_sync {
            let synced =
                OpenOptions::new().read(true).open(&self.folder).and_then(|folder| folder.sync_all());
            synced.with_context(|| format!("cannot sync {}", self.folder.display()))?;
        }
        Ok(wrote)
    }

    /// A new file beside it, with the permissions of any new file. Dropped before it is put into its place, it goes.
    fn beside(&self) -> std::io::Result<NamedTempFile> {
        let mut prefix = OsString::from(".");
        prefix.push(self.path.file_name().unwrap_or_default());
        let permissions = Permissions::from_mode(0o666);
        tempfile::Builder::new().prefix(&prefix).permissions(permissions).tempfile_in(&self.folder)
    }
}

fn taken(path: &Path) -> anyhow::Error {
    let error =
        Error::Conflict { what: path.display().to_string(), detail: "it is there already".to_owned() };
    on_conflict(error, "--force replaces it")
}

fn report<'a>(
    file: &'a Path,
    plan: &'a ArchivePlan,
    totals: &ArchiveTotals,
    archive_bytes: u64,
    elapsed: Duration,
) -> Report<'a> {
    Report {
        path: JsonPath::of(file),
        artifacts: plan.artifacts().map(About::archived).collect(),
        since: plan.bases().iter().map(About::base).collect(),
        archive_bytes,
        metadata_frames: totals.metadata_frames,
        data_frames: totals.data_frames,
        chunks: totals.chunks,
        plain_bytes: totals.plain_bytes,
        elapsed_ms: elapsed.as_millis(),
    }
}

fn print(
    app: &mut App,
    file: &Path,
    plan: &ArchivePlan,
    totals: &ArchiveTotals,
    len: u64,
    elapsed: Duration,
) -> OutputResult {
    let what = match totals.artifacts {
        1 => plan.artifacts().map(|about| about.key.to_string()).collect(),
        count => text::count(count.into(), "artifact"),
    };
    app.out.line(format!("archived {what} in {}", text::path(JsonPath::of(file).0)))?;
    let mut facts = Table::facts();
    for about in plan.artifacts() {
        let channels: Vec<_> = about.channels.iter().map(|channel| channel.channel.as_str()).collect();
        let channels =
            if channels.is_empty() { String::new() } else { format!(" ({})", channels.join(", ")) };
        facts.fact("  artifact", format!("{}  {}{channels}", about.artifact, about.key));
    }
    for base in plan.bases() {
        facts.fact("  needs", format!("{}  {}", base.artifact, base.key));
    }
    facts.fact("  bytes", format!("{} for {}", text::size(len), text::size(totals.plain_bytes)));
    facts.fact("  time", format!("{} ({})", text::duration(elapsed), text::rate(len, elapsed)));
    app.out.table(&facts)
}
