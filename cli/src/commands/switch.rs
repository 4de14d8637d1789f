//! `cairn switch`: show another generation.

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::ProfileArg;
use crate::changes;
use crate::error::Outcome;

const EXAMPLES: &str = "\
Examples:
  cairn switch 12
  cairn switch 12 --if-current 13        refuses if another than 13 has become current
  cairn generations                      which there are";

/// Show another generation, older or newer
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct SwitchArgs {
    /// Its number
    #[arg(value_name = "N")]
    pub(crate) generation: u64,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) profile: ProfileArg,
    /// Only if this generation is the current one
    #[arg(long, value_name = "N")]
    pub(crate) if_current: Option<u64>,
}

pub(crate) fn run(app: &mut App, args: &SwitchArgs) -> anyhow::Result<Outcome> {
    let writer = app.writer_of_existing(&app.meter("waiting"))?;
    let switched = writer.switch(&args.profile.profile, args.generation, args.if_current)?;
    changes::print(app, &switched, &changes::heading(&switched))?;
    Ok(Outcome::Done)
}
