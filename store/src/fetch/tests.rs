//! Two stores, of which one asks the other: what is absent or damaged is brought when it is read, and stays.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::blocks::Decoder;
use crate::id::{ArtifactId, PackId};
use crate::ingest::{IngestOptions, Input};
use crate::intake::{Intake, VerifiedFrame};
use crate::io::{Io, Os, Sim, WriteFile};
use crate::restore::RestoreOptions;
use crate::sending::Piece;
use crate::verify::VerifyOptions;
use crate::writer::{PublishOptions, Writer, WriterOptions};

/// A store that others ask.
struct Peer {
    store: Store,
    into: Arc<Intake>,
    asked: Mutex<Vec<(usize, Why)>>,
    answers: AtomicBool,
}

impl Fetch for Peer {
    fn fetch(&self, wanted: &[ChunkRef], why: Why) -> Result<()> {
        lock(&self.asked).push((wanted.len(), why));
        let unavailable = |what: String| Error::Unavailable { what, detail: "nobody answers".to_owned() };
        if !self.answers.load(Ordering::Relaxed) {
            return Err(unavailable(format!("{} chunks", wanted.len())));
        }
        for piece in self.store.sending(wanted.iter().map(|chunk| chunk.id).collect()) {
            match piece? {
                Piece::Frame(kind, bytes) => {
                    let frame = VerifiedFrame::verify(bytes, &mut Decoder::default()).unwrap();
                    match why {
                        Why::Absent => self.into.keep(kind, &frame)?,
                        Why::Damaged => self.into.heal(kind, &frame)?,
                    };
                }
                Piece::Absent(ids) => return Err(unavailable(format!("chunk {}", ids[0]))),
            }
        }
        Ok(())
    }
}

struct Setting {
    scratch: tempfile::TempDir,
    artifact: ArtifactId,
    sim: Sim,
    writer: Writer,
    peer: Arc<Peer>,
}

fn writer_on(sim: &Sim) -> Writer {
    let options = WriterOptions { wait: Duration::ZERO, command: String::new(), who: String::new() };
    Writer::open_with(Arc::new(sim.clone()), Path::new("/store"), &options).unwrap()
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new_derive_key("noise").update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn ingest(writer: &Writer, path: &Path) -> ArtifactId {
    let options = IngestOptions::package("app".parse().unwrap(), "1".parse().unwrap());
    let options = IngestOptions { platform: Some("linux/x86_64".parse().unwrap()), ..options };
    let ingested = writer.ingest(Input::Paths(vec![path.to_owned()]), &options, &()).unwrap();
    writer.publish(&ingested, &PublishOptions::default()).unwrap();
    ingested.artifact
}

impl Setting {
    /// Of the two, the peer has the artifact, and the other too if it is `held`.
    fn new(held: bool) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let source = scratch.path().join("source");
        Os.create_dir_all(&source.join("sub")).unwrap();
        Os.write_atomic(&source.join("long"), &noise(1, 3_000_000)).unwrap();
        (0..50)
            .for_each(|n| Os.write_atomic(&source.join(format!("sub/{n}")), &noise(10 + n, 4000)).unwrap());
        let theirs = writer_on(&Sim::new(1));
        let artifact = ingest(&theirs, &source);
        let sim = Sim::new(2);
        let writer = writer_on(&sim);
        if held {
            assert_eq!(ingest(&writer, &source), artifact);
        }
        let peer = Self::asks(&writer, theirs.store().clone());
        Self { scratch, artifact, sim, writer, peer }
    }

    fn asks(writer: &Writer, store: Store) -> Arc<Peer> {
        let (asked, answers) = (Mutex::default(), AtomicBool::new(true));
        let peer = Arc::new(Peer { store, into: writer.intake(), asked, answers });
        writer.set_fetch(Some(Arc::clone(&peer) as Arc<dyn Fetch>));
        peer
    }

    fn asked(&self) -> Vec<(usize, Why)> {
        std::mem::take(&mut lock(&self.peer.asked))
    }

    /// The packs with files' bytes, or with what leads to them.
    fn packs(&self, metadata: bool) -> Vec<PathBuf> {
        let packs = self.writer.packs().unwrap().into_iter().filter(|pack| pack.metadata == metadata);
        packs.map(|pack| path_of(pack.id)).collect()
    }

    /// Flips a byte in each of some packs.
    fn damage(&self, packs: &[PathBuf]) {
        for pack in packs {
            let middle = self.sim.open(pack).unwrap().len().unwrap() / 2;
            let mut byte = [0];
            self.sim.open(pack).unwrap().read_exact_at(&mut byte, middle).unwrap();
            byte[0] ^= 1;
            let file: Arc<dyn WriteFile> = self.sim.open_write(pack).unwrap();
            file.write_all_at(&byte, middle).unwrap();
        }
    }

    fn read_long(&self, store: &Store) -> Result<Vec<u8>> {
        let mut bytes = vec![0; 3_000_000];
        let read = store.open_file(&self.artifact, b"long")?.read_at(0, &mut bytes)?;
        assert_eq!(read, bytes.len());
        Ok(bytes)
    }

    fn restore(&self, store: &Store, name: &str) -> Result<()> {
        let dest = self.scratch.path().join(name);
        store.restore(&self.artifact, &dest, &RestoreOptions::default(), &())?;
        assert!(Os.read(&dest.join("long")).unwrap() == noise(1, 3_000_000));
        assert!((0..50).all(|n| Os.read(&dest.join(format!("sub/{n}"))).unwrap() == noise(10 + n, 4000)));
        Ok(())
    }

    /// As it is after a restart, with nobody to ask.
    fn reopened(&self) -> Store {
        Store::open_with(Arc::new(self.sim.clone()), Path::new("/store")).unwrap()
    }
}

