//! What is told, what stays plain, and what happens when something of it goes or rots.

use std::sync::Mutex;

use super::*;
use crate::block::{Block, Codec, Decompressor};
use crate::collect::Verdict;
use crate::content::ChunkRef;
use crate::delta::CodecTotals;
use crate::error::Error;
use crate::fetch::{Fetch, Why};
use crate::progress::Progress;
use crate::repair::RepairPlan;
use crate::sending::Piece;

const BYTES: usize = 300_000;

fn started(count: u64) -> (Sim, Writer, Builds) {
    let (sim, builds) = (Sim::new(0), Builds::new(BYTES));
    let writer = open(&sim).unwrap();
    (0..count).for_each(|number| _ = builds.add(&writer, number).unwrap());
    (sim, writer, builds)
}

fn stored(sim: &Sim) -> u64 {
    let packs = sim.list(&Path::new(STORE).join("packs")).unwrap();
    packs.iter().map(|listed| listed.len).sum()
}

#[test]
fn older_versions_are_told_in_terms_of_newer_ones() {
    let (sim, writer, builds) = started(5);
    let before = stored(&sim);
    let plan = writer.plan_optimise(&()).unwrap();
    assert_eq!(plan.versions.len(), 4);
    assert!(plan.versions.iter().all(|version| version.plain_bytes > 250_000), "{plan:?}");
    assert_eq!((plan.unfolded_chunks, plan.unfolded_bytes), (0, 0));
    let done = writer.optimise(&plan, &OptimiseOptions::default(), &()).unwrap();
    assert!(done.complete && done.kept_back.is_empty(), "{done:?}");
    assert_eq!((done.versions, done.prefix.plain_bytes > 1_000_000), (4, true), "{done:?}");
    assert!(done.bytes_after() * 8 < done.bytes_before, "{done:?}");
    assert!(stored(&sim) * 2 < before, "{} of {before}", stored(&sim));
    let all = (0..5).collect();
    builds.check(&writer, &all, "the writer");
    builds.check(&read_only(&sim), &all, "a reader");
    assert!(told(&writer, 4).iter().all(|told| !told));
    for number in 0..4 {
        assert!(told(&writer, number).iter().filter(|told| **told).count() > 10, "{number}");
    }
    let by_codec = writer.stats_by_codec().unwrap();
    let [(Codec::Raw, raw), (Codec::Zstd, _), (Codec::Prefix, prefix), (Codec::Relocation, relocation)] =
        by_codec[..]
    else {
        panic!("{by_codec:?}")
    };
    assert_eq!((done.relocation.blocks, relocation.frames), (4, 4), "{done:?}");
    assert_eq!(done.relocation.plain_bytes, relocation.plain_bytes);
    // The maps are plain.
    assert!(relocation.stored_bytes < done.relocation.bytes, "{by_codec:?} {done:?}");
    assert!(done.relocation.bytes * 4 < done.relocation.plain_bytes, "{done:?}");
    assert!(raw.plain_bytes > 0 && raw.plain_bytes < raw.stored_bytes, "{by_codec:?}");
    let told = (prefix.frames, prefix.chunks, prefix.plain_bytes, prefix.stored_bytes);
    let CodecTotals { blocks, chunks, plain_bytes, bytes } = done.prefix;
    assert_eq!(told, (blocks, chunks, plain_bytes, bytes));
    // Nothing is left to do, for anybody.
    let again = optimise(&writer).unwrap();
    assert!(again.complete && again.made.is_empty(), "{again:?}");
    let plan = writer.plan_collection(&CollectOptions::default(), &()).unwrap();
    assert!(plan.is_nothing(), "{plan:?}");
}

#[test]
fn version_after_version_nothing_stands_on_what_stands_on_something() {
    let (sim, writer, builds) = started(0);
    for number in 0..9 {
        builds.add(&writer, number).unwrap();
        assert!(optimise(&writer).unwrap().complete);
        let all = (0..=number).collect();
        builds.check(&writer, &all, &number.to_string());
        assert!(told(&writer, number).iter().all(|told| !told));
    }
    let all: BTreeSet<u64> = (0..9).collect();
    builds.check(&read_only(&sim), &all, "a reader");
    let is_told = |number: &u64| told(&writer, *number).contains(&true);
    let told: Vec<u64> = (0..9).filter(is_told).collect();
    // All stand on the one that was the newest when there was something to be told first.
    assert_eq!(told, [0, 2, 3, 4, 5, 6, 7]);
    for id in (0..9).flat_map(|number| chunks(&writer, number)) {
        let place = writer.locate(&id).unwrap().unwrap();
        let header = writer.pack(place.pack).unwrap().header(place.frame).unwrap();
        for base in header.bases {
            let place = writer.locate(&base).unwrap().unwrap();
            assert!(writer.pack(place.pack).unwrap().header(place.frame).unwrap().bases.is_empty());
        }
    }
}

