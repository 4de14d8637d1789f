//! What a store sends: chunks as frames, what it has not got, and what one artifact lacks of another.

use std::collections::{BTreeMap, HashSet};

use cairn_store::block::{BLOCK_TARGET, Block, Decompressor, FrameHeader};
use cairn_store::pack::PackKind;
use cairn_store::{ArtifactId, ChunkId, Error, PackId, Piece, Store, Writer};
use harness::bytes::{noise, text};
use harness::plan::{Folder, Plan, make};
use harness::scratch::Scratch;
use harness::stores::{add, options, writer};

/// A store with two releases, of which the second has some files more and one edited.
struct Setting {
    scratch: Scratch,
    writer: Writer,
    first: ArtifactId,
    second: ArtifactId,
}

impl Setting {
    fn new() -> Self {
        let scratch = Scratch::new();
        let writer = writer(&scratch.join("store"));
        let small = |of: u64| {
            (0..300u64).map(move |n| (format!("{n:03}").into_bytes(), Plan::Bytes(text(of + n, 3000))))
        };
        let mut folder = Folder::from([
            (b"long".to_vec(), Plan::Bytes(noise(1, 5 << 20))),
            (b"small".to_vec(), Plan::Dir(small(1000).collect(), 0o755)),
        ]);
        let source = scratch.join("1");
        make(&source, &folder);
        let first = add(&writer, &source, &options("app", "1.0")).artifact;
        let mut edited = noise(1, 5 << 20);
        edited[3 << 20..][..100].fill(7);
        folder.insert(b"long".to_vec(), Plan::Bytes(edited));
        folder.insert(b"more".to_vec(), Plan::Dir(small(5000).collect(), 0o755));
        let source = scratch.join("2");
        make(&source, &folder);
        let second = add(&writer, &source, &options("app", "2.0")).artifact;
        Self { scratch, writer, first, second }
    }
}

/// What was sent, every chunk verified.
#[derive(Default)]
struct Received {
    frames: Vec<Vec<u8>>,
    kinds: HashSet<PackKind>,
    chunks: BTreeMap<ChunkId, u64>,
    order: Vec<ChunkId>,
    absent: Vec<ChunkId>,
}

fn receive(store: &Store, wanted: Vec<ChunkId>) -> Received {
    let (mut received, mut decompressor) = (Received::default(), Decompressor::default());
    for piece in store.sending(wanted) {
        match piece.unwrap() {
            Piece::Absent(ids) => received.absent.extend(ids),
            Piece::Frame(kind, bytes) => {
                let block = Block::decode(&bytes, &mut decompressor, Vec::new()).unwrap();
                assert!(block.header().plain_len as usize <= BLOCK_TARGET);
                for (slot, (id, _)) in block.header().chunks.iter().enumerate() {
                    block.chunk(slot).unwrap();
                    *received.chunks.entry(*id).or_default() += 1;
                    received.order.push(*id);
                }
                received.kinds.insert(kind);
                received.frames.push(bytes);
            }
        }
    }
    received
}

#[test]
fn what_is_lacking_arrives_as_it_lies_in_the_packs() {
    let setting = Setting::new();
    let store = &setting.writer;
    for (have, want) in [(None, &setting.first), (Some(&setting.first), &setting.second)] {
        let lacking = store.lacking_chunks(have, want, &()).unwrap();
        let ids: Vec<ChunkId> = lacking.chunks.iter().map(|chunk| chunk.id).collect();
        let received = receive(store, ids.clone());
        assert_eq!(received.absent, []);
        assert_eq!(received.order, ids, "in order, each once, and nothing else");
        assert_eq!(received.kinds, HashSet::from([PackKind::Data]));
        let stored: usize = received.frames.iter().map(Vec::len).sum();
        // Each chunk's part is rounded up to a whole byte.
        let said = usize::try_from(lacking.stored_bytes).unwrap();
        assert!((stored..=stored + ids.len()).contains(&said), "{said} for {stored}");
    }
}

/// The frame that most of these chunks lie in, as it lies in its pack, with its chunks.
fn a_frame(setting: &Setting, ids: &[ChunkId]) -> (Vec<u8>, Vec<(ChunkId, u32)>) {
    let placed = setting.writer.place(&ids[ids.len() / 2]).unwrap().unwrap();
    let mut bytes = vec![0; placed.frame_stored as usize];
    setting.writer.pack_file(&placed.pack).unwrap().read_exact_at(&mut bytes, placed.frame_offset).unwrap();
    let header = FrameHeader::decode(&bytes).unwrap().0;
    assert!(header.chunks.len() >= 16, "{}", header.chunks.len());
    (bytes, header.chunks)
}

