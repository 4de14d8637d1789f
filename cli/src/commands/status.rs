//! `cairn status`: who serves the store, what is mounted, and whether all is well.

mod collection;
mod optimising;
mod scrub;
mod snapshots;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use cairn_fusefs::{CacheStatus, Damage, MountStatus, Spread};
use cairn_server::binaries::BinariesStatus;
use cairn_store::{ArtifactId, Name, ProfileName, View};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::daemon::{LastCollection, LastOptimising, Served, SnapshotsOf, Takeover};
use crate::error::Outcome;
use crate::exchange::{Completion, CompletionState};
use crate::output::{JsonPath, OutputResult, Table};
use crate::{probe, text};

const EXAMPLES: &str = "\
Examples:
  cairn status
  cairn status --json";

/// Show the daemon, the profiles, the mounts, the cache, and damage that reads have met
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct StatusArgs {}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    store: JsonPath<'a>,
    daemon: Option<Running>,
    serving: Option<Serving>,
    profiles: Vec<ProfileLine<'a>>,
    mounts: Vec<MountLine<'a>>,
    cache: Option<Cache>,
    collection: Option<collection::Collection>,
    optimising: Option<optimising::Optimising>,
    scrub: scrub::ScrubReport<'a>,
    snapshots: Vec<snapshots::SnapshotsLine>,
    partial: Vec<PartialLine>,
    damage: Vec<DamageLine<'a>>,
    damage_count: u64,
}

/// A version that is not whole yet.
#[derive(Serialize)]
struct PartialLine {
    artifact: String,
    refs: Vec<String>,
    state: &'static str,
    received_bytes: u64,
    failure: Option<String>,
}

#[derive(Serialize)]
struct Running {
    pid: u32,
    version: &'static str,
    uptime_ms: u64,
    took_over: Option<TookOver>,
    changes: Took,
}

/// Where peers are served.
#[derive(Clone, Serialize)]
struct Serving {
    url: String,
    tls: bool,
    everybody_reads: bool,
    requests: usize,
    binaries: BinariesStatus,
}

impl Serving {
    fn of(served: &Served) -> Self {
        Self {
            url: served.url(),
            tls: served.is_tls(),
            everybody_reads: served.anonymous_reads(),
            requests: served.requests(),
            binaries: served.binaries(),
        }
    }
}

/// How the daemon came by its store and mounts.
#[derive(Serialize)]
struct TookOver {
    pid: u32,
    paused_us: u64,
}

/// How often something happened, and how long it took the last times, in nanoseconds.
#[derive(Serialize)]
struct Took {
    count: u64,
    p50_ns: u128,
    p99_ns: u128,
    max_ns: u128,
}

impl From<Spread> for Took {
    fn from(spread: Spread) -> Self {
        let Spread { count, p50, p99, max } = spread;
        Self { count, p50_ns: p50.as_nanos(), p99_ns: p99.as_nanos(), max_ns: max.as_nanos() }
    }
}

#[derive(Serialize)]
struct ProfileLine<'a> {
    profile: &'a str,
    current: Option<u64>,
    generations: usize,
    packages: usize,
}

#[derive(Serialize)]
struct MountLine<'a> {
    #[serde(flatten)]
    dir: JsonPath<'a>,
    profile: Option<&'a str>,
    generation: Option<u64>,
    state: &'static str,
    passthrough: Option<bool>,
    inodes: Option<u64>,
    inode_bytes: Option<u64>,
    open_files: Option<u64>,
    lazy: Option<bool>,
    flips: Option<Took>,
    /// Where it is, if it was moved.
    moved_to: Option<JsonPath<'a>>,
}

#[derive(Serialize)]
struct Cache {
    bytes: u64,
    bytes_max: u64,
    files: u64,
    held: u64,
    hits: u64,
    misses: u64,
    evicted: u64,
    unavailable: Option<String>,
}

#[derive(Serialize)]
struct DamageLine<'a> {
    chunk: Option<String>,
    #[serde(flatten)]
    path: JsonPath<'a>,
    detail: &'a str,
    times: u64,
}

