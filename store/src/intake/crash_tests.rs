//! Histories of keeping, flushing, healing and replacing packs, on a machine that crashes at every sync and fails at
//! every call. What a flush acknowledged can be read afterwards, what rotted and was healed too, nothing is ever read
//! that is not what its id says, and work goes on.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::tests::{frame, writer_on};
use crate::block::FrameHeader;
use crate::content::ChunkRef;
use crate::error::{Error, Result};
use crate::fetch::{Fetch, Why};
use crate::id::ChunkId;
use crate::intake::Intake;
use crate::io::{Fault, Io, Sim};
use crate::pack::PackKind;
use crate::pack::format::HEADER_LEN;
use crate::store::Store;
use crate::verify::VerifyOptions;
use crate::writer::Writer;

const STORE: &str = "/srv/store";
const TEXTS: u32 = 40;

fn text(number: u32) -> Vec<u8> {
    let mut text = number.to_le_bytes().repeat(30 + number as usize);
    text.extend_from_slice(blake3::hash(&text).as_bytes());
    text
}

fn id(number: u32) -> ChunkId {
    ChunkId::of(&text(number))
}

fn frame_of(numbers: impl IntoIterator<Item = u32>) -> super::VerifiedFrame {
    let texts: Vec<_> = numbers.into_iter().map(text).collect();
    frame(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// Metadata and data go to packs of their own.
fn kind_of(number: u32) -> PackKind {
    if number < TEXTS / 4 { PackKind::Metadata } else { PackKind::Data }
}

/// Has every text, and brings it.
struct Elsewhere(Arc<Intake>);

impl Fetch for Elsewhere {
    fn fetch(&self, wanted: &[ChunkRef], why: Why) -> Result<()> {
        assert_eq!(why, Why::Damaged);
        for number in (0..TEXTS).filter(|number| wanted.iter().any(|chunk| chunk.id == id(*number))) {
            self.0.heal(kind_of(number), &frame_of([number]))?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Keeps the texts of these numbers, in frames of five.
    Keep(u32, u32),
    /// Brings sound copies of the same.
    Heal(u32, u32),
    Flush,
    /// Verifies, and does what it takes.
    Repair,
    Reopen,
}

use Step::{Flush, Heal, Keep, Reopen, Repair};

const BEFORE: [Step; 6] = [Keep(0, 15), Flush, Keep(15, 25), Flush, Keep(25, 30), Flush];
/// After some of what was kept has rotted.
const SCRIPT: [Step; 10] = [
    Keep(20, 35),
    Heal(0, 5),
    Flush,
    Repair,
    Keep(30, 40),
    Reopen,
    Keep(30, 40),
    Heal(15, 20),
    Repair,
    Flush,
];

#[derive(Debug, Clone, Default)]
struct Model {
    /// Acknowledged by a flush, and sound.
    durable: BTreeSet<u32>,
    /// Kept since.
    kept: BTreeSet<u32>,
}

fn open(sim: &Sim) -> Result<Writer> {
    let options = crate::writer::WriterOptions {
        wait: std::time::Duration::ZERO,
        command: String::new(),
        who: String::new(),
    };
    Writer::open_with(Arc::new(sim.clone()), Path::new(STORE), &options)
}

/// Takes steps until one fails; the number of those that were taken.
fn run(sim: &Sim, model: &mut Model, steps: &[Step]) -> (usize, Result<()>) {
    let mut writer = match open(sim) {
        Ok(writer) => writer,
        Err(error) => return (0, Err(error)),
    };
    for (taken, step) in steps.iter().enumerate() {
        let done = take(sim, &mut writer, model, *step);
        if done.is_err() {
            return (taken, done);
        }
    }
    (steps.len(), Ok(()))
}

fn take(sim: &Sim, writer: &mut Writer, model: &mut Model, step: Step) -> Result<()> {
    let intake = writer.intake();
    match step {
        Keep(from, to) | Heal(from, to) => {
            for first in (from..to).step_by(5) {
                let numbers = first..(first + 5).min(to);
                let frame = frame_of(numbers.clone());
                match step {
                    Keep(..) => intake.keep(kind_of(first), &frame)?,
                    _ => intake.heal(kind_of(first), &frame)?,
                };
                model.kept.extend(numbers.clone());
                for number in numbers {
                    // What rotted is only looked at when it is read.
                    if matches!(step, Heal(..)) || !is_rotten(number) {
                        assert_eq!(&*writer.chunk(&id(number))?, &text(number)[..], "{number}");
                    }
                }
            }
        }
        Flush => {
            intake.flush()?;
            let kept = std::mem::take(&mut model.kept);
            model.durable.extend(kept.into_iter().filter(|number| {
                // What rotted and was kept once more may have been taken for sound.
                !is_rotten(*number) || writer.chunk(&id(*number)).is_ok()
            }));
        }
        Repair => {
            let report = writer.verify(&VerifyOptions::default(), &())?;
            let mut plan = writer.plan_repair(&report)?;
            // No artifact says what is needed here: all is.
            plan.wanted = plan.lost.iter().map(|id| ChunkRef { id: *id, len: 0 }).collect();
            let repaired = writer.repair(&plan, Some(&Elsewhere(writer.intake())), &())?;
            // One of them may have been counted as unreadable when a read failed.
            assert!(repaired.healed + 1 >= plan.lost.len() as u64, "{plan:?} {repaired:?}");
            // Where a pack could not be read once more, the other stays.
            assert!(repaired.packs.len() <= plan.packs.len());
            model.durable.extend(std::mem::take(&mut model.kept));
            model.durable.extend((0..TEXTS).filter(|number| plan.lost.contains(&id(*number))));
        }
        Reopen => {
            // What is open is sealed by whoever ends in peace, and nobody is told if that fails.
            model.kept.clear();
            // The one must have ended before the other begins.
            let gone = std::mem::replace(writer, writer_on(&Sim::new(0)));
            drop(intake);
            drop(gone);
            *writer = open(sim)?;
        }
    }
    Ok(())
}

/// What rots: of the first data pack and of the first metadata pack each a frame.
fn is_rotten(number: u32) -> bool {
    (0..5).contains(&number) || (15..20).contains(&number)
}

/// A machine whose store was written in peace and has rotted since.
fn rotten() -> (Sim, Model) {
    let (sim, mut model) = (Sim::new(0), Model::default());
    run(&sim, &mut model, &BEFORE).1.unwrap();
    let store = Store::open_with(Arc::new(sim.clone()), Path::new(STORE)).unwrap();
    for number in [0, 15] {
        let placed = store.place(&id(number)).unwrap().unwrap();
        let path = Path::new(STORE).join(format!("packs/{}.pack", placed.pack));
        let file = sim.open_write(&path).unwrap();
        file.write_all_at(&[0x55; 8], placed.frame_offset + u64::from(placed.frame_stored) - 8).unwrap();
    }
    model.durable.retain(|number| !is_rotten(*number));
    sim.settle();
    (sim, model)
}

/// Whoever opens the store reads what has to be there, and nothing wrong.
fn check(sim: &Sim, model: &Model, context: &str) {
    let store = Store::open_with(Arc::new(sim.clone()), Path::new(STORE)).unwrap();
    for number in 0..TEXTS {
        match store.chunk(&id(number)) {
            Ok(bytes) => assert_eq!(&*bytes, &text(number)[..], "{context}"),
            Err(error) => {
                assert!(!model.durable.contains(&number), "{context}: {number}: {error}");
                assert!(matches!(error, Error::Absent { .. } | Error::Damaged { .. }), "{context}: {error}");
            }
        }
    }
}

/// The machine works again: everything is done, and everything is there.
fn go_on(sim: &Sim, mut model: Model, context: &str) {
    sim.heal();
    run(sim, &mut model, &SCRIPT).1.unwrap_or_else(|error| panic!("{context}: {error:?}"));
    assert_eq!(model.durable.len(), TEXTS as usize, "{context}");
    check(sim, &model, context);
    let report = open(sim).unwrap().verify(&VerifyOptions::default(), &()).unwrap();
    assert!(report.is_clean(), "{context}: {report:?}");
    check(&sim.reboot(1), &model, &format!("{context}, and after one more crash"));
}

/// Operations and syncs of a run in peace.
fn length() -> (u64, u64) {
    let (sim, mut model) = rotten();
    let (operations, syncs) = (sim.operations(), sim.syncs());
    run(&sim, &mut model, &SCRIPT).1.unwrap();
    assert_eq!(model.durable.len(), TEXTS as usize);
    (sim.operations() - operations, sim.syncs() - syncs)
}

#[test]
fn a_crash_at_every_sync_loses_nothing_that_was_acknowledged() {
    let (_, syncs) = length();
    for sync in 1..=syncs {
        for reboot in 0..8 {
            let context = format!("sync {sync} of {syncs}, reboot {reboot}");
            let (sim, mut model) = rotten();
            sim.crash_at_sync(sync);
            let (_, done) = run(&sim, &mut model, &SCRIPT);
            // The last ones may be those of a writer that ends, which tells nobody.
            assert!(done.is_err() || sim.crashed(), "{context}");
            let sim = sim.reboot(reboot);
            check(&sim, &model, &context);
            go_on(&sim, model, &context);
        }
    }
}

#[test]
fn a_call_that_fails_loses_nothing_that_was_acknowledged() {
    let (operations, _) = length();
    for at in 1..=operations {
        for (fault, reboot) in [(Fault::Io, false), (Fault::Io, true), (Fault::NoSpace, at % 2 == 0)] {
            let context = format!("{fault:?} at operation {at} of {operations}, reboot {reboot}");
            let (sim, mut model) = rotten();
            sim.fail_at(at, fault);
            let _ = run(&sim, &mut model, &SCRIPT);
            sim.heal();
            let sim = if reboot { sim.reboot(at) } else { sim };
            check(&sim, &model, &context);
            go_on(&sim, model, &context);
        }
    }
}

#[test]
fn a_disk_that_fills_up_loses_nothing_that_was_acknowledged() {
    let (operations, _) = length();
    for at in 1..=operations {
        let context = format!("a full disk from operation {at} of {operations} on");
        let (sim, mut model) = rotten();
        sim.full_from(at);
        let _ = run(&sim, &mut model, &SCRIPT);
        sim.heal();
        check(&sim, &model, &context);
        go_on(&sim, model, &context);
    }
}

#[test]
fn a_pack_that_fails_behind_is_told_by_the_next_flush_and_what_it_held_can_be_kept_again() {
    for fault in [Fault::Io, Fault::NoSpace] {
        let sim = Sim::new(3);
        let writer = open(&sim).unwrap();
        let intake = writer.intake();
        intake.keep(PackKind::Data, &frame_of(0..5)).unwrap();
        // Footer, sync, look for one of that name, rename.
        sim.fail_at(2, fault);
        let failed = intake.flush();
        assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
        assert!(matches!(writer.chunk(&id(0)), Err(Error::Absent { .. })));
        assert_eq!(intake.keep(PackKind::Data, &frame_of(0..5)).unwrap().chunks, 5);
        intake.flush().unwrap();
        drop((writer, intake));
        let store = Store::open_with(Arc::new(sim.reboot(1)), Path::new(STORE)).unwrap();
        assert!((0..5).all(|number| store.chunk(&id(number)).is_ok()));
    }
}

#[test]
fn what_no_flush_came_for_is_found_again_as_far_as_it_was_written() {
    for seed in 0..32 {
        let sim = Sim::new(seed);
        let writer = open(&sim).unwrap();
        for first in (0..TEXTS).step_by(5) {
            writer.intake().keep(PackKind::Data, &frame_of(first..first + 5)).unwrap();
        }
        // The process is killed, or the machine stops.
        let killed = seed % 2 == 0;
        if killed {
            sim.settle();
        }
        let sim = sim.reboot(seed);
        let writer = open(&sim).unwrap();
        let here = (0..TEXTS).filter(|number| match writer.chunk(&id(*number)) {
            Ok(bytes) => *bytes == text(*number)[..],
            Err(Error::Absent { .. }) => false,
            Err(error) => panic!("{number}: {error}"),
        });
        let here = here.count();
        assert!(!killed || here == TEXTS as usize, "{here}");
        let report = writer.verify(&VerifyOptions::default(), &()).unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
}

/// Spoils all that a pack's only frame of five texts holds, and not the frame's table.
fn spoil(sim: &Sim, path: &Path) {
    let payload = HEADER_LEN + FrameHeader::encoded_len(5, 0);
    (payload..payload + 20).for_each(|byte| sim.rot(path, byte, 0xff));
}

#[test]
fn a_damaged_pack_that_comes_out_the_same_again_is_read_again() {
    let sim = Sim::new(1);
    let writer = open(&sim).unwrap();
    writer.intake().keep(PackKind::Data, &frame_of(20..25)).unwrap();
    writer.intake().flush().unwrap();
    let [pack] = writer.packs().unwrap().try_into().unwrap();
    let path = Path::new(STORE).join(format!("packs/{}.pack", pack.id));
    spoil(&sim, &path);
    drop(writer);
    let writer = open(&sim).unwrap();
    let report = writer.verify(&VerifyOptions::default(), &()).unwrap();
    let mut plan = writer.plan_repair(&report).unwrap();
    // All of it is in one frame, none of which holds, and nothing names what it has.
    assert_eq!((plan.packs.len(), plan.lost.len()), (1, 5));
    plan.wanted = plan.lost.iter().map(|id| ChunkRef { id: *id, len: 0 }).collect();
    let repaired = writer.repair(&plan, Some(&Whole(writer.intake())), &()).unwrap();
    assert_eq!((repaired.packs.len(), repaired.healed), (0, 5));
    assert_eq!(writer.packs().unwrap()[0].id, pack.id);
    assert!((20..25).all(|number| *writer.chunk(&id(number)).unwrap() == *text(number)));
    assert!(writer.verify(&VerifyOptions::default(), &()).unwrap().is_clean());
}

#[test]
fn a_chunk_that_could_not_be_read_and_is_kept_again_is_in_its_pack_once() {
    let sim = Sim::new(1);
    let writer = open(&sim).unwrap();
    let intake = writer.intake();
    intake.keep(PackKind::Data, &frame_of(20..25)).unwrap();
    sim.fail_at(1, Fault::Io);
    assert!(writer.chunk(&id(22)).is_err(), "the disk failed");
    assert_eq!(intake.keep(PackKind::Data, &frame_of(20..25)).unwrap().chunks, 1);
    intake.flush().unwrap();
    drop((intake, writer));
    let writer = open(&sim).unwrap();
    assert_eq!(writer.packs().unwrap()[0].chunks, 5);
    let report = writer.verify(&VerifyOptions::default(), &()).unwrap();
    assert!(report.is_clean(), "{:?}", report.damage);
    assert!((20..25).all(|number| *writer.chunk(&id(number)).unwrap() == *text(number)));
}

#[test]
fn two_damaged_packs_do_not_stand_for_one_another() {
    let sim = Sim::new(1);
    let writer = open(&sim).unwrap();
    let texts = || 20..25;
    writer.intake().keep(PackKind::Data, &frame_of(texts())).unwrap();
    writer.intake().flush().unwrap();
    // Both copies of it rot; the second comes out the same when it is healed once more.
    let mut known = BTreeSet::new();
    for healed in 0..2 {
        let packs: BTreeSet<_> = writer.packs().unwrap().into_iter().map(|pack| pack.id).collect();
        let pack = *packs.difference(&known).next().unwrap();
        known = packs;
        let path = Path::new(STORE).join(format!("packs/{pack}.pack"));
        spoil(&sim, &path);
        if healed == 0 {
            writer.refresh_index();
            let (kind, frame) = (PackKind::Data, frame_of(texts().rev()));
            writer.intake().heal(kind, &frame).unwrap();
            writer.intake().flush().unwrap();
        }
    }
    assert_eq!(known.len(), 2);
    drop(writer);
    let writer = open(&sim).unwrap();
    let report = writer.verify(&VerifyOptions::default(), &()).unwrap();
    let mut plan = writer.plan_repair(&report).unwrap();
    assert_eq!((plan.packs.len(), plan.lost.len()), (2, 5));
    plan.wanted = plan.lost.iter().map(|id| ChunkRef { id: *id, len: 0 }).collect();
    writer.repair(&plan, Some(&Whole(writer.intake())), &()).unwrap();
    drop(writer);
    let writer = open(&sim).unwrap();
    assert!(texts().all(|number| *writer.chunk(&id(number)).unwrap() == *text(number)));
    assert!(writer.verify(&VerifyOptions::default(), &()).unwrap().is_clean());
}

#[test]
fn a_disk_that_failed_when_a_pack_was_opened_is_asked_again() {
    let sim = Sim::new(1);
    let writer = open(&sim).unwrap();
    writer.intake().keep(PackKind::Data, &frame_of(20..25)).unwrap();
    writer.intake().flush().unwrap();
    for operation in 1..12 {
        let store = Store::open_with(Arc::new(sim.clone()), Path::new(STORE)).unwrap();
        assert!(store.lacks(&[ChunkRef { id: id(22), len: 0 }]).unwrap().is_empty());
        sim.fail_at(operation, Fault::Io);
        let _ = store.chunk(&id(22));
        sim.heal();
        assert_eq!(*store.chunk(&id(22)).unwrap(), *text(22), "operation {operation}");
        // Once all was read and holds, nothing counts as damaged any more.
        assert!(store.verify(&VerifyOptions::default(), &()).unwrap().is_clean());
        assert_eq!(store.have(&[id(22)]).unwrap(), [true], "operation {operation}");
    }
}

#[test]
fn whatever_bit_of_a_pack_turns_is_found_and_mended() {
    let whole = Sim::new(1);
    let writer = open(&whole).unwrap();
    writer.intake().keep(PackKind::Data, &frame_of(20..25)).unwrap();
    writer.intake().flush().unwrap();
    let pack = writer.packs().unwrap().remove(0);
    drop(writer);
    let path = Path::new(STORE).join(format!("packs/{}.pack", pack.id));
    for byte in 0..usize::try_from(pack.file_bytes).unwrap() {
        let sim = whole.reboot(0);
        sim.rot(&path, byte, 1 << (byte % 8));
        let writer = open(&sim).unwrap();
        let report = writer.verify(&VerifyOptions::default(), &()).unwrap();
        assert!(!report.is_clean(), "byte {byte}");
        let mut plan = writer.plan_repair(&report).unwrap();
        plan.wanted = plan.lost.iter().map(|id| ChunkRef { id: *id, len: 0 }).collect();
        writer.repair(&plan, Some(&Whole(writer.intake())), &()).unwrap();
        drop(writer);
        let writer = open(&sim).unwrap();
        let report = writer.verify(&VerifyOptions::default(), &()).unwrap();
        assert!(report.is_clean(), "byte {byte}: {plan:?}, and then {:?}", report.damage);
        assert!((20..25).all(|number| *writer.chunk(&id(number)).unwrap() == *text(number)), "byte {byte}");
    }
}

/// Brings a whole frame, as it was sent at first.
struct Whole(Arc<Intake>);

impl Fetch for Whole {
    fn fetch(&self, _: &[ChunkRef], _: Why) -> Result<()> {
        self.0.heal(PackKind::Data, &frame_of(20..25)).map(drop)
    }
}
