//! Profiles in the journal: each change says what it replaces, and checkpoints lose nothing of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::tests::{Fixture, set};
use super::{Journal, Op};
use crate::Kind;
use crate::generation::{Delta, Package, SetPackage};
use crate::id::ArtifactId;
use crate::refs::{Platform, ProfileName};

fn package(content: &str) -> Arc<Package> {
    let commands = BTreeMap::from([(b"run".to_vec(), b"bin/run".to_vec())]);
    let version = content.parse().unwrap();
    let artifact = ArtifactId::of(content.as_bytes());
    Arc::new(Package { version, platform: Platform::any(), artifact, commands })
}

/// A delta of name, what the package was and what it is.
pub(super) fn delta(parts: &[(&str, Option<&str>, Option<&str>)]) -> Delta {
    let mut delta = Delta::default();
    for (name, old, new) in parts {
        let (name, old) = (name.parse().unwrap(), old.map(|old| ArtifactId::of(old.as_bytes())));
        match new {
            Some(new) => delta.set.push(SetPackage { name, old, package: package(new) }),
            None => delta.removed.push((name, old.unwrap())),
        }
    }
    delta
}

/// A generation of the default profile.
pub(super) fn add(number: u64, base: Option<u64>, delta: Delta) -> Op {
    let preferred = delta.set.first().map(|set| set.name.clone()).into_iter().collect();
    Op::AddGeneration { profile: ProfileName::default(), number, base, delta, preferred, time_ms: 7 }
}

fn show(old: Option<u64>, number: u64) -> Op {
    Op::SetCurrent { profile: ProfileName::default(), old, number }
}

fn remove(number: u64) -> Op {
    Op::RemoveGeneration { profile: ProfileName::default(), number }
}

fn pin(number: u64) -> Op {
    Op::Pin { profile: ProfileName::default(), number }
}

fn unpin(number: u64) -> Op {
    Op::Unpin { profile: ProfileName::default(), number }
}

/// A journal whose default profile has generations 1 and 2, 1 pinned and 2 shown.
fn with_two(fixture: &Fixture) -> Journal {
    let mut journal = fixture.open().unwrap();
    let first = delta(&[("p", None, Some("1")), ("q", None, Some("1"))]);
    journal.append(vec![add(1, None, first), show(None, 1), pin(1)], "w", 0).unwrap();
    let second = delta(&[("p", Some("1"), Some("2")), ("q", Some("1"), None)]);
    journal.append(vec![add(2, Some(1), second), show(Some(1), 2)], "w", 0).unwrap();
    journal
}

#[test]
fn generations_are_there_for_readers_and_the_next_writer() {
    let fixture = Fixture::new();
    let mut journal = with_two(&fixture);
    let view = fixture.read().unwrap();
    assert_eq!(view, **journal.view());
    let profile = &view.profiles[&ProfileName::default()];
    assert_eq!((profile.current, profile.last, profile.pins.contains(&1)), (2, 2, true));
    let versions = |number: u64| -> Vec<String> {
        let packages = profile.generations[&number].packages.iter();
        packages.map(|(name, package)| format!("{name}@{}", package.version)).collect()
    };
    assert_eq!(versions(1), ["p@1", "q@1"]);
    assert_eq!(versions(2), ["p@2"]);
    assert_eq!(profile.generations[&2].parent, Some(1));
    journal.append(vec![unpin(1), remove(1)], "w", 0).unwrap();
    assert_eq!(fixture.read().unwrap(), **journal.view());
    drop(journal);
    let journal = fixture.open().unwrap();
    let profile = &journal.view().profiles[&ProfileName::default()];
    assert_eq!((profile.generations.len(), profile.last), (1, 2));
}

#[test]
fn a_checkpoint_holds_the_profiles() {
    let fixture = Fixture::new();
    let mut journal = with_two(&fixture);
    let third = delta(&[("q", None, Some("3"))]);
    journal.append(vec![add(3, Some(2), third)], "w", 0).unwrap();
    // Made from another than the one before it.
    let fourth = delta(&[("p", Some("1"), None), ("q", Some("1"), Some("9"))]);
    journal.append(vec![add(4, Some(1), fourth), remove(3)], "w", 0).unwrap();
    journal.roll("w", 0).unwrap();
    assert_eq!(fixture.segments().len(), 2);
    assert_eq!(fixture.read().unwrap(), **journal.view());
    let before = Arc::clone(journal.view());
    drop(journal);
    let mut journal = fixture.open().unwrap();
    assert_eq!(*journal.view(), before);
    // Numbers are not given again, though those of them are gone.
    assert!(journal.append(vec![add(3, None, Delta::default())], "w", 0).is_err());
    journal.append(vec![add(5, Some(4), Delta::default())], "w", 0).unwrap();
}

#[test]
fn what_does_not_fit_is_a_conflict_and_changes_nothing() {
    let fixture = Fixture::new();
    let mut journal = with_two(&fixture);
    let before = Arc::clone(journal.view());
    let bad = [
        (add(2, Some(2), Delta::default()), "newest generation is 2"),
        (add(4, Some(2), Delta::default()), "newest generation is 2"),
        (add(3, Some(9), Delta::default()), "no generation 9"),
        (add(3, Some(2), delta(&[("p", Some("1"), Some("3"))])), "package p of profile default: it names"),
        (add(3, Some(2), delta(&[("p", None, Some("3"))])), "not nothing"),
        (add(3, Some(2), delta(&[("q", Some("1"), None)])), "it names nothing"),
        (show(Some(1), 1), "its current generation is 2, not 1"),
        (show(None, 1), "its current generation is 2, not none"),
        (show(Some(2), 3), "no generation 3"),
        (remove(2), "current or pinned"),
        (remove(1), "current or pinned"),
        (remove(3), "no generation 3"),
        (pin(1), "generation 1 is pinned"),
        (pin(3), "no generation 3"),
        (unpin(2), "generation 2 is not pinned"),
    ];
    for (op, reason) in bad {
        // Everything that goes before it in the group is taken back.
        let other: ProfileName = "other".parse().unwrap();
        let mut group = vec![
            set("p", "1", None, b"a"),
            Op::AddGeneration {
                profile: other.clone(),
                number: 1,
                base: None,
                delta: delta(&[("p", None, Some("1"))]),
                preferred: Vec::new(),
                time_ms: 0,
            },
            Op::SetCurrent { profile: other, old: None, number: 1 },
        ];
        group.push(op.clone());
        let error = journal.append(group, "w", 0).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.to_string().contains(reason), "{op:?}: {error}");
        assert_eq!(*journal.view(), before, "{op:?}");
    }
    let all = vec![
        add(3, Some(2), Delta::default()),
        show(Some(2), 3),
        pin(2),
        unpin(1),
        remove(1),
        unpin(2),
        remove(2),
        remove(2),
    ];
    assert!(journal.append(all, "w", 0).is_err());
    assert_eq!(*journal.view(), before);
    assert_eq!(fixture.read().unwrap(), *before);
}
