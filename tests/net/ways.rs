//! Ways through versions between: gone where they hold, and left where they do not, with the pull coming out right.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_net::wire::{HexId, Item, Step, VIA_HEADER, via_to_text};
use cairn_net::{DeltaUse, Net, Plan, Report, Source};
use cairn_store::{ArtifactId, CollectOptions, Held, Writer};
use harness::bytes::noise;
use harness::scratch::Scratch;
use harness::stores::{add, assert_sound, options, writer};

use crate::fixture::{Reply, Request, Server};
use crate::honest::{Honest, Twist};
use crate::pulls::{assert_whole, net};

/// A store with versions 1 to 4, of which each is the one before with edits, and another one that has the first.
struct Row {
    scratch: Scratch,
    there: Writer,
    here: Writer,
    ids: Vec<ArtifactId>,
    folders: Vec<PathBuf>,
}

impl Row {
    fn new() -> Self {
        let scratch = Scratch::new();
        let (there, here) = (writer(&scratch.join("there")), writer(&scratch.join("here")));
        let mut bytes = noise(5, 3_000_000);
        let (mut ids, mut folders) = (Vec::new(), Vec::new());
        for version in 1..=4usize {
            let folder = scratch.join(version.to_string());
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("data"), &bytes).unwrap();
            ids.push(add(&there, &folder, &options("app", &version.to_string())).artifact);
            folders.push(folder);
            bytes.iter_mut().skip(version * 100).step_by(5000).for_each(|byte| *byte ^= 1);
        }
        add(&here, &folders[0], &options("app", "1"));
        Self { scratch, there, here, ids, folders }
    }

    /// Serves with a way to version 4 by these versions, each said to come to so many bytes.
    fn showing(&self, by: &[(ArtifactId, u64)], twist: Arc<Twist>) -> Server {
        let honest = Honest { tells: true, ..Honest::new(self.there.store()) };
        let steps: Vec<Step> =
            by.iter().map(|(id, bytes)| Step { artifact: HexId(*id), bytes: *bytes }).collect();
        let via = via_to_text(&steps);
        Server::start(move |request, reply| answer(&honest, &via, request, reply, &*twist))
    }

    /// The versions of these numbers, and then the last.
    fn by(&self, versions: &[usize]) -> Vec<(ArtifactId, u64)> {
        versions.iter().chain([&4]).map(|version| (self.ids[version - 1], 200_000)).collect()
    }

    fn pull(&self, from: &[&Server]) -> Report {
        self.pull_waiting(from, DeltaUse::default().wait)
    }

    fn pull_waiting(&self, from: &[&Server], wait: Duration) -> Report {
        let sources: Vec<Source> = from.iter().map(|server| server.source()).collect();
        let _hold = self.here.hold(Held::Artifact(self.ids[3]), "a test".to_owned());
        let mut plan = self.plan(&net(), &sources);
        plan.deltas.wait = wait;
        let report = net().pull(&self.here, plan, &()).unwrap();
        assert_whole(&self.scratch, &self.here, &self.ids[3], &self.folders[3]);
        assert_eq!(self.here.names().refs.len(), 1, "what lies between has no name");
        assert_sound(self.here.store());
        report
    }

    fn plan(&self, net: &Net, from: &[Source]) -> Plan {
        let platform = "linux/x86_64".parse().unwrap();
        let resolved = net.resolve(from, &"app@4".parse().unwrap(), Some(&platform)).unwrap();
        net.plan(&self.here, &resolved.holders, &resolved, &()).unwrap()
    }
}

/// Answers as an honest peer that shows a way to whoever takes one.
fn answer(honest: &Honest, via: &str, request: &Request, reply: &mut Reply, twist: &Twist) {
    if request.path.ends_with("&via=1") {
        let head =
            format!("HTTP/1.1 202 X\r\n{VIA_HEADER}: {via}\r\nretry-after: 1\r\ncontent-length: 0\r\n");
        reply.raw(head.as_bytes());
        reply.raw(b"connection: close\r\n\r\n");
        return;
    }
    honest.answer(request, reply, twist);
}

fn as_it_is() -> Arc<Twist> {
    Arc::new(|_: &mut Reply, _: &Item| true)
}

fn asked_for_told(server: &Server) -> usize {
    server
        .log()
        .iter()
        .filter(|request| request.path.contains("codecs=") && request.path.contains("=chunks"))
        .count()
}

#[test]
fn a_way_is_gone_step_by_step_and_nothing_of_it_stays() {
    let row = Row::new();
    let server = row.showing(&row.by(&[2, 3]), as_it_is());
    let report = row.pull(&[&server]);
    let delta = report.delta.as_ref().unwrap();
    let via: Vec<ArtifactId> = delta.via.iter().map(|id| id.0).collect();
    assert_eq!(via, row.ids[1..3]);
    assert_eq!((delta.have.0, &delta.from), (row.ids[0], &server.url()));
    assert!(report.wire_bytes < 400_000, "{report:?}");
    assert_eq!(asked_for_told(&server), 4, "once, and each step");
    // What lay between is garbage now, and no more than that.
    let plan = row.here.plan_collection(&CollectOptions::default(), &()).unwrap();
    assert!(plan.garbage_chunks > 0);
}

