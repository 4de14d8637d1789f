//! `cairn ps`: who uses which version.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use cairn_fusefs::processes::{self, FileUse, MountPoint, Process, UseKind};
use clap::Args;
use rustix::fs::readlink;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::error::Outcome;
use crate::output::Align::{Left, Right};
use crate::output::{JsonPath, OutputResult, Table};
use crate::{probe, text};

const EXAMPLES: &str = "\
USES: exe it runs it, map it has it mapped, open it has it open, cwd or root it is its directory.
\"old\" marks what is not of the current generation.

Examples:
  cairn ps
  cairn ps uv --json";

/// Show which processes use which version of which package, in every mount of cairn
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct PsArgs {
    /// Only of this package
    #[serde(default)]
    pub(crate) name: Option<cairn_store::Name>,
}

/// The JSON form of one process' uses of one version.
#[derive(Serialize)]
struct Line<'a> {
    pid: u32,
    command: String,
    #[serde(flatten)]
    mount: JsonPath<'a>,
    package: Option<&'a str>,
    version: Option<&'a str>,
    current: Option<bool>,
    uses: Vec<&'static str>,
    files: Vec<String>,
}

/// What is used: a package and its version as the mount shows it; neither for the mount's own directories.
type Used = Option<(String, String)>;

pub(crate) fn run(app: &mut App, args: &PsArgs) -> anyhow::Result<Outcome> {
    let titles = [("PID", Right), ("COMMAND", Left), ("PACKAGE", Left), ("VERSION", Left)];
    let [pid, command, package, version] = titles;
    let mut table =
        Table::new(&[pid, command, package, version, ("", Left), ("USES", Left), ("MOUNT", Left)]);
    let mut hidden = 0;
    for dir in cairn_fusefs::mounted().context("cannot tell what is mounted")? {
        let point = match probe::ask(&dir, MountPoint::at) {
            Some(Ok(point)) => point,
            // It says nothing of the others.
            unreachable => {
                let why = unreachable.and_then(Result::err).map_or_else(
                    || "it does not answer".to_owned(),
                    |error| format!("{:#}", anyhow::Error::from(error)),
                );
                let dir = text::path(JsonPath::of(&dir).0);
                app.warn(&format!("who uses the mount {dir} cannot be told: {why}"));
                continue;
            }
        };
        let users = processes::users(&point)?;
        hidden = users.hidden.max(hidden);
        tell(app, &mut table, args.name.as_ref(), &dir, &users.processes)?;
    }
    app.out.table(&table)?;
    if hidden > 0 && !app.quiet() {
        app.warn(&format!("processes that could not be looked into: {hidden}"));
    }
    Ok(Outcome::Done)
}

/// Tells who uses the mount at `dir`, of the package `wanted` if it is given.
fn tell(
    app: &mut App,
    table: &mut Table,
    wanted: Option<&cairn_store::Name>,
    dir: &Path,
    processes: &[Process],
) -> OutputResult {
    let is_wanted = |used: &Used| {
        let name = used.as_ref().map(|(name, _)| name.as_str());
        wanted.is_none_or(|wanted| name == Some(wanted.as_str()))
    };
    let by_process: Vec<_> = processes
        .iter()
        .map(|process| {
            let uses = by_version(&process.uses).into_iter().filter(|(used, _)| is_wanted(used));
            (process, uses.collect::<Vec<_>>())
        })
        .collect();
    let names = by_process.iter().flat_map(|(_, uses)| uses.iter().filter_map(|(used, _)| used.as_ref()));
    let shown = Current::of(dir, names.map(|(name, _)| name.clone()).collect());
    for (process, uses) in by_process {
        for (used, uses) in uses {
            let current = used.as_ref().and_then(|(name, version)| shown.is(name, version));
            let kinds: BTreeSet<UseKind> = uses.iter().map(|one| one.kind).collect();
            let kinds: Vec<&str> = kinds.into_iter().map(UseKind::as_str).collect();
            let command = text::path(process.command.as_encoded_bytes());
            let (package, version) = used.as_ref().map(|(name, version)| (&**name, &**version)).unzip();
            if app.json() {
                let files = uses.iter().map(|one| one.path.to_string_lossy().into_owned());
                let (mount, files) = (JsonPath::of(dir), files.collect());
                let pid = process.pid;
                let line = Line { pid, command, mount, package, version, current, uses: kinds, files };
                app.out.object(&line)?;
                continue;
            }
            let dash =
                |text: Option<&str>| text.map_or_else(|| "-".to_owned(), |text| text::path(text.as_bytes()));
            let mark = match current {
                Some(false) => "old",
                Some(true) => "",
                None if used.is_some() => "?",
                None => "",
            };
            table.row([
                process.pid.to_string(),
                command,
                dash(package),
                dash(version),
                mark.to_owned(),
                kinds.join(","),
                text::path(JsonPath::of(dir).0),
            ]);
        }
    }
    Ok(())
}

fn by_version(uses: &[FileUse]) -> BTreeMap<Used, Vec<&FileUse>> {
    let mut found: BTreeMap<Used, Vec<&FileUse>> = BTreeMap::new();
    for one in uses {
        found.entry(used(&one.path)).or_default().push(one);
    }
    found
}

/// The package and the version of a path below a mount: its first two parts, unless it is of the generations.
fn used(path: &Path) -> Used {
    // A mount that was detached is seen from its root.
    let path = path.strip_prefix("/").unwrap_or(path);
    let mut parts = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    let (name, version) = (parts.next()?, parts.next()?);
    (name != "generations").then_some((name, version))
}

/// The versions that a mount shows as the current ones, of some packages.
struct Current(BTreeMap<String, Option<Vec<u8>>>);

impl Current {
    /// Asks the mount, once for all: it may not answer, or be dead, and then none is known.
    fn of(dir: &Path, names: BTreeSet<String>) -> Self {
        if names.is_empty() {
            return Self(BTreeMap::new());
        }
        let current = |dir: &Path, name: &str| match readlink(dir.join(name).join("current"), Vec::new()) {
            Ok(shown) => Some(Some(shown.into_bytes())),
            Err(Errno::NOENT) => Some(None),
            Err(_) => None,
        };
        let look = move |dir: &Path| {
            let known = names.into_iter().filter_map(|name| current(dir, &name).map(|shown| (name, shown)));
            known.collect()
        };
        Self(probe::ask(dir, look).unwrap_or_default())
    }

    /// Whether this version of the package is the current one.
    fn is(&self, name: &str, version: &str) -> Option<bool> {
        self.0.get(name).map(|shown| shown.as_deref() == Some(version.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_second_part_of_a_path() {
        let uv = Some(("uv".to_owned(), "0.8.1".to_owned()));
        assert_eq!(used(Path::new("uv/0.8.1/bin/uv")), uv);
        assert_eq!(used(Path::new("/uv/0.8.1")), uv);
        for other in ["", "uv", "generations/3/bin"] {
            assert_eq!(used(Path::new(other)), None, "{other}");
        }
    }
}
