//! The journal on a real file system: what is appended is there, and what is wrong is named.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Journal, Op, log};
use crate::id::ArtifactId;
use crate::io::{Io, Os};
use crate::refs::{ChannelKey, Platform, RefKey, RefRecord, View};
use crate::{Error, Kind};

pub(super) fn key(name: &str, version: &str) -> RefKey {
    let platform = Platform::any();
    RefKey { name: name.parse().unwrap(), version: version.parse().unwrap(), platform }
}

pub(super) fn record(artifact: ArtifactId) -> RefRecord {
    RefRecord { artifact, files: 1, bytes: 2, chunks: 3, new_bytes: 4, stored_bytes: 5, time_ms: 6 }
}

pub(super) fn set(name: &str, version: &str, old: Option<&[u8]>, new: &[u8]) -> Op {
    let old = old.map(ArtifactId::of);
    Op::SetRef { key: key(name, version), old, record: record(ArtifactId::of(new)) }
}

pub(super) fn channel(name: &str, channel: &str) -> ChannelKey {
    let platform = Platform::any();
    ChannelKey { name: name.parse().unwrap(), channel: channel.parse().unwrap(), platform }
}

pub(super) struct Fixture {
    _folder: tempfile::TempDir,
    pub(super) dir: PathBuf,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("journal");
        Self { _folder: folder, dir }
    }

    pub(super) fn open(&self) -> Result<Journal, Error> {
        Journal::open_write(Arc::new(Os), &self.dir)
    }

    pub(super) fn read(&self) -> Result<View, Error> {
        Journal::open_read(&Os, &self.dir).map(|(view, _)| view)
    }

    pub(super) fn seqs(&self) -> Result<Vec<u64>, Error> {
        log(Arc::new(Os), &self.dir)?.map(|record| record.map(|record| record.seq)).collect()
    }

    pub(super) fn segments(&self) -> Vec<PathBuf> {
        let mut names: Vec<String> =
            Os.list(&self.dir).unwrap().into_iter().map(|entry| entry.name).collect();
        names.sort();
        names.iter().map(|name| self.dir.join(name)).collect()
    }
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Os.read(path).unwrap();
    change(&mut bytes);
    #[expect(clippy::disallowed_methods, reason = "the test damages a file")]
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_appended_is_there_for_readers_and_the_next_writer() {
    let fixture = Fixture::new();
    assert_eq!(fixture.read().unwrap(), View::default());
    let mut journal = fixture.open().unwrap();
    let stable = channel("p", "stable");
    let version = key("p", "1").version;
    let both = vec![
        set("p", "1", None, b"a"),
        Op::SetChannel { key: stable.clone(), old: None, version: version.clone() },
    ];
    let seq = journal.append(both, "me@here", 77).unwrap();
    assert_eq!(seq, 3);
    assert_eq!(journal.append(Vec::new(), "me@here", 78).unwrap(), 3);
    journal.append(vec![set("p", "1", Some(b"a"), b"b")], "you@there", 79).unwrap();
    assert_eq!(fixture.read().unwrap(), **journal.view());
    assert_eq!(journal.view().refs[&key("p", "1")].artifact, ArtifactId::of(b"b"));
    let expected = Arc::clone(journal.view());
    drop(journal);
    let mut journal = fixture.open().unwrap();
    assert_eq!(*journal.view(), expected);
    let remove = vec![
        Op::RemoveChannel { key: stable, old: version },
        Op::RemoveRef { key: key("p", "1"), old: ArtifactId::of(b"b") },
    ];
    assert_eq!(journal.append(remove, "me@here", 80).unwrap(), 6);
    assert_eq!(fixture.read().unwrap(), View { seq: 6, ..View::default() });
    let records: Vec<_> = journal.log().unwrap().map(Result::unwrap).collect();
    let lines: Vec<_> = records.iter().map(|r| (r.seq, r.time_ms, r.who.as_str())).collect();
    let (me, you) = ("me@here", "you@there");
    assert_eq!(lines, [(2, 77, me), (3, 77, me), (4, 79, you), (5, 80, me), (6, 80, me)]);
    assert_eq!(records[2].op, set("p", "1", Some(b"a"), b"b"));
}

