//! The journal's bytes, which later versions have to read for ever.

use std::fs;
use std::path::Path;

use super::exchange_tests::{channel_statement, signed, statement};
use super::frame;
use super::profile_tests::{add, delta};
use super::record::{Body, Stored};
use super::tests::{Fixture, channel, key, record, set};
use super::{Journal, Op};
use crate::id::ArtifactId;
use crate::io::{Io, Os};
use crate::refs::{Origin, ProfileName, RefStatement, View};
use crate::{Error, Kind};

fn write(dir: &Path, name: &str, bytes: &[u8]) {
    Os.create_dir_all(dir).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test brings a file of its own")]
    fs::write(dir.join(name), bytes).unwrap();
}

pub(super) fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn the_bytes_are_those_that_were_agreed_on() {
    let fixture = Fixture::new();
    let mut journal = fixture.open().unwrap();
    let stable = channel("p", "stable");
    let version = key("p", "1").version;
    let ops = vec![
        set("p", "1", None, b"a"),
        set("p", "1", Some(b"a"), b"b"),
        Op::SetChannel { key: stable.clone(), old: None, version: version.clone() },
        Op::RemoveChannel { key: stable, old: version },
    ];
    journal.append(ops, "me@here", 1_700_000_000_000).unwrap();
    journal.append(vec![Op::RemoveRef { key: key("p", "1"), old: ArtifactId::of(b"b") }], "w", 300).unwrap();
    let profile = ProfileName::default();
    let show = |old, number| Op::SetCurrent { profile: profile.clone(), old, number };
    let ops = vec![
        add(1, None, delta(&[("p", None, Some("1"))])),
        show(None, 1),
        add(2, Some(1), delta(&[("p", Some("1"), None), ("q", None, Some("2"))])),
        show(Some(1), 2),
        Op::Pin { profile: profile.clone(), number: 1 },
        Op::Unpin { profile: profile.clone(), number: 1 },
        Op::RemoveGeneration { profile: profile.clone(), number: 1 },
        add(3, Some(2), delta(&[("q", Some("2"), Some("3"))])),
        Op::Pin { profile: profile.clone(), number: 3 },
    ];
    journal.append(ops, "w", 301).unwrap();
    let stable = Op::SetChannel { key: channel("r", "stable"), old: None, version: key("r", "1").version };
    let ops = vec![
        Op::SetOrigin { origin: Origin([0xab; 16]) },
        set("r", "1", None, b"c"),
        Op::SetWitness { envelope: signed(statement(300, &key("r", "1"), b"c")) },
        stable,
        Op::SetWitness { envelope: channel_statement(301, "r", "stable", "1", b"c").to_envelope() },
        Op::SetPartial { artifact: ArtifactId::of(b"c") },
        set("r", "2", None, b"d"),
        Op::SetPartial { artifact: ArtifactId::of(b"d") },
        Op::SetWhole { artifact: ArtifactId::of(b"d") },
    ];
    journal.append(ops, "w", 302).unwrap();
    journal.roll("w", 303).unwrap();
    let segments = fixture.segments();
    let bytes = Os.read(&segments[0]).unwrap();
    let hex: String = bytes[..76].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN_BEGINNING);
    for (segment, golden) in segments.iter().zip(GOLDEN_WHOLE) {
        let bytes = Os.read(segment).unwrap();
        assert_eq!((bytes.len(), ArtifactId::of(&bytes).to_string().as_str()), golden);
    }
}

/// Segment header; the header, payload and end mark of the first checkpoint.
const GOLDEN_BEGINNING: &str = concat!(
    "434a4e4c030000000100000000000000000000005a70bffa",
    "434a475210000000010000000000000001000000b76be5950000000096fe9e99",
    "01010005636169726e00000000000000",
    "434a4745",
);
const GOLDEN_WHOLE: [(usize, &str); 2] = [
    (1442, "bbb74a366a02dce7c80b392a0393f64457d5a7311d7acca1fa37e4df414bcb50"),
    (642, "810829d7cc81e87754f1d676e6adadf4a2495b36e08dc73ef0732570fe1e1bac"),
];

/// A segment as cairn 0.1 wrote it: a checkpoint with `p@1` and a channel, and `p@2` after it.
const VERSION_1: &str = concat!(
    "434a4e4c01000000040000000000000000000000a799fdef",
    "434a475258000000040000000000000001000000b71fcd1c00000000d796f4a6010481d095ffbc31076d6540686572650001",
    "0170013107616e792f616e7917762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f010203040506",
    "01017006737461626c6507616e792f616e790131434a4745434a47524500000005000000000000000100000045bd79ef0000",
    "00007c9be4cf010582d095ffbc31076d65406865726501000170013207616e792f616e790010e5cf3d3c8a4f9f3468c8cc58",
    "eea84892a22fdadbc1acb22410190044c1d553010203040506434a4745",
);