#[test]
fn a_frame_is_copied_where_fifteen_sixteenths_of_it_are_wanted() {
    let setting = Setting::new();
    let lacking = setting.writer.lacking_chunks(None, &setting.first, &()).unwrap();
    let ids: Vec<ChunkId> = lacking.chunks.iter().map(|chunk| chunk.id).collect();
    let (frame, chunks) = a_frame(&setting, &ids);
    let total: u64 = chunks.iter().map(|(_, len)| u64::from(*len)).sum();
    let (mut copied, mut encoded) = (0, 0);
    for count in 1..=chunks.len() {
        let wanted: Vec<ChunkId> = chunks[..count].iter().map(|(id, _)| *id).collect();
        let bytes: u64 = chunks[..count].iter().map(|(_, len)| u64::from(*len)).sum();
        let received = receive(&setting.writer, wanted.clone());
        assert_eq!(received.absent, []);
        if bytes * 16 >= total * 15 {
            assert_eq!(received.frames, std::slice::from_ref(&frame), "{count} of {}", chunks.len());
            copied += 1;
        } else {
            assert_eq!(received.order, wanted, "{count} of {}", chunks.len());
            assert_eq!(received.frames.len(), 1);
            encoded += 1;
        }
    }
    assert!(copied >= 1 && encoded >= 14, "{copied} {encoded}");
    // What is asked for backwards comes as it lies, in one frame.
    let backwards: Vec<ChunkId> = chunks.iter().rev().map(|(id, _)| *id).collect();
    assert_eq!(receive(&setting.writer, backwards).frames, [frame]);
}

#[test]
fn chunks_of_many_frames_are_encoded_together() {
    let setting = Setting::new();
    let lacking = setting.writer.lacking_chunks(None, &setting.first, &()).unwrap();
    let every_fourth: Vec<ChunkId> = lacking.chunks.iter().step_by(4).map(|chunk| chunk.id).collect();
    let bytes: u64 = lacking.chunks.iter().step_by(4).map(|chunk| u64::from(chunk.len)).sum();
    let received = receive(&setting.writer, every_fourth.clone());
    assert_eq!(received.order, every_fourth);
    let least = usize::try_from(bytes).unwrap().div_ceil(BLOCK_TARGET);
    assert!(received.frames.len() <= least * 2, "{} frames for {bytes} bytes", received.frames.len());
}

#[test]
fn what_is_not_here_is_named_and_the_rest_is_sent() {
    let setting = Setting::new();
    let store = &setting.writer;
    let lacking = store.lacking_chunks(None, &setting.first, &()).unwrap();
    let unknown = |n: usize| ChunkId::of(&n.to_le_bytes());
    let wanted: Vec<ChunkId> =
        lacking.chunks.iter().enumerate().flat_map(|(n, chunk)| [unknown(n), chunk.id, chunk.id]).collect();
    let received = receive(store, wanted.clone());
    let absent: Vec<ChunkId> = (0..lacking.chunks.len()).map(unknown).collect();
    assert_eq!(received.absent, absent, "in order, each once");
    let here: Vec<ChunkId> = lacking.chunks.iter().map(|chunk| chunk.id).collect();
    assert_eq!(received.order, here, "twice wanted is once sent");
    let have = store.have(&wanted).unwrap();
    assert_eq!(have, [false, true, true].repeat(lacking.chunks.len()));
    assert!(receive(store, Vec::new()).frames.is_empty() && store.have(&[]).unwrap().is_empty());
}

#[test]
fn a_million_ids_go_through_a_window() {
    let setting = Setting::new();
    let store = &setting.writer;
    let lacking = store.lacking_chunks(None, &setting.first, &()).unwrap();
    let here: Vec<ChunkId> = lacking.chunks.iter().map(|chunk| chunk.id).collect();
    let mut wanted: Vec<ChunkId> = Vec::with_capacity(1_000_000);
    for n in 0..1_000_000usize {
        wanted.push(if n % 2500 == 7 { here[n / 2500 % here.len()] } else { ChunkId::of(&n.to_le_bytes()) });
    }
    let wanted_here: HashSet<ChunkId> = (0..400).map(|n| here[n % here.len()]).collect();
    let expected: Vec<ChunkId> = wanted.iter().filter(|id| !wanted_here.contains(id)).copied().collect();
    let (mut absent, mut sent, mut first) = (Vec::new(), HashSet::new(), true);
    for piece in store.sending(wanted) {
        match piece.unwrap() {
            Piece::Absent(ids) => {
                // The first window is told before the second is looked at.
                assert!(ids.len() <= 4096 && (!first || ids.len() < 4096), "{}", ids.len());
                absent.extend(ids);
            }
            Piece::Frame(_, bytes) => {
                assert!(bytes.len() <= BLOCK_TARGET + 4096);
                sent.extend(FrameHeader::decode(&bytes).unwrap().0.chunks.iter().map(|(id, _)| *id));
            }
        }
        first = false;
    }
    assert!(absent == expected, "{} instead of {}", absent.len(), expected.len());
    assert!(wanted_here.is_subset(&sent));
}

