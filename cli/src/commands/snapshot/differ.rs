//! `cairn snapshot diff`: where two states part, by file and range of bytes, of trees and chunk lists alone.

use std::ops::Range;

use cairn_net::{PeerUrl, Source};
use cairn_store::diff::{Difference, EntryKind, FileSide, diff_artifacts, ranges};
use cairn_store::snapshots::{facts_of, key_of};
use cairn_store::{ArtifactId, Entry, Held, Name, Node, Platform, StateHash, Store};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{SnapshotSpec, spec_of};
use crate::app::App;
use crate::commands::show::entry_kind_name;
use crate::error::{Absent, Outcome, Usage};
use crate::exchange::{AccessArgs, FromArgs};
use crate::output::JsonPath;
use crate::{text, wire};

/// Ranges of a file that are shown to people.
const RANGES_SHOWN: usize = 8;

/// Show where two snapshots differ: files, and ranges of bytes in them
///
/// Only names, metadata and lists of chunks are compared, so no data is read, and from a peer none comes. A range begins and ends
/// where a chunk does. What differs in times, owners or modes alone is counted, and shown with --metadata.
#[derive(Debug, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiffArgs {
    /// NAME@ROUND, or NAME for the newest; with --with, for the newest that both have
    #[arg(value_name = "A")]
    #[serde(with = "wire::written")]
    pub(crate) from: SnapshotSpec,
    /// What it is compared with
    #[arg(value_name = "B", required_unless_present = "with", conflicts_with = "with")]
    #[serde(default, with = "wire::written_option")]
    pub(crate) to: Option<SnapshotSpec>,
    /// Compare with what this peer has under the same name and round
    #[arg(long, value_name = "URL")]
    #[serde(default)]
    pub(crate) with: Option<PeerUrl>,
    /// Show what differs in metadata alone, too
    #[arg(long)]
    #[serde(default)]
    pub(crate) metadata: bool,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) access: AccessArgs,
}

/// One side.
struct Side {
    name: Name,
    round: u64,
    artifact: ArtifactId,
    /// The peer that it is of, if it is of one.
    peer: Option<PeerUrl>,
}

/// The JSON form of a difference.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    change: &'static str,
    #[serde(flatten)]
    path: JsonPath<'a>,
    kind: &'static str,
    /// What of the metadata differs.
    metadata: Vec<&'static str>,
    before_size: Option<u64>,
    after_size: Option<u64>,
    /// Each `[from, to)`; of files that both have.
    ranges: Vec<[u64; 2]>,
}

/// The last JSON object.
#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    a: Told<'a>,
    b: Told<'a>,
    /// Whether all names, kinds and bytes are equal.
    same_content: bool,
    added: u64,
    removed: u64,
    changed: u64,
    metadata: u64,
    /// Bytes in ranges of files that both have.
    changed_bytes: u64,
}

#[derive(Serialize)]
struct Told<'a> {
    name: &'a str,
    round: u64,
    artifact: String,
    peer: Option<&'a str>,
    state_hash: Option<StateHash>,
}

impl<'a> Told<'a> {
    fn of(side: &'a Side, state_hash: Option<StateHash>) -> Self {
        let (name, peer) = (side.name.as_str(), side.peer.as_ref().map(PeerUrl::as_str));
        Self { name, round: side.round, artifact: side.artifact.to_string(), peer, state_hash }
    }
}

/// How many entries differ in what way.
#[derive(Default)]
struct Counts {
    added: u64,
    removed: u64,
    changed: u64,
    metadata: u64,
    changed_bytes: u64,
}

pub(super) fn run(app: &mut App, args: &DiffArgs) -> anyhow::Result<Outcome> {
    match (&args.to, &args.with) {
        (_, Some(url)) => with_peer(app, args, url)?,
        (Some(to), None) => {
            let store = app.store()?;
            let view = store.view()?;
            let here = |spec: &SnapshotSpec| -> anyhow::Result<Side> {
                let info = spec.find(&store, &view)?;
                let (round, artifact) = (info.round, info.artifact);
                Ok(Side { name: spec.name.clone(), round, artifact, peer: None })
            };
            let (a, b) = (here(&args.from)?, here(to)?);
            let _holds = (app.hold(&store, &a.artifact)?, app.hold(&store, &b.artifact)?);
            compare(app, &store, &a, &b, args.metadata)?;
        }
        (None, None) => {
            let problem = "there is nothing to compare it with".to_owned();
            return Err(Usage { problem, hint: "name another snapshot, or a peer with --with URL" }.into());
        }
    }
    Ok(Outcome::Done)
}

