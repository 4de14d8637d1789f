//! What other stores say of names, this store's own origin, and artifacts that are not whole, in the journal.

use std::sync::Arc;

use cairn_trust::{Envelope, Signature};
use proptest::prelude::*;

use super::Op;
use super::tests::{Fixture, channel, key, set};
use crate::id::ArtifactId;
use crate::refs::{Origin, RefKey, RefStatement, Subject, SubjectName, View};
use crate::{Error, Kind};

const ORIGIN: Origin = Origin([7; 16]);

pub(super) fn statement(seq: u64, key: &RefKey, content: &[u8]) -> RefStatement {
    let subject = Subject::Ref { key: key.clone(), artifact: ArtifactId::of(content) };
    RefStatement { origin: ORIGIN, seq, time_ms: 1_700_000_000_000, subject }
}

pub(super) fn channel_statement(
    seq: u64,
    name: &str,
    to: &str,
    version: &str,
    content: &[u8],
) -> RefStatement {
    let (version, artifact) = (version.parse().unwrap(), ArtifactId::of(content));
    let subject = Subject::Channel { key: channel(name, to), version, artifact };
    RefStatement { origin: ORIGIN, seq, time_ms: 1_700_000_000_000, subject }
}

pub(super) fn signed(statement: RefStatement) -> Envelope {
    let signature = Signature { keyid: "key".to_owned(), sig: vec![1, 2, 3] };
    Envelope { signatures: vec![signature], ..statement.to_envelope() }
}

fn witness(seq: u64, content: &[u8]) -> Op {
    Op::SetWitness { envelope: signed(statement(seq, &key("p", "1"), content)) }
}

fn tag(version: &str, old: Option<&str>) -> Op {
    let old = old.map(|old| old.parse().unwrap());
    Op::SetChannel { key: channel("p", "stable"), old, version: version.parse().unwrap() }
}

fn partial(content: &[u8]) -> Op {
    Op::SetPartial { artifact: ArtifactId::of(content) }
}

fn whole(content: &[u8]) -> Op {
    Op::SetWhole { artifact: ArtifactId::of(content) }
}

fn stated(view: &View, version: &str) -> RefStatement {
    RefStatement::of(&view.statement_of(&key("p", version)).unwrap()).unwrap()
}

fn stated_of_channel(view: &View) -> Option<RefStatement> {
    view.channel_statement_of(&channel("p", "stable")).map(|envelope| RefStatement::of(&envelope).unwrap())
}

#[test]
fn what_was_said_elsewhere_is_passed_on_as_it_came() {
    let fixture = Fixture::new();
    let mut journal = fixture.open().unwrap();
    let of_channel = signed(channel_statement(9, "p", "stable", "1", b"a"));
    let pulled = vec![
        set("p", "1", None, b"a"),
        witness(8, b"a"),
        tag("1", None),
        Op::SetWitness { envelope: of_channel.clone() },
        partial(b"a"),
    ];
    journal.append(pulled, "w", 0).unwrap();
    for reopened in [false, true] {
        let view = fixture.read().unwrap();
        assert_eq!(view, **journal.view());
        let kept = signed(statement(8, &key("p", "1"), b"a"));
        assert_eq!(view.statement_of(&key("p", "1")), Some(kept));
        assert_eq!(view.channel_statement_of(&channel("p", "stable")), Some(of_channel.clone()));
        assert_eq!(view.partial.iter().collect::<Vec<_>>(), [&ArtifactId::of(b"a")]);
        if !reopened {
            journal.roll("w", 0).unwrap();
            drop(journal);
            journal = fixture.open().unwrap();
        }
    }
    journal.append(vec![whole(b"a")], "w", 0).unwrap();
    assert!(fixture.read().unwrap().partial.is_empty());
}

