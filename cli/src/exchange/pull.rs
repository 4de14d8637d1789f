//! A version from peers: found, planned, brought, and named last. Nothing is printed here.
//!
//! What comes is kept at once, whatever happens: who runs the same command again goes on from there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_fusefs::WorkingSet;
use cairn_net::{DeltaOffer, DeltaUse, HealReport, Net, PeerUrl, Plan, Report, Resolved, Source, Watch};
use cairn_store::{
    ArtifactId, Held, HoldGuard, Platform, Progress, Published, PulledOptions, RefKey, Spec, Store, Why,
    Writer,
};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::background::fetcher;
use crate::app::App;
use crate::error::pulled_conflict;
use crate::meter::Meter;
use crate::text;

/// Chunks that are asked for together where they are not a whole artifact.
const TOGETHER: usize = 256;

/// How much of a version has to be here before it can be seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Extent {
    /// All of it
    #[default]
    Full,
    /// Names, and what readers of the versions before it touched; the rest in the background
    WorkingSet,
    /// Names; a file's bytes come when they are read, and the rest in the background
    Lazy,
}

/// What is wanted, of whom.
pub(crate) struct Wanted<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) platform: Option<&'a Platform>,
    pub(crate) sources: Vec<Source>,
    pub(crate) extent: Extent,
    /// Whether the version may name this content though it names other content here.
    pub(crate) replace: bool,
    /// Whether it may come as a delta.
    pub(crate) deltas: DeltaUse,
}

/// What will happen, with the metadata for it here.
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    /// The channel that was asked for, if one was.
    pub(crate) channel: Option<String>,
    pub(crate) extent: Extent,
    resolved: Resolved,
    replace: bool,
    began: Instant,
    net: Arc<Net>,
    /// What is here of it stays until it is named.
    hold: HoldGuard,
}

/// What was pulled.
pub(crate) struct Pulled {
    pub(crate) key: RefKey,
    pub(crate) artifact: ArtifactId,
    pub(crate) channel: Option<String>,
    /// What came, but for what the background brings.
    pub(crate) report: Report,
    pub(crate) published: Published,
    /// Whether the rest is still to come.
    pub(crate) is_partial: bool,
    pub(crate) elapsed: Duration,
}

/// Finds out who has it and what lacks, and brings what leads to its files.
pub(crate) fn plan(app: &App, writer: &Writer, wanted: &Wanted<'_>) -> anyhow::Result<Planned> {
    let began = Instant::now();
    let meter = app.meter("asking");
    let net = app.net()?;
    let is_cancelled = || meter.cancelled();
    let resolved = net.resolve_unless(&wanted.sources, wanted.spec, wanted.platform, &is_cancelled)?;
    let options = PulledOptions { replace: wanted.replace, ..PulledOptions::default() };
    // What cannot be named need not be brought.
    writer
        .check_pulled(&resolved.artifact, &resolved.envelopes, &options)
        .map_err(|error| pulled_conflict(error, &resolved.key))?;
    let hold = writer.hold(Held::Artifact(resolved.artifact), format!("a pull of {}", resolved.key));
    let mut plan = net.plan(writer, &resolved.holders, &resolved, &meter)?;
    plan.deltas = wanted.deltas;
    let channel = match wanted.spec {
        Spec::Version { version_or_channel, .. } if *version_or_channel != resolved.key.version.as_str() => {
            Some(version_or_channel.clone())
        }
        _ => None,
    };
    let (extent, replace) = (wanted.extent, wanted.replace);
    Ok(Planned { plan, channel, extent, resolved, replace, began, net, hold })
}

/// What the delta of a plan would come to, if a peer tells one.
pub(crate) fn offer(app: &App, planned: &Planned) -> anyhow::Result<Option<DeltaOffer>> {
    let meter = app.meter("asking for a delta");
    Ok(planned.net.delta_offer(&planned.plan, &|| meter.cancelled())?)
}

