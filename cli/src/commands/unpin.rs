//! `cairn unpin`: leave a generation to pruning again.

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::ProfileArg;
use crate::commands::pin;
use crate::error::Outcome;

const EXAMPLES: &str = "\
Examples:
  cairn unpin 12
  cairn unpin 12 --profile canary";

/// Let prune remove a generation again
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct UnpinArgs {
    /// Its number
    #[arg(value_name = "N")]
    pub(crate) generation: u64,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) profile: ProfileArg,
}

pub(crate) fn run(app: &mut App, args: &UnpinArgs) -> anyhow::Result<Outcome> {
    let writer = app.writer_of_existing(&app.meter("waiting"))?;
    let changed = writer.unpin(&args.profile.profile, args.generation)?;
    pin::print(app, &args.profile.profile, args.generation, false, changed)?;
    Ok(Outcome::Done)
}
