//! Scrubbing on a simulated disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Scrub, ScrubState, Step};
use crate::block::{BlockBuilder, Compressor};
use crate::blocks::Decoder;
use crate::id::ChunkId;
use crate::intake::VerifiedFrame;
use crate::io::{Io, Sim};
use crate::pack::PackKind;
use crate::{Store, Writer, WriterOptions};

const STORE: &str = "/store";

fn writer(sim: &Sim) -> Writer {
    let options = WriterOptions {
        wait: std::time::Duration::ZERO,
        command: "a test".to_owned(),
        who: "test".to_owned(),
    };
    Writer::open_with(Arc::new(sim.clone()), Path::new(STORE), &options).unwrap()
}

fn store(sim: &Sim) -> Store {
    Store::open_with(Arc::new(sim.clone()), Path::new(STORE)).unwrap()
}

/// Bytes that do not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; 300_000];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A pack of three frames of one chunk each.
fn add_pack(writer: &Writer, number: u64) {
    for frame in 0..3 {
        let bytes = noise(number * 3 + frame);
        let mut builder = BlockBuilder::default();
        builder.push(ChunkId::of(&bytes), &bytes);
        let (frame, _) = builder.finish(&mut Compressor::default());
        let frame = VerifiedFrame::verify(frame.bytes, &mut Decoder::default()).unwrap();
        writer.intake().keep(PackKind::Data, &frame).unwrap();
    }
    writer.intake().flush().unwrap();
}

fn packs(sim: &Sim) -> Vec<PathBuf> {
    let dir = Path::new(STORE).join("packs");
    let mut names: Vec<_> = sim.list(&dir).unwrap().into_iter().map(|entry| entry.name).collect();
    names.sort();
    names.into_iter().map(|name| dir.join(name)).collect()
}

/// Runs to the end of the pass; gives the bytes that were read and what was lost.
fn run(scrub: &mut Scrub) -> (u64, usize) {
    let (mut all, mut all_lost) = (0, 0);
    loop {
        match scrub.step().unwrap() {
            Step::Read { bytes, lost } => {
                all += bytes;
                all_lost += lost.len();
            }
            Step::PassEnded(pass) => {
                assert!(pass.began_ms > 0 && pass.ended_ms >= pass.began_ms);
                return (all, all_lost);
            }
        }
    }
}

fn machine() -> Sim {
    let sim = Sim::new(1);
    let writer = writer(&sim);
    (0..4).for_each(|number| add_pack(&writer, number));
    drop(writer);
    sim
}

#[test]
fn all_is_read_once_a_pass_across_restarts_and_the_next_pass_reads_it_again() {
    let sim = machine();
    let (whole, lost) = run(&mut Scrub::of(&store(&sim)));
    assert!(whole > 12 * 300_000 && lost == 0, "{whole}");
    // A process of its own for each step.
    let mut read = 0;
    for processes in 1.. {
        let mut scrub = Scrub::of(&store(&sim));
        let step = scrub.step().unwrap();
        scrub.save().unwrap();
        match step {
            Step::Read { bytes, .. } => read += bytes,
            Step::PassEnded(pass) => {
                assert!(processes > 8, "{processes}");
                assert_eq!((read, pass.bytes, pass.packs), (whole, whole, 4));
                break;
            }
        }
    }
    let mut scrub = Scrub::of(&store(&sim));
    assert_eq!(scrub.state().last.unwrap().bytes, whole);
    assert_eq!(run(&mut scrub), (whole, 0));
}

