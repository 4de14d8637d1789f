//! `cairn show`: one artifact, and what is in it.

use std::collections::BTreeMap;

use cairn_store::artifact::Artifact;
use cairn_store::diff::EntryKind;
use cairn_store::{ArtifactId, ArtifactKind, Entry, MetadataPolicy, Node, Spec, View};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::ls;
use crate::app::App;
use crate::args::PlatformArg;
use crate::error::Outcome;
use crate::output::{JsonPath, OutputResult, Table};
use crate::{text, wire};

const EXAMPLES: &str = "\
Examples:
  cairn show uv@stable
  cairn show 3f2a9c --files";

/// Show an artifact: what it is, where it comes from, which refs name it
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShowArgs {
    /// NAME@VERSION, NAME@CHANNEL, or the first digits of an artifact's id
    #[serde(with = "wire::written")]
    pub(crate) spec: Spec,
    /// List its files too
    #[arg(long)]
    #[serde(default)]
    pub(crate) files: bool,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) platform: PlatformArg,
}

/// The JSON form of an artifact.
#[derive(Serialize)]
struct Report<'a> {
    artifact: String,
    kind: &'static str,
    name: &'a str,
    version: &'a str,
    platform: String,
    metadata: &'static str,
    chunking: Chunking,
    root: String,
    entries: u64,
    files: u64,
    bytes: u64,
    chunks: u64,
    provenance: &'a BTreeMap<String, String>,
    refs: Vec<RefReport<'a>>,
}

#[derive(Serialize)]
struct Chunking {
    min: u32,
    avg: u32,
    max: u32,
    paged: bool,
}

#[derive(Serialize)]
struct RefReport<'a> {
    name: &'a str,
    version: &'a str,
    platform: String,
    channels: Vec<&'a str>,
}

/// The JSON form of an entry.
#[derive(Serialize)]
struct EntryReport<'a> {
    #[serde(flatten)]
    path: JsonPath<'a>,
    kind: &'static str,
    mode: String,
    size: Option<u64>,
    chunks: Option<u64>,
    target: Option<String>,
}

pub(crate) fn run(app: &mut App, args: &ShowArgs) -> anyhow::Result<Outcome> {
    let store = app.store()?;
    let view = store.view()?;
    let (_, id) = view.resolve(&args.spec, args.platform.platform.as_ref())?;
    let artifact = store.artifact(&id)?;
    if app.json() {
        app.out.object(&report(&id, &artifact, &view))?;
    } else {
        print(app, &id, &artifact, &view)?;
    }
    if args.files {
        if !app.json() {
            app.out.line("")?;
        }
        for entry in artifact.walk(&store) {
            let (path, entry) = entry?;
            print_entry(app, &path, &entry)?;
        }
    }
    Ok(Outcome::Done)
}

fn kind_name(kind: ArtifactKind) -> &'static str {
    match kind {
        ArtifactKind::Package => "package",
        ArtifactKind::Snapshot => "snapshot",
    }
}

fn policy_name(policy: MetadataPolicy) -> &'static str {
    match policy {
        MetadataPolicy::Portable => "portable",
        MetadataPolicy::Full => "full",
    }
}

/// The word for an entry's kind.
pub(crate) fn entry_kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink => "symlink",
        EntryKind::Fifo => "fifo",
        EntryKind::CharDevice => "char_device",
        EntryKind::BlockDevice => "block_device",
    }
}

fn report<'a>(id: &'a ArtifactId, artifact: &'a Artifact, view: &'a View) -> Report<'a> {
    let refs = view.refs_to(id).map(|key| RefReport {
        name: key.name.as_str(),
        version: key.version.as_str(),
        platform: key.platform.to_string(),
        channels: ls::channels(view, key),
    });
    let cairn_store::artifact::Chunking { min, avg, max, paged } = artifact.chunking;
    Report {
        artifact: id.to_string(),
        kind: kind_name(artifact.kind),
        name: artifact.name.as_str(),
        version: artifact.version.as_str(),
        platform: artifact.platform.to_string(),
        metadata: policy_name(artifact.policy),
        chunking: Chunking { min, avg, max, paged },
        root: artifact.root.to_string(),
        entries: artifact.entries,
        files: artifact.files,
        bytes: artifact.bytes,
        chunks: artifact.chunks,
        provenance: &artifact.provenance,
        refs: refs.collect(),
    }
}

fn print(app: &mut App, id: &ArtifactId, artifact: &Artifact, view: &View) -> OutputResult {
    let mut facts = Table::facts();
    facts.fact("artifact", id.to_string());
    let kind = kind_name(artifact.kind);
    facts.fact(kind, format!("{}@{} for {}", artifact.name, artifact.version, artifact.platform));
    for key in view.refs_to(id) {
        let channels = ls::channels(view, key);
        let channels =
            if channels.is_empty() { String::new() } else { format!(" ({})", channels.join(", ")) };
        facts.fact("ref", format!("{key}{channels}"));
    }
    facts.fact("files", artifact.files.to_string());
    facts.fact("bytes", format!("{} ({})", text::size(artifact.bytes), artifact.bytes));
    facts.fact("chunks", artifact.chunks.to_string());
    facts.fact("metadata", policy_name(artifact.policy));
    let cairn_store::artifact::Chunking { min, avg, max, paged } = artifact.chunking;
    let pages = if paged { ", at pages where a file has them" } else { "" };
    facts.fact("chunking", format!("{min} to {max} bytes around {avg}{pages}"));
    facts.fact("root", artifact.root.to_string());
    for (key, value) in &artifact.provenance {
        let key = text::path(key.as_bytes());
        // A list has its lines each on its own.
        let lines = value.lines().chain(value.is_empty().then_some(""));
        for line in lines {
            facts.fact("provenance", format!("{key}: {}", text::path(line.as_bytes())));
        }
    }
    app.out.table(&facts)
}

fn print_entry(app: &mut App, path: &[u8], entry: &Entry) -> OutputResult {
    let kind = EntryKind::of(&entry.node);
    if app.json() {
        let (size, chunks, target) = match &entry.node {
            Node::File { size, content } => (Some(*size), Some(content.chunk_count()), None),
            Node::Symlink { target } => (None, None, Some(String::from_utf8_lossy(target).into_owned())),
            _ => (None, None, None),
        };
        let mode = format!("{:04o}", entry.mode);
        let path = JsonPath(path);
        return app.out.object(&EntryReport {
            path,
            kind: entry_kind_name(kind),
            mode,
            size,
            chunks,
            target,
        });
    }
    let (letter, size, tail) = match &entry.node {
        Node::File { size, .. } => ('-', size.to_string(), String::new()),
        Node::Dir { .. } => ('d', "-".to_owned(), "/".to_owned()),
        Node::Symlink { target } => ('l', "-".to_owned(), format!(" -> {}", text::path(target))),
        Node::Fifo => ('p', "-".to_owned(), String::new()),
        Node::Char { major, minor } => ('c', format!("{major},{minor}"), String::new()),
        Node::Block { major, minor } => ('b', format!("{major},{minor}"), String::new()),
    };
    app.out.line(format!("{letter} {:04o} {size:>13}  {}{tail}", entry.mode, text::path(path)))
}