/// Everything that is told.
struct Found {
    store: std::path::PathBuf,
    daemon: Option<(Duration, Spread, Option<Takeover>)>,
    serving: Option<Serving>,
    view: std::sync::Arc<View>,
    mounts: Vec<MountStatus>,
    /// Mounts of cairn that this process does not serve.
    others: Vec<std::path::PathBuf>,
    cache: Option<CacheStatus>,
    /// What is done about versions that are not whole; nothing where no daemon runs.
    completions: BTreeMap<ArtifactId, Completion>,
    lazy: BTreeSet<ProfileName>,
    /// If the daemon collects by itself: the last time.
    collection: Option<Option<LastCollection>>,
    /// The same of telling older versions in terms of newer ones.
    optimising: Option<Option<LastOptimising>>,
    scrubbed: scrub::Scrubbed,
    /// What came of the snapshots that the daemon takes by itself.
    snapshots: Vec<(Name, SnapshotsOf)>,
}

impl Found {
    /// Versions that are not whole.
    fn partial(&self) -> impl Iterator<Item = PartialLine> {
        self.view.partial.iter().map(|artifact| {
            let named = self.view.refs.iter().filter(|(_, record)| record.artifact == *artifact);
            let known = self.completions.get(artifact);
            PartialLine {
                artifact: artifact.to_string(),
                refs: named.map(|(key, _)| key.to_string()).collect(),
                state: match known.map(|known| known.state) {
                    None | Some(CompletionState::Idle) => "idle",
                    Some(CompletionState::Waiting) => "waiting",
                    Some(CompletionState::Running) => "running",
                    Some(CompletionState::Failed) => "failed",
                },
                received_bytes: known.map_or(0, |known| known.received),
                failure: known.and_then(|known| known.failure.clone()),
            }
        })
    }

    /// What was found damaged: of files, then of directories.
    fn damage(&self) -> impl Iterator<Item = &Damage> {
        let files = self.cache.iter().flat_map(|cache| &cache.damage);
        files.chain(self.mounts.iter().flat_map(|mount| &mount.damage))
    }
}

pub(crate) fn run(app: &mut App, _: &StatusArgs) -> anyhow::Result<Outcome> {
    let store = app.store()?;
    let view = store.view()?;
    let daemon = app.daemon().cloned();
    let mounts = daemon.as_ref().map(|daemon| daemon.mounts().list()).unwrap_or_default();
    let mut others = cairn_fusefs::mounted().context("cannot tell what is mounted")?;
    others.retain(|dir| mounts.iter().all(|mount| mount.place.as_ref() != Some(dir)));
    let found = Found {
        store: store.path().to_owned(),
        daemon: daemon.as_ref().map(|daemon| (daemon.uptime(), daemon.changes(), daemon.takeover())),
        serving: daemon.as_ref().and_then(|daemon| daemon.served()).map(Serving::of),
        view,
        mounts,
        others,
        completions: daemon.as_ref().map(|daemon| daemon.background().completions()).unwrap_or_default(),
        lazy: daemon.as_ref().map(|daemon| daemon.mounts().lazy()).unwrap_or_default(),
        collection: daemon.as_ref().and_then(|daemon| daemon.last_collection()),
        optimising: daemon.as_ref().and_then(|daemon| daemon.last_optimising()),
        scrubbed: scrub::Scrubbed {
            state: cairn_store::scrub::ScrubState::of(&store),
            rate: daemon.as_ref().and_then(|daemon| daemon.scrub_rate()),
        },
        snapshots: daemon.as_ref().map(|daemon| daemon.snapshots()).unwrap_or_default(),
        cache: daemon.and_then(|daemon| daemon.mounts().cache()),
    };
    if app.json() {
        app.out.object(&report(&found))?
    } else {
        print(app, &found)?
    }
    Ok(Outcome::Done)
}

fn current(view: &View, profile: &cairn_store::ProfileName) -> Option<u64> {
    view.profiles.get(profile).map(|profile| profile.current).filter(|number| *number != 0)
}

fn state(mount: &MountStatus) -> &'static str {
    match (&mount.end, &mount.place) {
        (Some(_), _) => "ended",
        (None, Some(place)) if *place == mount.dir => "mounted",
        (None, Some(_)) => "moved",
        (None, None) => "detached",
    }
}

fn moved_to(mount: &MountStatus) -> Option<&std::path::Path> {
    mount.place.as_deref().filter(|place| *place != mount.dir)
}

