//! The index against a model: the packs' footers, searched one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::entry::{Entry, entry};
use super::loose::Loose;
use super::run::RunWriter;
use super::{Index, Place, RUN_ENTRIES_MIN, Run};
use crate::block::{BlockBuilder, Compressor};
use crate::id::{ChunkId, ID_LEN, PackId};
use crate::io::{Fault, Io, Sim};
use crate::pack::format::encode_header;
use crate::pack::{ChunkRow, Footer, FrameRow, PackKind, PackWriter, SEALED};

const ROOT: &str = "/store";

/// A store of packs that have footers alone, and what is in them.
struct Model {
    sim: Sim,
    io: Arc<dyn Io>,
    packs: BTreeMap<PackId, BTreeMap<ChunkId, Place>>,
}

impl Model {
    fn new() -> Self {
        let sim = Sim::new(1);
        sim.create_dir_all(&packs_dir()).unwrap();
        sim.settle();
        Self { io: Arc::new(sim.clone()), sim, packs: BTreeMap::new() }
    }

    /// Adds a pack of these chunks, three to a frame.
    fn add(&mut self, ids: impl IntoIterator<Item = ChunkId>) -> PackId {
        let ids: Vec<_> = ids.into_iter().collect::<BTreeSet<_>>().into_iter().rev().collect();
        let mut footer = Footer { kind: PackKind::Data, frames: Vec::new(), chunks: Vec::new() };
        for (frame, ids) in (0u16..).zip(ids.chunks(3)) {
            let offset = footer.frames_end();
            footer.frames.push(FrameRow { offset, len: 1, plain_len: 1 });
            footer.chunks.extend((0u16..).zip(ids).map(|(slot, id)| ChunkRow { id: *id, frame, slot }));
        }
        footer.chunks.sort_unstable();
        let (bytes, pack) = footer.encode();
        let path = packs_dir().join(format!("{pack}.{SEALED}"));
        if self.packs.contains_key(&pack) {
            return pack;
        }
        let file = self.sim.create(&path).unwrap();
        file.write_all_at(&encode_header(PackKind::Data), 0).unwrap();
        file.write_all_at(&bytes, footer.frames_end()).unwrap();
        let place = |row: &ChunkRow| (row.id, Place { pack, frame: row.frame, slot: row.slot });
        self.packs.insert(pack, footer.chunks.iter().map(place).collect());
        pack
    }

    fn remove(&mut self, pack: PackId) {
        self.packs.remove(&pack);
        self.sim.remove(&packs_dir().join(format!("{pack}.{SEALED}"))).unwrap();
    }

    fn open(&self) -> Index {
        Index::open(&self.io, Path::new(ROOT)).unwrap()
    }

    fn persist(&self, force: bool) {
        self.open().persist(&*self.io, Path::new(ROOT), force).unwrap();
    }

    fn runs(&self) -> Vec<PathBuf> {
        let listed = self.sim.list(&index_dir()).unwrap_or_default();
        listed.into_iter().map(|entry| index_dir().join(entry.name)).collect()
    }

    /// Whether an index gives each id of these packs a place where it is, and no place to others.
    fn check(&self, index: &Index) {
        assert_eq!(index.packs(), &self.packs.keys().copied().collect());
        let held: BTreeSet<_> = self.packs.values().flat_map(BTreeMap::keys).collect();
        for id in &held {
            let place = index.lookup(id).expect("it is in a pack");
            assert_eq!(self.packs[&place.pack].get(id), Some(&place));
            for other in neighbours(id) {
                assert_eq!(index.lookup(&other).is_some(), held.contains(&other), "{other}");
            }
        }
    }
}

fn packs_dir() -> PathBuf {
    Path::new(ROOT).join("packs")
}

fn index_dir() -> PathBuf {
    Path::new(ROOT).join("index")
}

fn chunk(number: u32) -> ChunkId {
    ChunkId::of(&number.to_le_bytes())
}

/// The ids next to an id, and far from it.
fn neighbours(id: &ChunkId) -> Vec<ChunkId> {
    let with = |at: usize, change: fn(u8) -> u8| {
        let mut other = *id;
        other.0[at] = change(other.0[at]);
        other
    };
    [0, 7, 8, ID_LEN - 1]
        .into_iter()
        .flat_map(|at| [with(at, |byte| byte.wrapping_add(1)), with(at, |byte| byte.wrapping_sub(1))])
        .collect()
}

