//! `cairn rm`: take a name away.

use cairn_store::{ArtifactId, ChannelKey, Error, RefKey, Spec, View, Writer};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::PlatformArg;
use crate::error::{Outcome, on_conflict};
use crate::wire;

const EXAMPLES: &str = "\
Examples:
  cairn rm uv@0.8.1
  cairn rm uv@0.8.1 --force      even if a channel names it; the channel goes too
  cairn rm uv@stable             the channel, not the version that it names";

/// Remove a version or a channel
///
/// The name goes at once; the bytes stay in the store until they are collected.
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct RmArgs {
    /// NAME@VERSION, NAME@CHANNEL, or the first digits of an artifact's id
    #[serde(with = "wire::written")]
    pub(crate) spec: Spec,
    /// Remove a version that channels name, and those channels
    #[arg(long)]
    #[serde(default)]
    pub(crate) force: bool,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) platform: PlatformArg,
}

/// The JSON form of a removal.
#[derive(Serialize)]
struct Report<'a> {
    removed: &'static str,
    name: &'a str,
    version: &'a str,
    channel: Option<&'a str>,
    platform: String,
    artifact: String,
}

/// What a spec names for removal.
enum Target {
    Version(RefKey),
    /// A channel, and the version that it names.
    Channel(ChannelKey, RefKey),
}

pub(crate) fn run(app: &mut App, args: &RmArgs) -> anyhow::Result<Outcome> {
    let writer = app.writer_of_existing(&app.meter("waiting"))?;
    let view = writer.view()?;
    let target = find(&view, args)?;
    let (key, channel, artifact) = match &target {
        Target::Version(key) => (key, None, remove(&writer, key, args.force)?),
        Target::Channel(channel, key) => {
            let (_, artifact) = view.resolve(&args.spec, Some(&channel.platform))?;
            writer.remove_channel(channel)?;
            (key, Some(channel.channel.as_str()), artifact)
        }
    };
    if app.json() {
        app.out.object(&Report {
            removed: if channel.is_some() { "channel" } else { "version" },
            name: key.name.as_str(),
            version: key.version.as_str(),
            channel,
            platform: key.platform.to_string(),
            artifact: artifact.to_string(),
        })?;
    } else if !app.quiet() {
        match &target {
            Target::Version(key) => app.out.line(format!("removed {key} (artifact {})", artifact.short()))?,
            Target::Channel(channel, key) => {
                app.out.line(format!("removed channel {channel}; {} is still there", key.version))?;
            }
        }
    }
    Ok(Outcome::Done)
}

fn remove(writer: &Writer, key: &RefKey, force: bool) -> anyhow::Result<ArtifactId> {
    writer
        .remove_ref(key, force)
        .map_err(|error| on_conflict(error, "--force removes the channels that name it too"))
}

fn find(view: &View, args: &RmArgs) -> anyhow::Result<Target> {
    let (key, artifact) = view.resolve(&args.spec, args.platform.platform.as_ref())?;
    let Some(key) = key else { return Err(Error::Absent { what: format!("a ref to {}", args.spec) }.into()) };
    match &args.spec {
        Spec::Version { version_or_channel: tag, .. } if key.version.as_str() != tag => {
            let platform = key.platform.clone();
            let channel = ChannelKey { name: key.name.clone(), channel: tag.parse()?, platform };
            Ok(Target::Channel(channel, key))
        }
        Spec::Version { .. } => Ok(Target::Version(key)),
        Spec::Artifact(_) => {
            let refs: Vec<String> = view.refs_to(&artifact).map(ToString::to_string).collect();
            match refs.len() {
                0 | 1 => Ok(Target::Version(key)),
                _ => Err(Error::Ambiguous { given: args.spec.to_string(), candidates: refs }.into()),
            }
        }
    }
}
