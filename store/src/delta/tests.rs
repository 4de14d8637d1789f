//! Deltas from one store to another: whatever was edited arrives as it is, and what does not hold is refused.

#![expect(clippy::disallowed_methods, reason = "files of tests")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::blocks::Decoder;
use crate::id::{ArtifactId, ChunkId};
use crate::ingest::{IngestOptions, Input};
use crate::intake::VerifiedFrame;
use crate::pack::PackKind;
use crate::sending::Piece;
use crate::store::Store;
use crate::writer::{PublishOptions, Writer, WriterOptions};

/// Files by path.
type Files = Vec<(&'static str, Vec<u8>)>;

struct Folder {
    scratch: tempfile::TempDir,
    writer: Writer,
}

impl Folder {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let options = WriterOptions { wait: Duration::ZERO, command: String::new(), who: String::new() };
        let writer = Writer::open(&scratch.path().join("store"), &options, &()).unwrap();
        Self { scratch, writer }
    }

    fn add(&self, version: &str, files: &Files) -> ArtifactId {
        let tree = self.scratch.path().join(version);
        for (path, bytes) in files {
            let path = tree.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        std::fs::create_dir_all(&tree).unwrap();
        let options = IngestOptions::package("tool".parse().unwrap(), version.parse().unwrap());
        let ingested = self.writer.ingest(Input::Paths(vec![tree]), &options, &()).unwrap();
        self.writer.publish(&ingested, &PublishOptions::default()).unwrap();
        ingested.artifact
    }

    /// Takes everything of an artifact from another store that this lacks, or its objects alone.
    fn take(&self, from: &Store, artifact: &ArtifactId, have: Option<&ArtifactId>, is_all: bool) {
        let mut wanted = vec![(PackKind::Metadata, from.lacking_objects(have, artifact, &()).unwrap())];
        if is_all {
            wanted.push((PackKind::Data, from.lacking_chunks(have, artifact, &()).unwrap()));
        }
        for (kind, lacking) in wanted {
            let ids: Vec<ChunkId> = lacking.chunks.iter().map(|chunk| chunk.id).collect();
            for piece in from.sending(ids) {
                let Piece::Frame(_, bytes) = piece.unwrap() else { panic!("it is all there") };
                let frame = VerifiedFrame::verify(bytes, &mut Decoder::default()).unwrap();
                self.writer.intake().keep(kind, &frame).unwrap();
            }
        }
        self.writer.intake().flush().unwrap();
    }
}

fn units(store: &Store, gap: &Gap, effort: Effort) -> (Vec<Vec<u8>>, DeltaSummary) {
    let mut units = Vec::new();
    let options = DeltaOptions { effort, ..DeltaOptions::default() };
    let summary = store
        .encode_delta(gap, &options, &(), &mut |unit| {
            units.push(unit);
            Ok(())
        })
        .unwrap();
    (units, summary)
}

fn receive(store: &Store, gap: &Arc<Gap>, units: &[Vec<u8>]) -> Result<Vec<VerifiedFrame>, UnitError> {
    let (mut reader, mut tools) = (DeltaReader::new(Arc::clone(gap)), UnitTools::default());
    let mut frames = Vec::new();
    for unit in units {
        if let Some(job) = reader.take(unit.clone())? {
            frames.extend(job.run(store, &mut tools)?);
        }
    }
    reader.finish()?;
    Ok(frames)
}

/// Two stores that have the old version, of which the first has the new one too.
struct Upgrade {
    server: Folder,
    client: Folder,
    have: ArtifactId,
    want: ArtifactId,
}

impl Upgrade {
    fn new(old: &Files, new: &Files) -> Self {
        let (server, client) = (Folder::new(), Folder::new());
        let (have, want) = (server.add("1", old), server.add("2", new));
        client.take(&server.writer, &have, None, true);
        client.take(&server.writer, &want, Some(&have), false);
        Self { server, client, have, want }
    }

    fn gaps(&self) -> [Arc<Gap>; 2] {
        [&self.server, &self.client]
            .map(|folder| Arc::new(folder.writer.gap(&self.have, &self.want, &()).unwrap().unwrap()))
    }

    /// Upgrades the client; gives what came.
    fn run(&self, effort: Effort) -> DeltaSummary {
        let [made, taken] = self.gaps();
        let (units, summary) = units(&self.server.writer, &made, effort);
        assert_eq!(units.iter().map(|unit| unit.len() as u64).sum::<u64>(), summary.bytes());
        assert!(units.iter().all(|unit| unit.len() <= UNIT_LEN_MAX));
        let told: u64 = summary.parts()[..6].iter().map(|(_, totals)| totals.plain_bytes).sum();
        assert_eq!(told, made.plain_bytes());
        for frame in receive(&self.client.writer.local(), &taken, &units).unwrap() {
            self.client.writer.intake().keep(PackKind::Data, &frame).unwrap();
        }
        self.client.writer.intake().flush().unwrap();
        let missing = self.client.writer.missing(&self.want, &()).unwrap();
        assert!(missing.is_nothing(), "{missing:?}");
        summary
    }
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 32);
    for block in 0u64.. {
        if bytes.len() >= len {
            break;
        }
        bytes.extend_from_slice(blake3::hash(&[seed.to_le_bytes(), block.to_le_bytes()].concat()).as_bytes());
    }
    bytes.truncate(len);
    bytes
}

