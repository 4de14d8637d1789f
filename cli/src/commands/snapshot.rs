//! `cairn snapshot`: state directories at a round: made, listed, compared, written out.

mod create;
mod differ;
mod listing;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use cairn_store::snapshots::{key_of, parse_round};
use cairn_store::{Error, Name, RefKey, SnapshotInfo, Spec, Store, View};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use self::create::CreateArgs;
use self::differ::DiffArgs;
use self::listing::LsArgs;
use super::{export, show};
use crate::app::App;
use crate::args::{PlatformArg, ThreadsArg};
use crate::error::{Absent, Outcome};
use crate::exchange::AccessArgs;
use crate::wire;

const EXAMPLES: &str = "\
A snapshot is a version of NAME for any/any whose version is the round: NAME@156. Channel `latest` is the newest one made
here. NAME alone means the newest that is whole.

Examples:
  cairn snapshot create state /var/lib/node/data --round 156
  cairn snapshot create state /var/lib/node/data --round-cmd 'node-ctl height' \\
      --freeze 'node-ctl pause' --thaw 'node-ctl resume' --keep 5
  cairn snapshot ls state
  cairn snapshot diff state@155 state@156
  cairn snapshot diff state --with http://10.0.0.5:7001      where two nodes part
  cairn snapshot export state@156 ./data";

/// Make, list and compare snapshots of a state directory
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SnapshotCommand {
    Create(CreateArgs),
    Ls(LsArgs),
    Show(ShowArgs),
    Diff(DiffArgs),
    Export(ExportArgs),
}

/// A snapshot, as a command line names it: `NAME`, `NAME@ROUND` or `NAME@latest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotSpec {
    pub(crate) name: Name,
    /// The newest, if nothing is said.
    pub(crate) round: Option<u64>,
}

impl fmt::Display for SnapshotSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.round {
            Some(round) => write!(f, "{}@{round}", self.name),
            None => self.name.fmt(f),
        }
    }
}

impl FromStr for SnapshotSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text.split_once('@') {
            None | Some((_, "latest")) => {
                let name = text.strip_suffix("@latest").unwrap_or(text);
                Self { name: name.parse()?, round: None }
            }
            Some((name, round)) => Self { name: name.parse()?, round: Some(parse_round(round)?) },
        })
    }
}

impl wire::Written for SnapshotSpec {
    fn written(&self) -> String {
        self.to_string()
    }
}

impl SnapshotSpec {
    /// The snapshot that is meant.
    pub(crate) fn find(&self, store: &Store, view: &View) -> anyhow::Result<SnapshotInfo> {
        let found = match self.round {
            Some(round) => store.snapshot_at(view, &self.name, round)?,
            None => store.latest_snapshot(view, &self.name)?,
        };
        let hint = "`cairn snapshot ls` lists those that there are";
        found.ok_or_else(|| Absent { what: format!("snapshot {self}"), hint }.into())
    }
}

/// A snapshot for commands about artifacts.
fn spec_of(key: &RefKey) -> Spec {
    Spec::Version { name: key.name.clone(), version_or_channel: key.version.to_string() }
}

fn platform_of(key: &RefKey) -> PlatformArg {
    PlatformArg { platform: Some(key.platform.clone()) }
}

/// Show a snapshot: its round, what its state hashes to, and what is in it
#[derive(Debug, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShowArgs {
    /// NAME@ROUND, or NAME for the newest
    #[arg(value_name = "NAME[@ROUND]")]
    #[serde(with = "wire::written")]
    pub(crate) snapshot: SnapshotSpec,
    /// List its files too
    #[arg(long)]
    #[serde(default)]
    pub(crate) files: bool,
}

/// Write a snapshot as plain files, with owners and times, all or nothing
#[derive(Debug, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportArgs {
    /// NAME@ROUND, or NAME for the newest
    #[arg(value_name = "NAME[@ROUND]")]
    #[serde(with = "wire::written")]
    pub(crate) snapshot: SnapshotSpec,
    /// The folder to make; it must not be there, or be empty
    #[arg(value_name = "DEST")]
    #[serde(with = "wire::path")]
    pub(crate) dest: PathBuf,
    /// Replace a DEST that is not empty, as a whole
    #[arg(long)]
    #[serde(default)]
    pub(crate) force: bool,
    /// Do not wait until the files are on disk: a power cut soon after may lose them
    #[arg(long)]
    #[serde(default)]
    pub(crate) no_sync: bool,
    /// A folder with files that may be the same, such as the state before; may be repeated
    #[arg(long, value_name = "DIR")]
    #[serde(default, with = "wire::paths")]
    pub(crate) seed: Vec<PathBuf>,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) threads: ThreadsArg,
}

impl SnapshotCommand {
    /// What lets us in at peers, where the command talks with any.
    pub(crate) fn access(&self) -> Option<&AccessArgs> {
        match self {
            Self::Ls(args) => Some(&args.access),
            Self::Diff(args) => Some(&args.access),
            _ => None,
        }
    }

    /// The same, to be completed.
    pub(crate) fn access_mut(&mut self) -> Option<&mut AccessArgs> {
        match self {
            Self::Ls(args) => Some(&mut args.access),
            Self::Diff(args) => Some(&mut args.access),
            _ => None,
        }
    }

    /// Whether it reads or writes at paths that its caller names, or runs his commands.
    pub(crate) fn acts_on_paths(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Export(_))
    }

    /// The paths that its caller names.
    pub(crate) fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Create(args) => args.paths_mut(),
            Self::Export(args) => args.seed.iter_mut().chain([&mut args.dest]).collect(),
            _ => self.access_mut().into_iter().flat_map(|access| &mut access.ca).collect(),
        }
    }
}

pub(crate) fn run(app: &mut App, command: SnapshotCommand) -> anyhow::Result<Outcome> {
    match command {
        SnapshotCommand::Create(args) => create::run(app, &args),
        SnapshotCommand::Ls(args) => listing::run(app, &args),
        SnapshotCommand::Diff(args) => differ::run(app, &args),
        SnapshotCommand::Show(args) => {
            let key = key(app, &args.snapshot)?;
            let ShowArgs { files, .. } = args;
            show::run(app, &show::ShowArgs { spec: spec_of(&key), files, platform: platform_of(&key) })
        }
        SnapshotCommand::Export(args) => {
            let key = key(app, &args.snapshot)?;
            let ExportArgs { dest, force, no_sync, seed, threads, .. } = args;
            let (spec, platform, rest) = (spec_of(&key), platform_of(&key), vec![dest]);
            let since = Vec::new();
            let args = export::ExportArgs {
                spec,
                rest,
                archive: None,
                since,
                force,
                no_sync,
                seed,
                platform,
                threads,
            };
            export::run(app, &args)
        }
    }
}

fn key(app: &App, spec: &SnapshotSpec) -> anyhow::Result<RefKey> {
    let store = app.store()?;
    let view = store.view()?;
    Ok(key_of(&spec.name, spec.find(&store, &view)?.round))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_named_by_its_round_or_is_the_newest() {
        let spec = |text: &str| text.parse::<SnapshotSpec>();
        for (text, round) in
            [("state", None), ("state@latest", None), ("state@156", Some(156)), ("state@0", Some(0))]
        {
            let parsed = spec(text).unwrap();
            assert_eq!((parsed.name.as_str(), parsed.round), ("state", round));
            assert_eq!(spec(&parsed.to_string()).unwrap(), parsed);
        }
        for bad in ["", "@1", "state@", "state@01", "state@stable", "state@-1", "State"] {
            spec(bad).unwrap_err();
        }
    }
}