/// Ids that are as unlike hashes as can be, in all the ways that matter to a search.
fn shapes(count: u32) -> Vec<(&'static str, BTreeSet<ChunkId>)> {
    let of = |make: &dyn Fn(u32) -> [u8; ID_LEN]| (0..count).map(|n| ChunkId(make(n))).collect();
    let sharing = |bytes: usize| {
        move |n: u32| {
            let mut id = [0xA5; ID_LEN];
            let own = chunk(n).0;
            id[bytes..].copy_from_slice(&own[bytes..]);
            id
        }
    };
    let counted = |fill: u8, at: usize| {
        move |n: u32| {
            let mut id = [fill; ID_LEN];
            id[at..at + 4].copy_from_slice(&n.to_be_bytes());
            id
        }
    };
    vec![
        ("uniform", of(&|n| chunk(n).0)),
        ("one first byte", of(&sharing(1))),
        ("one first half of the prefix", of(&sharing(4))),
        ("one prefix", of(&sharing(8))),
        ("they differ at the end", of(&counted(0x77, ID_LEN - 4))),
        ("lowest", of(&counted(0, 4))),
        ("highest", of(&counted(0xFF, ID_LEN - 4))),
        ("most are in the first bucket", of(&|n| if n % 16 == 0 { chunk(n).0 } else { counted(0, 3)(n) })),
        (
            "each twice as high as the one before",
            of(&|n| {
                let mut id = [1; ID_LEN];
                id[..16].copy_from_slice(&((u128::from(n) + 1) << (n % 100)).to_be_bytes());
                id
            }),
        ),
    ]
}

const COUNTS: [u32; 15] = [0, 1, 2, 3, 63, 64, 65, 127, 128, 129, 191, 255, 256, 1000, 5000];

/// Writes a run; gives its path.
fn write_run(io: &dyn Io, entries: &[Entry], packs: &[PackId]) -> PathBuf {
    let dir = index_dir();
    let mut writer = RunWriter::create(io, &dir, entries.len()).unwrap();
    entries.iter().for_each(|entry| writer.push(entry).unwrap());
    writer.finish(packs).unwrap()
}

fn open_run(io: &dyn Io, path: &Path) -> Run {
    Run::open(io.open(path).unwrap().map().unwrap()).unwrap()
}