#[test]
fn what_is_shown_pinned_or_led_to_stays_plain() {
    let (_, writer, _) = started(6);
    let show = |number: u64| show(&writer, number);
    show(0);
    writer.pin(&"default".parse().unwrap(), 1).unwrap();
    show(1);
    show(2);
    writer.tag(&key(3), &"stable".parse().unwrap()).unwrap();
    optimise(&writer).unwrap();
    let is_told = |number: u64| told(&writer, number).contains(&true);
    let told: Vec<u64> = (0..6).filter(|number| is_told(*number)).collect();
    assert_eq!(told, [1, 4]);
}

fn show(writer: &Writer, number: u64) {
    let options = crate::UseOptions {
        profile: "default".parse().unwrap(),
        set: vec![(key(number), writer.view().unwrap().refs[&key(number)].artifact)],
        remove: Vec::new(),
        prefer: Vec::new(),
        if_current: None,
        platform: None,
        allow_partial: false,
    };
    writer.use_packages(&options).unwrap();
}

#[test]
fn what_comes_to_be_shown_becomes_plain_again() {
    let (sim, writer, builds) = started(4);
    optimise(&writer).unwrap();
    assert!(told(&writer, 1).contains(&true));
    show(&writer, 1);
    let plan = writer.plan_optimise(&()).unwrap();
    assert!(plan.unfolded_chunks > 10 && plan.unfolded_bytes > 250_000, "{plan:?}");
    let done = writer.optimise(&plan, &OptimiseOptions::default(), &()).unwrap();
    assert!(done.complete && done.kept_back.is_empty(), "{done:?}");
    assert_eq!((done.unfolded_chunks, done.unfolded_bytes), (plan.unfolded_chunks, plan.unfolded_bytes));
    assert!(told(&writer, 1).iter().all(|told| !told));
    assert!(told(&writer, 0).contains(&true) && told(&writer, 2).contains(&true));
    builds.check(&writer, &(0..4).collect(), "the writer");
    builds.check(&read_only(&sim), &(0..4).collect(), "a reader");
    let again = writer.plan_optimise(&()).unwrap();
    // Nothing is like what each of them has for itself.
    let open: u64 = again.versions.iter().map(|version| version.chunks).sum();
    assert_eq!((again.unfolded_chunks, open), (0, 2), "{again:?}");
}

#[test]
fn what_stood_on_a_version_that_goes_is_written_again_where_that_takes_less() {
    let (sim, writer, builds) = started(4);
    optimise(&writer).unwrap();
    let packs = |kind: PackKind| {
        writer.refresh_index();
        let packs = writer.index().unwrap().packs().clone();
        packs.iter().filter(|pack| writer.pack(**pack).unwrap().footer().kind == kind).count()
    };
    assert!(packs(PackKind::Delta) > 0);
    // The newest, on which all others stand, and then, when these stand on the one before it, the others.
    for (gone, left) in [(3, [0, 1, 2].to_vec()), (1, vec![0, 2]), (2, vec![0])] {
        assert!(optimise(&writer).unwrap().complete);
        writer.remove_ref(&key(gone), false).unwrap();
        let left: BTreeSet<u64> = left.into_iter().collect();
        let before = stored(&sim);
        for round in 0..3 {
            assert!(collect(&writer).unwrap().complete);
            builds.check(&writer, &left, &format!("{gone} went, round {round}"));
            builds.check(&read_only(&sim), &left, &format!("{gone} went, round {round}, a reader"));
        }
        let plan = writer.plan_collection(&CollectOptions::default(), &()).unwrap();
        assert!(plan.packs.iter().all(|pack| matches!(pack.verdict, Verdict::Keep(_))), "{plan:?}");
        // What frees about what it takes may take a little more: heads of frames are not counted.
        assert!(stored(&sim) <= before + before / 100, "{gone} went: {} of {before}", stored(&sim));
    }
    // The one that is left is the newest.
    assert!(optimise(&writer).unwrap().complete);
    (0..3).for_each(|_| assert!(collect(&writer).unwrap().complete));
    builds.check(&writer, &BTreeSet::from([0]), "the last");
    assert_eq!(packs(PackKind::Delta), 0);
    assert!(stored(&sim) < 400_000, "{}", stored(&sim));
}

