//! What a store sends: chunks as frames, what it has not got, and what one artifact lacks of another.

use std::collections::{BTreeMap, HashSet};

use cairn_store::block::{BLOCK_TARGET, Block, Decompressor};
use cairn_store::pack::PackKind;
use cairn_store::{ArtifactId, ChunkId, Piece, Store, Writer};
use harness::bytes::{noise, text};
use harness::plan::{Folder, Plan, make};
use harness::scratch::Scratch;
use harness::stores::{add, options, writer};

/// A store with two releases, of which the second has some files more and one edited.
struct Setting {
    _scratch: Scratch,
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
        Self { _scratch: scratch, writer, first, second }
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
