//! 14: several peers at once, each behind a line of 100 Mbit/s: two against one, and bad ones beside a good one.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::nodes::{NAME, Nodes, THIN_BYTES_PER_S, line_to, two_releases};
use crate::bars::Bench;
use crate::error::{Error, Result};
use crate::harness::{
    Entrant, Fault, Limit, Link, Quality, Role, Row, Series, Unit, copy_tree, take_turns, walk,
};
use crate::tools::{Repo, Server};

const TWO_LIMIT: f64 = 1.8;
const BAD_LIMIT: f64 = 1.3;
/// Of a release's 16 MB, a bad peer sends so many before it breaks.
const BREAKS_AFTER_BYTES: u64 = 2 << 20;
/// One chunk in so many is damaged: a frame has about 30.
const DAMAGED_EVERY_BYTES: u64 = 700 << 10;

pub(in crate::bars) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let nodes = Nodes::new(bench, "swarm")?;
    let [_, release] = two_releases(bench)?;
    let good = nodes.with_releases("good", &[release])?;
    let bad = damaged_copy(&nodes, &good)?;
    let (one, two) = (nodes.serve(&good)?, nodes.serve(&second_copy(&nodes, &good)?)?);
    let liar = nodes.serve(&bad)?;
    let pull = |servers: &[(&Server, Option<Fault>)]| {
        let node = nodes.empty("node")?;
        let lines =
            servers.iter().map(|(server, fault)| thin(server, *fault)).collect::<Result<Vec<Link>>>()?;
        let cost = nodes.cairn.pull(&node, &format!("{NAME}@1"), lines.iter().map(Link::address)).run()?;
        node.remove()?;
        Ok(cost)
    };
    let compare = |what, limit, servers: &[(&Server, Option<Fault>)]| {
        let alone = [(&one, None)];
        let entrants = vec![
            Entrant::new("one good peer", Role::Reference, || pull(&alone)),
            Entrant::new("cairn", Role::Candidate, || pull(servers)),
        ];
        let scores = take_turns(entrants, bench.options.repetitions, Series::walls);
        Row { bar: 14, what, corpus: "uv, 100 Mbit/s a peer", unit: Unit::Seconds, limit, scores }
    };
    let bad_ones = [(&two, Some(Fault::Dies)), (&liar, None), (&two, Some(Fault::Stalls)), (&one, None)];
    let rows = vec![
        compare("two peers at once", Limit::RatioAtMost(1.0 / TWO_LIMIT), &[(&one, None), (&two, None)]),
        compare(
            "beside peers of which one dies, one lies, one stalls",
            Limit::RatioAtMost(BAD_LIMIT),
            &bad_ones,
        ),
    ];
    drop((one, two, liar));
    nodes.close()?;
    Ok(rows)
}

fn thin(server: &Server, fault: Option<Fault>) -> Result<Link> {
    let fault = fault.map(|fault| (BREAKS_AFTER_BYTES, fault));
    line_to(server, Quality { bytes_per_s: Some(THIN_BYTES_PER_S), fault, ..Quality::default() })
}

fn second_copy(nodes: &Nodes<'_>, of: &Repo) -> Result<Repo> {
    let copy = nodes.empty("second")?;
    copy_tree(&of.store(), &copy.store())?;
    Ok(copy)
}

/// A copy of a store some of whose chunks are other bytes than their ids say.
fn damaged_copy(nodes: &Nodes<'_>, of: &Repo) -> Result<Repo> {
    let copy = nodes.empty("liar")?;
    copy_tree(&of.store(), &copy.store())?;
    walk(&copy.store().join("packs"), &mut |path, metadata| damage(path, metadata.len()))?;
    Ok(copy)
}

/// Turns a byte over every [`DAMAGED_EVERY_BYTES`], well inside the frames.
fn damage(pack: &Path, len: u64) -> Result<()> {
    // Metadata packs are small, and so the lies are in the data.
    if len < 4 * DAMAGED_EVERY_BYTES {
        return Ok(());
    }
    let file = OpenOptions::new().read(true).write(true).open(pack).map_err(Error::io("open", pack))?;
    let mut at = DAMAGED_EVERY_BYTES;
    while at < len - DAMAGED_EVERY_BYTES {
        let mut byte = [0];
        let turned = file.read_exact_at(&mut byte, at).and_then(|()| file.write_all_at(&[!byte[0]], at));
        turned.map_err(Error::io("damage", pack))?;
        at += DAMAGED_EVERY_BYTES;
    }
    Ok(())
}
