//! `cairn diff`: what two artifacts do not have in common.

use std::collections::{BTreeMap, HashMap};

use cairn_store::delta::{CodecTotals, DeltaOptions, DeltaSummary, Effort};
use cairn_store::diff::{Difference, EntryKind, Transfer, diff_artifacts};
use cairn_store::{ArtifactId, Entry, Node, Spec, Store};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::serve::EffortArg;
use super::show::entry_kind_name;
use crate::app::App;
use crate::args::PlatformArg;
use crate::error::Outcome;
use crate::output::Align::{Left, Right};
use crate::output::{JsonPath, OutputResult, Table};
use crate::{text, wire};

const EXAMPLES: &str = "\
A line begins with + for added, - for removed, ~ for changed, and m for a change of mode or other metadata alone.

Examples:
  cairn diff uv@0.8.1 uv@0.8.2
  cairn diff uv@0.8.1 uv@stable --bytes        and what a delta between them comes to
  cairn diff uv@0.8.1 uv@stable --bytes --delta-effort max";

/// Compare two artifacts: files added, removed and changed
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiffArgs {
    /// The artifact to go from
    #[arg(value_name = "A")]
    #[serde(with = "wire::written")]
    pub(crate) from: Spec,
    /// The artifact to go to
    #[arg(value_name = "B")]
    #[serde(with = "wire::written")]
    pub(crate) to: Spec,
    /// Show what a machine that has A transfers to get B, by file, largest first
    #[arg(long)]
    #[serde(default)]
    pub(crate) bytes: bool,
    /// How hard to try to make the delta small that --bytes tells of [default: normal]
    #[arg(
        long,
        env = "CAIRN_DELTA_EFFORT",
        value_name = "EFFORT",
        requires = "bytes",
        hide_env_values = true
    )]
    #[serde(default)]
    pub(crate) delta_effort: Option<EffortArg>,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) platform: PlatformArg,
}

/// One side of a difference in JSON.
#[derive(Serialize)]
struct Side {
    kind: &'static str,
    mode: String,
    size: Option<u64>,
}

/// The JSON form of a difference.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    change: &'static str,
    #[serde(flatten)]
    path: JsonPath<'a>,
    before: Option<Side>,
    after: Option<Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transfer: Option<Part>,
}

/// What a file costs to transfer.
#[derive(Clone, Copy, Default, Serialize)]
struct Part {
    chunks: u64,
    plain_bytes: u64,
    stored_bytes: u64,
}

/// The last JSON object.
#[derive(Serialize)]
struct Summary {
    r#type: &'static str,
    from: String,
    to: String,
    added: u64,
    removed: u64,
    changed: u64,
    metadata: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    transfer: Option<Total>,
}

#[derive(Serialize)]
struct Total {
    chunks: u64,
    plain_bytes: u64,
    stored_bytes: u64,
    metadata_objects: u64,
    metadata_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Delta>,
}

/// The same told in terms of what is there.
#[derive(Serialize)]
struct Delta {
    bytes: u64,
    metadata_bytes: u64,
    codecs: BTreeMap<&'static str, CodecTotals>,
}

/// What a comparison by bytes comes to.
#[derive(Default)]
pub(crate) struct Bytes {
    pub(crate) transfer: Transfer,
    delta: Option<(DeltaSummary, u64)>,
}

/// How an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Added,
    Removed,
    Changed,
    Metadata,
}

impl Change {
    fn of(difference: &Difference) -> Self {
        match (&difference.before, &difference.after) {
            (None, _) => Self::Added,
            (_, None) => Self::Removed,
            _ if difference.is_content() => Self::Changed,
            _ => Self::Metadata,
        }
    }

    fn sign(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Changed => '~',
            Self::Metadata => 'm',
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
            Self::Metadata => "metadata",
        }
    }
}

pub(crate) fn run(app: &mut App, args: &DiffArgs) -> anyhow::Result<Outcome> {
    let store = app.store()?;
    let view = store.view()?;
    let platform = args.platform.platform.as_ref();
    let (_, from) = view.resolve(&args.from, platform)?;
    let (_, to) = view.resolve(&args.to, platform)?;
    let effort = args.delta_effort.map_or(Effort::Normal, Effort::from);
    compare(app, &store, (from, to), args.bytes.then_some(Some(effort)), usize::MAX)?;
    Ok(Outcome::Done)
}

