//! Packs with flipped bits, cut short, exchanged or gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_store::io::{Io, Sim};
use cairn_store::pack::format::{HEADER_LEN, TRAILER_LEN};
use cairn_store::{Error, Kind, Node, PackId, Store, VerifyOptions, tree};
use harness::plan::{Fill, Folder, Plan, make};
use harness::scratch::Scratch;
use harness::seed::Chance;
use harness::stores::{add, assert_sound, options, read_file, verify, with_threads, writer_on};

use crate::specimen::{Frame, STORE, Specimen, source};

/// Payload bytes between two flips; everything else is flipped byte by byte.
const STRIDE: u64 = 2999;

fn packs(specimen: &Specimen) -> Vec<(PackId, PathBuf, Vec<u8>)> {
    let files = specimen.files_in("packs");
    files.into_iter().map(|(path, bytes)| (id_of(&path), path, bytes)).collect()
}

fn id_of(path: &Path) -> PackId {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

/// The frames of a pack in order: offset and end of each.
fn frames_of(specimen: &Specimen, pack: PackId) -> Vec<(u64, u64)> {
    let own = specimen.frames.iter().filter(|((of, _), _)| *of == pack);
    own.map(|((_, offset), len)| (*offset, offset + len)).collect()
}

/// Bytes of a frame before its payload.
fn head_len(frame: &[u8]) -> u64 {
    cairn_store::block::FrameHeader::decode(frame).unwrap().1 as u64
}

#[test]
fn a_flipped_bit_is_named_and_hurts_nothing_else() {
    let specimen = Specimen::new();
    let (mut flips, mut spared) = (0, 0);
    for (pack, path, bytes) in packs(&specimen) {
        let frames = frames_of(&specimen, pack);
        let len = bytes.len() as u64;
        let footer = frames.last().unwrap().1;
        assert_eq!(frames[0].0, HEADER_LEN as u64, "the specimen uses every frame");
        let mut places: BTreeSet<u64> = (0..HEADER_LEN as u64).chain(footer..len).collect();
        for &(start, end) in &frames {
            let payload = start + head_len(&bytes[usize::try_from(start).unwrap()..]);
            places.extend((start..payload.min(start + 400)).chain([payload - 1, payload, end - 1]));
            places.extend((payload..end).step_by(usize::try_from(STRIDE).unwrap()));
        }
        let mut chance = Chance::new(u64::from_le_bytes(pack.0[..8].try_into().unwrap()));
        for place in places {
            let bit = chance.below(8);
            let file = specimen.sim.open_write(&path).unwrap();
            let at = usize::try_from(place).unwrap();
            file.write_all_at(&[bytes[at] ^ (1 << bit)], place).unwrap();
            spared += u32::from(flipped(&specimen, pack, &path, place, len, &frames));
            file.write_all_at(&bytes[at..=at], place).unwrap();
            specimen.sim.settle();
            flips += 1;
        }
    }
    assert!(flips > 1000 && spared > 500, "{flips}, {spared}");
    eprintln!("{flips} flipped bits; in {spared} cases files were read that need a frame with damage");
    assert_sound(&specimen.open());
}

/// Checks what is said of a store in which one bit at `place` of a pack is flipped.
/// Gives whether files that need the frame can be read all the same.
fn flipped(
    specimen: &Specimen,
    pack: PackId,
    path: &Path,
    place: u64,
    len: u64,
    frames: &[(u64, u64)],
) -> bool {
    let hit = frames.iter().find(|(start, end)| (*start..*end).contains(&place));
    let (offset, lost) = match hit {
        Some((start, _)) => (*start, BTreeSet::from([(pack, *start)])),
        None if place < HEADER_LEN as u64 => (0, BTreeSet::new()),
        None => (len - TRAILER_LEN as u64, BTreeSet::new()),
    };
    let store = specimen.open();
    let report = verify(&store);
    let context = format!("byte {place} of {}", path.display());
    assert_eq!(report.damage.len(), 1, "{context}: {:?}", report.damage);
    let damage = &report.damage[0];
    assert_eq!((&*damage.file, damage.pack, damage.offset), (path, Some(pack), Some(offset)), "{context}");
    assert!(damage.chunks.is_empty() || hit.is_some(), "{context}");
    // Chunks of the frame that are sound all the same can be read; who needs others is named.
    let failed = specimen.unreadable(&specimen.open());
    for (file, error) in &failed {
        assert!(!specimen.needs[file].is_disjoint(&lost), "{context}: {file:?}: {error}");
        assert_eq!(error.kind(), Kind::Damaged, "{context}: {file:?}: {error}");
    }
    let hurt: BTreeSet<_> = failed.keys().map(|file| file.0).collect();
    let affected: BTreeSet<_> = report.affected.iter().map(|affected| affected.artifact).collect();
    assert_eq!(affected, hurt, "{context}");
    assert_eq!(affected.is_empty(), damage.chunks.is_empty(), "{context}: every chunk is needed");
    for affected in &report.affected {
        let below = |file: &[u8], path: &[u8]| {
            // Where the artifact itself is lost, its root stands for all.
            path.is_empty() || file == path || file.starts_with(&[path, b"/"].concat())
        };
        let files: Vec<_> = failed.keys().filter(|file| file.0 == affected.artifact).collect();
        let is_named =
            |file: &&&crate::specimen::File| affected.paths.iter().any(|path| below(&file.1, path));
        assert!(files.iter().all(|file| is_named(&file)), "{context}: {affected:?}");
        let is_hurt = |path: &Vec<u8>| files.iter().any(|file| below(&file.1, path));
        assert!(affected.paths.iter().all(is_hurt), "{context}: {affected:?}");
        assert!(affected.refs.len() == 1 && affected.path_count > 0, "{context}");
    }
    failed.len() < specimen.needs.values().filter(|needs| !needs.is_disjoint(&lost)).count()
}

/// Exactly the files that need a lost frame cannot be read, with an error of one of these kinds.
fn expect_unreadable(specimen: &Specimen, lost: &BTreeSet<Frame>, kinds: &[Kind], context: &str) {
    let failed = specimen.unreadable(&specimen.open());
    for (file, needs) in &specimen.needs {
        match failed.get(file) {
            Some(error) if needs.is_disjoint(lost) => panic!("{context}: {file:?}: {error}"),
            Some(error) => assert!(kinds.contains(&error.kind()), "{context}: {file:?}: {error}"),
            None => assert!(needs.is_disjoint(lost), "{context}: {file:?} can be read"),
        }
    }
}

#[test]
fn one_artifact_is_verified_alone() {
    let specimen = Specimen::new();
    let frame = *specimen.needs[&(specimen.artifacts[1], b"four".to_vec())]
        .iter()
        .find(|frame| !specimen.users(&BTreeSet::from([**frame])).contains(&specimen.artifacts[0]))
        .unwrap();
    let (_, path, mut bytes) = packs(&specimen).into_iter().find(|(pack, ..)| *pack == frame.0).unwrap();
    bytes[usize::try_from(frame.1).unwrap() + 300] ^= 1;
    specimen.put(&path, &bytes);
    for (number, artifact) in specimen.artifacts.iter().enumerate() {
        let options = VerifyOptions { artifact: Some(*artifact), ..VerifyOptions::default() };
        let report = specimen.open().verify(&options, &()).unwrap();
        assert_eq!(report.is_clean(), number != 1, "{report:?}");
        assert_eq!(report.artifacts, 1);
    }
}

#[test]
fn of_a_pack_that_is_cut_short_all_whole_frames_are_read() {
    let specimen = Specimen::new();
    for (pack, path, bytes) in packs(&specimen) {
        let frames = frames_of(&specimen, pack);
        let ends = frames.iter().flat_map(|(start, end)| [start + 1, end - 1, *end, end + 1]);
        let lens: BTreeSet<u64> = ends.chain([0, 1, 15, 16, bytes.len() as u64 - 1]).collect();
        for len in lens {
            specimen.put(&path, &bytes[..usize::try_from(len).unwrap()]);
            let context = format!("{} of {} bytes of {}", len, bytes.len(), path.display());
            let lost = frames.iter().filter(|(_, end)| *end > len).map(|(start, _)| (pack, *start)).collect();
            let report = verify(&specimen.open());
            assert!(report.damage.iter().any(|damage| damage.pack == Some(pack)), "{context}");
            let affected: BTreeSet<_> = report.affected.iter().map(|affected| affected.artifact).collect();
            assert_eq!(affected, specimen.users(&lost), "{context}");
            expect_unreadable(&specimen, &lost, &[Kind::Damaged], &context);
        }
        specimen.put(&path, &bytes);
    }
}

#[test]
fn a_pack_that_is_gone_or_another_is_noticed_and_its_data_can_be_added_again() {
    for number in 0..packs(&Specimen::new()).len() {
        for exchange in [false, true] {
            let specimen = Specimen::new();
            let mut packs = packs(&specimen);
            packs.sort();
            let (pack, path, _) = packs[number].clone();
            if exchange {
                let (_, _, other) = &packs[(number + 1) % packs.len()];
                specimen.put(&path, other);
            } else {
                specimen.sim.remove(&path).unwrap();
            }
            let context = format!("pack {number}, exchanged: {exchange}");
            let lost: BTreeSet<_> = specimen.frames.keys().filter(|(of, _)| *of == pack).copied().collect();
            let report = verify(&specimen.open());
            let affected: BTreeSet<_> = report.affected.iter().map(|affected| affected.artifact).collect();
            assert_eq!(affected, specimen.users(&lost), "{context}");
            assert_eq!(report.damage.is_empty(), !exchange, "{context}: {:?}", report.damage);
            expect_unreadable(&specimen, &lost, &[Kind::Damaged], &context);
            specimen.sim.settle();
            // Whoever has the sources adds them again, and everything is whole: an exchanged pack stays, and is named.
            let writer = writer_on(specimen.sim.clone(), Path::new(STORE)).unwrap();
            for (number, artifact) in specimen.artifacts.iter().enumerate() {
                let options = with_threads(1, options(&format!("specimen-{number}"), "1"));
                assert_eq!(add(&writer, &source(&specimen.scratch, number), &options).artifact, *artifact);
                let again = add(&writer, &source(&specimen.scratch, number), &options);
                assert_eq!(
                    (again.artifact, again.new_chunks, again.metadata_bytes),
                    (*artifact, 0, 0),
                    "{context}"
                );
            }
            assert!(specimen.unreadable(&specimen.open()).is_empty(), "{context}");
            assert!(verify(&specimen.open()).affected.is_empty(), "{context}");
        }
    }
}

#[test]
fn a_lost_directory_hides_none_of_its_neighbours() {
    let scratch = Scratch::in_memory();
    let source = scratch.join("source");
    let folder = |seed| {
        let file = Plan::File(Fill::Noise(seed), 10_000, 0o644);
        Plan::Dir(Folder::from([(b"file".to_vec(), file)]), 0o755)
    };
    make(
        &source,
        &Folder::from([(b"a".to_vec(), folder(1)), (b"b".to_vec(), folder(2)), (b"c".to_vec(), folder(3))]),
    );
    let sim = Sim::new(0);
    let writer = writer_on(sim.clone(), Path::new(STORE)).unwrap();
    // The directory alone, so that it lies in a pack of its own.
    add(&writer, &source.join("b"), &options("part", "1"));
    let part = writer.packs().unwrap().into_iter().find(|pack| pack.metadata).unwrap().id;
    let whole = add(&writer, &source, &options("whole", "1")).artifact;
    let artifact = writer.artifact(&whole).unwrap();
    let lost = match tree::find(&artifact.root, b"b", writer.store()).unwrap().unwrap().node {
        Node::Dir { tree } => tree,
        other => panic!("{other:?}"),
    };
    sim.remove(&Path::new(STORE).join("packs").join(format!("{part}.pack"))).unwrap();
    let store = Store::open_with(Arc::new(sim), Path::new(STORE)).unwrap();
    let report = verify(&store);
    let affected = report.affected.iter().find(|affected| affected.artifact == whole).unwrap();
    assert_eq!((&affected.paths[..], &affected.missing[..]), (&[b"b".to_vec()][..], &[lost.into()][..]));
    for (path, is_there) in [(&b"a/file"[..], true), (b"b/file", false), (b"c/file", true)] {
        assert_eq!(read_file(&store, &whole, path).is_ok(), is_there, "{}", path.escape_ascii());
    }
}

#[test]
fn a_pack_of_a_newer_format_is_not_taken_for_damage() {
    let specimen = Specimen::new();
    let mut newer = vec![0; 5000];
    newer[..4].copy_from_slice(b"CPK1");
    newer[4] = 3;
    let path = Path::new(STORE).join("packs").join(format!("{}.pack", PackId::of(b"newer")));
    specimen.sim.create(&path).unwrap().write_all_at(&newer, 0).unwrap();
    let error = specimen.open().packs().unwrap_err();
    assert!(
        matches!(&error, Error::NewerFormat { path: named, found: 3, .. } if *named == path),
        "{error:?}"
    );
    let store = specimen.open();
    let read = read_file(&store, &specimen.artifacts[0], b"two");
    assert!(matches!(read, Err(Error::NewerFormat { .. })), "{read:?}");
}
