//! The plan of a window, and what is lacking against a model that knows no shortcuts.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;

use super::lacking::{data, objects};
use super::plan::{Step, steps};
use crate::artifact::Artifact;
use crate::content::{ChunkRef, chunks};
use crate::error::Error;
use crate::id::{ArtifactId, ChunkId, PackId, TreeId};
use crate::index::Place;
use crate::object::{MemoryObjects, ObjectSink, ObjectSource};
use crate::testing::{artifact, chunk, chunked, dir, file, tree};
use crate::tree::{Entry, Node, walk};

fn place(pack: u8, frame: u16, slot: u16) -> Option<Place> {
    Some(Place { pack: PackId([pack; 32]), frame, slot })
}

#[test]
fn a_frame_comes_where_its_first_chunk_is_due() {
    let ids: Vec<ChunkId> = (0..8).map(chunk).collect();
    let places = [
        place(1, 0, 3),
        None,
        place(2, 0, 0),
        place(1, 0, 1),
        None,
        place(2, 0, 1),
        place(1, 1, 0),
        place(1, 0, 2),
    ];
    let mut twice = ids.clone();
    twice.extend_from_slice(&ids[..3]);
    let places: Vec<_> = places.iter().chain(&places[..3]).copied().collect();
    let frame = |pack: u8, frame: u16, chunks: &[(u16, u32)]| Step::Frame {
        pack: PackId([pack; 32]),
        frame,
        chunks: chunks.iter().map(|(slot, number)| (*slot, chunk(*number))).collect(),
    };
    let expected = [
        Step::Absent(vec![chunk(1), chunk(4)]),
        frame(1, 0, &[(3, 0), (1, 3), (2, 7)]),
        frame(2, 0, &[(0, 2), (1, 5)]),
        frame(1, 1, &[(0, 6)]),
    ];
    assert_eq!(steps(&twice, &places), expected);
}

fn publish(objects: &mut MemoryObjects, root: TreeId, entries: u64) -> ArtifactId {
    artifact(root, entries).put(objects).unwrap()
}

/// All objects of an artifact, and all of its chunks in the order of its files, by a walk without shortcuts.
fn everything(source: &MemoryObjects, id: &ArtifactId) -> (BTreeSet<ChunkId>, Vec<ChunkRef>) {
    struct Noting<'a>(&'a MemoryObjects, std::sync::Mutex<BTreeSet<ChunkId>>);
    impl ObjectSource for Noting<'_> {
        fn get(&self, id: &ChunkId) -> crate::Result<std::sync::Arc<[u8]>> {
            self.1.lock().unwrap().insert(*id);
            self.0.get(id)
        }
    }
    let noting = Noting(source, std::sync::Mutex::default());
    let artifact = Artifact::get(id, &noting).unwrap();
    let mut list = Vec::new();
    for entry in walk(&artifact.root, &noting) {
        if let Node::File { size, content } = entry.unwrap().1.node {
            list.extend(chunks(&content, size, &noting).map(|chunk| chunk.unwrap().1));
        }
    }
    (noting.1.into_inner().unwrap(), list)
}

/// Compares with the model; gives how many objects and chunks are lacking.
fn check(source: &MemoryObjects, have: Option<&ArtifactId>, want: &ArtifactId) -> (usize, usize) {
    let (held_objects, held_chunks) = have.map(|have| everything(source, have)).unwrap_or_default();
    let (wanted_objects, wanted_chunks) = everything(source, want);

    let lacking = objects(source, have, want, &()).unwrap();
    let ids: BTreeSet<ChunkId> = lacking.iter().map(|object| object.id).collect();
    assert_eq!(ids.len(), lacking.len(), "each once");
    assert_eq!(ids, wanted_objects.difference(&held_objects).copied().collect());
    assert!(lacking.first().is_none_or(|first| first.id == (*want).into()), "the artifact comes first");
    for object in &lacking {
        assert_eq!(object.len as usize, source.get(&object.id).unwrap().len());
    }

    let held: HashSet<ChunkId> = held_chunks.iter().map(|chunk| chunk.id).collect();
    let mut seen = HashSet::new();
    let expected: Vec<ChunkRef> = wanted_chunks
        .into_iter()
        .filter(|chunk| !chunk.is_hole() && !held.contains(&chunk.id) && seen.insert(chunk.id))
        .collect();
    assert_eq!(data(source, have, want, &()).unwrap(), expected);
    (lacking.len(), expected.len())
}

/// A file: its chunks' numbers, or a few inline bytes.
type Files = BTreeMap<String, Vec<u32>>;

fn build(objects: &mut MemoryObjects, folders: &BTreeMap<String, Files>) -> ArtifactId {
    let mut count = 0;
    let mut entries: Vec<(&str, Entry)> = Vec::new();
    for (name, files) in folders {
        let below: Vec<(&str, Entry)> = files
            .iter()
            .map(|(name, numbers)| {
                let entry = if numbers.is_empty() {
                    file(name.as_bytes())
                } else {
                    chunked(objects, numbers.iter().copied())
                };
                (&**name, entry)
            })
            .collect();
        count += 1 + below.len() as u64;
        let below = tree(objects, &below);
        entries.push((name, dir(below)));
    }
    let root = tree(objects, &entries);
    publish(objects, root, count)
}

