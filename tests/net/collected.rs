//! Collections in the middle of a pull that comes as a delta, on either side: what it stands on goes, or its names do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_net::wire::Item;
use cairn_net::{Kind, Report, Source};
use cairn_server::Access;
use cairn_store::{CollectOptions, Held, Writer};
use harness::stores::{add, assert_sound, options};

use crate::pulls::{assert_whole, net, pull};
use crate::real::Real;
use crate::told::Upgrade;

/// Removes a version and collects what nothing leads to then; how many packs went.
fn remove(writer: &Writer, version: &str) -> usize {
    let key = writer.names().refs.keys().find(|key| key.version.as_str() == version).unwrap().clone();
    writer.remove_ref(&key, true).unwrap();
    collect(writer)
}

fn collect(writer: &Writer) -> usize {
    let options = CollectOptions::default();
    let before = writer.packs().unwrap().len();
    let plan = writer.plan_collection(&options, &()).unwrap();
    writer.collect(&plan, &options, &()).unwrap();
    before.saturating_sub(writer.packs().unwrap().len())
}

/// Pulls as the command does, which holds what it brings.
fn pull_next(upgrade: &Upgrade, from: &[Source]) -> cairn_net::Result<Report> {
    let _hold = upgrade.here.hold(Held::Artifact(upgrade.next), "a test".to_owned());
    let report = pull(&net(), &upgrade.here, from, "app@2", &())?;
    assert_whole(&upgrade.scratch, &upgrade.here, &upgrade.next, &upgrade.folder);
    Ok(report)
}

#[test]
fn what_a_pull_builds_on_stays_until_it_is_over() {
    let upgrade = Upgrade::new();
    let (other, units) = (upgrade.here.signed("somebody else".to_owned()), AtomicU64::new(0));
    let server = upgrade.telling().serve_twisted(move |_, item| {
        if matches!(item, Item::Unit(_)) && units.fetch_add(1, Ordering::Relaxed) == 0 {
            assert_eq!(remove(&other, "1"), 0, "a pull stands on it");
        }
        true
    });
    let report = pull_next(&upgrade, &[server.source()]).unwrap();
    assert!(report.delta.is_some(), "{report:?}");
    assert!(collect(&upgrade.here) > 0, "nobody needs it any more");
    assert_sound(upgrade.here.store());
}

#[test]
fn a_version_that_goes_before_it_is_held_is_not_built_on() {
    let upgrade = Upgrade::new();
    assert!(remove(&upgrade.here, "1") > 0);
    let server = upgrade.telling().serve();
    let report = pull_next(&upgrade, &[server.source()]).unwrap();
    assert!(report.delta.is_none(), "{report:?}");
}

/// Serves, and has a version go at the peer so long after a pull from it began.
fn going(upgrade: &Upgrade, version: &str, after: Duration) -> cairn_net::Result<Report> {
    let real = Real::serve(&upgrade.scratch, &upgrade.there, Access::open());
    std::thread::scope(|scope| {
        let pulled = scope.spawn(|| pull_next(upgrade, &[real.source(None)]));
        std::thread::sleep(after);
        remove(&upgrade.there, version);
        pulled.join().unwrap()
    })
}

/// Moments at which something goes, before, while and after a delta is made of it: whichever it is, all has to end well.
const MOMENTS_MS: [u64; 6] = [0, 15, 40, 80, 160, 320];

#[test]
fn a_base_that_goes_at_the_peer_costs_the_delta_at_most() {
    for after in MOMENTS_MS.map(Duration::from_millis) {
        let upgrade = Upgrade::new();
        let report = going(&upgrade, "1", after).unwrap();
        assert!(report.peers.iter().all(|peer| !peer.lied), "{after:?} {report:?}");
        assert!(report.healed.is_none(), "{after:?} {report:?}");
        assert_sound(upgrade.here.store());
    }
}

#[test]
fn a_version_that_goes_at_the_peer_while_it_is_pulled_is_all_or_not_there() {
    for after in MOMENTS_MS.map(Duration::from_millis) {
        let upgrade = Upgrade::new();
        match going(&upgrade, "2", after) {
            Ok(report) => assert!(report.peers.iter().all(|peer| !peer.lied), "{after:?} {report:?}"),
            Err(error) => {
                assert!(matches!(error.kind(), Kind::Absent | Kind::Unavailable), "{after:?} {error}");
                // What came of it is right, and the pull goes on from there.
                add(&upgrade.there, &upgrade.folder, &options("app", "2"));
                let real = Real::serve(&upgrade.scratch, &upgrade.there, Access::open());
                pull_next(&upgrade, &[real.source(None)]).unwrap();
            }
        }
        assert_sound(upgrade.here.store());
    }
}
