//! `cairn pull`: a version from peers.

use cairn_store::{ProfileName, Spec};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::use_;
use crate::app::App;
use crate::args::PlatformArg;
use crate::error::Outcome;
use crate::exchange::{self, DeltaArgs, Extent, FromArgs, Wanted};
use crate::wire;

const EXAMPLES: &str = "\
The version can be seen when all of it is here and verified, not before. What came is kept whatever happens: the same
command once more goes on from there.

Examples:
  cairn pull bitcoin@29.0 --from http://10.0.0.5:7001
  cairn pull bitcoin@stable                    of the peers that `cairn peers add` named
  cairn pull bitcoin@29.0 --from http://a:7001 --from http://b:7001       of both at once
  cairn pull bitcoin@29.0 --dry-run            what would come
  cairn pull bitcoin@29.0 --delta never        chunks as they are, and not told in terms of a version that is here
  cairn pull bitcoin@29.0 --to-profile default and shown at once, as `cairn use` does";

/// Bring a version here that peers have: only what lacks of it
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct PullArgs {
    /// NAME@VERSION, NAME@CHANNEL, or the first digits of an artifact's id, as the peer has it
    #[serde(with = "wire::written")]
    pub(crate) spec: Spec,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) from: FromArgs,
    /// Show it in this profile as soon as it is here
    #[arg(long, value_name = "PROFILE")]
    #[serde(default)]
    pub(crate) to_profile: Option<ProfileName>,
    /// Say what would come, and bring no more than what that takes
    #[arg(long)]
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// Bring names alone now, a file's bytes when they are read, and the rest in the background
    #[arg(long)]
    #[serde(default)]
    pub(crate) lazy: bool,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) delta: DeltaArgs,
    /// Let the version name this content even if it names other content here
    #[arg(long)]
    #[serde(default)]
    pub(crate) replace: bool,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) platform: PlatformArg,
}

pub(crate) fn run(app: &mut App, args: &PullArgs) -> anyhow::Result<Outcome> {
    let writer = app.writer(&app.meter("waiting"))?;
    let wanted = Wanted {
        spec: &args.spec,
        platform: args.platform.platform.as_ref(),
        sources: args.from.sources(writer.path())?,
        extent: if args.lazy { Extent::Lazy } else { Extent::Full },
        replace: args.replace,
        deltas: args.delta.wanted(),
    };
    let planned = exchange::plan(app, &writer, &wanted)?;
    let offer = if args.dry_run { exchange::offer(app, &planned)? } else { None };
    exchange::tell_plan(app, &planned, args.dry_run, offer.as_ref())?;
    if args.dry_run {
        return Ok(Outcome::Done);
    }
    if args.lazy {
        app.keep_sources(&wanted.sources)?;
    }
    let pulled = exchange::pull(app, &writer, planned)?;
    exchange::tell_pulled(app, &pulled)?;
    app.wake_background();
    if let Some(profile) = &args.to_profile {
        app.out.flush()?;
        use_::show(app, &writer, profile, &pulled, args.platform.platform.as_ref())?;
    }
    Ok(Outcome::Done)
}