/// Brings the metadata of what a peer has, and compares with that.
fn with_peer(app: &mut App, args: &DiffArgs, url: &PeerUrl) -> anyhow::Result<()> {
    let meter = app.meter("comparing");
    let writer = app.writer_of_existing(&meter)?;
    let from = FromArgs { from: vec![url.clone()], access: args.access.clone() };
    let sources = from.sources(writer.path())?;
    let net = app.net()?;
    let name = &args.from.name;
    let round = match args.from.round {
        Some(round) => round,
        None => newest_common(app, name, url, &sources[0])?,
    };
    let spec = SnapshotSpec { name: name.clone(), round: Some(round) };
    let view = writer.names();
    let own = spec.find(writer.store(), &view)?;
    let _own = app.hold(writer.store(), &own.artifact)?;
    let spec = spec_of(&key_of(name, round));
    let resolved = net.resolve_unless(&sources, &spec, Some(&Platform::any()), &|| {
        cairn_store::Progress::cancelled(&meter)
    })?;
    // What comes belongs to no name: it stays while this does, and goes with the next collection.
    let _theirs = writer.hold(Held::Artifact(resolved.artifact), format!("a comparison of {spec}"));
    if resolved.artifact != own.artifact {
        net.plan(&writer, &resolved.holders, &resolved, &meter)?;
    }
    let a = Side { name: name.clone(), round, artifact: own.artifact, peer: None };
    let b = Side { name: name.clone(), round, artifact: resolved.artifact, peer: Some(url.clone()) };
    let store = writer.store().clone();
    compare(app, &store, &a, &b, args.metadata)
}

/// The newest round that both have.
fn newest_common(app: &App, name: &Name, url: &PeerUrl, source: &Source) -> anyhow::Result<u64> {
    let theirs = match app.net()?.snapshots(source, name, &|| app.is_cancelled()) {
        Err(error) if error.kind() == cairn_net::Kind::Absent => Vec::new(),
        found => found?,
    };
    let theirs: Vec<u64> = theirs.iter().map(|snapshot| snapshot.round).collect();
    let store = app.store()?;
    let own = store.snapshots_of(&*store.view()?, name, usize::MAX)?;
    let common = own.iter().map(|info| info.round).find(|round| theirs.contains(round));
    let hint = "`cairn snapshot ls NAME` lists those here, and with --from URL those of a peer";
    common.ok_or_else(|| {
        Absent { what: format!("round of {name} that is both here and at {url}"), hint }.into()
    })
}

fn compare(app: &mut App, store: &Store, a: &Side, b: &Side, metadata: bool) -> anyhow::Result<()> {
    let (before, after) = (store.artifact(&a.artifact)?, store.artifact(&b.artifact)?);
    let mut counts = Counts::default();
    for difference in diff_artifacts(&before, &after, store) {
        let difference = difference?;
        let ranges = ranges_of(&difference, store)?;
        let change = counts.add(&difference, &ranges);
        if change == "metadata" && !metadata {
            continue;
        }
        tell(app, &difference, change, &ranges)?;
    }
    let hash = |artifact| facts_of(artifact).and_then(|(_, hash)| hash);
    let hashes = (hash(&before), hash(&after));
    summarise(app, (a, b), hashes, &counts)
}

impl Counts {
    fn add(&mut self, difference: &Difference, ranges: &[Range<u64>]) -> &'static str {
        let (count, change) = match (&difference.before, &difference.after) {
            (None, _) => (&mut self.added, "added"),
            (_, None) => (&mut self.removed, "removed"),
            _ if difference.is_content() => (&mut self.changed, "changed"),
            _ => (&mut self.metadata, "metadata"),
        };
        *count += 1;
        self.changed_bytes += ranges.iter().map(|range| range.end - range.start).sum::<u64>();
        change
    }

    fn is_same_content(&self) -> bool {
        self.added + self.removed + self.changed == 0
    }
}

/// Where the bytes of a file differ that both have.
fn ranges_of(difference: &Difference, store: &Store) -> anyhow::Result<Vec<Range<u64>>> {
    let side = |entry: &Option<Entry>| match entry.as_ref().map(|entry| &entry.node) {
        Some(Node::File { size, content }) => Some((*size, content.clone())),
        _ => None,
    };
    let (Some(before), Some(after)) = (side(&difference.before), side(&difference.after)) else {
        return Ok(Vec::new());
    };
    let before = FileSide { content: &before.1, size: before.0 };
    Ok(ranges(before, FileSide { content: &after.1, size: after.0 }, store)?)
}

