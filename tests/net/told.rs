//! Deltas: what an upgrade moves when a peer tells it in terms of what is here, and pulls that go on when it does so badly.

use std::path::PathBuf;

use cairn_net::wire::{End, Item, ids_from_bytes, ids_to_bytes};
use cairn_net::{Report, Source};
use cairn_store::{ArtifactId, ChunkId, Writer};
use harness::bytes::noise;
use harness::scratch::Scratch;
use harness::stores::{add, assert_sound, options, verify, writer};

use crate::fixture::Server;
use crate::honest::Honest;
use crate::pulls::{assert_whole, net, pull};

/// A store that has two versions, and another that has the first.
pub(crate) struct Upgrade {
    pub(crate) scratch: Scratch,
    pub(crate) there: Writer,
    pub(crate) here: Writer,
    pub(crate) next: ArtifactId,
    pub(crate) folder: PathBuf,
}

impl Upgrade {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new();
        let (there, here) = (writer(&scratch.join("there")), writer(&scratch.join("here")));
        let tree = |version: &str, bytes: &[u8]| {
            let folder = scratch.join(version);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("data"), bytes).unwrap();
            folder
        };
        let mut bytes = noise(5, 6_000_000);
        let first = tree("1", &bytes);
        add(&there, &first, &options("app", "1"));
        add(&here, &first, &options("app", "1"));
        bytes.iter_mut().step_by(4000).for_each(|byte| *byte ^= 1);
        let folder = tree("2", &bytes);
        let next = add(&there, &folder, &options("app", "2")).artifact;
        Self { scratch, there, here, next, folder }
    }

    pub(crate) fn telling(&self) -> Honest {
        Honest { tells: true, ..Honest::new(self.there.store()) }
    }

    fn pull(&self, from: &[&Server]) -> Report {
        let sources: Vec<Source> = from.iter().map(|server| server.source()).collect();
        let report = pull(&net(), &self.here, &sources, "app@2", &()).unwrap();
        assert_whole(&self.scratch, &self.here, &self.next, &self.folder);
        report
    }
}

/// Changes a byte of each unit but the first.
fn lying(honest: Honest) -> Server {
    let count = std::sync::atomic::AtomicU64::new(0);
    honest.serve_twisted(move |reply, item| {
        let Item::Unit(unit) = item else { return true };
        if count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 {
            return true;
        }
        let mut unit = unit.clone();
        let at = unit.len() / 2;
        unit[at] ^= 1;
        reply.raw(&Item::Unit(unit).to_bytes());
        false
    })
}

#[test]
fn an_edited_version_comes_as_its_edits_in_three_round_trips() {
    let upgrade = Upgrade::new();
    let server = upgrade.telling().serve();
    let report = upgrade.pull(&[&server]);
    let delta = report.delta.as_ref().unwrap();
    assert_eq!((report.round_trips, &delta.from), (3, &server.url()), "{report:?}");
    assert!(report.plain_bytes > 5_900_000 && report.wire_bytes < 150_000, "{report:?}");
    assert_eq!(report.peers[0].chunks, report.chunks);
}

#[test]
fn a_peer_that_tells_wrong_bytes_is_dropped_and_another_one_asked() {
    let upgrade = Upgrade::new();
    let (liar, honest) = (lying(upgrade.telling()), upgrade.telling().serve());
    let report = upgrade.pull(&[&liar, &honest]);
    assert_eq!(report.delta.as_ref().unwrap().from, honest.url(), "{report:?}");
    let of_liar = report.peers.iter().find(|peer| peer.url == liar.url()).unwrap();
    assert!(of_liar.lied && of_liar.dropped.is_some(), "{report:?}");
}

#[test]
fn where_nobody_tells_it_rightly_the_chunks_come_as_they_are() {
    let upgrade = Upgrade::new();
    let (liar, plain) = (lying(upgrade.telling()), Honest::new(upgrade.there.store()).serve());
    let report = upgrade.pull(&[&liar, &plain]);
    assert!(report.delta.is_none(), "{report:?}");
    assert!(report.peers.iter().any(|peer| peer.url == plain.url() && peer.chunks > 0), "{report:?}");
}

#[test]
fn a_delta_that_breaks_off_is_gone_on_from_without() {
    let upgrade = Upgrade::new();
    let count = std::sync::atomic::AtomicU64::new(0);
    let server = upgrade.telling().serve_twisted(move |reply, item| {
        if matches!(item, Item::Unit(_)) && count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1 {
            reply.cut();
        }
        true
    });
    let report = upgrade.pull(&[&server]);
    assert!(report.delta.is_none() && report.chunks > 0, "{report:?}");
}

