//! `cairn verify --repair`: what was found damaged is replaced: what is sound of damaged packs is written anew, what is
//! not is fetched from peers.

use cairn_store::repair::{RepairPlan, Repaired};
use cairn_store::verify::VerifyReport;
use cairn_store::{Fetch, VerifyOptions, Writer};
use serde::Serialize;

use super::{SHOWN, VerifyArgs, verify};
use crate::app::App;
use crate::error::Outcome;
use crate::exchange::fetcher;
use crate::output::{OutputResult, Table};
use crate::text;

/// What is below a directory that came is looked at in the next round.
const ROUNDS_MAX: usize = 16;

/// The JSON form of a plan.
#[derive(Serialize)]
struct PlanReport {
    r#type: &'static str,
    packs: Vec<PackReport>,
    lost_chunks: u64,
    wanted_chunks: u64,
    artifacts: Vec<String>,
    dry_run: bool,
}

#[derive(Serialize)]
struct PackReport {
    pack: String,
    file_bytes: u64,
    sound_chunks: u64,
    damaged_chunks: u64,
}

/// The JSON form of what was done, in all rounds.
#[derive(Serialize, Default)]
struct RepairedReport {
    r#type: &'static str,
    packs: Vec<String>,
    kept_chunks: u64,
    healed_chunks: u64,
    still_damaged: Vec<StillDamaged>,
    clean: bool,
}

#[derive(Serialize)]
struct StillDamaged {
    artifact: String,
    chunks: u64,
}

/// Repairs what a report names; says whether all is as it should be then.
pub(super) fn repair(
    app: &mut App,
    args: &VerifyArgs,
    writer: &Writer,
    options: &VerifyOptions,
    mut report: VerifyReport,
) -> anyhow::Result<Outcome> {
    let mut plan = writer.plan_repair(&report)?;
    tell_plan(app, &plan, args.dry_run)?;
    if args.dry_run || plan.is_nothing() {
        return Ok(if report.is_clean() { Outcome::Done } else { Outcome::DamageFound });
    }
    let sources = args.from.sources(writer.path())?;
    let fetch = match sources.is_empty() {
        true => None,
        false => Some(fetcher(&app.net()?, writer, sources)),
    };
    let mut done = RepairedReport { r#type: "repaired", ..RepairedReport::default() };
    for _ in 0..ROUNDS_MAX {
        let meter = app.meter("repairing");
        let repaired = writer.repair(&plan, fetch.as_deref().map(|fetch| fetch as &dyn Fetch), &meter)?;
        drop(meter);
        let has_helped = repaired.healed > 0 || !repaired.packs.is_empty();
        done.add(repaired);
        report = verify(app, writer.store(), options.clone())?.0;
        plan = writer.plan_repair(&report)?;
        if plan.is_nothing() || !has_helped {
            break;
        }
    }
    done.clean = report.is_clean();
    tell(app, &done, fetch.is_some())?;
    Ok(if done.clean { Outcome::Done } else { Outcome::DamageFound })
}

impl RepairedReport {
    fn add(&mut self, round: Repaired) {
        self.packs.extend(round.packs.iter().map(ToString::to_string));
        self.kept_chunks += round.kept_chunks;
        self.healed_chunks += round.healed;
        let still = round.still_damaged.iter().map(|(artifact, chunks)| StillDamaged {
            artifact: artifact.to_string(),
            chunks: chunks.len() as u64,
        });
        self.still_damaged = still.collect();
    }
}

fn tell_plan(app: &mut App, plan: &RepairPlan, dry_run: bool) -> OutputResult {
    if app.json() {
        let packs = plan.packs.iter().map(|pack| PackReport {
            pack: pack.pack.to_string(),
            file_bytes: pack.file_bytes,
            sound_chunks: pack.sound_chunks,
            damaged_chunks: pack.damaged.len() as u64,
        });
        app.out.object(&PlanReport {
            r#type: "repair_plan",
            packs: packs.collect(),
            lost_chunks: plan.lost.len() as u64,
            wanted_chunks: plan.wanted.len() as u64,
            artifacts: plan.affected.iter().map(|(artifact, _)| artifact.to_string()).collect(),
            dry_run,
        })?;
        return app.out.flush();
    }
    if plan.is_nothing() || app.quiet() && !dry_run {
        return Ok(());
    }
    app.out.line(if dry_run { "a repair would" } else { "the repair will" })?;
    for pack in plan.packs.iter().take(SHOWN) {
        let sound = text::count(pack.sound_chunks, "sound chunk");
        let size = text::size(pack.file_bytes);
        app.out.line(format!("  replace pack {} of {size}, and keep {sound} of it", pack.pack.short()))?;
    }
    if plan.packs.len() > SHOWN {
        app.out.line(format!("  and {} more", plan.packs.len() - SHOWN))?;
    }
    if !plan.wanted.is_empty() {
        let wanted = text::count(plan.wanted.len() as u64, "chunk");
        app.out.line(format!("  ask peers for {wanted} that cannot be read here"))?;
    }
    app.out.flush()
}

fn tell(app: &mut App, done: &RepairedReport, has_peers: bool) -> OutputResult {
    if app.json() {
        return app.out.object(done);
    }
    for still in &done.still_damaged {
        let lost = text::count(still.chunks, "chunk");
        app.out.line(format!("still damaged: artifact {}, {lost} lost", still.artifact))?;
    }
    if done.clean {
        app.out.line("everything is as it should be now")?;
    } else {
        let hint = if has_peers { "no peer has what lacks" } else { "there was no peer to ask: --from URL" };
        app.out.line(format!("NOT everything is as it should be: {hint}"))?;
    }
    if app.quiet() {
        return Ok(());
    }
    let mut facts = Table::facts();
    facts.fact("  healed", text::count(done.healed_chunks, "chunk"));
    facts.fact("  kept", text::count(done.kept_chunks, "sound chunk"));
    facts.fact(
        "  replaced",
        match done.packs.len() {
            0 => "no pack".to_owned(),
            1 => "1 pack, which is in quarantine/ of the store now".to_owned(),
            packs => format!("{packs} packs, which are in quarantine/ of the store now"),
        },
    );
    app.out.table(&facts)
}
