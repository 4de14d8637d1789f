//! `cairn pin`: keep a generation whatever is pruned.

use cairn_store::ProfileName;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::ProfileArg;
use crate::changes::of_profile;
use crate::error::Outcome;
use crate::output::OutputResult;

const EXAMPLES: &str = "\
Examples:
  cairn pin 12
  cairn pin 12 --profile canary";

/// Keep a generation: prune leaves it alone until it is unpinned
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct PinArgs {
    /// Its number
    #[arg(value_name = "N")]
    pub(crate) generation: u64,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) profile: ProfileArg,
}

/// The JSON form of a pin.
#[derive(Serialize)]
struct Report<'a> {
    profile: &'a str,
    generation: u64,
    pinned: bool,
    changed: bool,
}

pub(crate) fn run(app: &mut App, args: &PinArgs) -> anyhow::Result<Outcome> {
    let writer = app.writer_of_existing(&app.meter("waiting"))?;
    let changed = writer.pin(&args.profile.profile, args.generation)?;
    print(app, &args.profile.profile, args.generation, true, changed)?;
    Ok(Outcome::Done)
}

/// Tells whether a generation is pinned now, and whether that is new.
pub(crate) fn print(
    app: &mut App,
    profile: &ProfileName,
    generation: u64,
    pinned: bool,
    changed: bool,
) -> OutputResult {
    if app.json() {
        return app.out.object(&Report { profile: profile.as_str(), generation, pinned, changed });
    }
    if app.quiet() {
        return Ok(());
    }
    let state = if pinned { "pinned" } else { "not pinned" };
    let before = if changed { "" } else { ", as before" };
    app.out.line(format!("generation {generation}{} is {state}{before}", of_profile(profile)))
}