#[test]
fn what_is_made_here_is_stated_here() {
    let fixture = Fixture::new();
    let mut journal = fixture.open().unwrap();
    journal.append(vec![set("p", "0", None, b"0")], "w", 0).unwrap();
    assert!(journal.view().statement_of(&key("p", "0")).is_none(), "without an origin nothing is stated");
    let own = Origin([1; 16]);
    journal
        .append(vec![Op::SetOrigin { origin: own }, set("p", "1", None, b"a"), tag("1", None)], "w", 0)
        .unwrap();
    let view = Arc::clone(journal.view());
    // Named before the store had an origin, but in a journal that knows when.
    assert_eq!(stated(&view, "0").seq, 2);
    let first = stated(&view, "1");
    assert_eq!((first.origin, first.seq, first.time_ms), (own, 4, 6));
    assert_eq!(stated_of_channel(&view).unwrap().seq, 5);
    // The channel's statement changes with the version that it leads to.
    journal.append(vec![set("p", "1", Some(b"a"), b"b")], "w", 0).unwrap();
    let moved = stated_of_channel(journal.view()).unwrap();
    assert_eq!((moved.seq, moved.subject.artifact()), (6, ArtifactId::of(b"b")));
    assert_eq!(stated(journal.view(), "1").seq, 6);
    // What another store said is not passed on about something else.
    journal.append(vec![witness(80, b"b"), set("p", "1", Some(b"b"), b"c")], "w", 0).unwrap();
    assert_eq!((stated(journal.view(), "1").origin, stated(journal.view(), "1").seq), (own, 8));
    journal.append(vec![set("p", "1", Some(b"c"), b"b")], "w", 0).unwrap();
    assert_eq!(stated(journal.view(), "1").origin, ORIGIN);
    journal.roll("w", 0).unwrap();
    assert_eq!(fixture.read().unwrap(), **journal.view());
    let remove = vec![Op::RemoveRef { key: key("p", "1"), old: ArtifactId::of(b"b") }];
    journal.append(remove, "w", 0).unwrap();
    assert!(journal.view().statement_of(&key("p", "1")).is_none());
    assert!(stated_of_channel(journal.view()).is_none(), "it leads nowhere");
    assert_eq!(fixture.read().unwrap(), **journal.view());
}

#[test]
fn an_older_word_is_refused_even_after_the_name_went() {
    let fixture = Fixture::new();
    let mut journal = fixture.open().unwrap();
    journal.append(vec![set("p", "1", None, b"a"), witness(8, b"a")], "w", 0).unwrap();
    let check =
        |view: &View, seq, content: &[u8]| view.check_statement(&statement(seq, &key("p", "1"), content));
    let refused = |view: &View, seq, content: &[u8]| {
        let error = check(view, seq, content).unwrap_err();
        assert!(matches!(error, Error::RolledBack { known: 8, given, .. } if given == seq), "{error}");
    };
    let remove = vec![Op::RemoveRef { key: key("p", "1"), old: ArtifactId::of(b"a") }];
    for step in 0..3 {
        let view = fixture.read().unwrap();
        refused(&view, 7, b"a");
        refused(&view, 7, b"b");
        refused(&view, 8, b"b");
        check(&view, 8, b"a").unwrap();
        check(&view, 9, b"b").unwrap();
        // Another store, or another name, is another matter.
        let elsewhere = RefStatement { origin: Origin([8; 16]), ..statement(1, &key("p", "1"), b"b") };
        view.check_statement(&elsewhere).unwrap();
        view.check_statement(&statement(1, &key("p", "2"), b"b")).unwrap();
        match step {
            0 => drop(journal.append(remove.clone(), "w", 0).unwrap()),
            _ => journal.roll("w", 0).unwrap(),
        }
    }
    // Nor does the journal take it.
    let back = vec![set("p", "1", None, b"b"), witness(7, b"b")];
    let error = journal.append(back, "w", 0).unwrap_err();
    assert!(error.to_string().contains("change 7 of its origin"), "{error}");
}

#[test]
fn an_own_name_is_not_rolled_back_either() {
    let fixture = Fixture::new();
    let mut journal = fixture.open().unwrap();
    journal.append(vec![Op::SetOrigin { origin: ORIGIN }, set("p", "1", None, b"a")], "w", 0).unwrap();
    journal.append(vec![set("p", "1", Some(b"a"), b"b")], "w", 0).unwrap();
    let check =
        |seq, content: &[u8]| journal.view().check_statement(&statement(seq, &key("p", "1"), content));
    assert!(matches!(check(3, b"a"), Err(Error::RolledBack { known: 4, given: 3, .. })));
    assert!(check(4, b"a").is_err());
    check(4, b"b").unwrap();
}

#[test]
fn the_last_word_of_so_many_origins_is_kept() {
    let fixture = Fixture::new();
    let mut journal = fixture.open().unwrap();
    journal.append(vec![set("p", "1", None, b"a")], "w", 0).unwrap();
    for number in 0..20 {
        let word = RefStatement { origin: Origin([number; 16]), ..statement(5, &key("p", "1"), b"a") };
        journal.append(vec![Op::SetWitness { envelope: word.to_envelope() }], "w", 0).unwrap();
    }
    let again = RefStatement { origin: Origin([10; 16]), ..statement(6, &key("p", "1"), b"a") };
    journal.append(vec![Op::SetWitness { envelope: again.to_envelope() }], "w", 0).unwrap();
    journal.roll("w", 0).unwrap();
    let view = fixture.read().unwrap();
    assert_eq!(view, **journal.view());
    let name = SubjectName::Ref(key("p", "1"));
    let origins: Vec<u8> = view.witnessed.about(&name).map(|word| word.statement.origin.0[0]).collect();
    let kept: Vec<u8> = (4..10).chain(11..20).chain([10]).collect();
    assert_eq!(origins, kept);
    assert_eq!(stated(&view, "1"), again, "the latest is passed on");
}