fn path_of(pack: PackId) -> PathBuf {
    Path::new("/store/packs").join(format!("{pack}.pack"))
}

#[test]
fn an_artifact_of_which_nothing_is_here_is_brought_by_reading_it() {
    let setting = Setting::new(false);
    assert!(setting.read_long(&setting.writer.local()).is_err());
    assert!(matches!(setting.writer.missing(&setting.artifact, &()), Err(Error::Absent { .. })));
    assert!(setting.asked().is_empty(), "whoever asks what is here fetches nothing");
    assert!(setting.read_long(&setting.writer).unwrap() == noise(1, 3_000_000));
    assert!(setting.asked().iter().all(|(_, why)| *why == Why::Absent));
    setting.read_long(&setting.writer).unwrap();
    assert!(setting.asked().is_empty(), "it is here now");
    setting.restore(&setting.writer, "restored").unwrap();
    let rest = setting.asked();
    assert!(rest.len() < 20, "small files are asked for together: {rest:?}");
    assert!(!setting.writer.missing(&setting.artifact, &()).unwrap().is_nothing(), "not durable yet");
    setting.writer.intake().flush().unwrap();
    assert!(setting.writer.missing(&setting.artifact, &()).unwrap().is_nothing());
    setting.restore(&setting.reopened(), "again").unwrap();
}

#[test]
fn damage_is_healed_by_the_read_that_finds_it_and_stays_healed() {
    for metadata in [false, true] {
        let setting = Setting::new(true);
        setting.damage(&setting.packs(metadata));
        // Nothing of it is known to the reader from before.
        setting.writer.refresh_index();
        setting.restore(&setting.writer, "restored").unwrap();
        let asked = setting.asked();
        assert!(!asked.is_empty() && asked.iter().all(|(_, why)| *why == Why::Damaged), "{asked:?}");
        setting.restore(&setting.writer, "again").unwrap();
        assert!(setting.asked().is_empty());
        setting.writer.intake().flush().unwrap();
        setting.restore(&setting.writer, "sealed").unwrap();
        setting.restore(&setting.reopened(), "reopened").unwrap();
        let report = setting.reopened().verify(&VerifyOptions::default(), &()).unwrap();
        assert!(!report.damage.is_empty() && report.affected.is_empty(), "{report:?}");
    }
}

#[test]
fn a_pack_that_is_gone_is_brought_again() {
    let setting = Setting::new(true);
    for metadata in [false, true] {
        setting.packs(metadata).iter().for_each(|pack| setting.sim.remove(pack).unwrap());
    }
    // What was read before may still be read from memory.
    setting.writer.refresh_index();
    setting.restore(&setting.writer, "restored").unwrap();
    setting.writer.intake().flush().unwrap();
    setting.restore(&setting.reopened(), "reopened").unwrap();
}

#[test]
fn where_nobody_answers_damage_is_damage_and_what_is_absent_is_unavailable() {
    let setting = Setting::new(true);
    setting.peer.answers.store(false, Ordering::Relaxed);
    setting.damage(&setting.packs(false));
    match setting.restore(&setting.writer, "restored") {
        Err(Error::Damaged { detail, .. }) => assert!(detail.contains("nobody answers"), "{detail}"),
        other => panic!("{other:?}"),
    }
    let unknown = ChunkRef { id: ChunkId::of(b"unknown"), len: 7 };
    assert!(matches!(setting.writer.chunk(&unknown.id), Err(Error::Unavailable { .. })));
    assert!(matches!(setting.writer.ensure(&[unknown]), Err(Error::Unavailable { .. })));
    assert!(matches!(setting.writer.local().chunk(&unknown.id), Err(Error::Absent { .. })));
    // It recovers by itself.
    setting.peer.answers.store(true, Ordering::Relaxed);
    setting.restore(&setting.writer, "later").unwrap();
    // Nobody is asked when the writer has ended, and the store can be read on.
    let store = setting.writer.store().clone();
    let Setting { writer, peer, .. } = setting;
    drop(writer);
    assert!(!store.has_fetch());
    assert_eq!(Arc::strong_count(&peer), 1);
}

