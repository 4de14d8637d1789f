//! `cairn ps`: who uses which version.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context;
use cairn_fusefs::processes::{self, FileUse, MountPoint, UseKind};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::error::Outcome;
use crate::output::Align::{Left, Right};
use crate::output::{JsonPath, Table};
use crate::text;

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
        let point = MountPoint::at(&dir)?;
        let users = processes::users(&point)?;
        hidden = users.hidden.max(hidden);
        for process in &users.processes {
            for (used, uses) in by_version(&process.uses) {
                let name = used.as_ref().map(|(name, _)| name.as_str());
                if args.name.as_ref().is_some_and(|wanted| name != Some(wanted.as_str())) {
                    continue;
                }
                let current = used.as_ref().and_then(|(name, version)| is_current(&dir, name, version));
                let kinds: BTreeSet<UseKind> = uses.iter().map(|one| one.kind).collect();
                let kinds: Vec<&str> = kinds.into_iter().map(UseKind::as_str).collect();
                let command = text::path(process.command.as_encoded_bytes());
                let version = used.as_ref().map(|(_, version)| version.as_str());
                if app.json() {
                    let files = uses.iter().map(|one| one.path.to_string_lossy().into_owned());
                    let (mount, files) = (JsonPath::of(&dir), files.collect());
                    let pid = process.pid;
                    let line =
                        Line { pid, command, mount, package: name, version, current, uses: kinds, files };
                    app.out.object(&line)?;
                    continue;
                }
                let dash = |text: Option<&str>| {
                    text.map_or_else(|| "-".to_owned(), |text| text::path(text.as_bytes()))
                };
                let mark = match current {
                    Some(false) => "old",
                    Some(true) => "",
                    None if used.is_some() => "?",
                    None => "",
                };
                table.row([
                    process.pid.to_string(),
                    command,
                    dash(name),
                    dash(version),
                    mark.to_owned(),
                    kinds.join(","),
                    text::path(JsonPath::of(&dir).0),
                ]);
            }
        }
    }
    app.out.table(&table)?;
    if hidden > 0 && !app.quiet() {
        app.warn(&format!("processes that could not be looked into: {hidden}"));
    }
    Ok(Outcome::Done)
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

/// Whether a mount shows this version of the package as the current one; not known of a dead mount.
fn is_current(dir: &Path, name: &str, version: &str) -> Option<bool> {
    let link: PathBuf = dir.join(name).join("current");
    match rustix::fs::readlink(&link, Vec::new()) {
        Ok(shown) => Some(shown.to_bytes() == version.as_bytes()),
        Err(rustix::io::Errno::NOENT) => Some(false),
        Err(_) => None,
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
