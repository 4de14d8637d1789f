//! Archives that were cut, changed, or made to be read wrongly: nothing of them is ever named, and what is sound of them is
//! kept.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cairn_trust::Envelope;

use super::format::{self, ArchiveTotals, HEADER_LEN, ITEM_LEN, Tag};
use super::read::{ArchivePart, ArchiveReader};
use super::{ArchiveRequest, ImportOptions, Imported};
use crate::artifact::Artifact;
use crate::block::{BlockBuilder, Compressor};
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId, TreeId};
use crate::ingest::{IngestOptions, Input};
use crate::io::Sim;
use crate::object::{MemoryObjects, ObjectSource};
use crate::refs::{Origin, RefKey, RefStatement, Subject};
use crate::testing;
use crate::writer::{PublishOptions, Writer, WriterOptions};

const NAME: &str = "archive";

type Part = (Tag, Vec<u8>);
type Items = Vec<Part>;

fn writer() -> Writer {
    let options = WriterOptions { wait: Duration::ZERO, command: String::new(), who: String::new() };
    Writer::open_with(Arc::new(Sim::new(1)), Path::new("/srv/store"), &options).unwrap()
}

fn bytes_of(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Adds a file as a version of `app`, under the channel `stable`.
fn add(writer: &Writer, version: &str, bytes: &[u8]) -> ArtifactId {
    let reader = Box::new(std::io::Cursor::new(bytes.to_vec()));
    let input = Input::Reader { name: "file".to_owned(), executable: false, reader };
    let options = IngestOptions::package("app".parse().unwrap(), version.parse().unwrap());
    let ingested = writer.ingest(input, &options, &()).unwrap();
    let publish = PublishOptions { channel: Some("stable".parse().unwrap()), ..PublishOptions::default() };
    writer.publish(&ingested, &publish).unwrap();
    ingested.artifact
}

fn archive_of(writer: &Writer, specs: &[&str], since: &[&str]) -> Vec<u8> {
    writer.origin().unwrap();
    let parsed = |specs: &[&str]| specs.iter().map(|spec| spec.parse().unwrap()).collect();
    let request = ArchiveRequest { specs: parsed(specs), since: parsed(since), platform: None };
    let plan = writer.plan_archive(&request, &()).unwrap();
    let mut bytes = Vec::new();
    writer.write_archive(&plan, &mut bytes, Path::new(NAME), &()).unwrap();
    bytes
}

/// A small archive of two versions.
fn specimen() -> Vec<u8> {
    let from = writer();
    add(&from, "1.0", &bytes_of(1, 700));
    add(&from, "2.0", &[&bytes_of(1, 700)[..], &bytes_of(2, 300)].concat());
    archive_of(&from, &["app@1.0", "app@stable"], &[])
}

fn import(to: &Writer, mut bytes: &[u8]) -> Result<Imported> {
    let reader = ArchiveReader::open(&mut bytes, Path::new(NAME))?;
    to.import_archive(reader, &ImportOptions::default(), &())
}

/// The items of an archive, as tags and bodies, without the end.
fn items(archive: &[u8]) -> Items {
    let (mut at, mut items) = (HEADER_LEN, Vec::new());
    loop {
        let head: [u8; ITEM_LEN] = archive[at..at + ITEM_LEN].try_into().unwrap();
        let (tag, len) = format::decode_item(head).unwrap();
        at += ITEM_LEN;
        if tag == Tag::End {
            return items;
        }
        items.push((tag, archive[at..at + len].to_vec()));
        at += len;
    }
}

/// An archive of any items, whose end is true of them.
fn forged(items: &[Part]) -> Vec<u8> {
    forged_with(items, |_| {})
}

fn forged_with(items: &[Part], lie: impl FnOnce(&mut ArchiveTotals)) -> Vec<u8> {
    let mut bytes = format::header().to_vec();
    let mut totals = ArchiveTotals::default();
    for (tag, body) in items {
        bytes.extend(format::item(*tag, body.len()));
        bytes.extend(body);
        match tag {
            Tag::Base => totals.bases += 1,
            Tag::Statement => totals.statements += 1,
            Tag::Artifact => totals.artifacts += 1,
            Tag::Metadata => totals.metadata_frames += 1,
            Tag::Data => totals.data_frames += 1,
            Tag::End => {}
        }
        if matches!(tag, Tag::Metadata | Tag::Data)
            && let Ok((header, _)) = crate::block::FrameHeader::decode(body)
        {
            totals.chunks += header.chunks.len() as u64;
            totals.plain_bytes += u64::from(header.plain_len);
        }
    }
    lie(&mut totals);
    bytes.extend(format::item(Tag::End, format::END_LEN));
    bytes.extend(totals.encode());
    let hash = blake3::hash(&bytes);
    bytes.extend(hash.as_bytes());
    bytes
}

/// An archive of an artifact that somebody made up.
fn forged_artifact(objects: &MemoryObjects, ids: &[ChunkId], artifact: &Artifact) -> Vec<u8> {
    let encoded = artifact.encode();
    let id = ArtifactId::of(&encoded);
    let key = RefKey {
        name: artifact.name.clone(),
        version: artifact.version.clone(),
        platform: artifact.platform.clone(),
    };
    let subject = Subject::Ref { key, artifact: id };
    let statement = RefStatement { origin: Origin([7; 16]), seq: 1, time_ms: 1, subject };
    let mut builder = BlockBuilder::default();
    builder.push(id.into(), &encoded);
    for id in ids {
        builder.push(*id, &objects.get(id).unwrap());
    }
    forged(&[
        (Tag::Statement, statement.to_envelope().to_json().into_bytes()),
        (Tag::Artifact, id.0.to_vec()),
        (Tag::Metadata, builder.finish(&mut Compressor::default()).0.bytes),
    ])
}

fn refused(bytes: &[u8], because: &str) {
    let to = writer();
    let error = import(&to, bytes).unwrap_err();
    assert!(error.to_string().contains(because), "{because}: {error}");
    assert!(to.names().refs.is_empty() && to.names().witnessed.names() == 0, "{because}");
}

#[test]
fn an_archive_becomes_the_artifacts_that_it_was_made_of() {
    let from = writer();
    let (one, two) = (add(&from, "1.0", &bytes_of(1, 70_000)), add(&from, "2.0", &bytes_of(2, 90_000)));
    let bytes = archive_of(&from, &["app@1.0", "app@stable", "app@2.0"], &[]);
    let to = writer();
    let imported = import(&to, &bytes).unwrap();
    assert_eq!(imported.artifacts.iter().map(|found| found.artifact).collect::<Vec<_>>(), [one, two]);
    assert_eq!(imported.archive_bytes, bytes.len() as u64);
    assert_eq!((imported.totals.artifacts, imported.totals.statements, imported.totals.bases), (2, 3, 0));
    let (there, here) = (from.names(), to.names());
    for (key, record) in &there.refs {
        assert_eq!(here.refs[key].artifact, record.artifact);
        assert_eq!(here.statement_of(key), there.statement_of(key), "the origin's own words are passed on");
    }
    assert_eq!(here.channels, there.channels);
    assert!(to.verify(&Default::default(), &()).unwrap().is_clean());
    // Once more there is nothing new, and nothing changes.
    let seq = here.seq;
    let again = import(&to, &bytes).unwrap();
    assert!(
        again
            .artifacts
            .iter()
            .all(|found| found.new.chunks == 0 && found.published.as_ref().unwrap().unchanged)
    );
    assert_eq!(to.names().seq, seq);
    // What is made of what was imported is the same archive, and so are two that are made of one store.
    assert_eq!(archive_of(&from, &["app@1.0", "app@stable", "app@2.0"], &[]), bytes);
    assert_eq!(items(&archive_of(&to, &["app@1.0", "app@stable"], &[]))[..3], items(&bytes)[..3]);
}

#[test]
fn what_is_weighed_is_what_is_then_new() {
    let bytes = specimen();
    let to = writer();
    let weigh = |to: &Writer| {
        let mut stream = &bytes[..];
        let reader = ArchiveReader::open(&mut stream, Path::new(NAME)).unwrap();
        to.weigh_archive(reader, &ImportOptions::default(), &()).unwrap()
    };
    let weighed = weigh(&to);
    assert!(to.names().refs.is_empty() && to.packs().unwrap().is_empty());
    let imported = import(&to, &bytes).unwrap();
    for (weighed, imported) in weighed.artifacts.iter().zip(&imported.artifacts) {
        assert_eq!((weighed.new, weighed.published.clone()), (imported.new, None));
        assert!(imported.new.chunks > 0);
    }
    assert!(weigh(&to).artifacts.iter().all(|found| found.new.chunks == 0));
}

#[test]
fn an_archive_that_is_cut_anywhere_names_nothing() {
    let bytes = specimen();
    let to = writer();
    for len in 0..bytes.len() {
        let error = import(&to, &bytes[..len]).unwrap_err();
        match error {
            Error::Input { problem, .. } if len < 4 => assert!(problem.starts_with("it is "), "{problem}"),
            Error::Archive { offset, problem, .. } if len >= 4 => {
                assert!(problem.contains("cut short") && offset == len as u64, "{len}: {offset}: {problem}");
            }
            error => panic!("{len}: {error}"),
        }
        assert!(to.names().refs.is_empty());
    }
    // What came of it was kept, and so little is new of the whole one.
    let imported = import(&to, &bytes).unwrap();
    assert!(imported.artifacts.iter().all(|found| found.new.chunks == 0));
    assert_eq!(to.names().refs.len(), 2);
}

#[test]
fn an_archive_with_a_changed_byte_names_nothing() {
    let bytes = specimen();
    let to = writer();
    for at in 0..bytes.len() {
        for mask in [1, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= mask;
            let error = import(&to, &changed).unwrap_err();
            let is_told = matches!(
                error,
                Error::Archive { .. }
                    | Error::Input { .. }
                    | Error::NewerFormat { .. }
                    | Error::Absent { .. }
                    | Error::Incomplete { .. }
                    | Error::Conflict { .. }
            );
            assert!(is_told, "{at}: {error}");
            assert!(to.names().refs.is_empty(), "{at}");
        }
    }
    assert!(to.verify(&Default::default(), &()).unwrap().is_clean());
    refused(&[&bytes[..], b"x"].concat(), "goes on behind its end");
    refused(&[&bytes[..], &bytes[..]].concat(), "goes on behind its end");
}

#[test]
fn lengths_that_lie_cost_nothing() {
    /// Counts the bytes that it is asked for beyond what it has.
    struct Greedy<'a>(&'a [u8], usize);
    impl Read for Greedy<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.1 = self.1.max(buffer.len());
            self.0.read(buffer)
        }
    }
    for tag in 0..=9 {
        for len in [0, 1, 31, 33, 4096, 1 << 20, 1_200_000, u32::MAX] {
            let mut bytes = format::header().to_vec();
            bytes.push(tag);
            bytes.extend(len.to_le_bytes());
            let mut stream = Greedy(&bytes, 0);
            let opened = ArchiveReader::open(&mut stream, Path::new(NAME)).map(drop);
            assert!(matches!(opened, Err(Error::Archive { .. })), "{tag} {len}");
            assert!(stream.1 <= 128 << 10, "{tag} {len}: {} bytes were set aside", stream.1);
        }
    }
}