/// Prints what differs, of what is ordered by bytes at most `shown` lines, and gives what is transferred if that is
/// asked for; with an effort, also as a delta.
pub(crate) fn compare(
    app: &mut App,
    store: &Store,
    (from, to): (ArtifactId, ArtifactId),
    bytes: Option<Option<Effort>>,
    shown: usize,
) -> anyhow::Result<Option<Bytes>> {
    let bytes = match bytes {
        None => None,
        Some(effort) => {
            let transfer = store.transfer(&from, &to, &app.meter("comparing"))?;
            let delta = effort.map(|effort| delta(app, store, (from, to), effort)).transpose()?.flatten();
            Some(Bytes { transfer, delta })
        }
    };
    let mut counts = [0; 4];
    let (before, after) = (store.artifact(&from)?, store.artifact(&to)?);
    if let Some(Bytes { transfer, .. }) = &bytes {
        // Largest first, so all are needed before the first is printed.
        let parts: HashMap<&[u8], Part> = transfer
            .files
            .iter()
            .map(|f| {
                let part =
                    Part { chunks: f.chunks, plain_bytes: f.plain_bytes, stored_bytes: f.stored_bytes };
                (f.path.as_slice(), part)
            })
            .collect();
        let mut all = Vec::new();
        for difference in diff_artifacts(&before, &after, store) {
            let difference = difference?;
            let part = parts.get(difference.path.as_slice()).copied().unwrap_or_default();
            counts[Change::of(&difference) as usize] += 1;
            all.push((difference, part));
        }
        // Stable: what costs the same stays in the order of paths.
        all.sort_by_key(|(_, part)| std::cmp::Reverse(part.stored_bytes));
        print_by_bytes(app, &all, shown)?;
    } else {
        for difference in diff_artifacts(&before, &after, store) {
            let difference = difference?;
            counts[Change::of(&difference) as usize] += 1;
            print_difference(app, &difference)?;
        }
    }
    print_summary(app, (from, to), counts, bytes.as_ref())?;
    Ok(bytes)
}

/// What the delta comes to, and its metadata; nothing where they are not all here or too large for one.
fn delta(
    app: &App,
    store: &Store,
    (from, to): (ArtifactId, ArtifactId),
    effort: Effort,
) -> anyhow::Result<Option<(DeltaSummary, u64)>> {
    let meter = app.meter("telling the one by the other");
    let Some(gap) = store.gap(&from, &to, &meter)? else { return Ok(None) };
    let options = DeltaOptions { effort, ..DeltaOptions::default() };
    let summary = store.encode_delta(&gap, &options, &meter, &mut |_| Ok(()))?;
    let objects = store.encode_objects(&from, &to, effort, &meter)?;
    Ok(Some((summary, objects.map_or(0, |unit| unit.len() as u64))))
}

fn side(entry: &Entry) -> Side {
    let size = match entry.node {
        Node::File { size, .. } => Some(size),
        _ => None,
    };
    Side { kind: entry_kind_name(EntryKind::of(&entry.node)), mode: format!("{:04o}", entry.mode), size }
}

fn line(difference: &Difference, transfer: Option<Part>) -> Line<'_> {
    Line {
        r#type: "difference",
        change: Change::of(difference).name(),
        path: JsonPath(&difference.path),
        before: difference.before.as_ref().map(side),
        after: difference.after.as_ref().map(side),
        transfer,
    }
}

/// `bin/uv`, `lib/`, with a note of what changed where that is not the bytes.
fn describe(difference: &Difference) -> String {
    let mut text = text::path(&difference.path);
    let shown = difference.after.as_ref().or(difference.before.as_ref());
    if shown.is_some_and(|entry| matches!(entry.node, Node::Dir { .. })) {
        text.push('/');
    }
    let (Some(before), Some(after)) = (&difference.before, &difference.after) else { return text };
    let kinds = (EntryKind::of(&before.node), EntryKind::of(&after.node));
    if kinds.0 != kinds.1 {
        text += &format!(" ({} -> {})", entry_kind_name(kinds.0), entry_kind_name(kinds.1));
    }
    if before.mode != after.mode {
        text += &format!(" ({:04o} -> {:04o})", before.mode, after.mode);
    }
    text
}