#[test]
fn an_edited_file_comes_to_little_more_than_its_edits() {
    let old = noise(3_000_000, 1);
    let mut new = old.clone();
    for at in (1000..new.len()).step_by(3000) {
        new[at] ^= 1;
    }
    let upgrade = Upgrade::new(&vec![("data/a", old)], &vec![("data/a", new)]);
    let summary = upgrade.run(Effort::Normal);
    assert!(summary.prefix.plain_bytes > 2_900_000, "{summary:?}");
    assert!(summary.bytes() < 100_000, "{summary:?}");
}

#[test]
fn what_was_renamed_or_moved_is_found() {
    let (body, other) = (noise(600_000, 2), noise(400_000, 3));
    let edited = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes.iter_mut().step_by(5000).for_each(|byte| *byte ^= 1);
        bytes
    };
    let old = vec![("tool-1.0/lib.so.1", body.clone()), ("notes", other.clone()), ("same", noise(50_000, 4))];
    let new = vec![
        ("tool-1.1/lib.so.2", edited(&body)),
        ("elsewhere/x", edited(&other)),
        ("same", noise(50_000, 4)),
    ];
    let summary = Upgrade::new(&old, &new).run(Effort::Normal);
    assert!(summary.bytes() < 30_000, "{summary:?}");
}