#[test]
fn archives_that_were_put_together_wrongly_are_refused() {
    let specimen = specimen();
    let whole = items(&specimen);
    assert!(forged(&whole) == specimen);
    let tags: Vec<Tag> = whole.iter().map(|(tag, _)| *tag).collect();
    let at = |tag: Tag| tags.iter().position(|found| *found == tag).unwrap();
    let (statement, artifact) = (at(Tag::Statement), at(Tag::Artifact));
    let edited = |edit: &dyn Fn(&mut Items)| {
        let mut items = whole.clone();
        edit(&mut items);
        forged(&items)
    };
    let base = (Tag::Base, format::encode_base(&key(), &ArtifactId([3; 32])));
    refused(&edited(&|items| items.truncate(artifact)), "does not say what it holds");
    refused(&edited(&|items| items.clear()), "does not say what it holds");
    refused(&edited(&|items| drop(items.drain(..artifact))), "does not say what it holds");
    refused(&edited(&|items| items.swap(artifact, artifact + 1)), "does not say what it holds");
    refused(&edited(&|items| items.insert(statement + 1, base.clone())), "not in its place");
    refused(&edited(&|items| items.push(base.clone())), "goes on behind its first artifact");
    refused(&edited(&|items| items.push(items[statement].clone())), "goes on behind its first artifact");
    refused(&edited(&|items| items.insert(statement, items[statement].clone())), "name one artifact");
    refused(&edited(&|items| items.swap(1, 2)), "points to no artifact");
    refused(&edited(&|items| items.push(items[artifact].clone())), "not in its order");
    refused(&edited(&|items| items[artifact].1 = vec![9; 32]), "not in its order");
    refused(
        &edited(&|items| items.insert(0, base.clone())),
        "which the archive leaves out, is not in the store",
    );
    refused(&edited(&|items| items.extend(std::iter::repeat_n(base.clone(), 65))), "goes on behind");
    refused(
        &edited(&|items| drop(items.splice(0..0, std::iter::repeat_n(base.clone(), 65)))),
        "not in its place",
    );
    // Its last artifact lacks, or a frame of it.
    let last = tags.iter().rposition(|tag| *tag == Tag::Artifact).unwrap();
    refused(&edited(&|items| items.truncate(last)), "does not count what came");
    for (frame, tag) in tags.iter().enumerate().skip(artifact + 1) {
        if *tag != Tag::Artifact {
            refused(&edited(&|items| drop(items.remove(frame))), "is not wholly in the store");
        }
    }
    for lie in [
        (|totals| totals.chunks += 1) as fn(&mut ArchiveTotals),
        |totals| totals.artifacts -= 1,
        |totals| totals.bases = 1,
        |totals| totals.statements += 1,
        |totals| totals.data_frames ^= 1,
        |totals| totals.metadata_frames ^= 1,
        |totals| totals.plain_bytes = u64::MAX,
    ] {
        refused(&forged_with(&whole, lie), "does not count what came");
    }
    let body = |text: &[u8]| edited(&|items| items[statement].1 = text.to_vec());
    refused(&body(b"{}"), "not the JSON of an envelope");
    let mut spaced = whole[statement].1.clone();
    spaced.insert(1, b' ');
    refused(&body(&spaced), "canonical");
    let other = Envelope::unsigned("text/plain", b"no statement".to_vec()).unwrap();
    refused(&body(other.to_json().as_bytes()), "the envelope holds");
}