fn any_folders() -> impl Strategy<Value = BTreeMap<String, Files>> {
    let short = prop::collection::vec(0..60u32, 0..40);
    // Long enough for several nodes: a stretch of numbers with one of them changed.
    let long = (0..4u32, 0..3000u32).prop_map(|(from, edit)| {
        (from * 100 + 1..from * 100 + 3000).map(|n| if n == edit { 1_000_000 + n } else { n }).collect()
    });
    let numbers = prop_oneof![8 => short, 1 => long];
    let files = prop::collection::btree_map("[a-e]{1,2}", numbers, 0..6);
    // Many names, for directories of several nodes.
    let many = (0..3usize, 0..900usize).prop_map(|(gap, edit)| {
        let name = |n: usize| format!("{n:04}");
        (0..900)
            .filter(|n| n % 7 != gap)
            .map(|n| (name(n), if n == edit { vec![7] } else { vec![] }))
            .collect()
    });
    prop::collection::btree_map("[a-d]", prop_oneof![4 => files, 1 => many], 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_lacking_is_what_a_walk_without_shortcuts_says(a in any_folders(), b in any_folders()) {
        let mut source = MemoryObjects::new();
        let (a, b) = (build(&mut source, &a), build(&mut source, &b));
        check(&source, None, &b);
        check(&source, Some(&a), &b);
        prop_assert_eq!(check(&source, Some(&b), &b), (0, 0));
    }

    #[test]
    fn parents_come_before_children(a in any_folders()) {
        let mut source = MemoryObjects::new();
        let a = build(&mut source, &a);
        let lacking = objects(&source, None, &a, &()).unwrap();
        // Whoever has only a prefix can read everything in it from the artifact on: the next object is always one that
        // is named there.
        let mut received = MemoryObjects::new();
        for object in &lacking {
            received.put(source.get(&object.id).unwrap().to_vec()).unwrap();
            prop_assert_eq!(objects(&received, None, &a, &()).is_ok(), received.count() == lacking.len() as u64);
        }
    }
}

#[test]
fn an_edit_of_a_long_file_lacks_one_chunk_and_the_nodes_above_it() {
    let mut source = MemoryObjects::new();
    let mut long = |numbers: &mut dyn Iterator<Item = u32>| {
        let long = chunked(&mut source, numbers);
        let root = tree(&mut source, &[("db", long)]);
        publish(&mut source, root, 1)
    };
    let a = long(&mut (1..20_000));
    let b = long(&mut (1..9_000).chain([77_777]).chain(9_001..20_000));
    let (lacking, chunks) = check(&source, Some(&a), &b);
    assert_eq!(chunks, 1);
    assert!(lacking <= 5, "{lacking}");
}

#[test]
fn a_directory_that_is_named_many_times_is_read_once() {
    let mut source = MemoryObjects::new();
    let leaf = chunked(&mut source, [1, 2, 3]);
    let mut below = tree(&mut source, &[("leaf", leaf)]);
    // 2^40 files.
    for _ in 0..40 {
        below = tree(&mut source, &[("a", dir(below)), ("b", dir(below))]);
    }
    let hostile = publish(&mut source, below, u64::MAX);
    source.take_reads();
    let ids: Vec<ChunkId> =
        data(&source, None, &hostile, &()).unwrap().iter().map(|chunk| chunk.id).collect();
    assert_eq!(ids, [chunk(1), chunk(2), chunk(3)]);
    assert_eq!(source.take_reads(), 42);
    assert_eq!(objects(&source, None, &hostile, &()).unwrap().len(), 42);
    assert_eq!(source.take_reads(), 42);
    // Nor does it take long to find out that all of it is held.
    let other = publish(&mut source, below, 1 << 41);
    source.take_reads();
    assert_eq!(objects(&source, Some(&hostile), &other, &()).unwrap().len(), 1);
    assert_eq!(source.take_reads(), 43);
}

#[test]
fn what_is_not_readable_of_the_held_one_counts_as_lacking() {
    let mut source = MemoryObjects::new();
    let (one, two) = (chunked(&mut source, [1, 2]), chunked(&mut source, [3]));
    let below = tree(&mut source, &[("one", one.clone())]);
    let a = tree(&mut source, &[("d", dir(below)), ("two", two.clone())]);
    let a = publish(&mut source, a, 3);
    let b = tree(&mut source, &[("one", one), ("two", two)]);
    let b = publish(&mut source, b, 2);
    assert_eq!(check(&source, Some(&a), &b), (2, 0));
    source.remove(&below.into());
    let ids: Vec<ChunkId> = data(&source, Some(&a), &b, &()).unwrap().iter().map(|chunk| chunk.id).collect();
    assert_eq!(ids, [chunk(1), chunk(2), chunk(3)]);
    // Of the wanted one, everything has to be there.
    assert!(matches!(data(&source, None, &a, &()), Err(Error::Absent { .. })));
}

#[test]
fn a_survey_stops_when_it_is_asked_to() {
    struct Stop;
    impl crate::Progress for Stop {
        fn cancelled(&self) -> bool {
            true
        }
    }
    let mut source = MemoryObjects::new();
    let root = tree(&mut source, &[("f", file(b"x"))]);
    let a = publish(&mut source, root, 1);
    assert!(matches!(objects(&source, None, &a, &Stop), Err(Error::Cancelled)));
    assert!(matches!(data(&source, None, &a, &Stop), Err(Error::Cancelled)));
}
