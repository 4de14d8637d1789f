//! Frames, tables of contents and index runs that were made to be decoded wrongly: their checksums hold, what they say
//! does not. Trees, contents, artifacts and journals are tested where they are decoded.

use std::path::Path;
use std::sync::Arc;

use cairn_store::ChunkId;
use cairn_store::block::{Block, BlockBuilder, Compressor, Decompressor, FrameError, FrameHeader};
use cairn_store::index::Run;
use cairn_store::io::{Bytes, Io, Sim};
use cairn_store::pack::{ChunkRow, Footer, FrameRow, Pack, PackKind};
use harness::bytes::{noise, text};
use harness::seed::{Chance, cases};
use proptest::prelude::*;

/// Changes, cuts and extends bytes by chance.
fn mutate(bytes: &mut Vec<u8>, chance: &mut Chance, head: usize) {
    let below =
        |chance: &mut Chance, bound: usize| usize::try_from(chance.below(bound.max(1) as u64)).unwrap();
    for _ in 0..=chance.below(4) {
        let len = bytes.len();
        match chance.below(8) {
            0 => bytes.truncate(below(chance, len + 1)),
            1 => bytes.extend(noise(chance.below(99), 40)),
            2 if len > 8 => {
                let at = below(chance, len - 8);
                bytes[at..at + 4].fill(0xff);
            }
            // The head is where lengths are.
            3..=5 if len > 0 => {
                let at = below(chance, head.min(len));
                bytes[at] ^= 1 << chance.below(8);
            }
            _ if len > 0 => {
                let at = below(chance, len);
                bytes[at] = u8::try_from(chance.below(256)).unwrap();
            }
            _ => {}
        }
    }
}

fn frame() -> Vec<u8> {
    let mut builder = BlockBuilder::default();
    for number in 0..6 {
        let chunk = if number % 2 == 0 { noise(number, 3000) } else { text(number, 5000) };
        builder.push(ChunkId::of(&chunk), &chunk);
    }
    builder.finish(&mut Compressor::default()).0.bytes
}

/// Makes the checksums of a frame hold again, as far as it still has a shape.
fn mend_frame(bytes: &mut [u8]) {
    let Ok(len) = FrameHeader::encoded_len_of(bytes) else { return };
    if len > bytes.len() || len < 28 {
        return;
    }
    let payload = crc32c::crc32c(&bytes[len..]);
    bytes[20..24].copy_from_slice(&payload.to_le_bytes());
    let header = crc32c::crc32c(&bytes[..len - 4]);
    bytes[len - 4..len].copy_from_slice(&header.to_le_bytes());
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn a_frame_gives_chunks_that_hash_to_their_ids_or_an_error(seed: u64) {
        let mut bytes = frame();
        mutate(&mut bytes, &mut Chance::new(seed), 300);
        mend_frame(&mut bytes);
        let decoded = Block::decode(&bytes, &mut Decompressor::default(), Vec::new());
        let salvaged = Block::salvage(&bytes, FrameError::Truncated, Vec::new());
        for block in decoded.into_iter().chain(salvaged) {
            for slot in 0..block.header().chunks.len() + 2 {
                if let Ok(chunk) = block.chunk(slot) {
                    prop_assert_eq!(ChunkId::of(chunk), block.header().chunks[slot].0);
                }
            }
        }
    }

    #[test]
    fn a_run_of_any_bytes_is_searched_without_harm(seed: u64) {
        let chance = &mut Chance::new(seed);
        let mut bytes = run();
        mutate(&mut bytes, chance, 64);
        if let Ok(run) = Run::open(Bytes::Owned(bytes)) {
            let _ = run.checksum_holds();
            for number in 0..50u64 {
                let place = run.lookup(&ChunkId::of(&number.to_le_bytes()));
                prop_assert!(place.is_none_or(|place| run.packs().contains(&place.pack)));
            }
        }
    }
}

