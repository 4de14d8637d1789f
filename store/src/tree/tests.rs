//! Directories against the plain list of entries they were made of.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::content::{ChunkRef, Content};
use crate::error::{Error, Result};
use crate::id::{ChunkId, ContentId, TreeId};
use crate::object::{MemoryObjects, NodeHeader, ObjectSource};

fn file(name: impl Into<Vec<u8>>, n: u64) -> Entry {
    let chunk = ChunkRef { id: ChunkId::of(&n.to_le_bytes()), len: 5_000 };
    let node = Node::File { size: 5_000, content: Content::Chunks(vec![chunk]) };
    Entry { name: name.into(), node, mode: 0o644, full: None }
}

fn directory(name: &[u8], tree: TreeId) -> Entry {
    Entry { name: name.to_vec(), node: Node::Dir { tree }, mode: 0o755, full: None }
}

fn many(count: u64) -> Vec<Entry> {
    (0..count).map(|n| file(format!("file-{n:06}.txt"), n)).collect()
}

fn build(list: &[Entry], objects: &mut MemoryObjects) -> TreeId {
    let mut builder = TreeBuilder::new();
    for entry in list {
        builder.push(entry, objects).unwrap();
    }
    builder.finish(objects).unwrap()
}

fn read(root: &TreeId, source: &dyn ObjectSource) -> Vec<Entry> {
    entries(root, source).collect::<Result<_>>().unwrap()
}

#[test]
fn directories_of_any_length_come_back() {
    for count in [0, 1, 2, 31, 32, 33, 1_000, 100_000] {
        let mut objects = MemoryObjects::new();
        let list = many(count);
        let root = build(&list, &mut objects);
        assert!(read(&root, &objects) == list, "{count} entries");
    }
}

#[test]
fn a_changed_entry_of_a_long_directory_rewrites_few_nodes() {
    let mut objects = MemoryObjects::new();
    let mut list = many(100_000);
    build(&list, &mut objects);
    let (count, bytes) = (objects.count(), objects.bytes());
    list[54_321] = file(list[54_321].name.clone(), u64::MAX);
    let root = build(&list, &mut objects);
    assert!(read(&root, &objects) == list);
    let (nodes, written) = (objects.count() - count, objects.bytes() - bytes);
    assert!(nodes <= 4, "{nodes} nodes for one change");
    assert!(written < 128 << 10, "{written} bytes of {bytes} for one change");

    let (count, bytes) = (objects.count(), objects.bytes());
    list.remove(77_777);
    list.insert(10, file("file-000009.txt.orig", 1));
    build(&list, &mut objects);
    let (nodes, written) = (objects.count() - count, objects.bytes() - bytes);
    assert!(nodes <= 9, "{nodes} nodes for one name more and one less");
    assert!(written < 320 << 10, "{written} bytes of {bytes} for one name more and one less");
}

#[test]
fn nodes_have_the_intended_size_whatever_the_names_look_like() {
    let numbered = (0..60_000).map(|n| format!("{n:05}")).collect::<Vec<_>>();
    let hexadecimal = (0..60_000u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761))).collect();
    let suffixed = (0..60_000).map(|n| format!("some-module-{n:05}-with-a-long-name.d.ts")).collect();
    for mut names in [numbered, hexadecimal, suffixed] {
        names.sort();
        names.dedup();
        let mut objects = MemoryObjects::new();
        let list: Vec<Entry> = names.iter().map(|name| file(name.as_str(), 1)).collect();
        build(&list, &mut objects);
        let nodes = objects.count();
        assert!((100..=400).contains(&nodes), "{nodes} nodes for {} names like {}", list.len(), names[0]);
    }
}

#[test]
fn names_are_found_in_one_node_per_level() {
    let mut objects = MemoryObjects::new();
    let list = many(100_000);
    let root = build(&list, &mut objects);
    objects.take_reads();
    for entry in list.iter().step_by(997) {
        assert_eq!(find(&root, &entry.name, &objects).unwrap().as_ref(), Some(entry));
        assert!(objects.take_reads() <= 3);
        let mut absent = entry.name.clone();
        absent.push(b'~');
        assert_eq!(find(&root, &absent, &objects).unwrap(), None);
        assert!(objects.take_reads() <= 3);
        assert_eq!(entries_from(&root, &entry.name, &objects).next().unwrap().unwrap(), *entry);
        assert!(objects.take_reads() <= 3);
    }
    for absent in ["", "a", "file-", "z"] {
        assert_eq!(find(&root, absent.as_bytes(), &objects).unwrap(), None);
    }
    let tail: Vec<Entry> = entries_from(&root, b"file-099990", &objects).collect::<Result<_>>().unwrap();
    assert!(tail == list[99_990..]);
    assert_eq!(entries_from(&root, b"g", &objects).count(), 0);
}

