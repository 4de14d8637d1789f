//! How pulls are told: what is to come before it does, and what came from whom.

use cairn_net::wire::HexId;
use cairn_net::{DeltaOffer, DeltaReport, HealReport, PeerReport, Plan};
use cairn_store::ArtifactId;
use serde::Serialize;

use super::pull::{Extent, Planned, Pulled};
use crate::app::App;
use crate::output::{OutputResult, Table};
use crate::text;

/// The JSON form of a plan.
#[derive(Serialize)]
struct PlanReport<'a> {
    r#type: &'static str,
    name: &'a str,
    version: &'a str,
    platform: String,
    artifact: String,
    channel: Option<&'a str>,
    have: Option<String>,
    objects: u64,
    object_bytes: u64,
    chunks: u64,
    plain_bytes: u64,
    stored_bytes: u64,
    total_bytes: u64,
    saved_bytes: u64,
    peers: Vec<&'a str>,
    dropped: Vec<Dropped<'a>>,
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a DeltaOffer>,
}

/// A peer that does not take part.
#[derive(Serialize)]
struct Dropped<'a> {
    url: &'a str,
    reason: &'a str,
}

/// The JSON form of what was pulled.
#[derive(Serialize)]
pub(crate) struct PulledReport {
    r#type: &'static str,
    name: String,
    version: String,
    platform: String,
    artifact: String,
    channel: Option<String>,
    unchanged: bool,
    replaced: Option<String>,
    seq: Option<u64>,
    partial: bool,
    chunks: u64,
    plain_bytes: u64,
    stored_bytes: u64,
    wire_bytes: u64,
    sent_bytes: u64,
    round_trips: u64,
    delta: Option<DeltaReport>,
    healed: Option<HealReport>,
    peers: Vec<PeerLine>,
    elapsed_ms: u128,
}

/// What came of one peer.
#[derive(Serialize)]
pub(crate) struct PeerLine {
    url: String,
    bytes: u64,
    chunks: u64,
    bytes_per_s: u64,
    dropped: Option<String>,
    lied: bool,
}

impl PeerLine {
    pub(crate) fn of(report: &PeerReport) -> Self {
        Self {
            url: report.url.to_string(),
            bytes: report.bytes,
            chunks: report.chunks,
            bytes_per_s: report.rate,
            dropped: report.dropped.clone(),
            lied: report.lied,
        }
    }
}

impl PulledReport {
    pub(crate) fn of(pulled: &Pulled) -> Self {
        let Pulled { key, artifact, channel, report, published, is_partial, elapsed } = pulled;
        Self {
            r#type: "pulled",
            name: key.name.to_string(),
            version: key.version.to_string(),
            platform: key.platform.to_string(),
            artifact: artifact.to_string(),
            channel: channel.clone(),
            unchanged: published.unchanged,
            replaced: published.replaced.map(|old| old.to_string()),
            seq: published.seq,
            partial: *is_partial,
            chunks: report.chunks,
            plain_bytes: report.plain_bytes,
            stored_bytes: report.stored_bytes,
            wire_bytes: report.wire_bytes,
            sent_bytes: report.sent_bytes,
            round_trips: report.round_trips,
            delta: report.delta.clone(),
            healed: report.healed.clone(),
            peers: report.peers.iter().map(PeerLine::of).collect(),
            elapsed_ms: elapsed.as_millis(),
        }
    }
}

fn plan_report<'a>(planned: &'a Planned, dry_run: bool, delta: Option<&'a DeltaOffer>) -> PlanReport<'a> {
    let Plan { artifact, key, have, objects, object_bytes, chunks, plain_bytes, .. } = &planned.plan;
    let Plan { stored_bytes, total_bytes, saved_bytes, peers, dropped, .. } = &planned.plan;
    let dropped = dropped
        .iter()
        .map(|peer| Dropped { url: peer.url.as_str(), reason: peer.dropped.as_deref().unwrap_or_default() });
    PlanReport {
        r#type: "plan",
        name: key.name.as_str(),
        version: key.version.as_str(),
        platform: key.platform.to_string(),
        artifact: artifact.to_string(),
        channel: planned.channel.as_deref(),
        have: have.map(|have| have.to_string()),
        objects: *objects,
        object_bytes: *object_bytes,
        chunks: *chunks,
        plain_bytes: *plain_bytes,
        stored_bytes: *stored_bytes,
        total_bytes: *total_bytes,
        saved_bytes: *saved_bytes,
        peers: peers.iter().map(|peer| peer.as_str()).collect(),
        dropped: dropped.collect(),
        dry_run,
        delta,
    }
}

