//! `cairn push`: a version to a peer.

use cairn_net::{PeerUrl, PushReport};
use cairn_store::{RefKey, Spec};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::PlatformArg;
use crate::error::{Absent, Outcome};
use crate::exchange::{AccessArgs, FromArgs, Watching};
use crate::output::Table;
use crate::{text, wire};

const EXAMPLES: &str = "\
It takes a token of the peer that may publish: `cairn token create --scope publish` there makes one.

Examples:
  cairn push bitcoin@29.0 --to http://10.0.0.5:7001 --token-file token
  cairn push bitcoin@stable --to https://cairn.example.org --json";

/// Publish a version at a peer: only what it lacks travels
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct PushArgs {
    /// NAME@VERSION, NAME@CHANNEL, or the first digits of an artifact's id
    #[serde(with = "wire::written")]
    pub(crate) spec: Spec,
    /// The peer
    #[arg(long, value_name = "URL")]
    pub(crate) to: PeerUrl,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) access: AccessArgs,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) platform: PlatformArg,
}

/// The JSON form of a push.
#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    version: &'a str,
    platform: String,
    artifact: String,
    to: &'a str,
    created: bool,
    chunks: u64,
    sent_chunks: u64,
    sent_bytes: u64,
    received_bytes: u64,
    round_trips: u64,
    elapsed_ms: u64,
}
