//! Pulls from one peer: what arrives, how little travels, and how an interrupted one goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_net::wire::Item;
use cairn_net::{Kind, Net, NetOptions, Report, Source, Watch};
use cairn_store::{ArtifactId, MetadataPolicy, Writer};
use harness::bytes::noise;
use harness::compare::Snapshot;
use harness::scratch::Scratch;
use harness::stores::{add, options, restore, writer};

use crate::child::short_timeouts;
use crate::fixture::Server;
use crate::honest::Honest;

pub(crate) fn net() -> Arc<Net> {
    Net::start(NetOptions { timeouts: short_timeouts() }).unwrap()
}

/// A tree of small and long files, different for each seed but for the file `same`.
pub(crate) fn tree(folder: &Path, seed: u64, bytes: usize) {
    std::fs::create_dir_all(folder.join("lib/deep")).unwrap();
    std::fs::write(folder.join("same"), noise(1, 600_000)).unwrap();
    std::fs::write(folder.join("lib/large"), noise(seed, bytes)).unwrap();
    std::fs::write(folder.join("lib/deep/text"), format!("version {seed}\n").repeat(500)).unwrap();
    for number in 0..200 {
        std::fs::write(folder.join(format!("lib/deep/{number}")), noise(seed * 1000 + number, 700)).unwrap();
    }
}

/// A store with `app@VERSION` of a tree made with a seed.
pub(crate) fn publish(
    scratch: &Scratch,
    name: &str,
    version: &str,
    seed: u64,
    bytes: usize,
) -> (Writer, ArtifactId) {
    let folder = scratch.join(format!("{name}-{version}"));
    tree(&folder, seed, bytes);
    let writer = writer(&scratch.join(name));
    let ingested = add(&writer, &folder, &options("app", version));
    (writer, ingested.artifact)
}

pub(crate) fn pull(
    net: &Net,
    writer: &Writer,
    from: &[Source],
    spec: &str,
    watch: &dyn Watch,
) -> cairn_net::Result<Report> {
    let resolved = net.resolve(from, &spec.parse().unwrap(), Some(&"linux/x86_64".parse().unwrap()))?;
    let plan = net.plan(writer, &resolved.holders, &resolved, &())?;
    net.pull(writer, plan, watch)
}

/// Everything of the artifact is here and what it was there.
pub(crate) fn assert_whole(scratch: &Scratch, writer: &Writer, artifact: &ArtifactId, original: &Path) {
    assert!(writer.store().missing(artifact, &()).unwrap().is_nothing());
    let dest = scratch.join(format!("restored-{}", artifact.short()));
    restore(writer.store(), artifact, &dest);
    Snapshot::of(original).assert_restored(&dest, MetadataPolicy::Portable);
    std::fs::remove_dir_all(dest).unwrap();
}

#[test]
fn everything_arrives_in_three_round_trips() {
    let scratch = Scratch::new();
    let (there, artifact) = publish(&scratch, "there", "1", 2, 8 << 20);
    let server = Honest::new(there.store()).serve();
    let here = writer(&scratch.join("here"));
    let report = pull(&net(), &here, &[server.source()], "app@1", &()).unwrap();
    assert_whole(&scratch, &here, &artifact, &scratch.join("there-1"));
    let paths: Vec<_> = server.log().iter().map(|request| request.path.clone()).collect();
    assert_eq!(report.round_trips, 3, "{paths:?}");
    assert_eq!(server.log().len(), 3);
    assert!(paths[2].ends_with("?part=chunks"), "{paths:?}");
    assert!(report.wire_bytes < report.stored_bytes + report.stored_bytes / 50 + 40_000, "{report:?}");
}

#[test]
fn of_the_next_version_only_what_is_new_travels() {
    let scratch = Scratch::new();
    let (there, _) = publish(&scratch, "there", "1", 2, 3 << 20);
    let server = Honest::new(there.store()).serve();
    let here = writer(&scratch.join("here"));
    let (net, from) = (net(), [server.source()]);
    let add_here = add(&here, &scratch.join("there-1"), &options("app", "1"));
    let folder = scratch.join("there-2");
    tree(&folder, 2, 3 << 20);
    let mut bytes = std::fs::read(folder.join("lib/large")).unwrap();
    bytes[1_000_000..1_100_000].copy_from_slice(&noise(9, 100_000));
    std::fs::write(folder.join("lib/large"), bytes).unwrap();
    let next = add(&there, &folder, &options("app", "2"));
    let report = pull(&net, &here, &from, "app@2", &()).unwrap();
    assert_whole(&scratch, &here, &next.artifact, &folder);
    assert_eq!(report.round_trips, 4, "one of them asks for a delta, which this peer does not tell");
    assert!((100_000..400_000).contains(&report.plain_bytes), "{report:?}");
    assert!(report.wire_bytes < 400_000, "{report:?}");
    let log = server.log();
    assert!(log[1].path.starts_with(&format!("/v1/delta/{}/", add_here.artifact)), "{}", log[1].path);
    let again = pull(&net, &here, &from, "app@2", &()).unwrap();
    assert_eq!((again.round_trips, again.chunks), (1, 0), "nothing but the name is asked for");
}