fn sizes(difference: &Difference) -> String {
    let size = |entry: &Option<Entry>| match entry.as_ref().map(|entry| &entry.node) {
        Some(Node::File { size, .. }) => Some(text::size(*size)),
        _ => None,
    };
    match (size(&difference.before), size(&difference.after)) {
        (Some(before), Some(after)) if before != after => format!("{before} -> {after}"),
        (_, Some(size)) | (Some(size), None) => size,
        (None, None) => String::new(),
    }
}

fn print_difference(app: &mut App, difference: &Difference) -> OutputResult {
    if app.json() {
        return app.out.object(&line(difference, None));
    }
    let sign = Change::of(difference).sign();
    let (described, sizes) = (describe(difference), sizes(difference));
    app.out.line(format!("{sign} {described}  {sizes}").trim_end())
}

fn print_by_bytes(app: &mut App, all: &[(Difference, Part)], shown: usize) -> OutputResult {
    if app.json() {
        return all.iter().try_for_each(|(difference, part)| app.out.object(&line(difference, Some(*part))));
    }
    let mut table =
        Table::new(&[("", Left), ("TRANSFER", Right), ("PLAIN", Right), ("SIZE", Right), ("PATH", Left)]);
    for (difference, part) in all.iter().take(shown) {
        table.row([
            Change::of(difference).sign().to_string(),
            text::size(part.stored_bytes),
            text::size(part.plain_bytes),
            sizes(difference),
            describe(difference),
        ]);
    }
    app.out.table(&table)?;
    if all.len() > shown {
        app.out.line(format!("and {} more", all.len() - shown))?;
    }
    Ok(())
}

fn print_summary(
    app: &mut App,
    (from, to): (ArtifactId, ArtifactId),
    counts: [u64; 4],
    bytes: Option<&Bytes>,
) -> OutputResult {
    let [added, removed, changed, metadata] = counts;
    if app.json() {
        let codecs = |summary: &DeltaSummary| {
            summary.parts().into_iter().filter(|(_, totals)| totals.blocks > 0).collect()
        };
        let transfer = bytes.map(|Bytes { transfer, delta }| Total {
            chunks: transfer.chunks,
            plain_bytes: transfer.plain_bytes,
            stored_bytes: transfer.stored_bytes,
            metadata_objects: transfer.metadata_objects,
            metadata_bytes: transfer.metadata_bytes,
            delta: delta.as_ref().map(|(summary, metadata_bytes)| Delta {
                bytes: summary.bytes(),
                metadata_bytes: *metadata_bytes,
                codecs: codecs(summary),
            }),
        });
        let (from, to) = (from.to_string(), to.to_string());
        return app.out.object(&Summary {
            r#type: "summary",
            from,
            to,
            added,
            removed,
            changed,
            metadata,
            transfer,
        });
    }
    let mut line = format!("{added} added, {removed} removed, {changed} changed");
    if metadata > 0 {
        line += &format!(", {metadata} in metadata alone");
    }
    app.out.line(line)?;
    if let Some(Bytes { transfer, delta }) = bytes {
        let total = text::size(transfer.stored_bytes + transfer.metadata_bytes);
        let (plain, chunks) = (text::size(transfer.plain_bytes), text::count(transfer.chunks, "chunk"));
        let metadata = text::size(transfer.metadata_bytes);
        app.out.line(format!("transfers {total}: {chunks} of {plain} plain, and {metadata} of metadata"))?;
        if let Some((summary, metadata_bytes)) = delta {
            let total = text::size(summary.bytes() + metadata_bytes);
            let used = summary.parts().into_iter().filter(|(_, totals)| totals.blocks > 0);
            let codecs: Vec<String> =
                used.map(|(codec, totals)| format!("{codec} {}", text::size(totals.bytes))).collect();
            let (codecs, metadata) = (codecs.join(", "), text::size(*metadata_bytes));
            app.out.line(format!("as a delta {total}: {codecs}, metadata {metadata}"))?;
        }
    }
    Ok(())
}
