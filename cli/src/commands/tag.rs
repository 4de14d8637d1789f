//! `cairn tag`: let a channel name a version.

use cairn_store::{Channel, Error, Spec, Version};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::PlatformArg;
use crate::error::Outcome;
use crate::wire;

const EXAMPLES: &str = "\
Examples:
  cairn tag uv@0.8.2 stable
  cairn tag uv@edge stable       stable names what edge names now";

/// Let a channel name a version
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct TagArgs {
    /// The version: NAME@VERSION, NAME@CHANNEL, or the first digits of an artifact's id
    #[serde(with = "wire::written")]
    pub(crate) spec: Spec,
    /// The channel: a-z 0-9 . _ + -
    pub(crate) channel: Channel,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) platform: PlatformArg,
}

/// The JSON form of what changed.
#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    channel: &'a str,
    platform: String,
    version: &'a str,
    previous: Option<&'a str>,
    artifact: String,
}

pub(crate) fn run(app: &mut App, args: &TagArgs) -> anyhow::Result<Outcome> {
    let writer = app.writer_of_existing(&app.meter("waiting"))?;
    let (key, artifact) = writer.view()?.resolve(&args.spec, args.platform.platform.as_ref())?;
    let Some(key) = key else { return Err(Error::Absent { what: format!("a ref to {}", args.spec) }.into()) };
    let previous = writer.tag(&key, &args.channel)?;
    if app.json() {
        app.out.object(&Report {
            name: key.name.as_str(),
            channel: args.channel.as_str(),
            platform: key.platform.to_string(),
            version: key.version.as_str(),
            previous: previous.as_ref().map(Version::as_str),
            artifact: artifact.to_string(),
        })?;
    } else if !app.quiet() {
        let was = match &previous {
            Some(previous) if *previous == key.version => ", as before".to_owned(),
            Some(previous) => format!(", was {previous}"),
            None => String::new(),
        };
        app.out
            .line(format!("{}@{} is {} for {}{was}", key.name, args.channel, key.version, key.platform))?;
    }
    Ok(Outcome::Done)
}