#[test]
fn a_version_that_the_peer_does_not_know_is_passed_over() {
    let scratch = Scratch::new();
    let (there, artifact) = publish(&scratch, "there", "2", 2, 1 << 20);
    let (here, _) = publish(&scratch, "here", "1", 3, 1 << 20);
    let server = Honest::new(there.store()).serve();
    let report = pull(&net(), &here, &[server.source()], "app@2", &()).unwrap();
    assert_whole(&scratch, &here, &artifact, &scratch.join("there-2"));
    assert!(report.round_trips <= 5, "{report:?}");
    assert!(report.plain_bytes < (1 << 20) + 400_000, "what both have does not travel: {report:?}");
}

/// Stops after so many chunks.
struct StopAfter(AtomicU64);

impl Watch for StopAfter {
    fn kept(&self, _: u64, chunks: u64) {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(chunks), Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

#[test]
fn an_interrupted_pull_goes_on_where_it_was() {
    let scratch = Scratch::new();
    let (there, artifact) = publish(&scratch, "there", "1", 2, 16 << 20);
    let server = Honest::new(there.store()).serve();
    let here = writer(&scratch.join("here"));
    let (net, from) = (net(), [server.source()]);
    let error = pull(&net, &here, &from, "app@1", &StopAfter(AtomicU64::new(300))).unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled);
    let missing = here.store().missing(&artifact, &()).unwrap();
    assert!(missing.chunks > 0 && missing.bytes < 15 << 20, "{missing:?}");
    let report = pull(&net, &here, &from, "app@1", &()).unwrap();
    assert_eq!(report.chunks, missing.chunks);
    assert_eq!(report.round_trips, 2, "the metadata is here");
    assert_whole(&scratch, &here, &artifact, &scratch.join("there-1"));
}

#[test]
fn a_connection_that_breaks_costs_what_was_on_its_way() {
    let scratch = Scratch::new();
    let (there, artifact) = publish(&scratch, "there", "1", 2, 16 << 20);
    let honest = Honest::new(there.store());
    let (frames, broken) = (Arc::clone(&honest.frames), Arc::new(AtomicU64::new(0)));
    // Breaks in the middle of the 10th frame, once.
    let server = honest.serve_twisted(move |reply, item| {
        if !matches!(item, Item::Data(_))
            || frames.load(Ordering::Relaxed) != 10
            || broken.swap(1, Ordering::Relaxed) == 1
        {
            return true;
        }
        let bytes = item.to_bytes();
        reply.raw(&bytes[..bytes.len() / 2]);
        reply.cut();
        false
    });
    let here = writer(&scratch.join("here"));
    let report = pull(&net(), &here, &[server.source()], "app@1", &()).unwrap();
    assert_whole(&scratch, &here, &artifact, &scratch.join("there-1"));
    assert_eq!(report.round_trips, 4);
    assert!(report.wire_bytes < report.stored_bytes * 11 / 10, "{report:?}");
}

#[test]
fn what_is_not_there_is_told_from_nobody_being_there() {
    let scratch = Scratch::new();
    let (there, _) = publish(&scratch, "there", "1", 2, 1000);
    let server = Honest::new(there.store()).serve();
    let here = writer(&scratch.join("here"));
    let absent = pull(&net(), &here, &[server.source()], "app@7", &()).unwrap_err();
    assert_eq!(absent.kind(), Kind::Absent);
    let gone = Server::start(|_, _| {});
    let source = gone.source();
    drop(gone);
    let unavailable = pull(&net(), &here, std::slice::from_ref(&source), "app@1", &()).unwrap_err();
    assert_eq!(unavailable.kind(), Kind::Unavailable);
    assert!(unavailable.to_string().contains(source.url.as_str()), "{unavailable}");
    assert_eq!(net().resolve(&[], &"app@1".parse().unwrap(), None).unwrap_err().kind(), Kind::Unavailable);
}