/// A segment as version 2 of the format has it: a checkpoint with `p@1`, a channel and a profile that shows the second of two
/// generations, the first pinned; then `p@2`, and the first generation shown.
pub(super) const VERSION_2: &str = concat!(
    "434a4e4c02000000090000000000000000000000d5aad186434a47520e010000090000000000000001000000679ff3e60000",
    "00004c2471e6010981d095ffbc31086d6540746865726500010170013107616e792f616e7917762fddd969a453925d65717a",
    "c3eea21320b66b54342fde15128d6caf21215f01020304050601017006737461626c6507616e792f616e7901310107646566",
    "61756c7402020201000701017000013107616e792f616e79d63bd9a826af91c1fea371965a64e11ee20f13e46b5f52c59901",
    "136605b3a487010372756e0762696e2f72756e000101700201010701017100013207616e792f616e79813e9b729141e7f385",
    "afa0a2d0df3e6c3789e427ffe4aeef566a565bc8f2fe3d010372756e0762696e2f72756e010170d63bd9a826af91c1fea371",
    "965a64e11ee20f13e46b5f52c59901136605b3a4870101710101434a4745434a4752630000000a0000000000000002000000",
    "f2d8d15900000000d1cbf464020a82d095ffbc31086d6540746865726501000170013207616e792f616e790010e5cf3d3c8a",
    "4f9f3468c8cc58eea84892a22fdadbc1acb22410190044c1d5530102030405060b82d095ffbc31086d654074686572650105",
    "0764656661756c74010201434a4745",
);

#[test]
fn a_journal_of_version_2_is_read_and_goes_on_in_a_new_segment() {
    let fixture = Fixture::new();
    let old = unhex(VERSION_2);
    write(&fixture.dir, "0000000000000009.journal", &old);
    let view = fixture.read().unwrap();
    assert_eq!(view.seq, 11);
    assert_eq!(view.refs[&key("p", "1")], record(ArtifactId::of(b"a")));
    assert_eq!(view.refs[&key("p", "2")], record(ArtifactId::of(b"b")));
    assert_eq!(view.channels[&channel("p", "stable")], key("p", "1").version);
    let profile = &view.profiles[&ProfileName::default()];
    assert_eq!((profile.current, profile.last, profile.generations.len(), profile.pins.len()), (1, 2, 2, 1));
    assert!(view.origin.is_none() && view.witnessed.names() == 0 && view.partial.is_empty());
    assert!(view.statement_of(&key("p", "1")).is_none());
    // Opening it to write changes nothing: the last release still reads it.
    let mut journal = fixture.open().unwrap();
    assert_eq!(**journal.view(), view);
    assert_eq!(journal.append(Vec::new(), "w", 0).unwrap(), 11);
    assert_eq!(fixture.segments().len(), 1);
    let origin = Origin([5; 16]);
    assert_eq!(journal.append(vec![Op::SetOrigin { origin }], "w", 0).unwrap(), 13);
    assert_eq!((fixture.segments().len(), Os.read(&fixture.segments()[0]).unwrap()), (2, old));
    assert_eq!(fixture.seqs().unwrap(), [10, 11, 13]);
    // What was named in the checkpoint is stated as of the origin, what was named after it as of its own change.
    let stated = |view: &View, version| {
        let envelope = view.statement_of(&key("p", version)).unwrap();
        RefStatement::of(&envelope).unwrap().seq
    };
    let read = fixture.read().unwrap();
    assert_eq!((stated(&read, "1"), stated(&read, "2")), (13, 10));
    assert_eq!(read, **journal.view());
    journal.roll("w", 0).unwrap();
    let read = fixture.read().unwrap();
    assert_eq!((stated(&read, "1"), stated(&read, "2")), (13, 10));
    assert_eq!(read, **journal.view());
}

#[test]
fn a_journal_of_version_1_is_read_and_goes_on_in_a_new_segment() {
    let fixture = Fixture::new();
    let old = unhex(VERSION_1);
    write(&fixture.dir, "0000000000000004.journal", &old);
    let view = fixture.read().unwrap();
    assert_eq!(view.seq, 5);
    assert_eq!(view.refs[&key("p", "1")], record(ArtifactId::of(b"a")));
    assert_eq!(view.refs[&key("p", "2")], record(ArtifactId::of(b"b")));
    assert_eq!(view.channels[&channel("p", "stable")], key("p", "1").version);
    assert!(view.profiles.is_empty());
    // Opening it to write changes nothing: the last release still reads it.
    let mut journal = fixture.open().unwrap();
    assert_eq!(**journal.view(), view);
    assert_eq!(journal.append(Vec::new(), "w", 0).unwrap(), 5);
    assert_eq!(fixture.segments().len(), 1);
    let added = vec![add(1, None, delta(&[("p", None, Some("1"))]))];
    assert_eq!(journal.append(added, "w", 0).unwrap(), 7);
    let segments = fixture.segments();
    assert_eq!(segments.len(), 2);
    assert_eq!(Os.read(&segments[0]).unwrap(), old);
    assert_eq!(fixture.seqs().unwrap(), [5, 7]);
    assert_eq!(fixture.read().unwrap(), **journal.view());
    drop(journal);
    let mut journal = fixture.open().unwrap();
    journal.append(vec![set("p", "3", None, b"c")], "w", 0).unwrap();
    assert_eq!(fixture.segments().len(), 2);
}