#[test]
fn statements_have_a_bound() {
    let items: Items = (0..5000u32)
        .map(|number| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_le_bytes());
            let key = RefKey { version: number.to_string().parse().unwrap(), ..key() };
            let subject = Subject::Ref { key, artifact: ArtifactId(id) };
            let statement = RefStatement { origin: Origin([7; 16]), seq: 1, time_ms: 1, subject };
            (Tag::Statement, statement.to_envelope().to_json().into_bytes())
        })
        .collect();
    refused(&forged(&items), "more than 4,096 artifacts");
}

fn key() -> RefKey {
    RefKey {
        name: "base".parse().unwrap(),
        version: "1".parse().unwrap(),
        platform: "any/any".parse().unwrap(),
    }
}

#[test]
fn a_tree_that_is_larger_than_it_says_is_not_named() {
    let mut objects = MemoryObjects::new();
    let mut ids: Vec<ChunkId> = Vec::new();
    let mut tree = testing::tree(&mut objects, &[("file", testing::file(b"small"))]);
    ids.push(tree.into());
    // 2^40 entries in 40 directories.
    for _ in 0..40 {
        tree = testing::tree(&mut objects, &[("a", testing::dir(tree)), ("b", testing::dir(tree))]);
        ids.push(tree.into());
    }
    let bomb = |root: TreeId, entries| forged_artifact(&objects, &ids, &testing::artifact(root, entries));
    refused(&bomb(tree, 41), "more entries than there should be");
    refused(&bomb(tree, (1 << 41) + (1 << 40) - 2), "at most 33554432 are taken");
    let honest = Artifact { files: 1, bytes: 5, ..testing::artifact(TreeId(ids[0].0), 1) };
    let to = writer();
    import(&to, &forged_artifact(&objects, &ids[..1], &honest)).unwrap();
    assert_eq!(to.names().refs.len(), 1);
    for wrong in [
        Artifact { files: 0, bytes: 0, ..honest.clone() },
        Artifact { bytes: 6, ..honest.clone() },
        Artifact { entries: 2, ..honest.clone() },
        Artifact { chunks: 1, ..honest },
    ] {
        refused(&forged_artifact(&objects, &ids[..1], &wrong), "other files than it says");
    }
}

