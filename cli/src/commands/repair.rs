//! `cairn repair`: what is damaged is put right, or said to stay damaged. `cairn verify --repair` is the same for what it
//! found.
//!
//! Order: what the store stands on, since without it nothing is opened; then a full verification, and the plan; then what
//! is sound of damaged packs is written anew, what is not is looked for in folders and asked of peers. When a directory
//! came back, what lies below it is looked at in turn, for as long as something comes.

mod foundations;
mod from;
mod told;

use std::sync::Arc;

use cairn_store::repair::{Folders, RepairPlan, Repaired};
use cairn_store::verify::{Affected, VerifyReport};
use cairn_store::{Depth, Error, Fetch, PackId, Spec, VerifyOptions, Writer};
use clap::Args;
use serde::{Deserialize, Serialize};

pub(crate) use self::from::MendArgs;
use self::told::Done;
use crate::app::App;
use crate::args::{PlatformArg, ThreadsArg};
use crate::commands::verify;
use crate::error::Outcome;
use crate::exchange::fetcher;
use crate::wire;

const EXAMPLES: &str = "\
What is damaged goes to quarantine/ of the store; nothing is deleted. Code 0: all is as it should be now. Code 4:
something stays damaged, and is listed.

Examples:
  cairn repair                                 from the peers that the store knows
  cairn repair --dry-run
  cairn repair --from http://10.0.0.5:7001 --from /backup/releases
  cairn repair uv@stable --from ./uv-0.8.1
  cairn repair --yes                           also goes back to the journal's newest whole state";

/// Put right what is damaged
///
/// Writes what is sound of damaged packs anew, brings the rest from peers or out of files, and makes the index and the
/// catalogue again.
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepairArgs {
    /// Only what this artifact needs
    #[serde(default, with = "wire::written_option")]
    pub(crate) spec: Option<Spec>,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) platform: PlatformArg,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) threads: ThreadsArg,
    /// Say what would be done, and change nothing
    #[arg(long)]
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// Go back to the newest whole state of a damaged journal: changes after it are lost
    #[arg(long)]
    #[serde(default)]
    pub(crate) yes: bool,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) from: MendArgs,
}

pub(crate) fn run(app: &mut App, args: &RepairArgs) -> anyhow::Result<Outcome> {
    if let Some(outcome) = foundations::mend(app, args)? {
        return Ok(outcome);
    }
    let writer = app.writer_of_existing(&app.meter("waiting"))?;
    if !args.dry_run {
        check_catalogue(app, &writer);
    }
    let store = writer.store().clone();
    let artifact = match &args.spec {
        Some(spec) => Some(store.view()?.resolve(spec, args.platform.platform.as_ref())?.1),
        None => None,
    };
    let options = VerifyOptions { artifact, threads: args.threads.threads, ..VerifyOptions::default() };
    let (report, _) = verify::verify(app, &store, options.clone())?;
    let mending = Mending { options: &options, from: &args.from, dry_run: args.dry_run };
    mend(app, &writer, &mending, report)
}

/// Nothing depends on it, so what is wrong with it stops nothing.
fn check_catalogue(app: &App, writer: &Writer) {
    match writer.check_catalogue() {
        Ok(false) => {}
        Ok(true) => {
            app.say("the catalogue was not usable: it was moved aside and made again from the journal")
        }
        Err(error) => app.warn(&format!("the catalogue cannot be used, and is not needed: {error}")),
    }
}

/// What is to be repaired, and with whose help.
pub(crate) struct Mending<'a> {
    pub(crate) options: &'a VerifyOptions,
    pub(crate) from: &'a MendArgs,
    pub(crate) dry_run: bool,
}

