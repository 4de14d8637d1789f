//! 18: a pack of 64 MiB in which some frames are damaged is mended from a peer: the bytes that come.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::super::Bench;
use super::super::exchange::nodes::{NAME, Nodes, last_object, line_to};
use crate::corpus;
use crate::error::{Error, Result};
use crate::harness::{Limit, Outcome, Quality, Role, Row, Score, Series, Unit, to_f64};

/// Beside the damaged frames themselves.
const SPARE_BYTES: u64 = 1 << 20;
const FRAME_MAGIC: [u8; 4] = *b"CBF1";
/// Where damage is done, in parts of the file.
const DAMAGED_AT: [f64; 4] = [0.1, 0.35, 0.36, 0.8];

pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let nodes = Nodes::new(bench, "repair")?;
    let tree = nodes.join("tree");
    corpus::big_file(&tree, bench.options.scale.repaired_bytes)?;
    let publisher = nodes.with_releases("publisher", std::slice::from_ref(&tree))?;
    crate::harness::remove(&tree)?;
    let server = nodes.serve(&publisher)?;
    let (mut moved, mut damaged) = (Vec::new(), Vec::new());
    for _ in 0..bench.options.repetitions {
        let node = nodes.empty("node")?;
        nodes.cairn.pull(&node, &format!("{NAME}@1"), [server.address()]).run()?;
        damaged.push(to_f64(damage(&largest_pack(&node.store().join("packs"))?)? + SPARE_BYTES));
        let link = line_to(&server, Quality::default())?;
        nodes.cairn.repair(&node, link.address()).run()?;
        let passed = link.passed();
        moved.push(to_f64(passed.down + passed.up));
        let report = last_object(&nodes.cairn.verify_json(&node))?;
        if report["clean"].as_bool() != Some(true) {
            return Err(Error::Wrong { program: "cairn".into(), what: format!("not mended: {report}") });
        }
        node.remove()?;
    }
    drop(server);
    nodes.close()?;
    let scores = vec![
        Score::new(
            "damaged frames and 1 MiB",
            Role::Reference,
            Outcome::Measured(Series::of_values(damaged)),
        ),
        Score::new("cairn", Role::Candidate, Outcome::Measured(Series::of_values(moved))),
    ];
    let (what, limit) = ("repair of a pack from a peer, bytes on the wire", Limit::RatioAtMost(1.0));
    Ok(vec![Row { bar: 18, what, corpus: "4 frames of 64 MiB", unit: Unit::Bytes, limit, scores }])
}

fn largest_pack(packs: &Path) -> Result<PathBuf> {
    let (mut largest, mut bytes) = (PathBuf::new(), 0);
    crate::harness::walk(packs, &mut |path, metadata| {
        if metadata.len() > bytes {
            (largest, bytes) = (path.to_owned(), metadata.len());
        }
        Ok(())
    })?;
    Ok(largest)
}

/// Spoils the whole payload of some frames, so that nothing of them can be salvaged; gives the bytes of these frames. They are
/// found as docs/format.md says.
fn damage(pack: &Path) -> Result<u64> {
    let bytes = fs::read(pack).map_err(Error::io("read", pack))?;
    let file = fs::File::options().write(true).open(pack).map_err(Error::io("open", pack))?;
    let (mut at, mut frames): (usize, Vec<(usize, usize, usize)>) = (16, Vec::new());
    while bytes.get(at..at + 4) == Some(&FRAME_MAGIC) {
        let u16_at = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let stored = u32::from_le_bytes([bytes[at + 12], bytes[at + 13], bytes[at + 14], bytes[at + 15]]);
        let len = 28 + 36 * u16_at(at + 6) + 32 * u16_at(at + 16) + stored as usize;
        frames.push((at, len, stored as usize));
        at += len;
    }
    let mut damaged = 0;
    for part in DAMAGED_AT {
        let wanted = to_f64(frames.len() as u64) * part;
        let found = frames.iter().enumerate().find(|(number, _)| to_f64(*number as u64) >= wanted);
        let Some((_, (at, len, stored))) = found else { continue };
        let payload = at + len - stored..at + len;
        let spoilt: Vec<u8> = bytes[payload.clone()].iter().map(|byte| byte ^ 0x55).collect();
        file.write_all_at(&spoilt, payload.start as u64).map_err(Error::io("write", pack))?;
        damaged += *len as u64;
    }
    Ok(damaged)
}