#[test]
fn a_way_costs_about_what_its_steps_do() {
    let sums = [&[][..], &[2], &[2, 3]].map(|by| {
        let row = Row::new();
        let server = match by {
            [] => Honest { tells: true, ..Honest::new(row.there.store()) }.serve(),
            by => row.showing(&row.by(by), as_it_is()),
        };
        let report = row.pull(&[&server]);
        let delta = report.delta.unwrap();
        eprintln!(
            "{} steps: {} bytes of deltas, {} on the wire",
            by.len() + 1,
            delta.bytes,
            report.wire_bytes
        );
        delta.bytes
    });
    assert!(sums[2] > sums[0] && sums[2] < 2 * sums[0], "{sums:?}");
}

#[test]
fn a_dry_run_tells_the_way() {
    let row = Row::new();
    let server = row.showing(&row.by(&[2]), as_it_is());
    let net = net();
    let plan = row.plan(&net, &[server.source()]);
    let offer = net.delta_offer(&plan, &|| false).unwrap().unwrap();
    assert_eq!((offer.bytes, offer.via.len(), offer.via[0].0), (400_000, 1, row.ids[1]));
}

#[test]
fn what_is_held_for_a_way_is_not_collected_while_it_is_gone() {
    let row = Row::new();
    let (other, units) = (row.here.signed("somebody else".to_owned()), AtomicU64::new(0));
    let twist = move |_: &mut Reply, item: &Item| {
        if matches!(item, Item::Unit(_)) && units.fetch_add(1, Ordering::Relaxed) > 0 {
            let plan = other.plan_collection(&CollectOptions::default(), &()).unwrap();
            other.collect(&plan, &CollectOptions::default(), &()).unwrap();
        }
        true
    };
    let server = row.showing(&row.by(&[2, 3]), Arc::new(twist));
    assert_eq!(row.pull(&[&server]).delta.unwrap().via.len(), 2);
}

#[test]
fn ways_in_a_circle_or_too_long_or_elsewhere_are_not_gone() {
    for way in [&[2, 3, 2, 4][..], &[1, 4], &[2, 3], &[4], &[], &[2, 3, 2, 3, 2, 4]] {
        let row = Row::new();
        let by: Vec<(ArtifactId, u64)> = way.iter().map(|version| (row.ids[version - 1], 200_000)).collect();
        let server = row.showing(&by, as_it_is());
        // It waits no longer for a delta that always is to come.
        let report = row.pull_waiting(&[&server], Duration::from_millis(1500));
        assert!(report.delta.is_none() && report.peers[0].chunks > 0, "{way:?} {report:?}");
    }
}

#[test]
fn a_way_by_what_nobody_has_or_by_something_else_is_left() {
    for is_there in [false, true] {
        let row = Row::new();
        let tree = row.scratch.join("other");
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::write(tree.join("data"), noise(77, 100_000)).unwrap();
        let other = add(&row.there, &tree, &options("other", "1")).artifact;
        let between = if is_there { other } else { ArtifactId([3; 32]) };
        let server = row.showing(&[(between, 200_000), (row.ids[3], 200_000)], as_it_is());
        let report = row.pull(&[&server]);
        // The delta itself is asked for then.
        assert!(report.delta.unwrap().via.is_empty());
        assert!(report.peers.iter().all(|peer| !peer.lied), "{:?}", report.peers);
    }
}

#[test]
fn who_says_that_a_step_is_short_and_sends_more_is_dropped() {
    let row = Row::new();
    let liar = row.showing(&[(row.ids[1], 5), (row.ids[3], 5)], as_it_is());
    let honest = Honest::new(row.there.store()).serve();
    let report = row.pull(&[&liar, &honest]);
    let of_liar = report.peers.iter().find(|peer| peer.url == liar.url()).unwrap();
    assert!(of_liar.lied && report.delta.is_none(), "{report:?}");
}

#[test]
fn who_tells_a_step_wrongly_is_dropped() {
    let row = Row::new();
    let units = AtomicU64::new(0);
    let twist = move |reply: &mut Reply, item: &Item| {
        let Item::Unit(unit) = item else { return true };
        if units.fetch_add(1, Ordering::Relaxed) == 0 {
            return true;
        }
        let mut unit = unit.clone();
        let at = unit.len() / 2;
        unit[at] ^= 1;
        reply.raw(&Item::Unit(unit).to_bytes());
        false
    };
    let liar = row.showing(&row.by(&[2, 3]), Arc::new(twist));
    let honest = Honest::new(row.there.store()).serve();
    let report = row.pull(&[&liar, &honest]);
    let of_liar = report.peers.iter().find(|peer| peer.url == liar.url()).unwrap();
    assert!(of_liar.lied && report.delta.is_none(), "{report:?}");
}