/// The statement of an artifact's name, with another name.
fn renamed(body: &[u8], change: impl FnOnce(&mut RefKey)) -> Vec<u8> {
    let mut statement = RefStatement::of(&Envelope::from_json(body).unwrap()).unwrap();
    let Subject::Ref { key, .. } = &mut statement.subject else { panic!("it is of a channel") };
    change(key);
    statement.to_envelope().to_json().into_bytes()
}

#[test]
fn all_artifacts_are_named_or_none() {
    let items = items(&specimen());
    let statements: Vec<usize> = (0..items.len()).filter(|at| items[*at].0 == Tag::Statement).collect();
    // The second one is not what the artifact says that it is: that shows when all has come.
    let mut forged_items = items.clone();
    let second = &mut forged_items[statements[1]].1;
    *second = renamed(second, |key| key.platform = "other/machine".parse().unwrap());
    // A channel goes with its version.
    forged_items.remove(statements[2]);
    let to = writer();
    let error = import(&to, &forged(&forged_items)).unwrap_err();
    assert!(matches!(&error, Error::Conflict { .. }), "{error}");
    assert!(to.names().refs.is_empty());
    let mut twice = items.clone();
    twice[statements[1]].1 = renamed(&twice[statements[1]].1, |key| key.version = "1.0".parse().unwrap());
    refused(&forged(&twice), "two artifacts of one name");
    let mut channels = items;
    let channel = channels[statements[2]].clone();
    channels.insert(statements[2], channel);
    refused(&forged(&channels), "one channel twice");
}

