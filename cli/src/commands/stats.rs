//! `cairn stats`: what the store holds and what it takes.

use std::collections::BTreeMap;

use cairn_store::block::Codec;
use cairn_store::stats::{CodecStats, PackStats, Stats};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::error::Outcome;
use crate::output::{JsonPath, OutputResult, Table};
use crate::text;

const EXAMPLES: &str = "\
logical  what all versions would take as plain files
unique   what is left when each chunk is counted once
stored   what that takes in packs, compressed
codec    how that is encoded, metadata included: plain, compressed, or in terms of newer versions (`cairn optimise`)

Examples:
  cairn stats
  cairn stats --json";

/// Show what the store holds: logical, unique and stored bytes, codecs, packs, index
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct StatsArgs {}

/// The JSON form of the figures.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    store: JsonPath<'a>,
    seq: u64,
    refs: u64,
    channels: u64,
    artifacts: u64,
    files: u64,
    logical_bytes: u64,
    unique_bytes: u64,
    stored_bytes: u64,
    dedup_ratio: Option<f64>,
    compression_ratio: Option<f64>,
    total_ratio: Option<f64>,
    data: Packs,
    metadata: Packs,
    codecs: BTreeMap<&'static str, Encoded>,
    index: Index,
}

/// What is encoded in one way.
#[derive(Serialize)]
struct Encoded {
    frames: u64,
    chunks: u64,
    plain_bytes: u64,
    stored_bytes: u64,
}

#[derive(Serialize)]
struct Packs {
    packs: u64,
    file_bytes: u64,
    frames: u64,
    chunks: u64,
    plain_bytes: u64,
    stored_bytes: u64,
}

#[derive(Serialize)]
struct Index {
    runs: usize,
    entries: usize,
    bytes: u64,
}

pub(crate) fn run(app: &mut App, _: &StatsArgs) -> anyhow::Result<Outcome> {
    let store = app.store()?;
    let stats = store.stats()?;
    let codecs = store.stats_by_codec()?;
    if app.json() {
        app.out.object(&report(&stats, &codecs, JsonPath::of(store.path())))?;
    } else {
        print(app, &stats, &codecs, &text::path(JsonPath::of(store.path()).0))?;
    }
    Ok(Outcome::Done)
}

fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Raw => "raw",
        Codec::Zstd => "zstd",
        Codec::Prefix => "prefix",
        Codec::Relocation => "relocation",
    }
}

fn report<'a>(stats: &Stats, codecs: &[(Codec, CodecStats)], store: JsonPath<'a>) -> Report<'a> {
    let packs = |packs: &PackStats| Packs {
        packs: packs.packs,
        file_bytes: packs.file_bytes,
        frames: packs.frames,
        chunks: packs.chunks,
        plain_bytes: packs.plain_bytes,
        stored_bytes: packs.stored_bytes,
    };
    let disk = stats.data.file_bytes + stats.metadata.file_bytes;
    Report {
        store,
        seq: stats.seq,
        refs: stats.refs,
        channels: stats.channels,
        artifacts: stats.artifacts,
        files: stats.files,
        logical_bytes: stats.logical_bytes,
        unique_bytes: stats.data.plain_bytes,
        stored_bytes: disk,
        dedup_ratio: text::quotient(stats.logical_bytes, stats.data.plain_bytes),
        compression_ratio: text::quotient(stats.data.plain_bytes, stats.data.stored_bytes),
        total_ratio: text::quotient(stats.logical_bytes, disk),
        data: packs(&stats.data),
        metadata: packs(&stats.metadata),
        codecs: codecs
            .iter()
            .map(|(codec, stats)| {
                let CodecStats { frames, chunks, plain_bytes, stored_bytes } = *stats;
                (codec_name(*codec), Encoded { frames, chunks, plain_bytes, stored_bytes })
            })
            .collect(),
        index: Index { runs: stats.index.runs, entries: stats.index.entries, bytes: stats.index.bytes },
    }
}

fn print(app: &mut App, stats: &Stats, codecs: &[(Codec, CodecStats)], store: &str) -> OutputResult {
    let Stats { data, metadata, index, .. } = stats;
    let disk = data.file_bytes + metadata.file_bytes;
    let mut facts = Table::facts();
    facts.fact("store", store);
    let (refs, artifacts) = (text::count(stats.refs, "version"), text::count(stats.artifacts, "artifact"));
    facts.fact("refs", format!("{refs}, {}, {artifacts}", text::count(stats.channels, "channel")));
    let files = text::count(stats.files, "file");
    facts.fact("logical", format!("{} in {files}", text::size(stats.logical_bytes)));
    let dedup = text::ratio(stats.logical_bytes, data.plain_bytes);
    let chunks = text::count(data.chunks, "chunk");
    facts.fact("unique", format!("{} in {chunks} (deduplication {dedup})", text::size(data.plain_bytes)));
    let compression = text::ratio(data.plain_bytes, data.stored_bytes);
    facts.fact("stored", format!("{} (compression {compression})", text::size(data.stored_bytes)));
    let objects = text::count(metadata.chunks, "object");
    facts.fact("metadata", format!("{} in {objects}", text::size(metadata.stored_bytes)));
    for (codec, used) in codecs.iter().filter(|(_, used)| used.frames > 0) {
        let (plain, stored) = (text::size(used.plain_bytes), text::size(used.stored_bytes));
        let (chunks, frames) = (text::count(used.chunks, "chunk"), text::count(used.frames, "frame"));
        let ratio = text::ratio(used.plain_bytes, used.stored_bytes);
        let name = codec_name(*codec);
        facts.fact("codec", format!("{name}: {plain} as {stored} ({ratio}), {chunks} in {frames}"));
    }
    let (data_packs, metadata_packs) = (data.packs, metadata.packs);
    let ratio = text::ratio(stats.logical_bytes, disk);
    let packs = format!("{} in {data_packs} of data and {metadata_packs} of metadata", text::size(disk));
    facts.fact("packs", format!("{packs} (logical / packs {ratio})"));
    let runs = text::count(index.runs as u64, "run");
    facts.fact("index", format!("{} entries, {runs}, {}", index.entries, text::size(index.bytes)));
    app.out.table(&facts)
}
