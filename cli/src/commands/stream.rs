//! `cairn stream`: what happens in a network, appended and followed.

mod append;
mod follow;
mod listing;

use cairn_net::{PeerUrl, Source};
use cairn_store::{EventHead, Name, StateHash};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

pub(crate) use append::AppendArgs;
pub(crate) use follow::FollowArgs;

use crate::app::App;
use crate::error::{Absent, Outcome};
use crate::exchange::{AccessArgs, FromArgs};
use crate::output::OutputResult;

/// What stands for standard input.
pub(crate) const INPUT: &str = "-";

const EXAMPLES: &str = "\
A stream has the events of a network, one a round: bytes that mean nothing to cairn, with what the state hashes to after
them if that is said. A store keeps the last of each stream, as many bytes as --stream-bytes-max of its daemon says.

Examples:
  cairn stream append chain --round 157 event.bin
  cairn stream append chain --round 158 --state-hash a1b2 < event.bin
  cairn stream follow chain --from http://10.0.0.5:7001
  cairn stream follow chain --from-round 157 --no-follow --json
  cairn stream ls";

/// Append, follow and list the events of a network
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StreamCommand {
    Append(AppendArgs),
    Follow(FollowArgs),
    Ls(LsArgs),
}

/// List streams, and which rounds are kept of each
#[derive(Debug, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LsArgs {
    /// Those of this peer [default: those of this store]
    #[arg(long, env = "CAIRN_STREAM_FROM", value_name = "URL", hide_env_values = true)]
    #[serde(default)]
    pub(crate) from: Option<PeerUrl>,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) access: AccessArgs,
}

impl StreamCommand {
    /// What lets us in at a peer.
    pub(crate) fn access(&self) -> &AccessArgs {
        match self {
            Self::Append(args) => &args.access,
            Self::Follow(args) => &args.access,
            Self::Ls(args) => &args.access,
        }
    }

    /// The same, to be completed.
    pub(crate) fn access_mut(&mut self) -> &mut AccessArgs {
        match self {
            Self::Append(args) => &mut args.access,
            Self::Follow(args) => &mut args.access,
            Self::Ls(args) => &mut args.access,
        }
    }

    /// The file that it reads, if it does.
    pub(crate) fn file(&self) -> Option<&std::path::PathBuf> {
        match self {
            Self::Append(args) => Some(&args.file),
            Self::Follow(_) | Self::Ls(_) => None,
        }
    }

    /// The same, to be made absolute.
    pub(crate) fn file_mut(&mut self) -> Option<&mut std::path::PathBuf> {
        match self {
            Self::Append(args) => Some(&mut args.file),
            Self::Follow(_) | Self::Ls(_) => None,
        }
    }
}

pub(crate) fn run(app: &mut App, command: StreamCommand) -> anyhow::Result<Outcome> {
    match command {
        StreamCommand::Append(args) => append::run(app, args),
        StreamCommand::Follow(args) => follow::run(app, &args),
        StreamCommand::Ls(args) => listing::run(app, &args),
    }
}

/// A peer that the command line names.
fn source(app: &App, url: &PeerUrl, access: &AccessArgs) -> anyhow::Result<Source> {
    let from = FromArgs { from: vec![url.clone()], access: access.clone() };
    let known = from.sources(&app.store_path()?)?.into_iter().next();
    Ok(known.unwrap_or_else(|| access.source(url.clone())))
}

fn absent(name: &Name) -> Absent {
    Absent { what: format!("stream {name}"), hint: "`cairn stream ls` lists them; --from URL asks a peer" }
}

/// The JSON form of an event.
#[derive(Serialize)]
struct EventLine<'a> {
    round: u64,
    hash: String,
    state_hash: Option<&'a StateHash>,
    /// None where only the head is known.
    bytes: Option<u64>,
}

fn print(app: &mut App, head: &EventHead, bytes: Option<u64>) -> OutputResult {
    let EventHead { round, hash, state_hash } = head;
    if app.json() {
        let state_hash = state_hash.as_ref();
        return app.out.object(&EventLine { round: *round, hash: hash.to_string(), state_hash, bytes });
    }
    let state_hash = state_hash.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    let bytes = bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
    app.out.line(format!("{round}  {hash}  {state_hash}  {bytes}"))
}
