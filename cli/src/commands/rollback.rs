//! `cairn rollback`: show the generation before.

use cairn_store::time::rfc3339;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::ProfileArg;
use crate::changes;
use crate::error::Outcome;

const EXAMPLES: &str = "\
Examples:
  cairn rollback
  cairn rollback --to 7
  cairn rollback --profile canary
  cairn switch 13                        forward again: nothing is lost by going back";

/// Go back to the generation before, or to an older one
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackArgs {
    /// The generation to go back to [default: the newest of those before the current one]
    #[arg(long, value_name = "N")]
    pub(crate) to: Option<u64>,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) profile: ProfileArg,
}

pub(crate) fn run(app: &mut App, args: &RollbackArgs) -> anyhow::Result<Outcome> {
    let writer = app.writer_of_existing(&app.meter("waiting"))?;
    let switched = writer.rollback(&args.profile.profile, args.to)?;
    let heading = match switched.from {
        Some(from) if switched.seq.is_some() => {
            let view = writer.names();
            let profile = view.profiles.get(&switched.profile);
            let made = profile.and_then(|profile| profile.generations.get(&switched.to));
            let when = made.map(|made| format!(", made {}", rfc3339(made.time_ms))).unwrap_or_default();
            let of = changes::of_profile(&switched.profile);
            format!("generation {from} -> {}{of}{when}", switched.to)
        }
        _ => changes::heading(&switched),
    };
    changes::print(app, &switched, &heading)?;
    Ok(Outcome::Done)
}