#[test]
fn paths_are_looked_up_without_following_links() {
    let mut objects = MemoryObjects::new();
    let inner = build(&[file("tool", 1)], &mut objects);
    let link = Entry {
        name: b"link".to_vec(),
        node: Node::Symlink { target: b"bin".to_vec() },
        mode: SYMLINK_MODE,
        full: None,
    };
    let root = build(&[directory(b"bin", inner), link], &mut objects);
    let found = |path: &str| lookup(&root, path.as_bytes(), &objects).unwrap();
    assert_eq!(found("bin/tool"), Some(file("tool", 1)));
    assert_eq!(found("bin"), Some(directory(b"bin", inner)));
    for absent in
        ["", "/", "/bin", "bin/", "bin//tool", "bin/tool/x", "link/tool", "./bin", "bin/..", "bin/tool/", "b"]
    {
        assert_eq!(found(absent), None, "{absent}");
    }
}

#[test]
fn a_walk_visits_everything_in_canonical_order() {
    let mut objects = MemoryObjects::new();
    let deep = build(&[file("z", 1)], &mut objects);
    let middle = build(&[directory(b"deep", deep), file("y", 2)], &mut objects);
    let root = build(&[directory(b"a", middle), file("a.txt", 3), directory(b"b", deep)], &mut objects);
    let paths = |walk: Walk<'_>| -> Vec<String> {
        walk.map(|found| String::from_utf8(found.unwrap().0).unwrap()).collect()
    };
    assert_eq!(paths(walk(&root, &objects)), ["a", "a/deep", "a/deep/z", "a/y", "a.txt", "b", "b/z"]);
    let mut skipping = walk(&root, &objects);
    let mut seen = Vec::new();
    while let Some((path, _)) = skipping.next().transpose().unwrap() {
        if path == b"a" {
            skipping.skip_directory();
        }
        seen.push(String::from_utf8(path).unwrap());
    }
    assert_eq!(seen, ["a", "a.txt", "b", "b/z"]);
    assert_eq!(paths(walk(&root, &objects).with_limit(7)).len(), 7);
    let error = walk(&root, &objects).with_limit(6).last().unwrap().unwrap_err();
    assert!(error.to_string().contains("more entries"), "{error}");
}

#[test]
fn hostile_trees_that_hold_themselves_end_in_an_error() {
    let mut objects = MemoryObjects::new();
    // A directory that holds itself: the length of paths ends it.
    let own = TreeId([1; 32]);
    let mut scratch = MemoryObjects::new();
    let looping = build(&[directory(&[b'x'; 255], own)], &mut scratch);
    objects.forge(own.into(), scratch.get(&looping.into()).unwrap().to_vec());
    let results: Vec<_> = walk(&own, &objects).collect();
    assert_eq!(results.len(), 17);
    let error = results.last().unwrap().as_ref().unwrap_err();
    assert!(error.to_string().contains("4,096 bytes"), "{error}");
    // A node above the leaves that is its own child: levels end it.
    let id = ChunkId([2; 32]);
    let mut bytes = NodeHeader { level: 1, count: 2 }.encode(node::MAGIC).to_vec();
    node::Child { first: b"a", id, entries: 1 }.encode(&mut bytes);
    node::Child { first: b"b", id, entries: 1 }.encode(&mut bytes);
    objects.forge(id, bytes);
    let results: Vec<_> = entries(&TreeId(id.0), &objects).collect();
    assert_eq!(results.len(), 1);
    assert!(results[0].as_ref().unwrap_err().to_string().contains("one level below"));
    assert!(find(&TreeId(id.0), b"a", &objects).is_err());
    // Two names for one directory, forty deep: 2^40 entries in 40 small objects.
    let mut inner = build(&[], &mut objects);
    for _ in 0..40 {
        inner = build(&[directory(b"a", inner), directory(b"b", inner)], &mut objects);
    }
    assert!(walk(&inner, &objects).with_limit(10_000).last().unwrap().is_err());
}