/// As `gzip` makes it.
fn gzipped(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut gzip =
        Command::new("gzip").args(["-9", "-n"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, bytes) = (gzip.stdin.take().unwrap(), bytes.to_vec());
    let writing = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let output = gzip.wait_with_output().unwrap();
    writing.join().unwrap();
    output.stdout
}

#[test]
fn what_is_in_a_gzip_file_is_told_and_the_file_made_again() {
    let text: String =
        (0..9000u32).map(|line| format!("line {} of a manual\n", line.wrapping_mul(2_654_435_761))).collect();
    let old = vec![("man/tool.1.gz", gzipped(text.as_bytes())), ("man/other.1.gz", noise(5000, 1))];
    let next = text.replacen("manual", "handbook", 40);
    let new = vec![("man/tool.1.gz", gzipped(next.as_bytes())), ("man/other.1.gz", noise(5000, 2))];
    let summary = Upgrade::new(&old, &new).run(Effort::Normal);
    assert!(summary.gzip.blocks == 1 && summary.gzip.bytes < 2000, "{summary:?}");
}

/// What LLVM made of two versions of a module.
const BITCODE: [&[u8]; 2] = [
    include_bytes!("../../../delta/tests/bitcode/made/tool-1.bc"),
    include_bytes!("../../../delta/tests/bitcode/made/tool-2.bc"),
];

#[test]
fn bitcode_is_told_as_tokens_and_the_file_made_again() {
    let files =
        |bytes: &[u8], seed| vec![("lib/tool.bc", bytes.to_vec()), ("lib/other.bc", noise(5000, seed))];
    let upgrade = Upgrade::new(&files(BITCODE[0], 1), &files(BITCODE[1], 2));
    let summary = upgrade.run(Effort::Normal);
    assert!(summary.bitcode.blocks == 1 && summary.bitcode.bytes < 1000, "{summary:?}");
    // Where time or effort lacks, it goes as all else does.
    assert_eq!(
        Upgrade::new(&files(BITCODE[0], 1), &files(BITCODE[1], 2)).run(Effort::Fast).bitcode.blocks,
        0
    );
}

#[test]
fn bitcode_whose_old_file_does_not_come_apart_goes_by_prefix() {
    let mut broken = BITCODE[0].to_vec();
    let end = broken.len() - 4;
    broken.truncate(end);
    for old in [broken, [&b"BC\xc0\xde"[..], &noise(5000, 3)].concat(), vec![]] {
        let files = |bytes: &[u8]| vec![("lib/tool.bc", bytes.to_vec()), ("lib/same", noise(9000, 4))];
        let upgrade = Upgrade::new(&files(&old), &files(BITCODE[1]));
        assert_eq!(upgrade.run(Effort::Normal).bitcode.blocks, 0);
    }
}

#[test]
fn a_unit_of_bitcode_that_does_not_hold_is_refused() {
    let files = |bytes: &[u8], seed| {
        vec![("lib/same", noise(9000, 4)), ("lib/tool.bc", bytes.to_vec()), ("x", noise(50, seed))]
    };
    let upgrade = Upgrade::new(&files(BITCODE[0], 1), &files(BITCODE[1], 2));
    let [made, taken] = upgrade.gaps();
    let (sent, summary) = units(&upgrade.server.writer, &made, Effort::Normal);
    assert_eq!(summary.bitcode.blocks, 1);
    // Kind 6, one chunk, number of the old file, length of the tokens.
    let at = sent.iter().position(|unit| unit[0] == 6).unwrap();
    let store = upgrade.client.writer.local();
    assert!(receive(&store, &taken, &sent).is_ok());
    for (place, byte) in [(2, 0), (2, 100), (3, 0xff), (5, 1), (6, 0xff), (20, 0x55), (300, 0x55)] {
        let mut sent = sent.clone();
        sent[at][place] ^= byte;
        if byte == 0 {
            // Another old file, which is none of bitcode.
            sent[at][place] = 1 - sent[at][place].min(1);
        }
        assert!(receive(&store, &taken, &sent).is_err(), "{place}");
    }
    let mut short = sent.clone();
    short[at].truncate(40);
    assert!(receive(&store, &taken, &short).is_err());
}

/// More bases than a unit has room for, and more objects.
#[test]
fn thousands_of_small_files_are_told_within_the_bounds_of_a_unit() {
    let (server, client) = (Folder::new(), Folder::new());
    let add = |version: &str, byte: u8| {
        let tree = server.scratch.path().join(version);
        for number in 0..6000u32 {
            let mut bytes = noise(240, number.into());
            bytes[120] = byte;
            let dir = tree.join(format!("{}", number / 100));
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join(number.to_string()), bytes).unwrap();
        }
        let options = IngestOptions::package("tool".parse().unwrap(), version.parse().unwrap());
        let ingested = server.writer.ingest(Input::Paths(vec![tree]), &options, &()).unwrap();
        server.writer.publish(&ingested, &PublishOptions::default()).unwrap();
        ingested.artifact
    };
    let (have, want) = (add("1", 1), add("2", 2));
    client.take(&server.writer, &have, None, true);
    client.take(&server.writer, &want, Some(&have), false);
    let upgrade = Upgrade { server, client, have, want };
    let summary = upgrade.run(Effort::Normal);
    assert!(summary.prefix.blocks > 0 && summary.bytes() < 1_000_000, "{summary:?}");
}

#[test]
fn what_is_like_nothing_is_compressed_or_sent_as_it_is() {
    let old = vec![("a", noise(300_000, 5))];
    let new = vec![("a", noise(300_000, 6)), ("b", b"a line that repeats itself\n".repeat(20_000))];
    let summary = Upgrade::new(&old, &new).run(Effort::Normal);
    assert_eq!(summary.raw.plain_bytes + summary.zstd.plain_bytes + summary.prefix.plain_bytes, 840_000);
    assert!(summary.bytes() < 305_000, "{summary:?}");
}

#[test]
fn every_effort_is_read_alike() {
    let old = vec![("bin/a", noise(200_000, 7)), ("bin/b", vec![7; 300_000]), ("c", noise(9000, 8))];
    let mut new = old.clone();
    new[0].1[100_000] ^= 1;
    new[1].1.extend_from_slice(b"more");
    new.push(("d", noise(9000, 8)));
    for effort in [Effort::Fast, Effort::Normal, Effort::Max] {
        Upgrade::new(&old, &new).run(effort);
        Upgrade::new(&new, &old).run(effort);
    }
}