#[test]
fn what_another_has_is_left_out_and_asked_for() {
    let from = writer();
    let base = add(&from, "1.0", &bytes_of(1, 400_000));
    let next = add(&from, "2.0", &[&bytes_of(1, 400_000)[..], b"more"].concat());
    let (whole, rest) = (archive_of(&from, &["app@2.0"], &[]), archive_of(&from, &["app@2.0"], &["app@1.0"]));
    assert!(rest.len() * 3 < whole.len(), "{} of {}", rest.len(), whole.len());
    let to = writer();
    let error = import(&to, &rest).unwrap_err();
    assert!(
        matches!(&error, Error::Absent { what } if what.contains("app@1.0") && what.contains(&base.short())),
        "{error}"
    );
    import(&to, &archive_of(&from, &["app@1.0"], &[])).unwrap();
    let imported = import(&to, &rest).unwrap();
    assert_eq!((imported.bases[0].artifact, imported.artifacts[0].artifact), (base, next));
    assert!(to.verify(&Default::default(), &()).unwrap().is_clean());
    // What is here wholly needs nothing else.
    let other = writer();
    import(&other, &whole).unwrap();
    assert_eq!(import(&other, &rest).unwrap().artifacts[0].new.chunks, 0);
}

#[test]
fn an_older_word_is_refused_before_anything_is_read() {
    let from = writer();
    add(&from, "1.0", &bytes_of(1, 900));
    let old = archive_of(&from, &["app@stable"], &[]);
    add(&from, "2.0", &bytes_of(2, 900));
    let new = archive_of(&from, &["app@stable"], &[]);
    let to = writer();
    import(&to, &new).unwrap();
    assert!(matches!(import(&to, &old), Err(Error::RolledBack { .. })));
    // The version that it held is another matter.
    import(&to, &archive_of(&from, &["app@1.0"], &[])).unwrap();
    assert_eq!(to.names().channels.values().map(ToString::to_string).collect::<Vec<_>>(), ["2.0"]);
    // Other content of a version that is here: only if it may be replaced.
    let other = writer();
    add(&other, "2.0", &bytes_of(3, 900));
    let error = import(&other, &new).unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    let mut stream = &new[..];
    let reader = ArchiveReader::open(&mut stream, Path::new(NAME)).unwrap();
    let replaced = other.import_archive(reader, &ImportOptions { replace: true }, &()).unwrap();
    assert!(replaced.artifacts[0].published.as_ref().unwrap().replaced.is_some());
}

#[test]
fn other_files_are_called_by_their_names() {
    for (bytes, what) in [
        (&b""[..], "it is empty"),
        (b"\x1f\x8b\x08rest of it", "gzip"),
        (b"\x28\xb5\x2f\xfdrest of it", "zstd"),
        (b"CPK1\x01\0\0", "pack of a cairn store"),
        (b"cairn store\nformat 1\n", "folder"),
        (b"\x7fELF and more than sixteen bytes", "program"),
        (b"plain text, long enough for a header", "no cairn archive"),
    ] {
        let mut stream = bytes;
        match ArchiveReader::open(&mut stream, Path::new(NAME)).map(drop) {
            Err(Error::Input { path, problem }) => {
                assert!(path == Path::new(NAME) && problem.contains(what), "{problem}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
    let mut newer = specimen();
    newer[4] = 2;
    assert!(matches!(import(&writer(), &newer), Err(Error::NewerFormat { found: 2, supported: 1, .. })));
}

#[test]
fn parts_come_in_the_order_in_which_they_were_written() {
    let bytes = specimen();
    let mut stream = &bytes[..];
    let mut reader = ArchiveReader::open(&mut stream, Path::new(NAME)).unwrap();
    let (mut artifacts, mut frames) = (Vec::new(), 0);
    while let Some(part) = reader.part().unwrap() {
        match part {
            ArchivePart::Artifact(artifact) => artifacts.push(artifact),
            ArchivePart::Frame(..) => frames += 1,
        }
    }
    assert_eq!(artifacts, reader.artifacts().iter().map(|about| about.artifact).collect::<Vec<_>>());
    let totals = reader.totals();
    assert_eq!(frames, totals.metadata_frames + totals.data_frames);
    assert_eq!((totals.artifacts, reader.offset()), (2, bytes.len() as u64));
    assert!(reader.part().unwrap().is_none());
}