/// What of the metadata of an entry differs that both have.
fn metadata_of(difference: &Difference) -> Vec<&'static str> {
    let (Some(before), Some(after)) = (&difference.before, &difference.after) else { return Vec::new() };
    let mut found = Vec::new();
    let mut note = |differs: bool, what: &'static str| found.extend(differs.then_some(what));
    note(before.mode != after.mode, "mode");
    if let (Some(before), Some(after)) = (&before.full, &after.full) {
        note((before.uid, before.gid) != (after.uid, after.gid), "owner");
        note((before.mtime_s, before.mtime_ns) != (after.mtime_s, after.mtime_ns), "mtime");
        note(before.link != after.link, "hard_links");
        note(before.xattrs != after.xattrs, "xattrs");
    } else {
        note(before.full != after.full, "policy");
    }
    found
}

fn size_of(entry: Option<&Entry>) -> Option<u64> {
    match entry?.node {
        Node::File { size, .. } => Some(size),
        _ => None,
    }
}

fn tell(
    app: &mut App,
    difference: &Difference,
    change: &'static str,
    ranges: &[Range<u64>],
) -> anyhow::Result<()> {
    let (before, after) = (difference.before.as_ref(), difference.after.as_ref());
    let kind = after.or(before).map_or("", |entry| entry_kind_name(EntryKind::of(&entry.node)));
    let metadata = metadata_of(difference);
    if app.json() {
        let ranges = ranges.iter().map(|range| [range.start, range.end]).collect();
        app.out.object(&Line {
            r#type: "difference",
            change,
            path: JsonPath(&difference.path),
            kind,
            metadata,
            before_size: size_of(before),
            after_size: size_of(after),
            ranges,
        })?;
        return Ok(());
    }
    let sign = match change {
        "added" => '+',
        "removed" => '-',
        "changed" => '~',
        _ => 'm',
    };
    let path = if difference.path.is_empty() { ".".to_owned() } else { text::path(&difference.path) };
    let mut line = format!("{sign} {path}");
    if kind == "directory" {
        line.push('/');
    }
    match (size_of(before), size_of(after)) {
        (Some(before), Some(after)) if before != after => {
            line += &format!("  {} -> {}", text::size(before), text::size(after));
        }
        (_, Some(size)) | (Some(size), None) if change != "metadata" => {
            line += &format!("  {}", text::size(size))
        }
        _ => {}
    }
    if !metadata.is_empty() {
        line += &format!("  ({})", metadata.join(", "));
    }
    app.out.line(line)?;
    for range in ranges.iter().take(RANGES_SHOWN) {
        let len = text::size(range.end - range.start);
        app.out.line(format!("    bytes {} to {}  {len}", range.start, range.end - 1))?;
    }
    if let Some(more @ 1..) = ranges.len().checked_sub(RANGES_SHOWN) {
        app.out.line(format!("    and {}", text::count(more as u64, "range")))?;
    }
    Ok(())
}

fn summarise(
    app: &mut App,
    (a, b): (&Side, &Side),
    hashes: (Option<StateHash>, Option<StateHash>),
    counts: &Counts,
) -> anyhow::Result<()> {
    let Counts { added, removed, changed, metadata, changed_bytes } = *counts;
    let same_content = counts.is_same_content();
    if app.json() {
        let (a, b) = (Told::of(a, hashes.0), Told::of(b, hashes.1));
        app.out.object(&Summary {
            r#type: "summary",
            a,
            b,
            same_content,
            added,
            removed,
            changed,
            metadata,
            changed_bytes,
        })?;
        return Ok(());
    }
    let called = |side: &Side| match &side.peer {
        Some(peer) => format!("{}@{} of {peer}", side.name, side.round),
        None => format!("{}@{}", side.name, side.round),
    };
    let (one, other) = (called(a), called(b));
    if same_content {
        app.out.line(format!("{one} and {other} hold the same state"))?;
    } else {
        let bytes = text::size(changed_bytes);
        let line =
            format!("{one} and {other}: {added} added, {removed} removed, {changed} changed in {bytes}");
        app.out.line(line)?;
    }
    if metadata > 0 {
        let entries = match metadata {
            1 => "1 entry differs".to_owned(),
            many => format!("{many} entries differ"),
        };
        app.out.line(format!("{entries} in metadata alone"))?;
    }
    match hashes {
        (Some(one), Some(other)) if one != other => {
            app.out.line(format!("the state hashes differ: {} and {}", one.short(), other.short()))?;
        }
        (Some(_), Some(_)) if !same_content => app.out.line("the state hashes are the same")?,
        _ => {}
    }
    Ok(())
}