#[test]
fn entries_that_no_directory_has_are_refused() {
    let objects = &mut MemoryObjects::new();
    let chunk = ChunkRef { id: ChunkId([1; 32]), len: 300 };
    let file_of = |size, content| Entry { node: Node::File { size, content }, ..file("n", 1) };
    let link_to =
        |target: &[u8], mode| Entry { node: Node::Symlink { target: target.to_vec() }, mode, ..file("n", 1) };
    let full = |full| Entry { full: Some(full), ..file("n", 1) };
    let refused = [
        file("", 1),
        file(".", 1),
        file("..", 1),
        file("a/b", 1),
        file("a\0b", 1),
        file([b'x'; 256], 1),
        Entry { mode: 0o10_000, ..file("n", 1) },
        file_of(1, Content::Inline(Vec::new())),
        file_of(129, Content::Inline(vec![1; 129])),
        file_of(300, Content::Chunks(Vec::new())),
        file_of(301, Content::Chunks(vec![chunk])),
        file_of(128, Content::Chunks(vec![ChunkRef { len: 128, ..chunk }])),
        file_of(300 * 33, Content::Chunks(vec![chunk; 33])),
        file_of(600, Content::Chunks(vec![ChunkRef::hole(300), ChunkRef::hole(300)])),
        file_of(9_999, Content::Long { root: ContentId([1; 32]), chunks: 32 }),
        file_of(40, Content::Long { root: ContentId([1; 32]), chunks: 41 }),
        file_of(u64::MAX, Content::Long { root: ContentId([1; 32]), chunks: 99 }),
        link_to(b"", SYMLINK_MODE),
        link_to(b"a\0", SYMLINK_MODE),
        link_to(&[b'x'; 4096], SYMLINK_MODE),
        link_to(b"a", 0o755),
        full(FullMeta { mtime_ns: 1_000_000_000, ..FullMeta::default() }),
        full(FullMeta { xattrs: BTreeMap::from([(Vec::new(), Vec::new())]), ..FullMeta::default() }),
        full(FullMeta { xattrs: BTreeMap::from([(b"a\0".to_vec(), Vec::new())]), ..FullMeta::default() }),
        full(FullMeta { xattrs: BTreeMap::from([(b"a".to_vec(), vec![0; 65_537])]), ..FullMeta::default() }),
        full(FullMeta {
            xattrs: (0..5u8).map(|n| (vec![b'a' + n], vec![0; 60_000])).collect(),
            ..FullMeta::default()
        }),
        Entry { full: Some(FullMeta { link: 1, ..FullMeta::default() }), ..directory(b"n", TreeId([1; 32])) },
    ];
    for entry in refused {
        let mut builder = TreeBuilder::new();
        builder.push(&file("a", 1), objects).unwrap();
        let error = builder.push(&entry, objects).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{entry:?}: {error}");
        builder.push(&file("nn", 2), objects).unwrap();
        let root = builder.finish(objects).unwrap();
        assert_eq!(read(&root, objects), [file("a", 1), file("nn", 2)], "refusals leave no trace");
    }
    let mut builder = TreeBuilder::new();
    builder.push(&file("b", 1), objects).unwrap();
    for name in ["b", "a", "B"] {
        assert!(builder.push(&file(name, 1), objects).is_err(), "{name} does not ascend");
    }
}

fn arbitrary_content() -> impl Strategy<Value = (u64, Content)> {
    let chunk = (any::<[u8; 32]>(), 129u32..100_000).prop_map(|(id, len)| ChunkRef { id: ChunkId(id), len });
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..=128).prop_map(|b| (b.len() as u64, Content::Inline(b))),
        prop::collection::vec(chunk, 1..=32)
            .prop_map(|list| (list.iter().map(|c| u64::from(c.len)).sum(), Content::Chunks(list))),
        (33u64..1 << 30, any::<[u8; 32]>())
            .prop_map(|(chunks, root)| (chunks * 9, Content::Long { root: ContentId(root), chunks })),
    ]
}