#[test]
fn an_operation_that_expects_something_else_is_a_conflict_and_changes_nothing() {
    let fixture = Fixture::new();
    let mut journal = fixture.open().unwrap();
    journal.append(vec![set("p", "1", None, b"a")], "w", 0).unwrap();
    let before = Arc::clone(journal.view());
    let group = vec![set("q", "1", None, b"q"), set("p", "1", Some(b"z"), b"b")];
    let error = journal.append(group, "w", 0).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.to_string().starts_with("p@1 for any/any: it names artifact "), "{error}");
    assert!(journal.append(vec![set("p", "1", None, b"b")], "w", 0).is_err());
    let missing = Op::RemoveRef { key: key("x", "1"), old: ArtifactId::of(b"x") };
    assert!(journal.append(vec![missing], "w", 0).unwrap_err().to_string().contains("names nothing"));
    assert!(matches!(
        journal.append(vec![set("r", "1", None, b"r")], &"w".repeat(256), 0),
        Err(Error::Invalid { .. })
    ));
    assert_eq!(*journal.view(), before);
    assert_eq!(fixture.read().unwrap(), *before);
    journal.append(vec![set("q", "1", None, b"q")], "w", 0).unwrap();
}

#[test]
fn segments_roll_and_the_newest_alone_says_what_is() {
    let fixture = Fixture::new();
    let mut journal = fixture.open().unwrap().rolling_at(1000);
    for n in 0..200 {
        let version = format!("{n}.0");
        journal.append(vec![set("p", &version, None, version.as_bytes())], "w", n).unwrap();
    }
    let segments = fixture.segments();
    // Segments double as the checkpoint grows, so that checkpoints do not dominate.
    assert!((4..20).contains(&segments.len()), "{}", segments.len());
    assert_eq!(fixture.read().unwrap(), **journal.view());
    let seqs = fixture.seqs().unwrap();
    assert_eq!(seqs.len(), 200);
    assert_eq!(seqs.last(), Some(&journal.view().seq));
    assert_eq!(journal.view().seq, 200 + segments.len() as u64);
    let after: Vec<u64> = journal.log_after(seqs[150]).unwrap().map(|record| record.unwrap().seq).collect();
    assert_eq!(after, seqs[151..]);
    assert_eq!(journal.log_after(u64::MAX).unwrap().count(), 0);

    for old in &segments[..segments.len() - 1] {
        Os.remove(old).unwrap();
    }
    assert_eq!(fixture.read().unwrap(), **journal.view());
    assert_eq!(*fixture.open().unwrap().view(), *journal.view());
}

#[test]
fn readers_learn_cheaply_that_nothing_changed() {
    let fixture = Fixture::new();
    let (_, nothing) = Journal::open_read(&Os, &fixture.dir).unwrap();
    assert_eq!(Journal::refresh(&Os, &fixture.dir, &nothing).unwrap(), None);
    let mut journal = fixture.open().unwrap();
    let (_, before) = Journal::refresh(&Os, &fixture.dir, &nothing).unwrap().unwrap();
    assert_eq!(Journal::refresh(&Os, &fixture.dir, &before).unwrap(), None);
    journal.append(vec![set("p", "1", None, b"a")], "w", 0).unwrap();
    let (view, after) = Journal::refresh(&Os, &fixture.dir, &before).unwrap().unwrap();
    assert_eq!(view, **journal.view());
    assert_eq!(Journal::refresh(&Os, &fixture.dir, &after).unwrap(), None);
    // The beginning of a group that is being written is no change.
    edit(&fixture.segments()[0], |bytes| bytes.extend(b"CJGR"));
    assert_eq!(Journal::refresh(&Os, &fixture.dir, &after).unwrap(), None);
}

#[test]
fn a_torn_end_is_not_seen_and_cut_off() {
    let fixture = Fixture::new();
    let mut journal = fixture.open().unwrap();
    journal.append(vec![set("p", "1", None, b"a")], "w", 0).unwrap();
    let before = fixture.read().unwrap();
    let segment = fixture.segments().remove(0);
    let whole = Os.read(&segment).unwrap();
    journal.append(vec![set("p", "2", None, b"b")], "w", 0).unwrap();
    drop(journal);
    let longer = Os.read(&segment).unwrap();
    for len in whole.len()..longer.len() {
        for zeros in [0, 10, 5000] {
            edit(&segment, |bytes| {
                *bytes = longer[..len].to_vec();
                bytes.resize(len + zeros, 0);
            });
            assert_eq!(fixture.read().unwrap(), before);
            assert_eq!(fixture.seqs().unwrap(), [2]);
            assert_eq!(**fixture.open().unwrap().view(), before);
            assert_eq!(Os.read(&segment).unwrap(), whole);
        }
    }
}

