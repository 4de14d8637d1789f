//! 20: how fast each codec encodes and decodes on one core, and what memory that takes: the largest file of a release against
//! the one before, in a process of its own (`src/bin/codec/`); and an upgrade by delta until the flip.

use serde::Deserialize;

use super::flip;
use crate::bars::{Bench, failed};
use crate::corpus::stream::{Pair, Stream};
use crate::error::{Error, Result};
use crate::harness::{Limit, Line, Outcome, Role, Row, Score, Series, Unit, to_f64};

const NAMES: [&str; 5] = ["uv", "esbuild", "libssl3", "postgresql-15", "state"];
const CODECS: [Codec; 2] = [
    Codec {
        name: "prefix",
        whats: ["prefix, encode", "prefix, decode", "prefix, peak memory / file", "prefix, encoded / file"],
        encode_per_s: 30e6,
        decode_per_s: 700e6,
    },
    Codec {
        name: "reloc",
        whats: [
            "relocation-aware, encode",
            "relocation-aware, decode",
            "relocation-aware, peak memory / file",
            "relocation-aware, encoded / file",
        ],
        encode_per_s: 3e6,
        decode_per_s: 100e6,
    },
];
const MEMORY_LIMIT: f64 = 12.0;

#[derive(Debug)]
struct Codec {
    name: &'static str,
    whats: [&'static str; 4],
    encode_per_s: f64,
    decode_per_s: f64,
}

/// What `codec` prints: one JSON object.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Figures {
    /// Whether the codec found anything to tell it by.
    pub(super) is_related: bool,
    pub(super) plain_bytes: u64,
    encoded_bytes: u64,
    /// All of it, what is analysed first too; until it gives up where nothing is related.
    pub(super) encode_s: f64,
    decode_s: f64,
    /// When all was encoded: both files are in memory.
    encode_peak_bytes: u64,
}

pub(in crate::bars) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for name in NAMES.into_iter().filter(|name| bench.options().wants_corpus(name)) {
        let pair = Stream::named(bench.options(), name).and_then(|stream| stream.last_pair()?.largest_file());
        match pair.and_then(|pair| of_file(bench, name, &pair)) {
            Ok(of_file) => rows.extend(of_file),
            Err(error) => rows.push(Row { corpus: name, ..failed(20, "codecs", &error) }),
        }
    }
    rows.push(flip::row(bench).unwrap_or_else(|error| failed(20, "upgrade until the flip", &error)));
    Ok(rows)
}

/// The codecs in turns.
fn of_file(bench: &Bench, name: &'static str, pair: &Pair) -> Result<Vec<Row>> {
    let mut figures: [Vec<Figures>; CODECS.len()] = Default::default();
    for _ in 0..bench.options().repetitions {
        for (codec, figures) in CODECS.iter().zip(&mut figures) {
            figures.push(measure(bench, codec.name, pair)?);
        }
    }
    let related = CODECS.iter().zip(&figures).filter(|(_, all)| all.iter().all(|one| one.is_related));
    Ok(related.flat_map(|(codec, all)| of_codec(name, codec, all)).collect())
}

pub(super) fn measure(bench: &Bench, codec: &str, pair: &Pair) -> Result<Figures> {
    let program = bench.programs.codec.ok_or_else(|| Error::NotInstalled { program: "codec".into() })?;
    let line = Line::new(program).arg("--codec").arg(codec).arg("--old").arg(&pair.old);
    let text = line.arg("--new").arg(&pair.new).output()?;
    serde_json::from_str(&text)
        .map_err(|error| Error::Wrong { program: "codec".into(), what: format!("no figures: {error}") })
}

fn of_codec(corpus: &'static str, codec: &Codec, all: &[Figures]) -> [Row; 4] {
    let row = |what, unit, limit, figure: &dyn Fn(&Figures) -> f64| {
        let outcome = Outcome::Measured(Series::of_values(all.iter().map(figure).collect()));
        Row {
            bar: 20,
            what,
            corpus,
            unit,
            limit,
            scores: vec![Score::new("cairn", Role::Candidate, outcome)],
        }
    };
    let plain = |one: &Figures| to_f64(one.plain_bytes);
    let [encode, decode, memory, size] = codec.whats;
    [
        row(encode, Unit::BytesPerSecond, Limit::AtLeast(codec.encode_per_s), &|one| {
            plain(one) / one.encode_s
        }),
        row(decode, Unit::BytesPerSecond, Limit::AtLeast(codec.decode_per_s), &|one| {
            plain(one) / one.decode_s
        }),
        row(memory, Unit::Times, Limit::AtMost(MEMORY_LIMIT), &|one| {
            to_f64(one.encode_peak_bytes) / plain(one)
        }),
        row(size, Unit::Share, Limit::None, &|one| to_f64(one.encoded_bytes) / plain(one)),
    ]
}
