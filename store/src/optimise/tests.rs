//! Older versions told in terms of newer ones, and what becomes of them, on a simulated machine.

mod crash;
#[path = "../../../delta/tests/reloc/program.rs"]
mod program;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{OptimiseOptions, Optimised};
use crate::collect::{CollectOptions, Collected};
use crate::error::Result;
use crate::id::{ArtifactId, ChunkId};
use crate::ingest::{IngestOptions, Input};
use crate::io::{Io, Os, Sim};
use crate::pack::PackKind;
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

pub(super) fn read_only(sim: &Sim) -> Store {
    Store::open_with(Arc::new(sim.clone()), Path::new(STORE)).unwrap()
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// An executable that differs from one build to the next in where everything lies, and in a few numbers.
fn executable(number: u64) -> Vec<u8> {
    let (mut program, build) = (program::sample(200, false), u16::try_from(number).unwrap());
    program.functions[usize::from(build) % 200].steps.push(program::Step::Number(build));
    program.pad = 512 * usize::from(build);
    program.link()
}

/// Directories to be added: builds of one program, each a little different in every chunk.
pub(super) struct Builds {
    scratch: tempfile::TempDir,
    bytes: usize,
}

impl Builds {
    pub(super) fn new(bytes: usize) -> Self {
        Self { scratch: tempfile::tempdir().unwrap(), bytes }
    }

    pub(super) fn files(&self, number: u64) -> BTreeMap<String, Vec<u8>> {
        let mut program = noise(1, self.bytes);
        for (count, at) in (0u64..).zip((500..program.len()).step_by(3000)) {
            // Some places change with each build, others stay for two.
            let changed = if count % 3 == 0 { number / 2 } else { number };
            program[at] = u8::try_from((changed * 7 + count) % 256).unwrap();
        }
        BTreeMap::from([
            ("bin/program".to_owned(), program),
            ("bin/tool".to_owned(), executable(number)),
            ("lib/all".to_owned(), noise(2, 20_000)),
            ("own".to_owned(), noise(1000 + number, 6000)),
            ("tiny".to_owned(), number.to_string().into_bytes()),
        ])
    }

    fn path(&self, number: u64) -> PathBuf {
        let path = self.scratch.path().join(number.to_string());
        if !path.exists() {
            for (name, bytes) in self.files(number) {
                let file = path.join(name);
                Os.create_dir_all(file.parent().unwrap()).unwrap();
                Os.write_atomic(&file, &bytes).unwrap();
            }
        }
        path
    }

    pub(super) fn add(&self, writer: &Writer, number: u64) -> Result<ArtifactId> {
        let mut options = IngestOptions::package("app".parse().unwrap(), number.to_string().parse().unwrap());
        options.threads = std::num::NonZero::new(1);
        options.platform = Some("any/any".parse().unwrap());
        let ingested = writer.ingest(Input::Paths(vec![self.path(number)]), &options, &())?;
        writer.publish(&ingested, &PublishOptions::default())?;
        Ok(ingested.artifact)
    }

    /// Exactly these are named, all their bytes are there, and everything verifies.
    pub(super) fn check(&self, store: &Store, numbers: &BTreeSet<u64>, context: &str) {
        let view = store.view().unwrap();
        let named: BTreeSet<u64> =
            view.refs.keys().map(|key| key.version.as_str().parse().unwrap()).collect();
        assert_eq!(&named, numbers, "{context}");
        let report = store.verify(&VerifyOptions::default(), &()).unwrap();
        assert!(report.is_clean(), "{context}: {report:?}");
        self.check_bytes(store, numbers, context);
    }

    pub(super) fn check_bytes(&self, store: &Store, numbers: &BTreeSet<u64>, context: &str) {
        let view = store.view().unwrap();
        for number in numbers {
            let artifact = view.refs[&key(*number)].artifact;
            for (name, bytes) in self.files(*number) {
                let mut file = store.open_file(&artifact, name.as_bytes()).unwrap();
                let mut read = Vec::new();
                std::io::Read::read_to_end(&mut file, &mut read).unwrap();
                assert!(read == bytes, "{context}: {name} of {number}");
            }
        }
    }
}

pub(super) fn key(number: u64) -> RefKey {
    let (name, version) = ("app".parse().unwrap(), number.to_string().parse().unwrap());
    RefKey { name, version, platform: "any/any".parse().unwrap() }
}

/// The chunks of a version's program.
pub(super) fn chunks(store: &Store, number: u64) -> Vec<ChunkId> {
    let artifact = store.artifact(&store.view().unwrap().refs[&key(number)].artifact).unwrap();
    let entry = crate::tree::lookup(&artifact.root, b"bin/program", store).unwrap().unwrap();
    let Node::File { size, content } = entry.node else { panic!("it is a file") };
    crate::content::chunks(&content, size, store).map(|chunk| chunk.unwrap().1.id).collect()
}

/// Whether each of a version's chunks lies in a pack of deltas.
pub(super) fn told(store: &Store, number: u64) -> Vec<bool> {
    let kind = |id: &ChunkId| {
        let place = store.locate(id).unwrap().unwrap();
        store.pack(place.pack).unwrap().footer().kind
    };
    chunks(store, number).iter().map(|id| kind(id) == PackKind::Delta).collect()
}

pub(super) fn optimise(writer: &Writer) -> Result<Optimised> {
    let plan = writer.plan_optimise(&())?;
    writer.optimise(&plan, &OptimiseOptions::default(), &())
}

pub(super) fn collect(writer: &Writer) -> Result<Collected> {
    let plan = writer.plan_collection(&CollectOptions::default(), &())?;
    writer.collect(&plan, &CollectOptions::default(), &())
}