fn arbitrary_node() -> impl Strategy<Value = Node> {
    prop_oneof![
        6 => arbitrary_content().prop_map(|(size, content)| Node::File { size, content }),
        2 => any::<[u8; 32]>().prop_map(|tree| Node::Dir { tree: TreeId(tree) }),
        1 => prop::collection::vec(1u8..=255, 1..100).prop_map(|target| Node::Symlink { target }),
        1 => Just(Node::Fifo),
        1 => any::<(u32, u32)>().prop_map(|(major, minor)| Node::Char { major, minor }),
        1 => any::<(u32, u32)>().prop_map(|(major, minor)| Node::Block { major, minor }),
    ]
}

fn arbitrary_full() -> impl Strategy<Value = FullMeta> {
    let name = prop::collection::vec(1u8..=255, 1..20);
    let xattrs = prop::collection::btree_map(name, prop::collection::vec(any::<u8>(), 0..50), 0..4);
    (any::<(u32, u32, i64, u32)>(), 0u32..1_000_000_000, xattrs).prop_map(
        |((uid, gid, mtime_s, link), mtime_ns, xattrs)| FullMeta {
            uid,
            gid,
            mtime_s,
            mtime_ns,
            link,
            xattrs,
        },
    )
}

prop_compose! {
    fn arbitrary_entries()(
        list in prop::collection::btree_map(
            "[a-z]{1,3}|[^/\0]{1,12}".prop_map(String::into_bytes).prop_filter("names", |n| n != b"." && n != b".."),
            (arbitrary_node(), 0u16..=0o7777, prop::option::of(arbitrary_full())),
            0..400,
        ),
    ) -> Vec<Entry> {
        list.into_iter().map(|(name, (node, mode, mut full))| {
            if let (Node::Dir { .. }, Some(full)) = (&node, &mut full) {
                full.link = 0;
            }
            let mode = if matches!(node, Node::Symlink { .. }) { SYMLINK_MODE } else { mode };
            Entry { name, node, mode, full }
        }).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn entries_of_every_kind_come_back(list in arbitrary_entries(), name in "[a-z]{1,2}") {
        let mut objects = MemoryObjects::new();
        let root = build(&list, &mut objects);
        prop_assert_eq!(&read(&root, &objects), &list);
        prop_assert_eq!(build(&read(&root, &objects), &mut objects), root);
        for entry in list.iter().step_by(7) {
            prop_assert_eq!(&find(&root, &entry.name, &objects).unwrap(), &Some(entry.clone()));
        }
        let rest: Vec<Entry> = list.into_iter().filter(|entry| &*entry.name >= name.as_bytes()).collect();
        let from: Vec<Entry> = entries_from(&root, name.as_bytes(), &objects).collect::<Result<_>>().unwrap();
        prop_assert_eq!(from, rest);
    }

    /// Whatever still decodes after an edit is another value, and its only encoding.
    #[test]
    fn mutated_nodes_give_errors_or_other_directories_and_never_panic(
        list in arbitrary_entries(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut objects = MemoryObjects::new();
        let root = build(&list, &mut objects);
        let ids: Vec<ChunkId> = objects.iter().map(|(id, _)| *id).collect();
        let mut changed = false;
        for (node, at, byte) in edits {
            let node = ids[node.index(ids.len())];
            let mut bytes = objects.get(&node).unwrap().to_vec();
            let before = bytes.clone();
            let reach = if byte & 1 == 0 { bytes.len() } else { bytes.len().min(48) };
            if reach > 0 {
                bytes[at.index(reach)] = byte;
            }
            if let Some(cut) = &cut {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            changed |= bytes != before;
            objects.forge(node, bytes);
        }
        let _ = find(&root, b"m", &objects);
        let _ = lookup(&root, b"a/b/c", &objects);
        for found in walk(&root, &objects).with_limit(1_000) {
            let _ = found;
        }
        match entries(&root, &objects).collect::<Result<Vec<_>>>() {
            Ok(read) if ids.len() == 1 => {
                prop_assert_eq!(changed, read != list);
                let mut again = MemoryObjects::new();
                let rebuilt = build(&read, &mut again);
                // Other names may end nodes elsewhere, which readers do not check.
                if again.count() == 1 {
                    let bytes = objects.get(&root.into()).unwrap();
                    prop_assert_eq!(&*again.get(&rebuilt.into()).unwrap(), &*bytes);
                }
            }
            Ok(_) => {}
            Err(Error::Damaged { chunk, .. }) => prop_assert!(chunk.is_some()),
            Err(Error::NewerFormat { .. } | Error::Absent { .. }) => {}
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}