/// Flips a bit in the frame of a chunk, `at` bytes before its end.
fn damage(setting: &Setting, id: &ChunkId, at: u64) {
    let placed = setting.writer.place(id).unwrap().unwrap();
    let path = setting.scratch.join("store/packs").join(format!("{}.pack", placed.pack));
    let mut bytes = std::fs::read(&path).unwrap();
    let place = placed.frame_offset + u64::from(placed.frame_stored) - at;
    bytes[usize::try_from(place).unwrap()] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_damaged_is_named_and_never_sent() {
    for (wanted_part, at_header) in [(1, false), (1, true), (3, false), (3, true)] {
        let setting = Setting::new();
        let lacking = setting.writer.lacking_chunks(None, &setting.first, &()).unwrap();
        let ids: Vec<ChunkId> = lacking.chunks.iter().step_by(wanted_part).map(|chunk| chunk.id).collect();
        let (frame, chunks) = a_frame(&setting, &ids);
        damage(&setting, &chunks[0].0, if at_header { frame.len() as u64 - 30 } else { 10 });
        let store = Store::open(&setting.scratch.join("store")).unwrap();
        // What still holds in a frame that does not is as good as any.
        let reader = Store::open(&setting.scratch.join("store")).unwrap();
        let lost: HashSet<ChunkId> =
            chunks.iter().map(|(id, _)| *id).filter(|id| reader.chunk(id).is_err()).collect();
        assert!(!lost.is_empty());
        for _ in 0..2 {
            let received = receive(&store, ids.clone());
            let expected: Vec<ChunkId> = ids.iter().filter(|id| lost.contains(id)).copied().collect();
            let mut absent = received.absent.clone();
            absent.sort_by_key(|id| ids.iter().position(|wanted| wanted == id));
            assert_eq!(absent, expected);
            let rest: Vec<ChunkId> = ids.iter().filter(|id| !lost.contains(id)).copied().collect();
            let mut order = received.order.clone();
            order.sort_by_key(|id| ids.iter().position(|wanted| wanted == id));
            assert_eq!(order, rest);
        }
        // From now on it is not said to be here.
        let have = store.have(&ids).unwrap();
        assert!(ids.iter().zip(have).all(|(id, have)| have != lost.contains(id)));
    }
}

#[test]
fn a_sound_copy_is_sent_instead_of_a_damaged_one() {
    let setting = Setting::new();
    let lacking = setting.writer.lacking_chunks(None, &setting.first, &()).unwrap();
    let ids: Vec<ChunkId> = lacking.chunks.iter().map(|chunk| chunk.id).collect();
    // Another release makes other packs, of the same chunks among others.
    let (other, source) = (writer(&setting.scratch.join("other")), setting.scratch.join("2"));
    add(&other, &source, &options("app", "2.0"));
    for name in Scratch::names(&setting.scratch.join("other/packs")) {
        let to = setting.scratch.join("store/packs").join(&name);
        std::fs::copy(setting.scratch.join("other/packs").join(&name), to).unwrap();
    }
    let small = ids[ids.len() - 1];
    damage(&setting, &small, 10);
    let store = Store::open(&setting.scratch.join("store")).unwrap();
    for _ in 0..2 {
        let received = receive(&store, vec![small]);
        assert!(received.absent.is_empty() && received.chunks.contains_key(&small));
    }
}

#[test]
fn a_pack_is_a_file_for_whoever_wants_a_range() {
    let setting = Setting::new();
    for pack in setting.writer.packs().unwrap() {
        let path = setting.scratch.join("store/packs").join(format!("{}.pack", pack.id));
        let (file, bytes) = (setting.writer.pack_file(&pack.id).unwrap(), std::fs::read(path).unwrap());
        assert_eq!((file.len(), file.is_empty()), (bytes.len() as u64, false));
        let mut part = vec![0; 100];
        file.read_exact_at(&mut part, 50).unwrap();
        assert_eq!(part, bytes[50..150]);
        assert!(matches!(file.read_exact_at(&mut part, file.len() - 50), Err(Error::Io { .. })));
    }
    assert!(matches!(setting.writer.pack_file(&PackId([7; 32])), Err(Error::Absent { .. })));
}

#[test]
fn what_is_unknown_is_absent() {
    let setting = Setting::new();
    let (store, unknown) = (&setting.writer, ArtifactId([7; 32]));
    for result in [
        store.lacking_chunks(None, &unknown, &()),
        store.lacking_objects(None, &unknown, &()),
        store.lacking_chunks(Some(&unknown), &setting.first, &()),
        store.lacking_objects(Some(&unknown), &setting.first, &()),
    ] {
        assert!(matches!(result, Err(Error::Absent { .. })), "{result:?}");
    }
    assert_eq!(store.lacking_chunks(Some(&setting.first), &setting.first, &()).unwrap().chunks, []);
}