#[test]
fn packs_that_come_are_read_in_the_same_pass_and_packs_that_go_are_no_loss() {
    for seed in 0..8 {
        let sim = machine();
        let (before, _) = run(&mut Scrub::of(&store(&sim)));
        let mut scrub = Scrub::of(&store(&sim));
        let Step::Read { bytes: mut read, .. } = scrub.step().unwrap() else { panic!("there are packs") };
        let writer = writer(&sim);
        add_pack(&writer, 100 + seed);
        let (rest, lost) = run(&mut scrub);
        read += rest;
        assert_eq!((lost, scrub.state().last.unwrap().packs), (0, 5), "seed {seed}");
        assert!(read > before + 3 * 300_000, "seed {seed}: {read}");
        // Some go before they are read, one while it is.
        scrub.step().unwrap();
        for pack in packs(&sim).iter().skip(1).step_by(2).chain(packs(&sim).first()) {
            sim.remove(pack).unwrap();
        }
        let (_, lost) = run(&mut scrub);
        assert!(lost == 0 && scrub.state().damage.is_empty(), "seed {seed}: {:?}", scrub.state());
    }
}

#[test]
fn damage_is_known_until_it_is_mended() {
    let sim = machine();
    let path = packs(&sim).swap_remove(2);
    let bytes = sim.read(&path).unwrap();
    let file = sim.open_write(&path).unwrap();
    file.write_all_at(b"rotten", 400_000).unwrap();
    let mut scrub = Scrub::of(&store(&sim));
    let (_, lost) = run(&mut scrub);
    assert_eq!((lost, scrub.state().damage.len(), scrub.state().lost()), (1, 1, 1));
    scrub.save().unwrap();
    // The next process knows it, and finds it again without noting it twice.
    let state = ScrubState::of(&store(&sim));
    assert_eq!(state.damage.len(), 1);
    assert!(path.to_str().unwrap().contains(&state.damage[0].pack) && state.damage[0].offset.is_some());
    let mut scrub = Scrub::of(&store(&sim));
    assert_eq!((run(&mut scrub).1, scrub.state().damage.len()), (1, 1));
    assert_eq!(scrub.look_again().len(), 1);
    // A sound copy elsewhere: the pack is still damaged, and nothing is lost.
    let chunk: ChunkId = state.damage[0].chunks[0].parse().unwrap();
    let healed = writer(&sim);
    let number = (0..12).find(|number| ChunkId::of(&noise(*number)) == chunk).unwrap();
    let mut builder = BlockBuilder::default();
    builder.push(chunk, &noise(number));
    let frame = builder.finish(&mut Compressor::default()).0.bytes;
    let frame = VerifiedFrame::verify(frame, &mut Decoder::default()).unwrap();
    healed.intake().heal(PackKind::Data, &frame).unwrap();
    healed.intake().flush().unwrap();
    let mut scrub = Scrub::of(&store(&sim));
    assert!(scrub.look_again().is_empty());
    assert_eq!((scrub.state().damage.len(), scrub.state().lost()), (1, 0));
    // The pack is as it was: nothing is damaged.
    file.write_all_at(&bytes, 0).unwrap();
    assert!(scrub.look_again().is_empty() && scrub.state().damage.is_empty());
    scrub.save().unwrap();
    assert!(ScrubState::of(&store(&sim)).damage.is_empty());
    // What is noted of a pack that is gone is not told.
    file.write_all_at(b"rotten", 400_000).unwrap();
    let mut scrub = Scrub::of(&store(&sim));
    run(&mut scrub);
    scrub.save().unwrap();
    sim.remove(&path).unwrap();
    assert!(ScrubState::of(&store(&sim)).damage.is_empty());
}

#[test]
fn a_state_that_is_garbage_or_cannot_be_written_stops_nothing() {
    let sim = machine();
    let whole = run(&mut Scrub::of(&store(&sim)));
    let path = Path::new(STORE).join(super::FILE);
    for garbage in [&b"{}"[..], b"", b"[1]", br#"{"position":["nonsense",7]}"#] {
        sim.write_atomic(&path, garbage).unwrap();
        assert_eq!(run(&mut Scrub::of(&store(&sim))), whole);
    }
    sim.fill();
    let mut scrub = Scrub::of(&store(&sim));
    assert_eq!(run(&mut scrub), whole);
    assert!(scrub.save().is_err());
}