/// An index run of 100 chunks in two packs.
fn run() -> Vec<u8> {
    let sim = Sim::new(0);
    let root = Path::new("/store");
    sim.create_dir_all(&root.join("packs")).unwrap();
    for number in 0..2u64 {
        let mut writer =
            cairn_store::pack::PackWriter::create(Arc::new(sim.clone()), &root.join("packs"), PackKind::Data)
                .unwrap();
        let mut builder = BlockBuilder::default();
        for chunk in number * 50..number * 50 + 50 {
            builder.push(ChunkId::of(&chunk.to_le_bytes()), &chunk.to_le_bytes());
        }
        writer.append(&builder.finish(&mut Compressor::default()).0).unwrap();
        writer.seal().unwrap();
    }
    let io: Arc<dyn Io> = Arc::new(sim);
    cairn_store::index::Index::open(&io, root).unwrap().persist(&*io, root, true).unwrap();
    let listed = io.list(&root.join("index")).unwrap();
    io.read(&root.join("index").join(&listed[0].name)).unwrap()
}

#[test]
fn a_table_of_contents_that_lies_leads_to_errors() {
    let frame = frame();
    let header = FrameHeader::decode(&frame).unwrap().0;
    let len = u32::try_from(frame.len()).unwrap();
    let honest = FrameRow { offset: 16, len, plain_len: header.plain_len };
    let rows: Vec<_> = {
        let mut rows: Vec<_> = (0u16..)
            .zip(&header.chunks)
            .map(|(slot, (id, _))| ChunkRow { id: *id, frame: 0, slot })
            .collect();
        rows.sort_unstable();
        rows
    };
    let lies = [
        ("an honest table", vec![honest], rows.clone()),
        ("a longer frame", vec![FrameRow { len: len + 1, ..honest }], rows.clone()),
        ("a shorter frame", vec![FrameRow { len: len - 1, ..honest }], rows.clone()),
        ("a frame of no bytes", vec![FrameRow { len: 0, ..honest }], rows.clone()),
        ("the longest frame", vec![FrameRow { len: u32::MAX, ..honest }], rows.clone()),
        ("more plain bytes", vec![FrameRow { plain_len: u32::MAX, ..honest }], rows.clone()),
        ("an offset elsewhere", vec![FrameRow { offset: u64::MAX, ..honest }], rows.clone()),
        (
            "a frame that is not there",
            vec![honest],
            rows.iter().map(|row| ChunkRow { frame: 9, ..*row }).collect(),
        ),
        (
            "slots that are not there",
            vec![honest],
            rows.iter().map(|row| ChunkRow { slot: 999, ..*row }).collect(),
        ),
        (
            "slots exchanged",
            vec![honest],
            rows.iter().map(|row| ChunkRow { slot: 5 - row.slot, ..*row }).collect(),
        ),
        ("no chunks", vec![honest], Vec::new()),
        ("no frames", Vec::new(), Vec::new()),
    ];
    for (what, frames, chunks) in lies {
        let footer = Footer { kind: PackKind::Data, frames, chunks };
        let (tail, id) = footer.encode();
        let pack = [&cairn_store::pack::format::encode_header(PackKind::Data)[..], &frame, &tail].concat();
        let sim = Sim::new(0);
        let path = Path::new("/store/packs").join(format!("{id}.pack"));
        sim.create_dir_all(Path::new("/store/packs")).unwrap();
        sim.create(&path).unwrap().write_all_at(&pack, 0).unwrap();
        sim.create(Path::new("/store/cairn-store"))
            .unwrap()
            .write_all_at(b"cairn store\nformat 1\n", 0)
            .unwrap();
        let opened = Pack::open(&sim, &path, id).unwrap();
        for number in 0..3 {
            let _ = opened.block(number, &mut Decompressor::default(), Vec::new());
        }
        let store = cairn_store::Store::open_with(Arc::new(sim), Path::new("/store")).unwrap();
        let mut read = 0;
        for (chunk, _) in &header.chunks {
            match store.chunk(chunk) {
                Ok(bytes) => {
                    assert_eq!(ChunkId::of(&bytes), *chunk, "{what}");
                    read += 1;
                }
                Err(error) => assert!(!matches!(error, cairn_store::Error::Io { .. }), "{what}: {error}"),
            }
        }
        println!("{what}: {read} chunks, {:?}", opened.damage());
        let report = harness::stores::verify(&store);
        if what == "an honest table" {
            assert!(read == 6 && report.is_clean());
        }
    }
}