/// What goes with all that stands on it takes no detour.
#[test]
fn what_nobody_needs_goes_with_what_it_stands_on() {
    let (sim, writer, builds) = started(4);
    optimise(&writer).unwrap();
    let other = Builds::new(1000);
    drop(other);
    for number in 0..3 {
        writer.remove_ref(&key(number), false).unwrap();
    }
    let collected = collect(&writer).unwrap();
    assert!(collected.complete, "{collected:?}");
    builds.check(&writer, &BTreeSet::from([3]), "the last");
    assert!(stored(&sim) < 400_000, "{}", stored(&sim));
}

/// Breaks the payload of all frames that hold chunks of a version's program.
fn damage(sim: &Sim, store: &Store, number: u64) {
    let mut done = BTreeSet::new();
    for id in chunks(store, number) {
        let place = store.locate(&id).unwrap().unwrap();
        if done.insert((place.pack, place.frame)) {
            let pack = store.pack(place.pack).unwrap();
            let row = pack.row(place.frame).unwrap();
            let file = sim.open_write(pack.path()).unwrap();
            for at in (row.offset + 1000..row.offset + u64::from(row.len)).step_by(1000) {
                let mut bytes = [0; 2];
                pack.read_exact_at(&mut bytes, at).unwrap();
                file.write_all_at(&bytes.map(|byte| !byte), at).unwrap();
            }
        }
    }
}

/// Somebody who has everything.
struct Other {
    store: Store,
    writer: Mutex<std::sync::Weak<Writer>>,
    asked: Mutex<Vec<ChunkId>>,
}

impl Fetch for Other {
    fn fetch(&self, wanted: &[ChunkRef], why: Why) -> Result<()> {
        assert_eq!(why, Why::Damaged);
        self.asked.lock().unwrap().extend(wanted.iter().map(|chunk| chunk.id));
        let writer = self.writer.lock().unwrap().upgrade().unwrap();
        for piece in self.store.sending(wanted.iter().map(|chunk| chunk.id).collect()) {
            let Piece::Frame(kind, bytes) = piece? else { panic!("it has everything") };
            let frame = crate::VerifiedFrame::verify(bytes, &mut crate::Decoder::default()).unwrap();
            writer.intake().heal(kind, &frame)?;
        }
        Ok(())
    }
}

#[test]
fn a_damaged_base_damages_what_stands_on_it_until_somebody_brings_that() {
    let (sim, writer, builds) = started(3);
    optimise(&writer).unwrap();
    let (_, other, _) = started(3);
    drop(writer);
    damage(&sim, &read_only(&sim), 2);
    let writer = Arc::new(open(&sim).unwrap());
    let wanted = chunks(&writer, 0);
    let error = writer.chunk(&wanted[3]).err().unwrap();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("in terms of"), "{error}");
    let fetch = Arc::new(Other {
        store: other.local(),
        writer: Mutex::new(Arc::downgrade(&writer)),
        asked: Mutex::default(),
    });
    writer.set_fetch(Some(Arc::<Other>::clone(&fetch)));
    builds.check_bytes(&writer, &BTreeSet::from([0]), "healed");
    // It itself was asked for, not what it stands on.
    let asked: BTreeSet<ChunkId> = fetch.asked.lock().unwrap().iter().copied().collect();
    let newest: BTreeSet<ChunkId> = chunks(&writer, 2).into_iter().collect();
    assert!(asked.is_disjoint(&newest) && wanted.iter().any(|id| asked.contains(id)));
    builds.check_bytes(&writer, &(0..3).collect(), "healed");
    writer.intake().flush().unwrap();
    let report = writer.verify(&VerifyOptions::default(), &()).unwrap();
    assert!(report.affected.is_empty(), "{report:?}");
    // And what was mended stays so.
    let plan: RepairPlan = writer.plan_repair(&report).unwrap();
    writer.repair(&plan, Some(&*fetch), &()).unwrap();
    writer.set_fetch(None);
    builds.check(&writer, &(0..3).collect(), "repaired");
    for _ in 0..3 {
        collect(&writer).unwrap();
        builds.check(&writer, &(0..3).collect(), "collected");
    }
}

#[test]
fn nothing_that_is_sent_stands_on_anything() {
    let (_, writer, _) = started(3);
    optimise(&writer).unwrap();
    let wanted: BTreeSet<ChunkId> = (0..3).flat_map(|number| chunks(&writer, number)).collect();
    let mut sent = BTreeSet::new();
    for part in [wanted.iter().copied().collect::<Vec<_>>(), chunks(&writer, 0)[2..4].to_vec()] {
        for piece in writer.sending(part) {
            let Piece::Frame(kind, bytes) = piece.unwrap() else { panic!("all of it is here") };
            assert_eq!(kind, PackKind::Data);
            let block = Block::decode(&bytes, &mut Decompressor::default(), Vec::new()).unwrap();
            sent.extend(block.header().chunks.iter().map(|(id, _)| *id));
        }
    }
    assert!(wanted.is_subset(&sent));
    // And whoever sends one is refused as if nobody knew of it.
    let place = writer.locate(&chunks(&writer, 0)[3]).unwrap().unwrap();
    let frame = writer.pack(place.pack).unwrap().frame(place.frame).unwrap();
    let refused = crate::VerifiedFrame::verify(frame, &mut crate::Decoder::default());
    assert_eq!(refused.unwrap_err(), crate::block::FrameError::Codec(2));
    assert!(writer.pack_file(&place.pack).is_err());
}