/// Repairs what a full verification found; says whether all is as it should be then.
pub(crate) fn mend(
    app: &mut App,
    writer: &Writer,
    mending: &Mending<'_>,
    report: VerifyReport,
) -> anyhow::Result<Outcome> {
    let plan = writer.plan_repair(&report)?;
    let sources = mending.from.sources(writer.path())?;
    told::plan(app, &plan, &report, mending, sources.len())?;
    let is_clean = report.is_clean();
    if mending.dry_run || plan.is_nothing() && report.derived.is_empty() {
        if !mending.dry_run && !app.json() && !app.quiet() && is_clean {
            app.out.line("everything is as it should be")?;
        }
        return Ok(if is_clean { Outcome::Done } else { Outcome::DamageFound });
    }
    if !report.derived.is_empty() {
        writer.rebuild_index()?;
    }
    let has_peers = !sources.is_empty();
    let fetch = if has_peers { Some(fetcher(&app.net()?, writer, sources)) } else { None };
    let mut done = Done { index_files: report.derived.len() as u64, ..Done::default() };
    let left = rounds(app, writer, mending, fetch.as_ref(), plan, report, &mut done)?;
    done.clean = left.is_clean();
    told::done(app, &done, &left.affected, mending.from.has_any() || has_peers)?;
    Ok(if done.clean { Outcome::Done } else { Outcome::DamageFound })
}

/// What is still wrong.
struct Left {
    affected: Vec<Affected>,
    /// Damaged packs that stay, since not all that is sound of them is elsewhere.
    packs: Vec<PackId>,
}

impl Left {
    fn is_clean(&self) -> bool {
        self.affected.is_empty() && self.packs.is_empty()
    }
}

/// Repairs for as long as something comes: with a directory, what lies below it becomes known.
fn rounds(
    app: &App,
    writer: &Writer,
    mending: &Mending<'_>,
    fetch: Option<&Arc<dyn Fetch>>,
    mut plan: RepairPlan,
    mut report: VerifyReport,
    done: &mut Done,
) -> anyhow::Result<Left> {
    let mut left = Left { affected: Vec::new(), packs: Vec::new() };
    loop {
        let found = look_in_folders(app, writer, mending.from, &mut plan, &report, done)?;
        let meter = app.meter("repairing");
        let repaired = writer.repair(&plan, fetch.map(|fetch| &**fetch as &dyn Fetch), &meter)?;
        drop(meter);
        left.packs.extend(plan.packs.iter().map(|pack| pack.pack));
        left.packs.retain(|pack| !repaired.packs.contains(pack) && !repaired.mended.contains(pack));
        let has_helped = found > 0 || repaired.healed > 0;
        done.add(&repaired);
        // The packs were read already; what came was hashed.
        let options = VerifyOptions { depth: Depth::Structure, ..mending.options.clone() };
        report = verify::verify(app, writer.store(), options)?.0;
        plan = writer.plan_repair(&report)?;
        if plan.is_nothing() || !has_helped {
            left.affected = report.affected;
            return Ok(left);
        }
    }
}

/// Looks for what is wanted in the folders that were named; gives how much of it was found.
fn look_in_folders(
    app: &App,
    writer: &Writer,
    from: &MendArgs,
    plan: &mut RepairPlan,
    report: &VerifyReport,
    done: &mut Done,
) -> Result<u64, Error> {
    let paths: Vec<_> = from.folders().map(Into::into).collect();
    if paths.is_empty() || plan.wanted.is_empty() {
        return Ok(0);
    }
    let hints = report.affected.iter().flat_map(|affected| affected.paths.iter().cloned()).collect();
    let artifacts: Vec<_> = plan.affected.iter().map(|(artifact, _)| *artifact).collect();
    let meter = app.meter("looking in files");
    let reread = writer.reread(&Folders { paths, hints }, &plan.wanted, &artifacts, &meter)?;
    writer.intake().flush()?;
    let store = writer.local();
    plan.wanted.retain(|chunk| store.chunk(&chunk.id).is_err());
    done.read_files += reread.files;
    done.read_bytes += reread.bytes;
    done.found_chunks += reread.found;
    Ok(reread.found)
}

impl Done {
    fn add(&mut self, round: &Repaired) {
        self.packs.extend(round.packs.iter().map(ToString::to_string));
        self.kept_chunks += round.kept_chunks;
        self.healed_chunks += round.healed;
    }
}
