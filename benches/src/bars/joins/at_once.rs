//! 26: many nodes join at once from one that has 100 Mbit/s: how often the snapshot leaves it.

use std::net::SocketAddr;

use super::network::Network;
use crate::bars::Bench;
use crate::bars::exchange::nodes::{THIN_BYTES_PER_S, line_to};
use crate::error::Result;
use crate::harness::{Limit, Outcome, Quality, Role, Row, Score, Series, Service, Unit, to_f64, tree_bytes};
use crate::tools::kv_node::NETWORK;
use crate::tools::{Repo, Server};

const JOINERS: usize = 20;

pub(in crate::bars) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let network = Network::new(bench, "join-many")?;
    let dir = network.dir();
    network.kv.init(&dir, bench.options().scale.shared_bytes).run()?;
    network.snapshot_of(&dir, 0)?;
    let size = to_f64(tree_bytes(&network.store.store().join("packs"))?);
    let joiners = if bench.options().scale.quick { 3 } else { JOINERS };
    let row = |what, egress: u64| Row {
        bar: 26,
        what,
        corpus: "20 joiners, 100 Mbit/s",
        unit: Unit::Times,
        limit: Limit::None,
        scores: vec![Score::new(
            "cairn",
            Role::Candidate,
            Outcome::Measured(Series::of_value(to_f64(egress) / size)),
        )],
    };
    let rows = vec![
        row("what leaves the first node, of a snapshot's size", egress(&network, joiners, false)?),
        row("the same when each joiner serves the others", egress(&network, joiners, true)?),
    ];
    network.close()?;
    Ok(rows)
}

/// The bytes that leave the first node until all have joined.
fn egress(network: &Network<'_>, joiners: usize, serve: bool) -> Result<u64> {
    let thin = Quality { bytes_per_s: Some(THIN_BYTES_PER_S), ..Quality::default() };
    let line = line_to(&network.server, thin)?;
    let (cairn, janitor) = (network.nodes.cairn, &network.nodes.janitor);
    let repos: Vec<Repo> =
        (0..joiners).map(|number| network.nodes.empty(&format!("node-{number}"))).collect::<Result<_>>()?;
    let served = repos.iter().filter(|_| serve).map(|repo| network.nodes.serve(repo));
    let servers: Vec<Server> = served.collect::<Result<_>>()?;
    let mut joining = Vec::new();
    for (number, repo) in repos.iter().enumerate() {
        let place = network.place(&format!("joined-{number}"))?;
        let others = servers.iter().enumerate().filter(|(other, _)| *other != number);
        let others = others.map(|(_, server)| server.address());
        let from: Vec<SocketAddr> = std::iter::once(line.address()).chain(others).collect();
        joining.push(Service::start(cairn.join(repo, NETWORK, from, &place), janitor)?);
    }
    for mut join in joining {
        join.ended_well()?;
    }
    drop(servers);
    for (number, repo) in repos.iter().enumerate() {
        repo.remove()?;
        network.place(&format!("joined-{number}"))?;
    }
    Ok(line.passed().down)
}
