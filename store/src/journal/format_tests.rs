//! The journal's bytes, which later versions have to read for ever.

use std::fs;
use std::path::Path;

use super::frame;
use super::profile_tests::{add, delta};
use super::record::{Body, Stored};
use super::tests::{Fixture, channel, key, record, set};
use super::{Journal, Op};
use crate::id::ArtifactId;
use crate::io::{Io, Os};
use crate::refs::ProfileName;
use crate::{Error, Kind};

fn write(dir: &Path, name: &str, bytes: &[u8]) {
    Os.create_dir_all(dir).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test brings a file of its own")]
    fs::write(dir.join(name), bytes).unwrap();
}

fn unhex(text: &str) -> Vec<u8> {
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
    journal.roll("w", 302).unwrap();
    let segments = fixture.segments();
    let bytes = Os.read(&segments[0]).unwrap();
    let hex: String = bytes[..73].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN_BEGINNING);
    for (segment, golden) in segments.iter().zip(GOLDEN_WHOLE) {
        let bytes = Os.read(segment).unwrap();
        assert_eq!((bytes.len(), ArtifactId::of(&bytes).to_string().as_str()), golden);
    }
}

/// Segment header; the header, payload and end mark of the first checkpoint.
const GOLDEN_BEGINNING: &str = concat!(
    "434a4e4c02000000010000000000000000000000a47db308",
    "434a47520d00000001000000000000000100000042bbcea10000000099f4ebfd",
    "01010005636169726e00000000",
    "434a4745",
);
const GOLDEN_WHOLE: [(usize, &str); 2] = [
    (886, "8075e434494745f64c3d7ba3ab7edb29a9527a38cb445b8c497c42f0953eefaf"),
    (249, "b81fdac55ca85c3dbd96e2b1f90e8e82cd450b3c837f59782438e361251e9dab"),
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
fn a_change_of_a_later_version_is_damage_in_version_1() {
    let fixture = Fixture::new();
    // Changes have the same bytes in both.
    let change = |op| Stored { seq: 6, time_ms: 0, who: "w".to_owned(), body: Body::Change(op) };
    let later = [
        add(1, None, delta(&[])),
        Op::SetCurrent { profile: ProfileName::default(), old: None, number: 1 },
        Op::RemoveGeneration { profile: ProfileName::default(), number: 1 },
        Op::Pin { profile: ProfileName::default(), number: 1 },
        Op::Unpin { profile: ProfileName::default(), number: 1 },
    ];
    for op in later {
        let mut bytes = unhex(VERSION_1);
        bytes.extend(frame::group(&[change(op)], 9999).unwrap());
        write(&fixture.dir, "0000000000000004.journal", &bytes);
        let error = fixture.read().unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged);
        assert!(error.to_string().contains("a change of a later version"), "{error}");
    }
    let mut bytes = unhex(VERSION_1);
    bytes.extend(frame::group(&[change(set("p", "3", None, b"c"))], 9999).unwrap());
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
    with_version(3);
    assert!(matches!(fixture.read(), Err(Error::NewerFormat { found: 3, supported: 2, .. })));
    assert!(matches!(fixture.open(), Err(Error::NewerFormat { .. })));
    with_version(0);
    assert_eq!(fixture.read().unwrap_err().kind(), Kind::Damaged);
    // A checkpoint of version 2 is none of version 1.
    with_version(1);
    assert_eq!(fixture.read().unwrap_err().kind(), Kind::Damaged);
    with_version(2);
    assert_eq!(
        **Journal::open_write(std::sync::Arc::new(Os), &fixture.dir).unwrap().view(),
        fixture.read().unwrap()
    );
}