#[test]
fn a_torn_end_of_version_1_is_cut_off() {
    let fixture = Fixture::new();
    let old = unhex(VERSION_1);
    write(&fixture.dir, "0000000000000004.journal", &old[..old.len() - 3]);
    let mut journal = fixture.open().unwrap();
    assert_eq!((journal.view().seq, journal.view().refs.len()), (4, 1));
    assert_eq!(journal.append(vec![set("p", "3", None, b"c")], "w", 0).unwrap(), 6);
    assert_eq!(fixture.seqs().unwrap(), [6]);
}

#[test]
fn a_change_of_a_later_version_is_damage_in_an_earlier_one() {
    let fixture = Fixture::new();
    // Changes have the same bytes in all.
    let change = |seq, op| Stored { seq, time_ms: 0, who: "w".to_owned(), body: Body::Change(op) };
    let of_version_3 = || {
        [
            Op::SetOrigin { origin: Origin([5; 16]) },
            Op::SetWitness { envelope: statement(7, &key("p", "1"), b"a").to_envelope() },
            Op::SetPartial { artifact: ArtifactId::of(b"a") },
            Op::SetWhole { artifact: ArtifactId::of(b"a") },
        ]
    };
    for op in of_version_3() {
        let mut bytes = unhex(VERSION_2);
        bytes.extend(frame::group(&[change(12, op)], 9999).unwrap());
        write(&fixture.dir, "0000000000000009.journal", &bytes);
        let error = fixture.read().unwrap_err();
        assert!(error.to_string().contains("a change of a later version"), "{error}");
    }
    Os.remove(&fixture.dir.join("0000000000000009.journal")).unwrap();
    let later = [
        add(1, None, delta(&[])),
        Op::SetCurrent { profile: ProfileName::default(), old: None, number: 1 },
        Op::RemoveGeneration { profile: ProfileName::default(), number: 1 },
        Op::Pin { profile: ProfileName::default(), number: 1 },
        Op::Unpin { profile: ProfileName::default(), number: 1 },
    ];
    for op in later.into_iter().chain(of_version_3()) {
        let mut bytes = unhex(VERSION_1);
        bytes.extend(frame::group(&[change(6, op)], 9999).unwrap());
        write(&fixture.dir, "0000000000000004.journal", &bytes);
        let error = fixture.read().unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged);
        assert!(error.to_string().contains("a change of a later version"), "{error}");
    }
    let mut bytes = unhex(VERSION_1);
    bytes.extend(frame::group(&[change(6, set("p", "3", None, b"c"))], 9999).unwrap());
    write(&fixture.dir, "0000000000000004.journal", &bytes);
    assert_eq!(fixture.read().unwrap().refs.len(), 3);
}

#[test]
fn an_unknown_version_is_refused_by_name() {
    let fixture = Fixture::new();
    drop(fixture.open().unwrap());
    let segment = fixture.segments().remove(0);
    let whole = Os.read(&segment).unwrap();
    let with_version = |version| {
        let mut bytes = whole.clone();
        bytes[4] = version;
        let crc = crc32c::crc32c(&bytes[..20]);
        bytes[20..24].copy_from_slice(&crc.to_le_bytes());
        write(&fixture.dir, "0000000000000001.journal", &bytes);
    };
    with_version(4);
    assert!(matches!(fixture.read(), Err(Error::NewerFormat { found: 4, supported: 3, .. })));
    assert!(matches!(fixture.open(), Err(Error::NewerFormat { .. })));
    with_version(0);
    assert_eq!(fixture.read().unwrap_err().kind(), Kind::Damaged);
    // A checkpoint of version 3 is none of an earlier one.
    for earlier in [1, 2] {
        with_version(earlier);
        assert_eq!(fixture.read().unwrap_err().kind(), Kind::Damaged);
    }
    with_version(3);
    assert_eq!(
        **Journal::open_write(std::sync::Arc::new(Os), &fixture.dir).unwrap().view(),
        fixture.read().unwrap()
    );
}
