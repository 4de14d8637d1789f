//! The table of inodes against a model, with identities that collide, and handed over.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn identity(identities: &Identities, name: &str) -> Identity {
    identities.of(&Being::Place { parent: 1, name: name.as_bytes() })
}

fn leaf(inodes: &Inodes, identities: &Identities, name: &str, within: &TreeId, index: u32) -> Ino {
    inodes.remember(&identity(identities, name), Ino::ROOT, &New::Leaf { within, index })
}

/// Everything that the table says, by number.
fn contents(inodes: &Inodes, known: &BTreeMap<u32, (Ino, u64)>) -> BTreeMap<u32, Option<Inode>> {
    known.iter().map(|(name, (ino, _))| (*name, inodes.get(*ino))).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Remember(u32),
    Forget(u32, u64),
    /// Saves, or saves what changed, and takes it over in the other table.
    Save,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..40u32).prop_map(Step::Remember),
        4 => (0..40u32, 1..4u64).prop_map(|(name, count)| Step::Forget(name, count)),
        1 => Just(Step::Save),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// With numbers of 6 bits 40 names collide all the time.
    #[test]
    fn an_inode_never_changes_what_it_is(bits in prop_oneof![Just(6u32), Just(7), Just(63)],
                                         steps in prop::collection::vec(step(), 1..200)) {
        let identities = Identities::new([3; 32]);
        let (inodes, other) = (Inodes::new(bits), Inodes::new(bits));
        let mut saved = false;
        // What the kernel knows: the number of each name, and how many references it holds.
        let mut known: BTreeMap<u32, (Ino, u64)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Remember(name) => {
                    let tree = TreeId([u8::try_from(name % 5).unwrap(); 32]);
                    let peeked = inodes.peek(&identity(&identities, &name.to_string()));
                    let ino = leaf(&inodes, &identities, &name.to_string(), &tree, name);
                    prop_assert_eq!(peeked, ino);
                    let (known_ino, references) = known.entry(name).or_insert((ino, 0));
                    prop_assert_eq!(*known_ino, ino);
                    *references += 1;
                }
                Step::Forget(name, count) => {
                    let Some((ino, references)) = known.get_mut(&name) else { continue };
                    let count = count.min(*references);
                    inodes.forget(*ino, count);
                    *references -= count;
                    if *references == 0 {
                        known.remove(&name);
                    }
                }
                Step::Save => {
                    let table = if saved { inodes.changes() } else { inodes.save() };
                    let bytes = postcard::to_stdvec(&table).unwrap();
                    other.restore(&postcard::from_bytes(&bytes).unwrap()).unwrap();
                    prop_assert_eq!(contents(&other, &known), contents(&inodes, &known));
                    prop_assert_eq!(other.len(), inodes.len());
                    saved = !saved;
                }
            }
            prop_assert_eq!(inodes.len(), known.len() as u64);
            for (name, (ino, _)) in &known {
                let within = TreeId([u8::try_from(name % 5).unwrap(); 32]);
                let what = inodes.get(*ino).map(|inode| inode.what);
                prop_assert_eq!(what, Some(What::Leaf { within, index: *name }));
            }
            let numbers: HashSet<Ino> = known.values().map(|(ino, _)| *ino).collect();
            prop_assert_eq!(numbers.len(), known.len());
        }
        for (ino, references) in known.into_values() {
            inodes.forget(ino, references);
        }
        prop_assert_eq!((inodes.len(), inodes.ids.len()), (0, 0));
    }
}

