//! What goes and what stays, on a simulated machine.

mod crash;
mod run;
mod time;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{CollectOptions, CollectPlan, Collected, Verdict, WhyKept};
use crate::content::{ChunkRef, Content};
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId, PackId};
use crate::ingest::{IngestOptions, Ingested, Input};
use crate::io::{Io, Os, Sim};
use crate::lease::{Held, Hold, Holder};
use crate::refs::RefKey;
use crate::store::Store;
use crate::tree::Node;
use crate::verify::VerifyOptions;
use crate::writer::{PublishOptions, Writer, WriterOptions};

pub(super) const STORE: &str = "/srv/store";

pub(super) fn open(sim: &Sim) -> Result<Writer> {
    let options = WriterOptions { wait: Duration::ZERO, command: String::new(), who: "tests".to_owned() };
    Writer::open_with(Arc::new(sim.clone()), Path::new(STORE), &options)
}

/// Directories with files to be added, by number. Neighbours share files.
pub(super) struct Trees {
    scratch: tempfile::TempDir,
}

/// Bytes that do not compress, from a seed.
pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

impl Trees {
    pub(super) fn new() -> Self {
        Self { scratch: tempfile::tempdir().unwrap() }
    }

    /// Files of tree `number`: three of its own, one that it shares with the next, one that all share.
    pub(super) fn files(number: u64) -> BTreeMap<String, Vec<u8>> {
        let own = (0..).zip([6000, 8000, 10_000]);
        let mut files: BTreeMap<String, Vec<u8>> =
            own.map(|(file, len)| (format!("own-{file}"), noise(number * 100 + file, len))).collect();
        files.insert("sub/shared".to_owned(), noise(1_000_000 + number / 2, 9000));
        files.insert("sub/all".to_owned(), noise(5_000_000, 7000));
        files.insert("tiny".to_owned(), number.to_string().into_bytes());
        files
    }

    pub(super) fn path(&self, number: u64) -> PathBuf {
        let path = self.scratch.path().join(number.to_string());
        if !path.exists() {
            for (name, bytes) in Self::files(number) {
                let file = path.join(name);
                Os.create_dir_all(file.parent().unwrap()).unwrap();
                Os.write_atomic(&file, &bytes).unwrap();
            }
        }
        path
    }

    pub(super) fn ingest(&self, writer: &Writer, number: u64) -> Result<Ingested> {
        let mut options = IngestOptions::package("app".parse().unwrap(), number.to_string().parse().unwrap());
        options.threads = std::num::NonZero::new(1);
        options.platform = Some("any/any".parse().unwrap());
        writer.ingest(Input::Paths(vec![self.path(number)]), &options, &())
    }

    pub(super) fn add(&self, writer: &Writer, number: u64) -> Result<ArtifactId> {
        let ingested = self.ingest(writer, number)?;
        writer.publish(&ingested, &PublishOptions::default())?;
        Ok(ingested.artifact)
    }
}

pub(super) fn key(number: u64) -> RefKey {
    let (name, version) = ("app".parse().unwrap(), number.to_string().parse().unwrap());
    RefKey { name, version, platform: "any/any".parse().unwrap() }
}

pub(super) fn plan(writer: &Writer) -> CollectPlan {
    writer.plan_collection(&CollectOptions::default(), &()).unwrap()
}

pub(super) fn collect(writer: &Writer) -> Collected {
    let collected = writer.collect(&plan(writer), &CollectOptions::default(), &()).unwrap();
    assert!(collected.complete, "{collected:?}");
    collected
}

/// All bytes of the trees that have to be there are, and everything verifies.
pub(super) fn check(store: &Store, numbers: &BTreeSet<u64>, context: &str) {
    let view = store.view().unwrap();
    let named: BTreeSet<u64> = view.refs.keys().map(|key| key.version.as_str().parse().unwrap()).collect();
    assert_eq!(&named, numbers, "{context}");
    let report = store.verify(&VerifyOptions::default(), &()).unwrap();
    assert!(report.is_clean(), "{context}: {report:?}");
    for number in numbers {
        let artifact = view.refs[&key(*number)].artifact;
        for (name, bytes) in Trees::files(*number) {
            let mut file = store.open_file(&artifact, name.as_bytes()).unwrap();
            let mut read = Vec::new();
            std::io::Read::read_to_end(&mut file, &mut read).unwrap();
            assert!(read == bytes, "{context}: {name} of {number}");
        }
    }
}
