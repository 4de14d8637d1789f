//! 24: how fast a node joins that has nothing, and how much moves to one whose state is two snapshots old.

use std::path::PathBuf;

use super::network::Network;
use crate::bars::Bench;
use crate::bars::exchange::nodes::last_object;
use crate::bars::exchange::through;
use crate::corpus::{self, Corpus};
use crate::error::{Error, Result};
use crate::harness::{
    Cost, Entrant, Limit, Outcome, Role, Row, Score, Series, Unit, copy_tree, remove, take_turns, to_f64,
    tree_bytes,
};
use crate::tools::kv_node::NETWORK;

const SPEED_LIMIT: f64 = 0.8;
const BYTES_LIMIT: f64 = 1.05;

pub(in crate::bars) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    Ok(vec![from_nothing(bench)?, two_behind(bench)?])
}

/// A join makes the state's files and reads them again, which a pull does not: what that takes is in its time.
fn from_nothing(bench: &Bench) -> Result<Row> {
    let network = Network::new(bench, "join-nothing")?;
    let dir = network.dir();
    network.kv.init(&dir, bench.options().scale.pulled_bytes).run()?;
    network.snapshot_of(&dir, 0)?;
    remove(&dir)?;
    let (cairn, address) = (network.nodes.cairn, network.server.address());
    let spec = format!("{NETWORK}@0");
    let pull = || {
        let node = network.nodes.empty("node")?;
        let cost = cairn.pull(&node, &spec, [address]).run()?;
        node.remove()?;
        Ok(cost)
    };
    let pull_and_export = || {
        let (node, place) = (network.nodes.empty("node")?, network.place("exported")?);
        let costs = [cairn.pull(&node, &spec, [address]).run()?, cairn.export(&node, &spec, &place).run()?];
        node.remove()?;
        remove(&place)?;
        Ok(both(costs))
    };
    let join = || {
        let (node, place) = (network.nodes.empty("node")?, network.place("joined")?);
        let cost = cairn.join(&node, NETWORK, [address], &place).run()?;
        node.remove()?;
        remove(&place)?;
        Ok(cost)
    };
    let entrants = vec![
        Entrant::new("`cairn pull`", Role::Reference, pull),
        Entrant::new("cairn", Role::Candidate, join),
        Entrant::new("`cairn pull` and `cairn export`", Role::Peer, pull_and_export),
    ];
    let bytes = tree_bytes(&network.store.store().join("packs"))?;
    let scores = take_turns(entrants, bench.options().repetitions, Series::rates(to_f64(bytes)));
    network.close()?;
    Ok(Row {
        bar: 24,
        what: "join from nothing, stored bytes",
        corpus: "1 GB, a database",
        unit: Unit::BytesPerSecond,
        limit: Limit::RatioAtLeast(SPEED_LIMIT),
        scores,
    })
}

fn both([first, second]: [Cost; 2]) -> Cost {
    Cost {
        wall_s: first.wall_s + second.wall_s,
        cpu_s: first.cpu_s + second.cpu_s,
        peak_resident_bytes: first.peak_resident_bytes.max(second.peak_resident_bytes),
    }
}

/// What passes when the newest state comes to a node that has the one before the one before.
fn two_behind(bench: &Bench) -> Result<Row> {
    let states = corpus::states(bench.options())?;
    let [first, second, third, ..] = states.as_slice() else {
        return Err(Error::Usage("the corpus has fewer than three states".into()));
    };
    let network = Network::new(bench, "join-behind")?;
    let (cairn, live) = (network.nodes.cairn, network.dir());
    let (node, place) = (network.nodes.empty("node")?, network.place("joined")?);
    corpus::put_state(first, &live)?;
    network.snapshot_of(&live, 1)?;
    cairn.join(&node, NETWORK, [network.server.address()], &place).run()?;
    node.save()?;
    let saved = network.place("joined.saved")?;
    copy_tree(&place, &saved)?;
    for (state, round) in [(second, 2), (third, 3)] {
        corpus::put_state(state, &live)?;
        network.snapshot_of(&live, round)?;
    }
    let [old, new] = [1, 3].map(|round| format!("{NETWORK}@{round}"));
    let summary = last_object(&cairn.difference(&network.store, &old, &new))?;
    let figure = |field: &str| summary["transfer"][field].as_u64();
    let least = figure("stored_bytes").zip(figure("metadata_bytes")).map(|(data, metadata)| data + metadata);
    let least = least.ok_or_else(|| Error::Wrong {
        program: "cairn".into(),
        what: format!("no figures of a transfer: {summary}"),
    })?;
    let mut moved = Vec::new();
    for _ in 0..bench.options().repetitions {
        node.reset()?;
        let place: PathBuf = network.place("joined")?;
        copy_tree(&saved, &place)?;
        let passed = through(&network.server, |address| cairn.join(&node, NETWORK, [address], &place))?;
        moved.push(to_f64(passed.down + passed.up));
    }
    network.close()?;
    Ok(Row {
        bar: 24,
        what: "join with a state two snapshots old, bytes on the wire",
        corpus: Corpus::State.name(),
        unit: Unit::Bytes,
        limit: Limit::RatioAtMost(BYTES_LIMIT),
        scores: vec![
            Score::new(
                "chunks that differ, as stored, and metadata",
                Role::Reference,
                Outcome::Measured(Series::of_bytes(least)),
            ),
            Score::new("cairn", Role::Candidate, Outcome::Measured(Series::of_values(moved))),
        ],
    })
}
