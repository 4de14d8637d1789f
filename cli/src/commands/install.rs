//! `cairn install`: the programs of a version into a folder, for machines without a mount.
//!
//! `folder` is the folder with what was there before; `program` compares and writes a single program.

mod folder;
pub(crate) mod program;

use std::collections::BTreeMap;
use std::path::PathBuf;

use cairn_store::{ArtifactId, Error, Name, Platform, RefKey, Spec, Store, View};
use clap::Args;
use serde::{Deserialize, Serialize};

use self::folder::{Folder, Installed};
use crate::app::App;
use crate::args::{PlatformArg, ProfileArg};
use crate::error::{Outcome, Usage};
use crate::output::{JsonPath, Table};
use crate::{text, wire};

const EXAMPLES: &str = "\
Each program is replaced in one step, also while it runs, and only if it is another one; what was there stays in DIR/.cairn until the
next version is installed. A command that was cut off is run again, or taken back.

Examples:
  cairn install bitcoin@29.0 --to /usr/local/bin
  cairn install bitcoin --to /usr/local/bin             the version that the profile shows
  cairn install bitcoin@29.0 --to /usr/local/bin --binary bitcoind
  cairn install bitcoin --to /usr/local/bin --rollback  what was there before";

/// Put the programs of a version into a folder, for machines without a mount
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct InstallArgs {
    /// NAME, for the version that the profile shows, NAME@VERSION or NAME@CHANNEL
    #[arg(value_name = "NAME[@VERSION]")]
    pub(crate) what: String,
    /// The folder
    #[arg(long, env = "CAIRN_INSTALL_TO", value_name = "DIR", hide_env_values = true)]
    #[serde(with = "wire::path")]
    pub(crate) to: PathBuf,
    /// Only this program; may be repeated
    #[arg(long, value_name = "NAME")]
    #[serde(default)]
    pub(crate) binary: Vec<String>,
    /// Put back what was there before the last version was installed
    #[arg(long, conflicts_with = "binary")]
    #[serde(default)]
    pub(crate) rollback: bool,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) profile: ProfileArg,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) platform: PlatformArg,
}

/// The JSON form of what was done.
#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    version: Option<&'a str>,
    artifact: Option<&'a str>,
    #[serde(flatten)]
    to: JsonPath<'a>,
    changed: bool,
    programs: &'a [Program],
    /// What `--rollback` puts back now; null where that is nothing.
    previous: Option<&'a str>,
}

/// What became of a program.
#[derive(Debug, Serialize)]
pub(crate) struct Program {
    pub(crate) name: String,
    /// `installed`, `replaced`, `unchanged`, `removed`.
    pub(crate) change: &'static str,
    pub(crate) size: u64,
}

pub(crate) fn run(app: &mut App, args: &InstallArgs) -> anyhow::Result<Outcome> {
    let name = args.what.split_once('@').map_or(args.what.as_str(), |(name, _)| name);
    let name: Name = name.parse()?;
    let mut folder = Folder::open(&args.to, &name)?;
    let installed = if args.rollback { folder.roll_back()? } else { install(app, args, &name, &mut folder)? };
    let Installed { programs, version, previous } = &installed;
    let is_changed = programs.iter().any(|program| program.change != "unchanged");
    let report = Report {
        name: name.as_str(),
        version: version.as_ref().map(|version| version.version.as_str()),
        artifact: version.as_ref().map(|version| version.artifact.as_str()),
        to: JsonPath::of(&args.to),
        changed: is_changed,
        programs,
        previous: previous.as_deref(),
    };
    if app.json() {
        app.out.object(&report)?;
    } else if !app.quiet() {
        print(app, args, &report)?;
    }
    Ok(Outcome::Done)
}