#[test]
fn whoever_is_asked_asks_nobody_in_turn() {
    struct Asks(Store);
    impl Fetch for Asks {
        fn fetch(&self, wanted: &[ChunkRef], _: Why) -> Result<()> {
            assert!(matches!(self.0.chunk(&wanted[0].id), Err(Error::Absent { .. })));
            Ok(())
        }
    }
    let writer = writer_on(&Sim::new(1));
    writer.set_fetch(Some(Arc::new(Asks(writer.store().clone()))));
    assert!(matches!(writer.chunk(&ChunkId::of(b"nowhere")), Err(Error::Absent { .. })));
    writer.set_fetch(None);
}

#[test]
fn files_are_here_when_all_that_their_lists_need_is() {
    let setting = Setting::new(false);
    let long = crate::tree::lookup(
        &setting.peer.store.artifact(&setting.artifact).unwrap().root,
        b"long",
        &setting.peer.store,
    );
    let Ok(Some(crate::tree::Entry { node: crate::tree::Node::File { size, content }, .. })) = long else {
        panic!()
    };
    assert!(!setting.writer.file_is_here(&content, size).unwrap());
    assert!(setting.asked().is_empty());
    setting.read_long(&setting.writer).unwrap();
    assert!(setting.writer.file_is_here(&content, size).unwrap());
}

#[test]
fn what_is_here_in_part_is_made_whole_by_whoever_adds_it() {
    let setting = Setting::new(false);
    // Metadata and some chunks, as a lazy mount leaves them; sealed and not.
    setting.writer.artifact(&setting.artifact).unwrap();
    setting.read_long(&setting.writer).unwrap();
    setting.writer.set_fetch(None);
    assert_eq!(ingest(&setting.writer, &setting.scratch.path().join("source")), setting.artifact);
    // What is named depends on nothing that a crash may take.
    let rebooted = Store::open_with(Arc::new(setting.sim.reboot(7)), Path::new("/store")).unwrap();
    assert!(rebooted.missing(&setting.artifact, &()).unwrap().is_nothing());
    setting.restore(&rebooted, "rebooted").unwrap();
}

#[test]
fn damaged_packs_are_replaced_and_put_aside_and_readers_go_on() {
    for with_peer in [false, true] {
        let setting = Setting::new(true);
        setting.writer.set_fetch(None);
        let (before, damaged) = (setting.reopened(), setting.packs(false));
        before.refresh_index();
        setting.damage(&damaged);
        before.missing(&setting.artifact, &()).unwrap();
        let small = before.open_file(&setting.artifact, b"sub/7").unwrap();
        let report = setting.writer.verify(&VerifyOptions::default(), &()).unwrap();
        let plan = setting.writer.plan_repair(&report).unwrap();
        assert_eq!((plan.packs.len(), plan.affected.len()), (damaged.len(), 1));
        let peer: Option<&dyn Fetch> = if with_peer { Some(&*setting.peer) } else { None };
        let repaired = setting.writer.repair(&plan, peer, &()).unwrap();
        assert_eq!(repaired.packs.len(), damaged.len());
        for pack in &damaged {
            assert!(setting.sim.open(pack).is_err());
            let aside = Path::new("/store/quarantine").join(pack.file_name().unwrap());
            assert!(setting.sim.open(&aside).is_ok());
        }
        // Whoever knew the old pack finds what it held.
        let mut small = small;
        let mut bytes = vec![0; 4000];
        small.read_at(0, &mut bytes).unwrap();
        assert!(bytes == noise(17, 4000));
        let after = setting.writer.verify(&VerifyOptions::default(), &()).unwrap();
        assert!(after.damage.is_empty(), "{after:?}");
        if with_peer {
            assert_eq!(repaired.healed, plan.wanted.len() as u64);
            assert!(repaired.still_damaged.is_empty() && after.is_clean());
            setting.restore(&setting.reopened(), "restored").unwrap();
        } else {
            assert_eq!(repaired.still_damaged.len(), 1);
            // Somebody has it later: what is lost is named by the artifact alone.
            let plan = setting.writer.plan_repair(&after).unwrap();
            assert!(plan.packs.is_empty() && !plan.wanted.is_empty());
            let repaired = setting.writer.repair(&plan, Some(&*setting.peer), &()).unwrap();
            assert!(repaired.still_damaged.is_empty(), "{repaired:?}");
            setting.restore(&setting.reopened(), "restored").unwrap();
        }
    }
}
