//! Contents against the plain list of chunks they were made of.

use proptest::prelude::*;

use super::*;
use crate::error::{Error, Result};
use crate::object::{MemoryObjects, ObjectSource};

fn id(n: u64) -> ChunkId {
    ChunkId::of(&n.to_le_bytes())
}

fn list_of(count: u64) -> Vec<ChunkRef> {
    (0..count).map(|n| ChunkRef { id: id(n), len: 4096 + u32::try_from(n % 61_440).unwrap() }).collect()
}

fn build(list: &[ChunkRef], objects: &mut MemoryObjects) -> (Content, u64) {
    let mut builder = ContentBuilder::new();
    for chunk in list {
        builder.push(*chunk, objects).unwrap();
    }
    let size = builder.bytes();
    (builder.finish(objects).unwrap(), size)
}

fn read(content: &Content, size: u64, from: u64, source: &dyn ObjectSource) -> Vec<(u64, ChunkRef)> {
    chunks_from(content, size, from, source).collect::<Result<_>>().unwrap()
}

/// What `chunks` must return: the list with offsets, holes merged.
fn model(list: &[ChunkRef]) -> Vec<(u64, ChunkRef)> {
    let mut merged: Vec<(u64, ChunkRef)> = Vec::new();
    let mut at = 0;
    for chunk in list {
        match merged.last_mut() {
            Some((_, last)) if last.is_hole() && chunk.is_hole() => last.len += chunk.len,
            _ => merged.push((at, *chunk)),
        }
        at += u64::from(chunk.len);
    }
    merged
}

#[test]
fn the_form_follows_from_the_number_of_entries() {
    let mut objects = MemoryObjects::new();
    assert_eq!(build(&[], &mut objects), (Content::Inline(Vec::new()), 0));
    let list = list_of(32);
    assert_eq!(build(&list, &mut objects).0, Content::Chunks(list));
    assert_eq!(objects.count(), 0);
    let (content, size) = build(&list_of(33), &mut objects);
    assert!(matches!(content, Content::Long { chunks: 33, .. }), "{content:?}");
    assert_eq!(read(&content, size, 0, &objects), model(&list_of(33)));
}

#[test]
fn holes_are_merged_up_to_what_a_length_can_say() {
    let mut objects = MemoryObjects::new();
    let holes = [u32::MAX - 1, 1, 1, u32::MAX, u32::MAX, 7].map(ChunkRef::hole);
    let (content, size) = build(&holes, &mut objects);
    assert_eq!(size, 3 * u64::from(u32::MAX) + 8);
    assert_eq!(content, Content::Chunks([u32::MAX, u32::MAX, u32::MAX, 8].map(ChunkRef::hole).to_vec()));
    let data = ChunkRef { id: id(1), len: 5 };
    let (content, _) = build(&[ChunkRef::hole(1), data, ChunkRef::hole(2), ChunkRef::hole(3)], &mut objects);
    assert_eq!(content, Content::Chunks(vec![ChunkRef::hole(1), data, ChunkRef::hole(5)]));
}

