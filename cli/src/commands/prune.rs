//! `cairn prune`: forget old generations.

use cairn_store::generation::{Kept as Why, Prune};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::ProfileArg;
use crate::changes::of_profile;
use crate::error::Outcome;
use crate::output::OutputResult;
use crate::text;

const EXAMPLES: &str = "\
The current generation and pinned ones always stay. The versions that generations named stay in the store.

Examples:
  cairn prune --keep 10 --dry-run
  cairn prune --keep 10";

/// Forget old generations of a profile
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct PruneArgs {
    /// How many of the newest stay
    #[arg(long, value_name = "N")]
    pub(crate) keep: usize,
    /// Only say what would go
    #[arg(long)]
    #[serde(default)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) profile: ProfileArg,
}

/// The JSON form of what is pruned.
#[derive(Serialize)]
struct Report<'a> {
    profile: &'a str,
    dry_run: bool,
    removed: &'a [u64],
    kept: Vec<Kept>,
    seq: Option<u64>,
}

/// A generation that stays.
#[derive(Serialize)]
struct Kept {
    generation: u64,
    why: &'static str,
}

pub(crate) fn run(app: &mut App, args: &PruneArgs) -> anyhow::Result<Outcome> {
    let writer = app.writer_of_existing(&app.meter("waiting"))?;
    let plan = writer.plan_prune(&args.profile.profile, args.keep)?;
    let seq = if args.dry_run || plan.remove.is_empty() { None } else { Some(writer.prune(&plan)?) };
    print(app, &plan, args.dry_run, seq)?;
    Ok(Outcome::Done)
}

fn print(app: &mut App, plan: &Prune, dry_run: bool, seq: Option<u64>) -> OutputResult {
    if app.json() {
        let kept =
            plan.kept.iter().map(|(generation, why)| Kept { generation: *generation, why: word(*why) });
        let profile = plan.profile.as_str();
        return app.out.object(&Report {
            profile,
            dry_run,
            removed: &plan.remove,
            kept: kept.collect(),
            seq,
        });
    }
    if app.quiet() {
        return Ok(());
    }
    let (of, count) = (of_profile(&plan.profile), plan.remove.len() as u64);
    if count == 0 {
        return app.out.line(format!("no generation{of} is to go; {} stay", plan.kept.len()));
    }
    let verb = if dry_run { "would remove" } else { "removed" };
    let numbers: Vec<String> = plan.remove.iter().map(u64::to_string).collect();
    app.out.line(format!("{verb} {}{of}: {}", text::count(count, "generation"), numbers.join(", ")))?;
    let kept = plan.kept.iter().map(|(number, why)| format!("{number} ({})", word(*why)));
    app.out.line(format!("kept {}", kept.collect::<Vec<_>>().join(", ")))
}

fn word(why: Why) -> &'static str {
    match why {
        Why::Current => "current",
        Why::Pinned => "pinned",
        Why::Newest => "newest",
    }
}