/// How a mount is that this process does not serve. Whoever serves it may answer nobody.
fn state_of_other(dir: &std::path::Path) -> &'static str {
    match probe::ask(dir, cairn_fusefs::is_dead) {
        Some(true) => "dead",
        Some(false) => "another's",
        None => "hangs",
    }
}

fn report(found: &Found) -> Report<'_> {
    let profiles = found.view.profiles.iter().map(|(name, profile)| ProfileLine {
        profile: name.as_str(),
        current: current(&found.view, name),
        generations: profile.generations.len(),
        packages: profile.current().map_or(0, |generation| generation.packages.len()),
    });
    let served = found.mounts.iter().map(|mount| MountLine {
        dir: JsonPath::of(&mount.dir),
        profile: Some(mount.profile.as_str()),
        generation: current(&found.view, &mount.profile),
        state: state(mount),
        passthrough: Some(mount.passthrough),
        inodes: Some(mount.fs.inodes),
        inode_bytes: Some(mount.fs.inode_bytes),
        open_files: Some(mount.open_files),
        lazy: Some(found.lazy.contains(&mount.profile)),
        flips: Some(mount.flips.into()),
        moved_to: moved_to(mount).map(JsonPath::of),
    });
    let others = found.others.iter().map(|dir| MountLine {
        dir: JsonPath::of(dir),
        profile: None,
        generation: None,
        state: state_of_other(dir),
        passthrough: None,
        inodes: None,
        inode_bytes: None,
        open_files: None,
        lazy: None,
        flips: None,
        moved_to: None,
    });
    let damage = found.damage().map(|damage| DamageLine {
        chunk: damage.chunk.map(|chunk| chunk.to_string()),
        path: JsonPath(&damage.path),
        detail: &damage.detail,
        times: damage.times,
    });
    Report {
        store: JsonPath::of(&found.store),
        daemon: found.daemon.map(|(uptime, changes, takeover)| Running {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
            uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
            took_over: takeover.map(|took| TookOver {
                pid: took.pid,
                paused_us: u64::try_from(took.paused.as_micros()).unwrap_or(u64::MAX),
            }),
            changes: changes.into(),
        }),
        serving: found.serving.clone(),
        profiles: profiles.collect(),
        mounts: served.chain(others).collect(),
        cache: found.cache.as_ref().map(|cache| Cache {
            bytes: cache.bytes,
            bytes_max: cache.bytes_max,
            files: cache.files,
            held: cache.held,
            hits: cache.hits,
            misses: cache.misses,
            evicted: cache.evicted,
            unavailable: cache.unavailable.clone(),
        }),
        collection: found.collection.as_ref().map(|last| collection::Collection::of(last.as_ref())),
        optimising: found.optimising.as_ref().map(|last| optimising::Optimising::of(last.as_ref())),
        scrub: found.scrubbed.report(),
        snapshots: found.snapshots.iter().map(snapshots::SnapshotsLine::of).collect(),
        partial: found.partial().collect(),
        damage: damage.collect(),
        damage_count: found.cache.as_ref().map_or(0, |cache| cache.damage_count)
            + found.mounts.iter().map(|mount| mount.damage_count).sum::<u64>(),
    }
}

/// `3 flips, look-ups held back for 1.2 us (median), 4 us (99 of 100)`.
fn took(one: &str, what: &str, spread: &Spread) -> String {
    let us = |duration: Duration| format!("{:.1} us", duration.as_secs_f64() * 1e6);
    let count = text::count(spread.count, one);
    format!("{count}, {what} {} (median), {} (99 of 100)", us(spread.p50), us(spread.p99))
}

