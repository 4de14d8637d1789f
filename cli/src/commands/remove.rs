//! `cairn remove`: show a package no more.

use cairn_store::Name;
use cairn_store::generation::UseOptions;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::ProfileArg;
use crate::changes;
use crate::error::Outcome;

const EXAMPLES: &str = "\
Examples:
  cairn remove ruff
  cairn remove ruff jq --profile canary
  cairn rollback                         brings back what was removed last";

/// Make a generation without these packages, and show it
///
/// Their versions stay in the store; `cairn rm` removes those.
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemoveArgs {
    /// Packages of the current generation
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<Name>,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) profile: ProfileArg,
    /// Only if this generation is the current one
    #[arg(long, value_name = "N")]
    pub(crate) if_current: Option<u64>,
}

pub(crate) fn run(app: &mut App, args: &RemoveArgs) -> anyhow::Result<Outcome> {
    let writer = app.writer_of_existing(&app.meter("waiting"))?;
    let options = UseOptions {
        profile: args.profile.profile.clone(),
        remove: args.names.clone(),
        if_current: args.if_current,
        ..UseOptions::default()
    };
    let switched = writer.use_packages(&options)?;
    changes::print(app, &switched, &changes::heading(&switched))?;
    Ok(Outcome::Done)
}