#[test]
fn an_inode_takes_few_bytes_however_many_there_are() {
    let identities = Identities::new([3; 32]);
    let inodes = Inodes::new(INO_BITS);
    let mut known = Vec::new();
    let mut checks =
        vec![20_000, 31_000, 50_000, 100_000, 240_000, 500_000, 1_000_000, 2_000_000].into_iter();
    let mut next = checks.next();
    let mut number = 0u64;
    while let Some(count) = next {
        // A directory for each 20 files, as in a tree of many packages.
        let tree = TreeId(*blake3::hash(&(number / 20).to_le_bytes()).as_bytes());
        let index = u32::try_from(number % 20).unwrap();
        let being = Being::Place { parent: number / 20, name: &number.to_le_bytes() };
        let new = match index {
            0 => New::Dir { within: &tree, index, tree: &tree },
            _ => New::Leaf { within: &tree, index },
        };
        known.push(inodes.remember(&identities.of(&being), Ino::ROOT, &new));
        number += 1;
        if number == count {
            let each = inodes.bytes() / number;
            println!("{number} inodes: {each} bytes each");
            assert!(each <= 75, "{each} bytes an inode with {number} of them");
            next = checks.next();
        }
    }
    assert_eq!(size_of::<(u64, Node)>(), 48);
    for ino in known {
        inodes.forget(ino, 1);
    }
    assert_eq!(inodes.len(), 0);
    assert!(inodes.bytes() < 20 << 20, "{} bytes are left", inodes.bytes());
}

#[test]
fn what_another_version_saved_is_refused() {
    let inodes = Inodes::new(INO_BITS);
    let mut saved = inodes.save();
    inodes.restore(&saved).unwrap();
    assert!(saved.is_empty());
    saved = Inodes::new(20).save();
    let error = inodes.restore(&saved).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a table of inodes that cannot be taken over: it has format 1 and numbers of 20 bits"
    );
}

#[test]
fn references_that_were_never_counted_are_no_matter() {
    let identities = Identities::new([3; 32]);
    let inodes = Inodes::new(INO_BITS);
    let ino = leaf(&inodes, &identities, "a", &TreeId([1; 32]), 0);
    inodes.forget(Ino(ino.0 + 1), 1);
    inodes.forget(Ino::ROOT, 1);
    inodes.forget(ino, 7);
    assert_eq!(inodes.len(), 0);
    assert_eq!(inodes.get(ino), None);
    assert_eq!(inodes.get(Ino::ROOT).map(|inode| inode.what), Some(What::Root));
}

/// A table with an inode of each kind, as it goes over the wire.
fn all_kinds() -> (Inodes, Vec<u8>) {
    let (identities, inodes) = (Identities::new([3; 32]), Inodes::new(INO_BITS));
    let (tree, artifact) = (TreeId([4; 32]), ArtifactId([5; 32]));
    let kinds = [
        New::Generations,
        New::Generation(7),
        New::Bin(7),
        New::Package { name: b"tool" },
        New::Version { shown: b"1.0", tree: &tree, artifact: &artifact },
        New::Dir { within: &tree, index: 1, tree: &TreeId([6; 32]) },
        New::Leaf { within: &tree, index: 2 },
        New::Link { target: b"1.0" },
    ];
    for (number, new) in kinds.iter().enumerate() {
        inodes.remember(&identity(&identities, &number.to_string()), Ino::ROOT, new);
    }
    let bytes = postcard::to_allocvec(&inodes.save()).unwrap();
    inodes.end_saving();
    (inodes, bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// What the other process sends may be anything: it is refused, or makes a table that can be used and emptied.
    #[test]
    fn a_garbled_table_is_refused_or_usable(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
                                            cut in prop::option::weighted(0.2, any::<prop::sample::Index>())) {
        let (_, mut bytes) = all_kinds();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let Ok(saved) = postcard::from_bytes::<SavedInodes>(&bytes) else { return Ok(()) };
        let inodes = Inodes::new(INO_BITS);
        let _ = inodes.restore(&saved);
        let again = inodes.save();
        prop_assert_eq!(again.len() as u64, inodes.len());
        inodes.end_saving();
        let numbers: Vec<u64> = inodes.shards.iter()
            .flat_map(|shard| shard.lock().unwrap().nodes.iter().map(|(ino, _)| ino).collect::<Vec<_>>())
            .collect();
        for ino in numbers {
            prop_assert!(inodes.get(Ino(ino)).is_some());
            inodes.forget(Ino(ino), u64::MAX);
        }
        let pinned = inodes.shards.iter()
            .map(|shard| shard.lock().unwrap().nodes.iter().filter(|(_, node)| node.lookups == u32::MAX).count())
            .sum::<usize>();
        prop_assert_eq!(inodes.len(), pinned as u64);
    }
}