fn print(app: &mut App, args: &InstallArgs, report: &Report<'_>) -> anyhow::Result<()> {
    let what = match report.version {
        Some(version) => format!("{}@{version}", report.name),
        None => format!("what was there before {}", report.name),
    };
    let folder = text::path(JsonPath::of(&args.to).0);
    if !report.changed {
        app.out.line(format!("already current: {folder} has {what}"))?;
        return Ok(());
    }
    let verb = if args.rollback { "put back" } else { "installed" };
    app.out.line(format!("{verb} {what} in {folder}"))?;
    let mut facts = Table::facts();
    for program in report.programs {
        let size = if program.change == "removed" {
            String::new()
        } else {
            format!(", {}", text::size(program.size))
        };
        facts.fact(&format!("  {}", program.name), format!("{}{size}", program.change));
    }
    app.out.table(&facts)?;
    if let Some(previous) = report.previous {
        app.say(&format!("`cairn install {} --to {folder} --rollback` puts {previous} back", report.name));
    }
    Ok(())
}

fn install(app: &App, args: &InstallArgs, name: &Name, folder: &mut Folder) -> anyhow::Result<Installed> {
    let store = app.store()?;
    let view = store.view()?;
    let (key, artifact) = resolve(&view, args, name)?;
    let _reading = app.hold(&store, &artifact)?;
    let programs = programs(&store, &artifact, &key, &args.binary)?;
    let version = folder::VersionRecord { version: key.version.to_string(), artifact: artifact.to_string() };
    folder.install(&store, &artifact, version, &programs, &|| app.is_cancelled())
}

/// The version that is meant.
fn resolve(view: &View, args: &InstallArgs, name: &Name) -> anyhow::Result<(RefKey, ArtifactId)> {
    let platform = args.platform.platform.as_ref();
    if args.what.contains('@') {
        let spec: Spec = args.what.parse()?;
        return match view.resolve(&spec, platform)? {
            (Some(key), artifact) => Ok((key, artifact)),
            (None, _) => Err(Error::Absent { what: format!("a ref to {spec}") }.into()),
        };
    }
    let shown = view.profiles.get(&args.profile.profile).and_then(|profile| profile.current());
    if let Some(package) = shown.and_then(|generation| generation.packages.get(name)) {
        let (version, platform) = (package.version.clone(), package.platform.clone());
        return Ok((RefKey { name: name.clone(), version, platform }, package.artifact));
    }
    let versions: Vec<_> = view.refs_of(name).filter(|(key, _)| fits(key, platform)).collect();
    match versions.as_slice() {
        [] => Err(Error::Absent { what: name.to_string() }.into()),
        [(key, record)] => Ok(((*key).clone(), record.artifact)),
        several => {
            let listed: Vec<String> =
                several.iter().map(|(key, _)| format!("{name}@{}", key.version)).collect();
            let problem = format!(
                "profile {} shows no {name}, and there are {}",
                args.profile.profile,
                listed.join(", ")
            );
            Err(Usage { problem, hint: "say which: `cairn install NAME@VERSION --to DIR`" }.into())
        }
    }
}

fn fits(key: &RefKey, platform: Option<&Platform>) -> bool {
    match platform {
        Some(platform) => key.platform == *platform,
        None => key.platform == Platform::current() || key.platform == Platform::any(),
    }
}

/// The programs of an artifact that are meant, each with its path there.
fn programs(
    store: &Store,
    artifact: &ArtifactId,
    key: &RefKey,
    wanted: &[String],
) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let all = store.commands(artifact)?;
    let all: BTreeMap<String, Vec<u8>> =
        all.into_iter().filter_map(|(name, path)| Some((String::from_utf8(name).ok()?, path))).collect();
    let listed = || all.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    if let Some(missing) = wanted.iter().find(|wanted| !all.contains_key(*wanted)) {
        let problem = format!("{}@{} has no program {missing}; it has {}", key.name, key.version, listed());
        return Err(Usage { problem, hint: "--binary names programs exactly" }.into());
    }
    if all.is_empty() {
        let problem = format!("{}@{} has no programs", key.name, key.version);
        return Err(Usage { problem, hint: "`cairn export` writes all of its files" }.into());
    }
    if wanted.is_empty() {
        return Ok(all);
    }
    Ok(all.into_iter().filter(|(name, _)| wanted.contains(name)).collect())
}