#[test]
fn a_damaged_base_is_told_from_a_lie() {
    let old = noise(1_000_000, 9);
    let mut new = old.clone();
    new.iter_mut().step_by(4000).for_each(|byte| *byte ^= 1);
    let upgrade = Upgrade::new(&vec![("a", old)], &vec![("a", new)]);
    let [made, taken] = upgrade.gaps();
    let (units, _) = units(&upgrade.server.writer, &made, Effort::Normal);
    let packs = upgrade.client.scratch.path().join("store/packs");
    for pack in upgrade.client.writer.packs().unwrap().iter().filter(|pack| !pack.metadata) {
        let path = packs.join(format!("{}.pack", pack.id));
        let mut bytes = std::fs::read(&path).unwrap();
        let len = bytes.len();
        bytes[200_000..len - 100_000].fill(0xaa);
        std::fs::write(&path, bytes).unwrap();
    }
    let client = Store::open(Path::new(&upgrade.client.scratch.path().join("store"))).unwrap();
    let refused = receive(&client.local(), &taken, &units).unwrap_err();
    assert!(matches!(&refused, UnitError::Store(error) if error.kind() == crate::Kind::Damaged), "{refused}");
}

#[test]
fn nothing_is_told_of_what_is_not_here() {
    let (server, other) = (Folder::new(), Folder::new());
    let have = server.add("1", &vec![("a", noise(1000, 1))]);
    let want = other.add("2", &vec![("a", noise(1000, 2))]);
    assert!(server.writer.gap(&have, &want, &()).unwrap().is_none());
    assert!(server.writer.gap(&want, &have, &()).unwrap().is_none());
    assert_eq!(server.writer.gap(&have, &have, &()).unwrap().unwrap().chunks(), 0);
}

/// What came, if it is refused as nobody's fault but the sender's, or is right.
fn is_refused_or_right(upgrade: &Upgrade, taken: &Arc<Gap>, units: &[Vec<u8>]) {
    match receive(&upgrade.client.writer.local(), taken, units) {
        Ok(frames) => {
            let chunks: usize = frames.iter().map(|frame| frame.chunks().len()).sum();
            assert_eq!(chunks, taken.chunks());
        }
        Err(UnitError::Lied(_)) => {}
        Err(UnitError::Store(error)) => panic!("{error}"),
    }
}

#[test]
fn units_that_lack_or_come_twice_or_in_another_order_are_refused() {
    let old = noise(5_000_000, 10);
    let mut new = old.clone();
    new.iter_mut().step_by(4000).for_each(|byte| *byte ^= 1);
    let upgrade = Upgrade::new(&vec![("a", old)], &vec![("a", new)]);
    let [made, taken] = upgrade.gaps();
    let (units, _) = units(&upgrade.server.writer, &made, Effort::Fast);
    assert!(units.len() > 1);
    let refused = |units: &[Vec<u8>]| {
        assert!(matches!(receive(&upgrade.client.writer.local(), &taken, units), Err(UnitError::Lied(_))));
    };
    refused(&units[1..]);
    refused(&units[..units.len() - 1]);
    refused(&[&units[..], &units[..1]].concat());
    refused(&units.iter().rev().cloned().collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_changed_delta_never_brings_a_wrong_byte(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let old = noise(150_000, 11);
        let mut new = old.clone();
        new.iter_mut().step_by(3000).for_each(|byte| *byte ^= 1);
        let upgrade = Upgrade::new(&vec![("a", old)], &vec![("a", new), ("b", vec![1; 9000])]);
        let [made, taken] = upgrade.gaps();
        let (mut units, _) = units(&upgrade.server.writer, &made, Effort::Fast);
        for (unit, at, byte) in changes {
            let unit = unit.index(units.len());
            let at = at.index(units[unit].len());
            units[unit][at] = byte;
        }
        is_refused_or_right(&upgrade, &taken, &units);
    }

    #[test]
    fn random_edits_arrive(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4u8, 1..5000usize, any::<u64>()), 0..12),
    ) {
        let old = noise(400_000, 12);
        let mut new = old.clone();
        for (at, kind, len, seed) in edits {
            let at = at.index(new.len());
            let end = (at + len).min(new.len());
            match kind {
                0 => drop(new.splice(at..at, noise(len, seed))),
                1 => drop(new.drain(at..end)),
                2 => new[at..end].rotate_left(1),
                _ => drop(new.splice(at..end, vec![0; len])),
            }
        }
        Upgrade::new(&vec![("x/a", old.clone())], &vec![("x/a", new), ("y", old)]).run(Effort::Fast);
    }
}