#[test]
fn a_list_refuses_lengths_that_no_chunk_has() {
    let mut objects = MemoryObjects::new();
    for chunk in
        [ChunkRef { id: id(1), len: 0 }, ChunkRef { id: id(1), len: CHUNK_LEN_MAX + 1 }, ChunkRef::hole(0)]
    {
        let error = ContentBuilder::new().push(chunk, &mut objects).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
}

#[test]
fn a_changed_chunk_of_a_long_list_rewrites_few_nodes() {
    let mut objects = MemoryObjects::new();
    let mut list = list_of(200_000);
    let (before, _) = build(&list, &mut objects);
    let (count, bytes) = (objects.count(), objects.bytes());
    list[123_456].id = id(u64::MAX);
    list.insert(50_000, ChunkRef { id: id(u64::MAX - 1), len: 9 });
    list.remove(170_000);
    let (after, size) = build(&list, &mut objects);
    assert_ne!(before, after);
    assert_eq!(read(&after, size, 0, &objects), model(&list));
    let (nodes, written) = (objects.count() - count, objects.bytes() - bytes);
    assert!(nodes <= 12, "{nodes} nodes for three edits");
    assert!(written < 400 << 10, "{written} bytes of {bytes} for three edits");
}

#[test]
fn one_chunk_repeated_makes_nodes_that_repeat() {
    // Ids that always end a node, ids that never do, and holes between chunks.
    let boundary = ChunkRef { id: ChunkId([0, 0, 1].repeat(11)[..32].try_into().unwrap()), len: 65_536 };
    let plain = ChunkRef { id: ChunkId([7; 32]), len: 65_536 };
    for list in [
        vec![boundary; 50_000],
        vec![plain; 50_000],
        [plain, ChunkRef::hole(65_536)].repeat(25_000),
        [boundary, ChunkRef::hole(65_536)].repeat(25_000),
    ] {
        let mut objects = MemoryObjects::new();
        let (content, size) = build(&list, &mut objects);
        assert_eq!(read(&content, size, 0, &objects), model(&list));
        assert!(objects.count() <= 10, "{} nodes", objects.count());
    }
}

#[test]
fn reaching_an_offset_reads_one_node_per_level() {
    let mut objects = MemoryObjects::new();
    let list = list_of(200_000);
    let (content, size) = build(&list, &mut objects);
    let all = model(&list);
    objects.take_reads();
    for step in 0..1_000 {
        let offset = size / 1_000 * step + step;
        let found = chunks_from(&content, size, offset, &objects).next().unwrap().unwrap();
        let expected = all.partition_point(|(at, chunk)| at + u64::from(chunk.len) <= offset);
        assert_eq!(found, all[expected], "{offset}");
        assert!(objects.take_reads() <= 3);
    }
    assert_eq!(chunks_from(&content, size, size, &objects).count(), 0);
    assert_eq!(chunks_from(&content, size, u64::MAX, &objects).count(), 0);
}

#[test]
fn what_the_directory_says_of_a_long_list_must_hold() {
    let mut objects = MemoryObjects::new();
    let (content, size) = build(&list_of(5_000), &mut objects);
    let Content::Long { root, chunks: count } = content else { panic!("5,000 chunks are long") };
    for (count, size) in [(count + 1, size), (count, size + 1), (count, size - 1)] {
        let forged = Content::Long { root, chunks: count };
        let error = chunks(&forged, size, &objects).next().unwrap().unwrap_err();
        assert!(matches!(error, Error::Damaged { chunk: Some(_), .. }), "{error}");
    }
}

/// A node above the leaves.
fn node_of(level: u8, children: &[(ChunkId, u64, u64)]) -> Vec<u8> {
    let count = u32::try_from(children.len()).unwrap();
    let mut bytes = crate::object::NodeHeader { level, count }.encode(node::MAGIC).to_vec();
    for (id, bytes_below, chunks_below) in children {
        let totals = node::Totals { bytes: *bytes_below, chunks: *chunks_below };
        node::Child { id: *id, totals }.encode(&mut bytes);
    }
    bytes
}

#[test]
fn hostile_nodes_end_in_an_error() {
    let mut objects = MemoryObjects::new();
    let (own, root) = (ChunkId([9; 32]), ContentId([8; 32]));
    let content = Content::Long { root, chunks: 80 };
    let mut first = |level, children: &[_]| {
        objects.forge(root.into(), node_of(level, children));
        objects.forge(own, node_of(2, &[(own, 5_000, 40)]));
        let all: Vec<_> = chunks(&content, 10_000, &objects).collect();
        assert_eq!(all.len(), 1);
        all.into_iter().next().unwrap().unwrap_err().to_string()
    };
    // A node that is its own child, with totals that hold: only the level gives it away.
    let error = first(3, &[(own, 5_000, 40), (own, 5_000, 40)]);
    assert!(error.contains("one level below"), "{error}");
    // Children of nothing, which no offset would ever lead to.
    let error = first(3, &[(own, 0, 0), (own, 10_000, 80)]);
    assert!(error.contains("0 bytes in 0 chunks"), "{error}");
    let error = first(3, &[(own, 10_000, 80)]);
    assert!(error.contains("one child"), "{error}");
    let error = first(16, &[(own, 5_000, 40), (own, 5_000, 40)]);
    assert!(error.contains("level 16"), "{error}");
    let error = first(3, &[(own, u64::MAX, 40), (own, 10_001, 40)]);
    assert!(error.contains("2^64"), "{error}");
}

fn arbitrary_list() -> impl Strategy<Value = Vec<ChunkRef>> {
    let chunk = prop_oneof![
        3 => (0u64..50, 1..=CHUNK_LEN_MAX).prop_map(|(n, len)| ChunkRef { id: id(n), len }),
        1 => (1u32..1 << 20).prop_map(ChunkRef::hole),
    ];
    prop::collection::vec(chunk, 0..3_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn lists_come_back_from_any_offset(list in arbitrary_list(), at in 0.0f64..1.1) {
        let mut objects = MemoryObjects::new();
        let (content, size) = build(&list, &mut objects);
        let all = model(&list);
        prop_assert_eq!(&read(&content, size, 0, &objects), &all);
        prop_assert_eq!(content.chunk_count(), all.len() as u64);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "any offset will do")]
        let offset = (size as f64 * at) as u64;
        let rest = all.into_iter().filter(|(at, chunk)| at + u64::from(chunk.len) > offset);
        prop_assert_eq!(read(&content, size, offset, &objects), rest.collect::<Vec<_>>());
    }

    #[test]
    fn mutated_nodes_give_errors_and_never_panic(
        count in 33u64..3_000,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut objects = MemoryObjects::new();
        let (content, size) = build(&list_of(count), &mut objects);
        let ids: Vec<ChunkId> = objects.iter().map(|(id, _)| *id).collect();
        for (node, at, byte) in edits {
            let node = ids[node.index(ids.len())];
            let mut bytes = objects.get(&node).unwrap().to_vec();
            // Half of the edits hit the header, where most decisions are.
            let reach = if byte & 1 == 0 { bytes.len() } else { bytes.len().min(16) };
            if reach > 0 {
                bytes[at.index(reach)] = byte;
            }
            if let Some(cut) = &cut {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            objects.forge(node, bytes);
        }
        let mut total = 0;
        for chunk in chunks(&content, size, &objects) {
            match chunk {
                Ok((at, chunk)) => {
                    prop_assert_eq!(at, total);
                    total += u64::from(chunk.len);
                }
                Err(error) => {
                    let expected = matches!(error, Error::Damaged { chunk: Some(_), .. } | Error::NewerFormat { .. } | Error::Absent { .. });
                    prop_assert!(expected, "{}", error);
                    total = size;
                }
            }
        }
        prop_assert_eq!(total, size, "an iteration without error adds up");
    }
}