fn entry_of(id: &ChunkId, number: u32) -> (Entry, u16, u16) {
    let [a, b, c, d] = number.to_le_bytes();
    let mut row = [0; ID_LEN + 4];
    row[..ID_LEN].copy_from_slice(&id.0);
    row[ID_LEN..].copy_from_slice(&[a, b, c, d]);
    (entry(&row, u16::from(a & 1)), u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
}

#[test]
fn a_run_finds_what_is_in_it_whatever_the_ids() {
    let sim = Sim::new(1);
    let packs = [PackId::of(b"0"), PackId::of(b"1")];
    for count in COUNTS {
        for (shape, ids) in shapes(count) {
            let entries: Vec<_> = (0..).zip(&ids).map(|(number, id)| entry_of(id, number).0).collect();
            let path = write_run(&sim, &entries, &packs);
            let run = open_run(&sim, &path);
            assert!(run.checksum_holds(), "{count} {shape}");
            assert_eq!((run.len(), run.packs()), (entries.len(), &packs[..]));
            assert_eq!(run.entries(), entries);
            for (number, id) in (0..).zip(&ids) {
                let (_, frame, slot) = entry_of(id, number);
                let pack = packs[usize::from(frame & 1)];
                assert_eq!(run.lookup(id), Some(Place { pack, frame, slot }), "{count} {shape} {id}");
                for other in neighbours(id) {
                    assert_eq!(run.lookup(&other).is_some(), ids.contains(&other), "{count} {shape} {other}");
                }
            }
            for number in 1 << 20..(1 << 20) + 100 {
                assert_eq!(run.lookup(&chunk(number)), None, "{count} {shape}");
            }
        }
    }
}

#[test]
fn footers_and_runs_agree_whatever_the_ids() {
    for count in COUNTS {
        for (_, ids) in shapes(count) {
            let mut model = Model::new();
            let ids: Vec<_> = ids.into_iter().collect();
            let (half, rest) = ids.split_at(ids.len() / 2);
            model.add(half.iter().copied());
            // Half of the first pack's chunks again, with the rest.
            model.add(half.iter().step_by(2).chain(rest).copied());
            model.check(&model.open());
            model.persist(true);
            let index = model.open();
            assert_eq!(index.summary().loose_entries, 0);
            assert_eq!(index.summary().entries, ids.len());
            model.check(&index);
        }
    }
}

#[test]
fn a_damaged_run_is_noticed_and_leads_to_no_panic() {
    let sim = Sim::new(1);
    let ids: BTreeSet<_> = (0..300).map(chunk).collect();
    let entries: Vec<_> = (0..).zip(&ids).map(|(number, id)| entry_of(id, number).0).collect();
    let path = write_run(&sim, &entries, &[PackId::of(b"0"), PackId::of(b"1")]);
    let good = sim.read(&path).unwrap();
    let try_out = |bytes: Vec<u8>| {
        if let Ok(run) = Run::open(crate::io::Bytes::Owned(bytes)) {
            assert!(!run.checksum_holds());
            for number in 0..400 {
                let _ = run.lookup(&chunk(number));
            }
        }
    };
    for len in 0..good.len() {
        try_out(good[..len].to_vec());
    }
    let places =
        (0..512).chain((512..good.len() * 8).step_by(37)).chain(good.len() * 8 - 1024..good.len() * 8);
    for bit in places {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        try_out(bad);
    }
}

#[test]
fn many_packs_are_gathered_alike_whatever_thread_reads_which() {
    let mut model = Model::new();
    for pack in 0..300u32 {
        // Neighbours share a third of their chunks.
        model.add((pack * 20..pack * 20 + 30).map(chunk));
    }
    let gather = || {
        let packs = model.packs.keys().copied().collect();
        let loose = Loose::read(&*model.io, &packs_dir(), packs).unwrap();
        assert_eq!(loose.len(), 1);
        loose[0].slices().flatten().copied().collect::<Vec<_>>()
    };
    let first = gather();
    assert_eq!(first.len(), 300 * 20 + 10);
    assert!(first.is_sorted());
    for _ in 0..3 {
        assert_eq!(gather(), first);
    }
    model.check(&model.open());
    model.persist(true);
    model.check(&model.open());
}

#[test]
fn a_pack_that_goes_while_it_is_read_is_in_no_run() {
    let mut model = Model::new();
    let packs: Vec<_> = (0..3).map(|n| model.add([chunk(n), chunk(n + 1)])).collect();
    model.remove(packs[1]);
    let loose = Loose::read(&*model.io, &packs_dir(), packs.clone()).unwrap();
    let there: BTreeSet<_> = loose[0].packs().iter().copied().collect();
    assert_eq!(there, BTreeSet::from([packs[0], packs[2]]));
    for (number, held) in [(0, packs[0]), (1, packs[0]), (2, packs[2]), (3, packs[2])] {
        assert_eq!(loose[0].lookup(&chunk(number)).unwrap().pack, held);
    }
}

#[test]
fn few_runs_stay_however_many_are_written() {
    let mut model = Model::new();
    let (mut next, mut most) = (0, 0);
    for turn in 0..200u32 {
        let count = 1 + (turn * 7919) % 97;
        model.add((next..next + count).map(chunk));
        next += count;
        model.persist(true);
        let index = model.open();
        assert_eq!(index.summary().loose_entries, 0);
        assert_eq!(index.summary().runs, model.runs().len());
        most = most.max(index.summary().runs);
        let lens: Vec<_> = index.runs.iter().map(|(_, run)| run.len()).collect();
        assert!(lens.windows(2).all(|pair| pair[0] > pair[1] * 4), "{lens:?}");
    }
    // log4 of 10,000 entries is below 7.
    assert!(most <= 7, "{most}");
    model.check(&model.open());
}

#[test]
fn little_is_left_in_footers_until_it_is_much() {
    let mut model = Model::new();
    for pack in 0..64 {
        model.persist(false);
        assert_eq!(model.runs().len(), 0, "{pack} packs are few");
        model.add([chunk(pack)]);
    }
    model.persist(false);
    assert_eq!(model.runs().len(), 1);
    let many = u32::try_from(RUN_ENTRIES_MIN).unwrap();
    model.add((0..many - 1).map(chunk));
    model.persist(false);
    assert_eq!((model.runs().len(), model.open().summary().loose_entries), (1, RUN_ENTRIES_MIN - 1));
    model.add([chunk(many)]);
    model.persist(false);
    let index = model.open();
    assert_eq!((index.summary().runs, index.summary().loose_entries), (1, 0));
    assert_eq!(index.summary().entries, RUN_ENTRIES_MIN);
}

#[test]
fn a_run_of_a_pack_that_is_gone_is_not_used() {
    let mut model = Model::new();
    let gone = model.add((0..10).map(chunk));
    model.persist(true);
    // Both runs are too large to be merged into one another.
    model.add((5..100).map(chunk));
    let stays = model.add((0..7).map(chunk));
    model.remove(gone);
    let index = model.open();
    assert_eq!(index.summary().runs, 0);
    assert_eq!(index.lookup(&chunk(0)).unwrap().pack, stays);
    assert_eq!(index.lookup(&chunk(1000)), None);
    model.check(&index);
    // A writer removes it.
    model.persist(true);
    assert_eq!(model.runs().len(), 1);
    let index = model.open();
    assert_eq!(index.summary().loose_entries, 0);
    model.check(&index);
}

#[test]
fn a_run_that_was_merged_into_another_is_not_used() {
    let mut model = Model::new();
    model.add((0..10).map(chunk));
    model.persist(true);
    let old = model.sim.read(&model.runs()[0]).unwrap();
    model.add((10..30).map(chunk));
    model.persist(true);
    // As if the writer had stopped before it removed it.
    model.sim.write_atomic(&index_dir().join("old.run"), &old).unwrap();
    let index = model.open();
    assert_eq!((index.summary().runs, index.summary().entries), (1, 30));
    model.check(&index);
    model.persist(false);
    assert_eq!(model.runs().len(), 1);
}

#[test]
fn garbage_is_not_used_and_does_not_stay() {
    let mut model = Model::new();
    model.add((0..100).map(chunk));
    model.persist(true);
    for garbage in [&b""[..], b"CIDX", &[0; 4096], &[0xFF; 100]] {
        let path = model.runs().remove(0);
        model.sim.write_atomic(&path, garbage).unwrap();
        let index = model.open();
        assert_eq!((index.summary().runs, index.summary().loose_entries), (0, 100));
        model.check(&index);
        model.persist(true);
        let index = model.open();
        assert_eq!((index.summary().runs, index.summary().loose_entries), (1, 0));
        assert_eq!(model.runs().len(), 1);
        model.check(&index);
    }
}

#[test]
fn damaged_runs_are_left_out_even_where_they_cannot_be_removed() {
    let mut model = Model::new();
    model.add((0..2000).map(chunk));
    model.persist(true);
    model.add((2000..2100).map(chunk));
    model.persist(true);
    assert_eq!(model.runs().len(), 2);
    assert!(model.open().without_damaged_runs(&model.io, Path::new(ROOT)).unwrap().is_none());
    let path = model.open().runs[0].0.clone();
    let mut bytes = model.sim.read(&path).unwrap();
    // The first id becomes another one, which no pack has.
    bytes[64] ^= 0x80;
    model.sim.write_atomic(&path, &bytes).unwrap();
    for removed in [false, true] {
        let damaged = model.open();
        assert_eq!(damaged.summary().runs, 2);
        if !removed {
            model.sim.fail_at(1, Fault::Io);
        }
        let index = damaged.without_damaged_runs(&model.io, Path::new(ROOT)).unwrap().unwrap();
        assert_eq!((index.summary().runs, index.summary().loose_entries), (1, 2000));
        model.check(&index);
        assert_eq!(model.runs().len(), if removed { 1 } else { 2 });
    }
    model.check(&model.open());
}

#[test]
fn damage_is_not_merged_under_a_new_checksum() {
    let mut model = Model::new();
    model.add((0..20).map(chunk));
    model.persist(true);
    let path = model.runs().remove(0);
    let mut bytes = model.sim.read(&path).unwrap();
    bytes[64] ^= 0x80;
    model.sim.write_atomic(&path, &bytes).unwrap();
    model.add((20..40).map(chunk));
    model.persist(true);
    assert_eq!(model.runs().len(), 1);
    let index = model.open();
    assert_eq!(index.summary().loose_entries, 20);
    model.check(&index);
}

#[test]
fn a_pack_with_a_damaged_footer_is_scanned() {
    let sim = Sim::new(1);
    let io: Arc<dyn Io> = Arc::new(sim.clone());
    sim.create_dir_all(&packs_dir()).unwrap();
    let mut writer = PackWriter::create(Arc::clone(&io), &packs_dir(), PackKind::Data).unwrap();
    let mut compressor = Compressor::default();
    let mut ids = Vec::new();
    for frame in 0..5u8 {
        let mut block = BlockBuilder::default();
        for slot in 0..3 {
            let bytes = [frame, slot, 1, 2, 3];
            ids.push(ChunkId::of(&bytes));
            block.push(ChunkId::of(&bytes), &bytes);
        }
        writer.append(&block.finish(&mut compressor).0).unwrap();
    }
    let end = writer.len();
    let pack = writer.seal().unwrap();
    let path = packs_dir().join(format!("{pack}.{SEALED}"));
    let expected: Vec<_> =
        (0..).zip(&ids).map(|(n, _)| Some(Place { pack, frame: n / 3, slot: n % 3 })).collect();
    let places = || {
        let index = Index::open(&io, Path::new(ROOT)).unwrap();
        ids.iter().map(|id| index.lookup(id)).collect::<Vec<_>>()
    };
    assert_eq!(places(), expected);
    sim.open_write(&path).unwrap().write_all_at(b"?", end + 3).unwrap();
    assert_eq!(places(), expected);
    sim.open_write(&path).unwrap().set_len(end + 7).unwrap();
    assert_eq!(places(), expected);
}

#[test]
fn packs_that_the_disk_did_not_give_are_in_no_run() {
    for failing in 1..=12 {
        let mut model = Model::new();
        for number in 0..3 {
            model.add((number * 10..number * 10 + 10).map(chunk));
        }
        // A footer is read, read again, and scanned for.
        for operation in failing..failing + 6 {
            model.sim.fail_at(operation, Fault::Io);
        }
        let index = Index::open(&model.io, Path::new(ROOT));
        model.sim.heal();
        if let Ok(index) = index {
            index.persist(&*model.io, Path::new(ROOT), true).unwrap();
        }
        model.check(&model.open());
    }
}

#[test]
fn a_writer_that_stops_anywhere_leaves_an_index_that_is_as_good() {
    let mut model = Model::new();
    model.add((0..10).map(chunk));
    model.persist(true);
    model.add((5..25).map(chunk));
    model.sim.settle();
    let mut operations = 0;
    for seed in 0..5 {
        for stop in 1.. {
            let sim = model.sim.reboot(seed);
            sim.crash_at_operation(stop);
            let io: Arc<dyn Io> = Arc::new(sim.clone());
            let done = Index::open(&io, Path::new(ROOT))
                .and_then(|index| index.persist(&*io, Path::new(ROOT), true))
                .is_ok();
            let sim = sim.reboot(seed + 100);
            let after = Model { io: Arc::new(sim.clone()), sim: sim.clone(), packs: model.packs.clone() };
            after.check(&after.open());
            after.persist(true);
            let index = after.open();
            assert_eq!((after.runs().len(), index.summary().loose_entries), (1, 0), "{seed} {stop}");
            after.check(&index);
            if done {
                operations = operations.max(stop);
                break;
            }
        }
    }
    assert!(operations > 10, "{operations}");
}

#[derive(Debug, Clone)]
enum Step {
    Add { first: u32, count: u32 },
    Remove(prop::sample::Index),
    Persist { force: bool },
    RemoveRun(prop::sample::Index),
    DamageRun(prop::sample::Index, prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..400u32, 0..60u32).prop_map(|(first, count)| Step::Add { first, count }),
        1 => any::<prop::sample::Index>().prop_map(Step::Remove),
        3 => prop::bool::weighted(0.8).prop_map(|force| Step::Persist { force }),
        1 => any::<prop::sample::Index>().prop_map(Step::RemoveRun),
        1 => any::<(prop::sample::Index, prop::sample::Index)>().prop_map(|(run, bit)| Step::DamageRun(run, bit)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn whatever_happens_to_it_the_index_equals_the_footers(steps in prop::collection::vec(step(), 1..25)) {
        let mut model = Model::new();
        for step in steps {
            let runs = model.runs();
            match step {
                Step::Add { first, count } => drop(model.add((first..first + count).map(chunk))),
                Step::Remove(which) if !model.packs.is_empty() => {
                    let pack = *which.get(&model.packs.keys().copied().collect::<Vec<_>>());
                    model.remove(pack);
                }
                Step::Persist { force } => model.persist(force),
                Step::RemoveRun(which) if !runs.is_empty() => model.sim.remove(&runs[which.index(runs.len())]).unwrap(),
                Step::DamageRun(which, bit) if !runs.is_empty() => {
                    let path = &runs[which.index(runs.len())];
                    let mut bytes = model.sim.read(path).unwrap();
                    if !bytes.is_empty() {
                        let bit = bit.index(bytes.len() * 8);
                        bytes[bit / 8] ^= 1 << (bit % 8);
                        model.sim.write_atomic(path, &bytes).unwrap();
                    }
                }
                _ => {}
            }
            let index = model.open();
            let sound = index.without_damaged_runs(&model.io, Path::new(ROOT)).unwrap();
            model.check(sound.as_ref().unwrap_or(&index));
        }
    }
}
