//! 6: the index with very many chunks. It is below what a command line can show, so a program of this package, `index`
//! (`src/bin/index/`), makes one through the library, and this module runs that program as a process and judges what it
//! reports: medians over processes of its own.

use serde::Deserialize;

use super::Bench;
use crate::error::{Error, Result};
use crate::harness::{Limit, Line, Outcome, Role, Row, Score, Series, Unit};

const CHUNKS: u64 = 8_000_000;
const CHUNKS_QUICK: u64 = 80_000;
const OPEN_LIMIT_S: f64 = 1.0;
const LOOKUPS_LIMIT_PER_S: f64 = 1e6;
const RESIDENT_LIMIT_BYTES: f64 = 40.0;
/// What opening may need for a moment beside what it leaves: half as much again. No bar of its own.
const PEAK_LIMIT_BYTES: f64 = 60.0;

/// What `index --chunks N --work DIR` prints: one JSON object. There is more in it, for people.
#[derive(Debug, Deserialize)]
struct Figures {
    /// With one run.
    #[serde(flatten)]
    run: Opened,
    /// With as many runs as a writer leaves that adds a little at a time.
    tiers: Opened,
    /// From the packs' footers alone: what a reader does that meets packs of which no writer has made a run yet.
    footers: Opened,
}

/// What an open index costs.
#[derive(Debug, Deserialize)]
struct Opened {
    open_s: f64,
    /// On one core, in random order: of ids that are held or of ids that are not, whichever is slower.
    lookups_per_s: f64,
    /// After look-ups of all of it.
    resident_bytes_per_chunk: f64,
    open_peak_bytes_per_chunk: f64,
}

pub(super) fn rows(bench: &Bench) -> Vec<Row> {
    let figures = measure(bench);
    let corpus = if bench.options.scale.quick { "80 k chunks" } else { "8 M chunks" };
    let row = |what, unit, limit, figure: fn(&Figures) -> f64| {
        let outcome = match &figures {
            Ok(figures) => Outcome::Measured(Series::of_value(figure(figures))),
            Err(error) => Outcome::from(error),
        };
        let scores = vec![Score::new("cairn", Role::Candidate, outcome)];
        Row { bar: 6, what, corpus, unit, limit, scores }
    };
    let open = Limit::AtMost(OPEN_LIMIT_S);
    let lookups = Limit::AtLeast(LOOKUPS_LIMIT_PER_S);
    let resident = Limit::AtMost(RESIDENT_LIMIT_BYTES);
    let peak = Limit::AtMost(PEAK_LIMIT_BYTES);
    vec![
        row("index, open", Unit::Seconds, open, |all| all.run.open_s),
        row("index, look-ups", Unit::PerSecond, lookups, |all| all.run.lookups_per_s),
        row("index, resident per chunk", Unit::Bytes, resident, |all| all.run.resident_bytes_per_chunk),
        row("index in many runs, open", Unit::Seconds, open, |all| all.tiers.open_s),
        row("index in many runs, look-ups", Unit::PerSecond, lookups, |all| all.tiers.lookups_per_s),
        row("index from footers, open", Unit::Seconds, open, |all| all.footers.open_s),
        row("index from footers, look-ups", Unit::PerSecond, lookups, |all| all.footers.lookups_per_s),
        row("index from footers, resident per chunk", Unit::Bytes, resident, |all| {
            all.footers.resident_bytes_per_chunk
        }),
        row("index from footers, peak of opening per chunk", Unit::Bytes, peak, |all| {
            all.footers.open_peak_bytes_per_chunk
        }),
    ]
}

fn measure(bench: &Bench) -> Result<Figures> {
    let program = bench.programs.index.ok_or_else(|| Error::NotInstalled { program: "index".into() })?;
    let chunks = if bench.options.scale.quick { CHUNKS_QUICK } else { CHUNKS };
    let line = Line::new(program).arg("--chunks").arg(chunks.to_string()).arg("--work").arg(bench.work());
    let text = line.output()?;
    serde_json::from_str(&text)
        .map_err(|error| Error::Wrong { program: "index".into(), what: format!("no figures: {error}") })
}