#[test]
fn a_segment_that_was_never_begun_is_removed() {
    let fixture = Fixture::new();
    let mut journal = fixture.open().unwrap();
    journal.append(vec![set("p", "1", None, b"a")], "w", 0).unwrap();
    let before = fixture.read().unwrap();
    journal.roll("w", 0).unwrap();
    drop(journal);
    let newest = fixture.segments().remove(1);
    edit(&newest, |bytes| {
        let len = bytes.len();
        bytes[50..len].fill(0);
    });
    let unfinished = newest.with_extension("journal.part");
    #[expect(clippy::disallowed_methods, reason = "the test leaves what a crash leaves")]
    fs::write(&unfinished, b"CJNL").unwrap();
    assert_eq!(fixture.read().unwrap(), before);
    assert_eq!(fixture.seqs().unwrap(), [2]);
    let mut journal = fixture.open().unwrap();
    assert_eq!(**journal.view(), before);
    assert_eq!(fixture.segments().len(), 1);
    journal.append(vec![set("p", "3", None, b"c")], "w", 0).unwrap();
    assert_eq!(fixture.seqs().unwrap(), [2, 3]);

    journal.roll("w", 0).unwrap();
    let before = journal.view().refs.clone();
    drop(journal);
    let newest = fixture.segments().remove(1);

    // With records missing before it, it is damage: it could only be begun after they were durable.
    edit(&newest, |bytes| bytes.truncate(3));
    assert_eq!(fixture.read().unwrap().refs, before);
    let oldest = fixture.segments().remove(0);
    edit(&oldest, |bytes| bytes.truncate(bytes.len() - 1));
    assert_eq!(fixture.read().unwrap_err().kind(), Kind::Damaged);
}

#[test]
fn damage_is_named_with_file_and_offset() {
    let fixture = Fixture::new();
    let mut journal = fixture.open().unwrap();
    for n in 0..3u8 {
        journal.append(vec![set("p", &n.to_string(), None, &[n])], "w", 0).unwrap();
    }
    drop(journal);
    let segment = fixture.segments().remove(0);
    let good = Os.read(&segment).unwrap();
    for position in (0..good.len()).step_by(3) {
        edit(&segment, |bytes| {
            bytes.clone_from(&good);
            bytes[position] ^= 0x10;
        });
        let expected = |error: Error| match error {
            Error::Damaged { what, offset: Some(offset), .. } => {
                assert!(what.contains("0000000000000001.journal") && offset <= position as u64, "{what}");
            }
            other => panic!("byte {position}: {other}"),
        };
        expected(fixture.open().err().unwrap());
        expected(fixture.seqs().unwrap_err());
    }
    assert_eq!(fixture.read().unwrap_err().kind(), Kind::Damaged);
}

#[test]
fn damage_in_an_older_segment_stops_the_log_alone() {
    let fixture = Fixture::new();
    let mut journal = fixture.open().unwrap();
    for n in 0..3u8 {
        journal.append(vec![set("p", &n.to_string(), None, &[n])], "w", 0).unwrap();
        if n < 2 {
            journal.roll("w", 0).unwrap();
        }
    }
    let segments = fixture.segments();
    assert_eq!(segments.len(), 3);
    edit(&segments[1], |bytes| bytes.truncate(bytes.len() - 1));
    assert_eq!(fixture.read().unwrap(), **journal.view());
    let log: Vec<_> = journal.log().unwrap().collect();
    assert_eq!(log.len(), 2);
    assert_eq!(log[1].as_ref().unwrap_err().kind(), Kind::Damaged);
    Os.remove(&segments[1]).unwrap();
    let error = fixture.seqs().unwrap_err();
    assert!(error.to_string().contains("begins where record 3 is due"), "{error}");
}

#[test]
fn readers_beside_a_writer_see_whole_groups_only() {
    let fixture = Fixture::new();
    let mut journal = fixture.open().unwrap().rolling_at(2000);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let view = fixture.read().unwrap();
                assert!(view.seq >= last);
                assert_eq!(view.refs.len() % 2, 0, "half a group was seen");
                last = view.seq;
                fixture.seqs().unwrap();
            }
        });
        for n in 0..150 {
            let version = n.to_string();
            journal
                .append(vec![set("p", &version, None, b"a"), set("q", &version, None, b"a")], "w", n)
                .unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