#[test]
fn what_does_not_fit_is_a_conflict_and_changes_nothing() {
    let fixture = Fixture::new();
    let mut journal = fixture.open().unwrap();
    let begin = vec![
        Op::SetOrigin { origin: Origin([1; 16]) },
        set("p", "1", None, b"a"),
        witness(8, b"a"),
        tag("1", None),
        partial(b"a"),
    ];
    journal.append(begin, "w", 0).unwrap();
    let before = Arc::clone(journal.view());
    let envelope = |statement: RefStatement| Op::SetWitness { envelope: statement.to_envelope() };
    let none = Envelope::unsigned(RefStatement::PAYLOAD_TYPE, b"nothing".to_vec()).unwrap();
    let other = Envelope::unsigned("text/plain", statement(9, &key("p", "1"), b"a").encode()).unwrap();
    let bad = [
        (Op::SetOrigin { origin: Origin([2; 16]) }, "it has an origin"),
        (witness(7, b"a"), "is rolled back"),
        (witness(9, b"b"), "it is not what the statement says"),
        (envelope(statement(9, &key("p", "2"), b"a")), "it is not what the statement says"),
        (envelope(channel_statement(9, "p", "stable", "2", b"a")), "it is not what the statement says"),
        (envelope(channel_statement(9, "p", "stable", "1", b"b")), "it is not what the statement says"),
        (envelope(channel_statement(9, "p", "edge", "1", b"a")), "it is not what the statement says"),
        (Op::SetWitness { envelope: none }, "does not begin with its magic"),
        (Op::SetWitness { envelope: other }, "text/plain"),
        (partial(b"a"), "known not to be whole"),
        (whole(b"b"), "nobody said that it is not whole"),
    ];
    for (op, reason) in bad {
        // Everything that goes before it in the group is taken back.
        let group = vec![
            set("q", "1", None, b"q"),
            envelope(statement(1, &key("q", "1"), b"q")),
            envelope(statement(2, &key("q", "1"), b"q")),
            witness(9, b"a"),
            Op::RemoveChannel { key: channel("p", "stable"), old: "1".parse().unwrap() },
            tag("1", None),
            whole(b"a"),
            partial(b"q"),
            partial(b"a"),
            op.clone(),
        ];
        let error = journal.append(group, "w", 0).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        if !matches!(op, Op::SetWitness { .. }) {
            assert!(error.to_string().contains(reason), "{op:?}: {error}");
        }
        let error = journal.append(vec![op.clone()], "w", 0).unwrap_err();
        assert!(error.to_string().contains(reason), "{op:?}: {error}");
        assert_eq!(*journal.view(), before, "{op:?}");
    }
    assert_eq!(fixture.read().unwrap(), *before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is appended, in whatever segments: readers, the next writer and the one that appended it agree.
    #[test]
    fn everybody_says_the_same(steps in prop::collection::vec((0..9u8, 0..3usize, 0..3usize, 1..40u64), 1..60)) {
        let fixture = Fixture::new();
        let mut journal = fixture.open().unwrap();
        let (versions, contents) = (["1", "2", "3"], [&b"a"[..], b"b", b"c"]);
        for (what, version, content, seq) in steps {
            let (version, content) = (versions[version], contents[content]);
            let there = journal.view().refs.get(&key("p", version)).map(|record| record.artifact);
            let pointed = journal.view().channels.get(&channel("p", "stable")).map(ToString::to_string);
            let op = match (what, there) {
                (0, Some(old)) => Op::RemoveRef { key: key("p", version), old },
                (0 | 1, _) => {
                    let Op::SetRef { key, record, .. } = set("p", version, None, content) else { unreachable!() };
                    Op::SetRef { key, old: there, record }
                }
                (2, _) => tag(version, pointed.as_deref()),
                (3, _) => Op::SetOrigin { origin: Origin([1; 16]) },
                (4, _) => Op::SetWitness { envelope: statement(seq, &key("p", version), content).to_envelope() },
                (5, _) => {
                    let word = channel_statement(seq, "p", "stable", version, content);
                    Op::SetWitness { envelope: word.to_envelope() }
                }
                (6, _) => partial(content),
                (7, _) => whole(content),
                _ => {
                    journal.roll("w", 0).unwrap();
                    continue;
                }
            };
            let before = Arc::clone(journal.view());
            if journal.append(vec![op], "w", 0).is_err() {
                prop_assert_eq!(&before, journal.view());
            }
            prop_assert_eq!(&fixture.read().unwrap(), &**journal.view());
        }
        let after = Arc::clone(journal.view());
        drop(journal);
        let again = fixture.open().unwrap();
        prop_assert_eq!(&after, again.view());
    }
}