#[test]
fn a_footer_that_is_lost_hides_nothing() {
    let (sim, writer, builds) = started(3);
    optimise(&writer).unwrap();
    let place = writer.locate(&chunks(&writer, 0)[3]).unwrap().unwrap();
    let pack = writer.pack(place.pack).unwrap();
    let (path, len) = (pack.path().to_owned(), pack.file_bytes());
    drop(writer);
    sim.open_write(&path).unwrap().write_all_at(&[0; 64], len - 64).unwrap();
    let store = read_only(&sim);
    builds.check_bytes(&store, &(0..3).collect(), "a lost footer");
    let writer = open(&sim).unwrap();
    let report = writer.verify(&VerifyOptions::default(), &()).unwrap();
    assert!(!report.is_clean());
    let plan = writer.plan_repair(&report).unwrap();
    writer.repair(&plan, None, &()).unwrap();
    builds.check(&writer, &(0..3).collect(), "repaired");
}

/// Says to stop after so many questions.
struct StopAfter(Mutex<u32>);

impl Progress for StopAfter {
    fn cancelled(&self) -> bool {
        let mut left = self.0.lock().unwrap();
        *left = left.saturating_sub(1);
        *left == 0
    }
}

#[test]
fn wherever_it_is_stopped_everything_is_there_and_it_goes_on() {
    for after in 1..60 {
        let (sim, writer, builds) = started(3);
        let plan = writer.plan_optimise(&()).unwrap();
        let stop = StopAfter(Mutex::new(after));
        let stopped = writer.optimise(&plan, &OptimiseOptions::default(), &stop);
        let context = format!("after {after}: {stopped:?}");
        builds.check(&writer, &(0..3).collect(), &context);
        // What is in two places afterwards goes from one of them, and what was with it is told again.
        for _ in 0..2 {
            assert!(optimise(&writer).unwrap().complete);
            collect(&writer).unwrap();
        }
        builds.check(&writer, &(0..3).collect(), &context);
        builds.check(&read_only(&sim), &(0..3).collect(), &context);
        assert!(stored(&sim) < 500_000, "{context}: {}", stored(&sim));
    }
}

/// What somebody made of a frame, checksums and all, comes to an error or to the chunks that its ids name.
#[test]
fn told_frames_that_were_made_up_are_never_believed() {
    let (_, writer, _) = started(2);
    optimise(&writer).unwrap();
    let mut state = 7u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let (mut decompressor, mut seen, mut refused) = (Decompressor::default(), BTreeSet::new(), 0);
    for id in writer.index().unwrap().packs() {
        let pack = writer.pack(*id).unwrap();
        for number in (0u16..).take(pack.footer().frames.len()) {
            let bytes = pack.frame(number).unwrap();
            let Ok((header, len)) = crate::block::FrameHeader::decode_delta(&bytes) else { continue };
            if header.bases.is_empty() {
                continue;
            }
            seen.insert(header.codec as u8);
            for _ in 0..4000 {
                let (mut header, mut payload) = (header.clone(), bytes[len..].to_vec());
                for _ in 0..=random(3) {
                    // The first bytes say where things lie.
                    let part = if random(2) == 0 { 24 } else { payload.len() };
                    let at = random(part.min(payload.len()));
                    payload[at] = u8::try_from(random(256)).unwrap();
                }
                if random(4) == 0 {
                    payload.truncate(1 + random(payload.len()));
                }
                if random(4) == 0 {
                    let count = header.bases.len();
                    let (from, to) = (random(count), random(count));
                    header.bases.swap(from, to);
                }
                header.stored_len = u32::try_from(payload.len()).unwrap();
                header.payload_crc = crc32c::crc32c(&payload);
                let made = [header.encode(), payload].concat();
                let Ok(block) = writer.decode_in(&pack, number, &made, &mut decompressor, Vec::new()) else {
                    refused += 1;
                    continue;
                };
                for (slot, (id, _)) in header.chunks.iter().enumerate() {
                    assert!(block.chunk(slot).map_or(true, |bytes| ChunkId::of(bytes) == *id));
                }
            }
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<u8>>(), [Codec::Prefix as u8, Codec::Relocation as u8]);
    assert!(refused > 100, "{refused}");
}