/// Does what was planned, and names the version.
pub(crate) fn pull(app: &App, writer: &Writer, planned: Planned) -> anyhow::Result<Pulled> {
    let Planned { plan, channel, extent, resolved, replace, began, net, hold } = planned;
    let is_partial = extent != Extent::Full && plan.chunks > 0;
    let (plain_bytes, stored_bytes) = (plan.plain_bytes, plan.stored_bytes);
    let report = match extent {
        _ if !is_partial => {
            let meter = app.transfer_meter("pulling");
            meter.expect(plan.stored_bytes, 0);
            let report = net.pull(writer, plan, &Watching { app, meter: &meter })?;
            warn_of_damage(app, &report);
            report
        }
        Extent::WorkingSet => {
            bring_working_set(app, writer, &resolved)?;
            Report::default()
        }
        _ => Report::default(),
    };
    let options = PulledOptions { replace, partial: is_partial, new_bytes: plain_bytes, stored_bytes };
    let published = writer
        .publish_pulled(&resolved.artifact, &resolved.envelopes, &options)
        .map_err(|error| pulled_conflict(error, &resolved.key))?;
    drop(hold);
    let Resolved { key, artifact, .. } = resolved;
    // What readers want may be all that lacked.
    let is_partial = is_partial && writer.names().partial.contains(&artifact);
    Ok(Pulled { key, artifact, channel, report, published, is_partial, elapsed: began.elapsed() })
}

/// Says what is damaged here of an earlier version and no peer of this pull had.
fn warn_of_damage(app: &App, report: &Report) {
    if let Some(HealReport { artifact, damaged, healed }) = &report.healed
        && healed < damaged
    {
        let chunks = text::count(damaged - healed, "chunk");
        let artifact = artifact.0.short();
        app.warn(&format!("{chunks} of artifact {artifact} cannot be read, and no peer that was asked has what lacks; `cairn repair --from` mends it from elsewhere"));
    }
}

/// Brings the rest of an artifact that is named and not whole.
pub(crate) fn rest_of(
    app: &App,
    writer: &Writer,
    artifact: &ArtifactId,
    sources: &[Source],
) -> anyhow::Result<Report> {
    let meter = app.transfer_meter("pulling the rest");
    let watch = Watching { app, meter: &meter };
    let report = app.net()?.complete(writer, artifact, sources, &watch)?;
    writer.set_whole(artifact)?;
    Ok(report)
}

/// Brings what readers of the versions before it touched.
fn bring_working_set(app: &App, writer: &Writer, resolved: &Resolved) -> anyhow::Result<()> {
    let Some(set) = working_set(app, writer, &resolved.artifact)? else { return Ok(()) };
    let lacking = writer.lacks(&set.chunks)?;
    let meter = app.transfer_meter("pulling the working set");
    meter.expect(lacking.iter().map(|chunk| u64::from(chunk.len)).sum(), 0);
    let fetch = fetcher(&app.net()?, writer, resolved.holders.clone());
    for together in lacking.chunks(TOGETHER) {
        if meter.cancelled() {
            return Err(cairn_store::Error::Cancelled.into());
        }
        fetch.fetch(together, Why::Absent)?;
        meter.advance(together.iter().map(|chunk| u64::from(chunk.len)).sum(), 0);
    }
    Ok(writer.intake().flush()?)
}

fn working_set(app: &App, store: &Store, artifact: &ArtifactId) -> anyhow::Result<Option<WorkingSet>> {
    match app.daemon().and_then(|daemon| daemon.mounts().opened_files()) {
        // It knows what was read in the last seconds too.
        Some(files) => Ok(files.working_set(artifact)?),
        None => Ok(WorkingSet::of(store, artifact)?),
    }
}

/// Tells of a transfer while it runs.
pub(crate) struct Watching<'a> {
    pub(crate) app: &'a App,
    pub(crate) meter: &'a Meter,
}

impl Watch for Watching<'_> {
    fn received(&self, _: &PeerUrl, bytes: u64) {
        self.meter.advance(bytes, 0);
    }

    fn dropped(&self, peer: &PeerUrl, why: &str) {
        self.app.warn(&format!("{peer} is not asked any more: {why}"));
    }

    fn cancelled(&self) -> bool {
        self.meter.cancelled()
    }
}
