//! `cairn push`: a version to a peer.

use std::time::Duration;

use anyhow::Context;
use cairn_net::{PeerUrl, PushReport};
use cairn_store::{ArtifactId, RefKey, Spec};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::PlatformArg;
use crate::error::{Absent, Outcome};
use crate::exchange::{AccessArgs, FromArgs, Watching};
use crate::output::{OutputResult, Table};
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

pub(crate) fn run(app: &mut App, args: &PushArgs) -> anyhow::Result<Outcome> {
    let writer = app.writer_of_existing(&app.meter("waiting"))?;
    // What is published carries this store's name.
    writer.origin()?;
    let store = writer.store().clone();
    let (key, artifact) = store.view()?.resolve(&args.spec, args.platform.platform.as_ref())?;
    let _reading = app.hold(&store, &artifact)?;
    let key = key.ok_or_else(|| Absent {
        what: format!("version that names artifact {}", artifact.short()),
        hint: "push it by its name",
    })?;
    let from = FromArgs { from: vec![args.to.clone()], access: args.access.clone() };
    let sources = from.sources(store.path())?;
    let source = sources.first().context("there is nobody to push to")?;
    let meter = app.transfer_meter("pushing");
    let pushed = app.net()?.push(&store, &key, source, &Watching { app, meter: &meter })?;
    drop(meter);
    if app.json() {
        app.out.object(&report(args, &key, &artifact, &pushed))?;
    } else if !app.quiet() {
        print(app, args, &key, &pushed)?;
    }
    Ok(Outcome::Done)
}

fn report<'a>(args: &'a PushArgs, key: &'a RefKey, artifact: &ArtifactId, pushed: &PushReport) -> Report<'a> {
    Report {
        name: key.name.as_str(),
        version: key.version.as_str(),
        platform: key.platform.to_string(),
        artifact: artifact.to_string(),
        to: args.to.as_str(),
        created: pushed.created,
        chunks: pushed.chunks,
        sent_chunks: pushed.sent_chunks,
        sent_bytes: pushed.sent_bytes,
        received_bytes: pushed.received_bytes,
        round_trips: pushed.round_trips,
        elapsed_ms: pushed.elapsed_ms,
    }
}

fn print(app: &mut App, args: &PushArgs, key: &RefKey, pushed: &PushReport) -> OutputResult {
    let verb = if pushed.created { "pushed" } else { "unchanged" };
    app.out.line(format!("{verb} {key} at {}", args.to))?;
    let mut facts = Table::facts();
    let (bytes, trips) = (text::size(pushed.sent_bytes), text::count(pushed.round_trips, "round trip"));
    facts.fact("  transferred", format!("{bytes} in {trips}"));
    facts.fact("  chunks", format!("{}, of which {} were not there", pushed.chunks, pushed.sent_chunks));
    let elapsed = Duration::from_millis(pushed.elapsed_ms);
    let rate = text::rate(pushed.sent_bytes, elapsed);
    facts.fact("  time", format!("{} ({rate})", text::duration(elapsed)));
    app.out.table(&facts)
}
