//! 25: a node joins while 1,000 events come each second, and one behind a gigabyte of events.

use std::time::Instant;

use super::network::Network;
use crate::bars::Bench;
use crate::error::{Error, Result};
use crate::harness::{Cost, Limit, Outcome, Role, Row, Score, Series, Unit, to_f64, tree_bytes};
use crate::tools::kv_node::{NETWORK, Pace};

const EVENTS_PER_S_LIMIT: f64 = 1000.0;
const MEMORY_LIMIT_BYTES: f64 = (256 << 20) as f64;
/// The first node's state, the stores of both, the joined state, and what a stream takes.
const ROOM_FACTOR: u64 = 5;
/// A little more than what is wanted, for a producer makes up for nothing that was late.
const FAST: Pace =
    Pace { burst: 12, interval_ms: 10, writes: 1, value_bytes: 100, keys: 100_000, rounds: None };
/// A megabyte of events.
const LONG: Pace =
    Pace { burst: 4, interval_ms: 0, writes: 10, value_bytes: 100_000, keys: 100, rounds: None };

pub(in crate::bars) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = beside_events(bench)?;
    rows.push(behind_events(bench)?);
    Ok(rows)
}

fn row(what: &'static str, corpus: &'static str, unit: Unit, limit: Limit, value: f64) -> Row {
    let outcome = Outcome::Measured(Series::of_value(value));
    Row { bar: 25, what, corpus, unit, limit, scores: vec![Score::new("cairn", Role::Candidate, outcome)] }
}

/// Joins a network; gives what it cost.
fn join(network: &Network<'_>) -> Result<(Cost, bool)> {
    let node = network.nodes.empty("node")?;
    let place = network.place("joined")?;
    let line = network.nodes.cairn.join(&node, NETWORK, [network.server.address()], &place);
    let (cost, printed) =
        line.args(network.kv.commands()).args(["--json", "--buffer-max", "2GiB"]).run_reading()?;
    let is_consistent = printed.lines().any(|line| line.contains("\"consistent\""));
    Ok((cost, is_consistent))
}

fn beside_events(bench: &Bench) -> Result<Vec<Row>> {
    const CORPUS: &str = "2 GB, 1,000 events/s";
    let network = Network::new(bench, "join-busy")?;
    let bytes = bench.options().scale.joined_bytes;
    bench.scratch.need("the state of bar 25 with its copies", bytes * ROOM_FACTOR)?;
    let dir = network.dir();
    network.kv.init(&dir, bytes).run()?;
    let producer = network.produce(&FAST)?;
    network.snapshot()?;
    let round = || {
        network
            .kv
            .round(&dir)
            .ok_or_else(|| Error::Wrong { program: "kv-node".into(), what: "it does not answer".into() })
    };
    let (before, begun) = (round()?, Instant::now());
    let (cost, is_consistent) = join(&network)?;
    let rate = to_f64(round()? - before) / begun.elapsed().as_secs_f64();
    producer.stop()?;
    let is_equal = is_consistent && network.is_equal(&network.nodes.join("joined"))?;
    network.close()?;
    let differ = if is_equal { 0.0 } else { 1.0 };
    Ok(vec![
        row(
            "events produced during a join",
            CORPUS,
            Unit::PerSecond,
            Limit::AtLeast(EVENTS_PER_S_LIMIT),
            rate,
        ),
        row("joined states that are not the first node's", CORPUS, Unit::Count, Limit::AtMost(0.0), differ),
        row("time of that join", CORPUS, Unit::Seconds, Limit::None, cost.wall_s),
        row(
            "peak memory of that join",
            CORPUS,
            Unit::Bytes,
            Limit::AtMost(MEMORY_LIMIT_BYTES),
            to_f64(cost.peak_resident_bytes),
        ),
    ])
}

fn behind_events(bench: &Bench) -> Result<Row> {
    let network = Network::new(bench, "join-backlog")?;
    let bytes = bench.options().scale.backlog_bytes;
    bench.scratch.need("the events of bar 25 with their copy", bytes * 3)?;
    let dir = network.dir();
    network.kv.init(&dir, 1 << 20).run()?;
    network.snapshot_of(&dir, 0)?;
    let round_bytes = u64::from(LONG.writes * LONG.value_bytes);
    let rounds = Some(bytes.div_ceil(round_bytes));
    network.produce(&Pace { rounds, ..LONG })?.ended_well()?;
    let kept = tree_bytes(&network.store.store().join("streams"))?;
    if kept < bytes / 10 * 7 {
        return Err(Error::Wrong {
            program: "cairn".into(),
            what: format!("{kept} bytes of events are kept"),
        });
    }
    let (cost, is_consistent) = join(&network)?;
    if !is_consistent || !network.is_equal(&network.nodes.join("joined"))? {
        return Err(Error::Wrong { program: "cairn".into(), what: "the joined state is another".into() });
    }
    network.close()?;
    let limit = Limit::AtMost(MEMORY_LIMIT_BYTES);
    Ok(row(
        "peak memory of a join behind a backlog of events",
        "1 GB of events",
        Unit::Bytes,
        limit,
        to_f64(cost.peak_resident_bytes),
    ))
}