/// Spoils what packs of a kind have from `from` on.
fn spoil(upgrade: &Upgrade, metadata: bool, from: usize, len: usize) {
    let packs = upgrade.scratch.join("here").join("packs");
    for pack in upgrade.here.packs().unwrap().iter().filter(|pack| pack.metadata == metadata) {
        let path = packs.join(format!("{}.pack", pack.id));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[from..from + len].fill(0);
        std::fs::write(&path, bytes).unwrap();
    }
}

/// What was damaged is read again, also by a process that knows nothing of it, and a repair needs nobody's help.
fn assert_healed(upgrade: Upgrade) {
    let Upgrade { scratch, there, here, .. } = upgrade;
    drop(here);
    let here = writer(&scratch.join("here"));
    let first = there.names().refs.iter().find(|(key, _)| key.version.as_str() == "1").unwrap().1.artifact;
    assert_whole(&scratch, &here, &first, &scratch.join("1"));
    let found = verify(here.store());
    assert!(found.affected.is_empty() && !found.damage.is_empty(), "{found:?}");
    here.repair(&here.plan_repair(&found).unwrap(), None, &()).unwrap();
    assert_sound(here.store());
}

#[test]
fn what_is_damaged_here_is_brought_plainly_and_mended() {
    let upgrade = Upgrade::new();
    spoil(&upgrade, false, 1_000_000, 100_000);
    let server = upgrade.telling().serve();
    let report = upgrade.pull(&[&server]);
    assert!(report.delta.is_none(), "{report:?}");
    assert!(report.peers.iter().all(|peer| !peer.lied && peer.dropped.is_none()), "{report:?}");
    let healed = report.healed.as_ref().unwrap();
    assert!(healed.damaged > 1 && healed.healed == healed.damaged, "{report:?}");
    assert_healed(upgrade);
}

#[test]
fn a_damaged_directory_of_what_is_held_is_mended_too() {
    let mut upgrade = Upgrade::new();
    // Behind the pack's head: its first frame.
    spoil(&upgrade, true, 40, 20);
    drop(upgrade.here);
    upgrade.here = writer(&upgrade.scratch.join("here"));
    let server = upgrade.telling().serve();
    let report = upgrade.pull(&[&server]);
    let healed = report.healed.as_ref().unwrap();
    assert!(healed.damaged > 0 && healed.healed == healed.damaged, "{report:?}");
    assert_healed(upgrade);
}

#[test]
fn what_is_damaged_here_and_nobody_has_is_told_and_no_failure() {
    let upgrade = Upgrade::new();
    spoil(&upgrade, false, 1_000_000, 100_000);
    let honest = upgrade.telling();
    let new = upgrade.there.store().lacking_chunks(None, &upgrade.next, &()).unwrap().chunks;
    let server = Server::start(move |request, reply| {
        let is_new = |id: &ChunkId| new.iter().any(|chunk| chunk.id == *id);
        let asked = ids_from_bytes(&request.body).unwrap_or_default();
        if request.path == "/v1/chunks" && !asked.iter().any(is_new) {
            reply.stream_head();
            reply.raw(&Item::Absent(asked).to_bytes());
            reply.raw(&Item::End(End::default()).to_bytes());
            return;
        }
        honest.answer(request, reply, &|_, _| true);
    });
    let report = upgrade.pull(&[&server]);
    let healed = report.healed.as_ref().unwrap();
    assert!(healed.damaged > 0 && healed.healed == 0, "{report:?}");
}

#[test]
fn who_brings_wrong_bytes_for_what_is_damaged_is_dropped() {
    let upgrade = Upgrade::new();
    spoil(&upgrade, false, 1_000_000, 100_000);
    let (honest, other) = (upgrade.telling(), upgrade.telling().serve());
    let new = upgrade.there.store().lacking_chunks(None, &upgrade.next, &()).unwrap().chunks;
    let of_new: Vec<ChunkId> = new.iter().map(|chunk| chunk.id).take(1).collect();
    let liar = Server::start(move |request, reply| {
        let mut request = request.clone();
        let is_new = |id: &ChunkId| new.iter().any(|chunk| chunk.id == *id);
        let asked = ids_from_bytes(&request.body).unwrap_or_default();
        if request.path == "/v1/chunks" && !asked.iter().any(is_new) {
            request.body = ids_to_bytes(&of_new);
        }
        honest.answer(&request, reply, &|_, _| true);
    });
    let report = upgrade.pull(&[&liar, &other]);
    let healed = report.healed.as_ref().unwrap();
    assert!(healed.damaged > 0 && healed.healed == healed.damaged, "{report:?}");
    let of_liar = report.peers.iter().find(|peer| peer.url == liar.url()).unwrap();
    assert!(of_liar.lied, "{report:?}");
    assert_healed(upgrade);
}
