//! How a repair is told: the plan before it, and what came of it.

use cairn_store::repair::RepairPlan;
use cairn_store::verify::{Affected, VerifyReport};
use serde::Serialize;

use super::Mending;
use crate::app::App;
use crate::commands::verify::{AffectedReport, SHOWN, affected, print_affected};
use crate::output::{JsonPath, OutputResult, Table};
use crate::text;

/// The JSON form of a plan.
#[derive(Serialize)]
struct PlanReport<'a> {
    r#type: &'static str,
    packs: Vec<PackReport>,
    index_files: usize,
    lost_chunks: u64,
    wanted_chunks: u64,
    artifacts: Vec<String>,
    peers: usize,
    folders: Vec<JsonPath<'a>>,
    dry_run: bool,
}

#[derive(Serialize)]
struct PackReport {
    pack: String,
    file_bytes: u64,
    sound_chunks: u64,
    damaged_chunks: u64,
}

/// What was done, in all rounds.
#[derive(Default)]
pub(super) struct Done {
    pub(super) packs: Vec<String>,
    pub(super) index_files: u64,
    pub(super) kept_chunks: u64,
    pub(super) healed_chunks: u64,
    pub(super) found_chunks: u64,
    pub(super) read_files: u64,
    pub(super) read_bytes: u64,
    pub(super) clean: bool,
}

/// The JSON form of that.
#[derive(Serialize)]
struct DoneReport<'a> {
    r#type: &'static str,
    packs: &'a [String],
    index_files: u64,
    kept_chunks: u64,
    healed_chunks: u64,
    found_chunks: u64,
    read_files: u64,
    read_bytes: u64,
    still_damaged: Vec<StillDamaged<'a>>,
    clean: bool,
}

#[derive(Serialize)]
struct StillDamaged<'a> {
    chunks: u64,
    #[serde(flatten)]
    affected: AffectedReport<'a>,
}

pub(super) fn plan(
    app: &mut App,
    plan: &RepairPlan,
    report: &VerifyReport,
    mending: &Mending<'_>,
    peers: usize,
) -> OutputResult {
    let folders = || mending.from.folders();
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
            index_files: report.derived.len(),
            lost_chunks: plan.lost.len() as u64,
            wanted_chunks: plan.wanted.len() as u64,
            artifacts: plan.affected.iter().map(|(artifact, _)| artifact.to_string()).collect(),
            peers,
            folders: folders().map(JsonPath::of).collect(),
            dry_run: mending.dry_run,
        })?;
        return app.out.flush();
    }
    if plan.is_nothing() && report.derived.is_empty() || app.quiet() && !mending.dry_run {
        return Ok(());
    }
    app.out.line(if mending.dry_run { "a repair would" } else { "the repair will" })?;
    if !report.derived.is_empty() {
        let files = text::count(report.derived.len() as u64, "file");
        app.out.line(format!("  make the index again, {files} of which are not what was written"))?;
    }
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
        app.out.line(format!("  need {wanted} that cannot be read here"))?;
        for folder in folders() {
            app.out.line(format!("  look for them in {}", text::path(JsonPath::of(folder).0)))?;
        }
        if peers > 0 {
            app.out.line(format!("  ask {} for them", text::count(peers as u64, "peer")))?;
        }
    }
    app.out.flush()
}

pub(super) fn done(app: &mut App, done: &Done, left: &[Affected], has_asked: bool) -> OutputResult {
    if app.json() {
        let still = left
            .iter()
            .map(|still| StillDamaged { chunks: still.missing.len() as u64, affected: affected(still) });
        return app.out.object(&DoneReport {
            r#type: "repaired",
            packs: &done.packs,
            index_files: done.index_files,
            kept_chunks: done.kept_chunks,
            healed_chunks: done.healed_chunks,
            found_chunks: done.found_chunks,
            read_files: done.read_files,
            read_bytes: done.read_bytes,
            still_damaged: still.collect(),
            clean: done.clean,
        });
    }
    for still in left {
        print_affected(app, "still damaged", still)?;
    }
    if done.clean {
        app.out.line("everything is as it should be now")?;
    } else {
        app.out.line(format!(
            "NOT everything is as it should be: {}",
            if has_asked {
                "nobody who was asked has what lacks; to add a version again from its files heals it too"
            } else {
                "there was nobody to ask: --from URL names a peer, --from DIR a folder with the files"
            }
        ))?;
    }
    if app.quiet() {
        return Ok(());
    }
    let mut facts = Table::facts();
    if done.read_files > 0 {
        let (files, size) = (text::count(done.read_files, "file"), text::size(done.read_bytes));
        facts.fact("  found", format!("{}, in {files} of {size}", text::count(done.found_chunks, "chunk")));
    }
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