fn print(app: &mut App, found: &Found) -> OutputResult {
    let mut facts = Table::facts();
    facts.fact("store", text::path(JsonPath::of(&found.store).0));
    let version = env!("CARGO_PKG_VERSION");
    facts.fact(
        "daemon",
        match found.daemon {
            Some((up, ..)) => format!("{version}, process {}, up {}", std::process::id(), text::duration(up)),
            None => "none runs".to_owned(),
        },
    );
    if let Some((_, _, Some(took))) = found.daemon {
        let pause = text::duration(took.paused);
        facts.fact("daemon", format!("took over from process {}, nobody was answered for {pause}", took.pid));
    }
    if let Some((_, changes, _)) = found.daemon.filter(|(_, changes, _)| changes.count > 0) {
        facts.fact("changes", took("change", "from request to visible", &changes));
    }
    if let Some(serving) = &found.serving {
        let who = if serving.everybody_reads { "everybody reads" } else { "who has a token reads" };
        let requests = text::count(serving.requests as u64, "request");
        facts.fact("serves", format!("{}: {who}, {requests} now", serving.url));
        binaries(&mut facts, &serving.binaries);
    }
    for (name, profile) in &found.view.profiles {
        let packages = profile.current().map_or(0, |generation| generation.packages.len());
        let (all, packages) = (
            text::count(profile.generations.len() as u64, "generation"),
            text::count(packages as u64, "package"),
        );
        facts.fact(
            "profile",
            format!("{name}: generation {} is current, of {all}; {packages}", profile.current),
        );
    }
    for mount in &found.mounts {
        let how = if mount.passthrough { "passthrough" } else { "read through the daemon" };
        let counts = format!("{} inodes, {} open", mount.fs.inodes, mount.open_files);
        let generation = current(&found.view, &mount.profile);
        let shows =
            generation.map_or_else(|| "nothing yet".to_owned(), |number| format!("generation {number}"));
        let dir = text::path(JsonPath::of(&mount.dir).0);
        let moved = moved_to(mount).map(|place| format!(" to {}", text::path(JsonPath::of(place).0)));
        let state = format!("{}{}", state(mount), moved.unwrap_or_default());
        let lazy = if found.lazy.contains(&mount.profile) { ", lazy" } else { "" };
        facts.fact("mount", format!("{dir}: {state}, {} {shows}{lazy}, {how}, {counts}", mount.profile));
        if mount.flips.count > 0 {
            facts.fact("flips", took("flip", "look-ups held back for", &mount.flips));
        }
    }
    for dir in &found.others {
        facts.fact("mount", format!("{}: {}", text::path(JsonPath::of(dir).0), state_of_other(dir)));
    }
    if let Some(cache) = &found.cache {
        let (bytes, max) = (text::size(cache.bytes), text::size(cache.bytes_max));
        facts.fact("cache", format!("{bytes} of {max} in {}", text::count(cache.files, "file")));
        if let Some(why) = &cache.unavailable {
            facts.fact("cache", format!("takes nothing: {why}"));
        }
    }
    if let Some(last) = &found.collection {
        facts.fact("collection", collection::told(last.as_ref()));
    }
    if let Some(last) = &found.optimising {
        facts.fact("optimising", optimising::told(last.as_ref()));
    }
    found.scrubbed.tell(&mut facts);
    snapshots::tell(&mut facts, &found.snapshots);
    for partial in found.partial() {
        let what = if partial.refs.is_empty() { partial.artifact.clone() } else { partial.refs.join(", ") };
        let state = match (partial.state, partial.failure) {
            ("failed", Some(failure)) => format!("tried again later: {}", text::path(failure.as_bytes())),
            ("running", _) => format!("{} came so far", text::size(partial.received_bytes)),
            ("idle", _) => "what is read comes, and `cairn pull` brings the rest".to_owned(),
            _ => "it comes when readers are quiet".to_owned(),
        };
        facts.fact("not whole", format!("{what}: {state}"));
    }
    for damage in found.damage() {
        let path = text::path(&damage.path);
        facts.fact("damage", format!("{path}: {} (met {} times)", damage.detail, damage.times));
    }
    app.out.table(&facts)
}

/// What there is to say of the folder of binaries, where there is one.
fn binaries(facts: &mut Table, status: &BinariesStatus) {
    let BinariesStatus { registered, waiting, refused, not_in_store, problem, .. } = status;
    if *registered > 0 {
        facts.fact("binaries", format!("{} registered", text::count(*registered as u64, "file")));
    }
    for (word, files) in [("waits", waiting), ("refused", refused), ("not in the store", not_in_store)] {
        for file in files {
            let (name, reason) = (text::path(file.file.as_bytes()), text::path(file.reason.as_bytes()));
            facts.fact("binaries", format!("{name} {word}: {reason}"));
        }
    }
    if let Some(problem) = problem {
        facts.fact("binaries", text::path(problem.as_bytes()));
    }
}