/// Tells what is to come, at once: what follows may take long.
pub(crate) fn tell_plan(
    app: &mut App,
    planned: &Planned,
    dry_run: bool,
    delta: Option<&DeltaOffer>,
) -> OutputResult {
    if app.json() {
        app.out.object(&plan_report(planned, dry_run, delta))?;
        return app.out.flush();
    }
    if app.quiet() && !dry_run {
        return Ok(());
    }
    let plan = &planned.plan;
    let channel = planned.channel.as_ref().map(|channel| format!(" ({channel})")).unwrap_or_default();
    app.out.line(format!("{}{channel}", plan.key))?;
    let mut facts = Table::facts();
    for peer in &plan.peers {
        facts.fact("  from", peer.as_str());
    }
    for peer in &plan.dropped {
        let reason = peer.dropped.as_deref().unwrap_or_default();
        facts.fact("  not from", format!("{}: {}", peer.url, text::path(reason.as_bytes())));
    }
    let when = match planned.extent {
        Extent::Full => "",
        _ if plan.chunks == 0 => "",
        Extent::WorkingSet => ", what was read of earlier versions first",
        Extent::Lazy => ", when it is read, and in the background",
    };
    let transfer = match plan.chunks {
        0 => "nothing".to_owned(),
        chunks => {
            let (bytes, chunks) = (text::size(plan.stored_bytes), text::count(chunks, "chunk"));
            format!("{bytes} in {chunks}{when}")
        }
    };
    facts.fact("  to transfer", transfer);
    if let Some(DeltaOffer { from, bytes, via, .. }) = delta {
        facts.fact("  as a delta", format!("{} from {from}{}", text::size(*bytes), through(via)));
    }
    let part = text::percent(plan.saved_bytes, plan.total_bytes);
    let (saved, total) = (text::size(plan.saved_bytes), text::size(plan.total_bytes));
    facts.fact("  saved", format!("{saved} of {total} ({part}) are here already"));
    app.out.table(&facts)?;
    app.out.flush()
}

/// Tells what came, and from whom.
pub(crate) fn tell_pulled(app: &mut App, pulled: &Pulled) -> OutputResult {
    if app.json() {
        return app.out.object(&PulledReport::of(pulled));
    }
    if app.quiet() {
        return Ok(());
    }
    let Pulled { key, artifact, report, published, is_partial, elapsed, .. } = pulled;
    let verb = match (published.unchanged, published.replaced, is_partial) {
        (true, ..) => "unchanged",
        (_, Some(_), _) => "replaced",
        (_, _, true) => "ready",
        _ => "pulled",
    };
    app.out.line(format!("{verb} {key}"))?;
    let mut facts = Table::facts();
    facts.fact("  artifact", artifact.to_string());
    if report.chunks > 0 {
        let (wire, chunks) = (text::size(report.wire_bytes), text::count(report.chunks, "chunk"));
        let trips = text::count(report.round_trips, "round trip");
        facts.fact("  transferred", format!("{wire} in {trips}, {chunks}"));
    }
    if let Some(delta) = &report.delta {
        let codecs = delta.codecs.iter().map(|(codec, bytes)| format!("{codec} {}", text::size(*bytes)));
        let (bytes, plain) = (text::size(delta.bytes), text::size(delta.plain_bytes));
        let codecs = codecs.collect::<Vec<_>>().join(", ");
        facts.fact("  as a delta", format!("{bytes} for {plain}: {codecs}{}", through(&delta.via)));
    }
    if let Some(HealReport { artifact, damaged, healed }) = &report.healed {
        let damaged = text::count(*damaged, "damaged chunk");
        facts.fact("  healed", format!("{healed} of {damaged} of artifact {}", artifact.0.short()));
    }
    for peer in report.peers.iter().filter(|peer| peer.chunks > 0 || peer.dropped.is_some()) {
        facts.fact("  from", peer_line(peer));
    }
    if *is_partial {
        let who = if app.daemon().is_some() { "the daemon brings it" } else { "the next daemon brings it" };
        facts.fact("  the rest", format!("{who}; `cairn status` says how far it is"));
    }
    let rate = text::rate(report.wire_bytes, *elapsed);
    facts.fact("  time", format!("{} ({rate})", text::duration(*elapsed)));
    app.out.table(&facts)
}

/// `, through 3f1c2d4e5f60`, where it is several deltas one after the other.
fn through(via: &[HexId<ArtifactId>]) -> String {
    let between: Vec<String> = via.iter().map(|artifact| artifact.0.short()).collect();
    if between.is_empty() { String::new() } else { format!(", through {}", between.join(", ")) }
}

/// `http://a:7001: 4.0 MiB, 497 chunks, 310 MiB/s`, and why it was dropped if it was.
fn peer_line(peer: &PeerReport) -> String {
    let (bytes, chunks) = (text::size(peer.bytes), text::count(peer.chunks, "chunk"));
    let rate = text::size(peer.rate);
    let dropped = peer.dropped.as_deref().map(|why| format!("; DROPPED: {}", text::path(why.as_bytes())));
    format!("{}: {bytes}, {chunks}, {rate}/s{}", peer.url, dropped.unwrap_or_default())
}
