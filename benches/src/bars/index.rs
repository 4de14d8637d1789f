//! 6: the index with very many chunks. It is below what a command line can show, so a program of this package, `index`,
//! fills one through the library, and this module runs that program as a process and judges what it reports.

use serde::Deserialize;

use super::Bench;
use crate::error::{Error, Result};
use crate::harness::{Limit, Line, Outcome, Role, Row, Score, Series, Unit};

const CHUNKS: u64 = 8_000_000;
const CHUNKS_QUICK: u64 = 80_000;
const OPEN_LIMIT_S: f64 = 1.0;
const LOOKUPS_LIMIT_PER_S: f64 = 1e6;
const RESIDENT_LIMIT_BYTES: f64 = 40.0;

/// What `index --chunks N --work DIR` prints: one JSON object.
#[derive(Debug, Deserialize)]
struct Figures {
    open_s: f64,
    /// On one core, of ids in random order, half of which are held.
    lookups_per_s: f64,
    resident_bytes_per_chunk: f64,
}

pub(super) fn rows(bench: &Bench) -> Vec<Row> {
    let figures = measure(bench);
    let row = |what, unit, limit, figure: fn(&Figures) -> f64| {
        let outcome = match &figures {
            Ok(figures) => Outcome::Measured(Series::of_value(figure(figures))),
            Err(error) => Outcome::from(error),
        };
        let scores = vec![Score::new("cairn", Role::Candidate, outcome)];
        Row { bar: 6, what, corpus: "8 M chunks", unit, limit, scores }
    };
    vec![
        row("index, open", Unit::Seconds, Limit::AtMost(OPEN_LIMIT_S), |figures| figures.open_s),
        row("index, look-ups", Unit::PerSecond, Limit::AtLeast(LOOKUPS_LIMIT_PER_S), |figures| {
            figures.lookups_per_s
        }),
        row("index, resident per chunk", Unit::Bytes, Limit::AtMost(RESIDENT_LIMIT_BYTES), |figures| {
            figures.resident_bytes_per_chunk
        }),
    ]
}

fn measure(bench: &Bench) -> Result<Figures> {
    let program = bench.index_program.ok_or_else(|| Error::NotInstalled { program: "index".into() })?;
    let chunks = if bench.options.scale.quick { CHUNKS_QUICK } else { CHUNKS };
    let line = Line::new(program).arg("--chunks").arg(chunks.to_string()).arg("--work").arg(bench.work());
    let text = line.output()?;
    serde_json::from_str(&text)
        .map_err(|error| Error::Wrong { program: "index".into(), what: format!("no figures: {error}") })
}
