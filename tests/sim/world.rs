//! What histories are about: releases that share files and chunks, the bytes of each, a store on a machine that never fails
//! which has all of them, and what it sends of those that are pulled.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cairn_store::io::Sim;
use cairn_store::{
    ArtifactId, ChunkId, ChunkRef, Fetch, Intake, PackKind, Piece, RefKey, Result, Store, Why,
};
use cairn_store::{Decoder, VerifiedFrame, Writer};
use cairn_trust::Envelope;
use harness::neighbour::{send, statements};
use harness::plan::{Fill, Folder, Plan, all_below, make};
use harness::scratch::Scratch;
use harness::stores::{add, options, with_threads, writer_on};

use crate::program;

pub(crate) const STORE: &str = "/srv/store";
/// Packages that are added here.
pub(crate) const LOCAL: [&str; 2] = ["app", "lib"];
/// The package that is pulled.
pub(crate) const FAR: &str = "far";
pub(crate) const VERSIONS: [&str; 3] = ["1", "2", "3"];

/// The bytes of a tree's files, by path.
type Files = BTreeMap<Vec<u8>, Vec<u8>>;

/// A tree under a name.
pub(crate) struct Release {
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
    pub(crate) tree: usize,
    pub(crate) artifact: ArtifactId,
    /// Of those that are pulled: what is sent of them.
    pub(crate) sent: Option<Sent>,
}

/// What another store sends of a release.
pub(crate) struct Sent {
    pub(crate) objects: Vec<Frame>,
    pub(crate) data: Vec<Frame>,
    pub(crate) statements: Vec<Envelope>,
}

/// A frame as it travels.
pub(crate) struct Frame {
    kind: PackKind,
    bytes: Vec<u8>,
}

/// Everything that histories share and none changes.
pub(crate) struct World {
    scratch: Scratch,
    files: Vec<Files>,
    releases: Vec<Release>,
    /// Who has every chunk of every release.
    library: Writer,
}

impl World {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::in_memory();
        let library = writer_on(Sim::new(0), Path::new(STORE)).unwrap();
        let mut world = Self { scratch, files: Vec::new(), releases: Vec::new(), library };
        for (tree, folder) in folders().iter().enumerate() {
            let path = world.source(tree);
            make(&path, folder);
            let found = all_below(&path).into_iter().filter(|file| file.is_file());
            let relative = |file: &PathBuf| file.strip_prefix(&path).unwrap().as_os_str().as_bytes().to_vec();
            world.files.push(found.map(|file| (relative(&file), std::fs::read(&file).unwrap())).collect());
        }
        // So that the stat cache takes all of them for unchanged, each time.
        let last = all_below(world.scratch.path()).pop().unwrap();
        world.scratch.let_grain_pass(&last);
        for package in LOCAL {
            for version in VERSIONS {
                (0..world.files.len()).for_each(|tree| world.release(package, version, tree));
            }
        }
        for (version, tree) in VERSIONS.into_iter().zip([1, 4, 6]) {
            world.release(FAR, version, tree);
        }
        world
    }

    fn release(&mut self, package: &'static str, version: &'static str, tree: usize) {
        let made = with_threads(1, options(package, version));
        let input = harness::stores::at(&self.source(tree));
        let sent = if package == FAR {
            let ingested = add(&self.library, &self.source(tree), &made);
            let objects = self.library.lacking_objects(None, &ingested.artifact, &()).unwrap().chunks;
            let data = self.library.lacking_chunks(None, &ingested.artifact, &()).unwrap().chunks;
            let statements = statements(&self.library, &ingested.key);
            Some(Sent { objects: self.frames(&objects), data: self.frames(&data), statements })
        } else {
            None
        };
        let artifact = self.library.ingest(input, &made, &()).unwrap().artifact;
        self.releases.push(Release { package, version, tree, artifact, sent });
    }

    fn frames(&self, chunks: &[ChunkRef]) -> Vec<Frame> {
        let ids: Vec<ChunkId> = chunks.iter().map(|chunk| chunk.id).collect();
        let pieces = self.library.sending(ids).map(|piece| match piece.unwrap() {
            Piece::Frame(kind, bytes) => Frame { kind, bytes: bytes.to_vec() },
            Piece::Absent(ids) => panic!("{} is not in the library", ids[0]),
        });
        pieces.collect()
    }

    pub(crate) fn source(&self, tree: usize) -> PathBuf {
        self.scratch.join(tree.to_string())
    }

    pub(crate) fn trees(&self) -> usize {
        self.files.len()
    }

    /// The place of a release: of a package that is pulled, whatever the tree.
    pub(crate) fn place(&self, package: &str, version: &str, tree: Option<usize>) -> usize {
        let is_it = |release: &Release| {
            (release.package, release.version) == (package, version)
                && tree.is_none_or(|tree| release.tree == tree)
        };
        self.releases.iter().position(is_it).unwrap()
    }

    pub(crate) fn at(&self, place: usize) -> &Release {
        &self.releases[place]
    }

    /// The place of what a store names so.
    pub(crate) fn place_of(&self, artifact: &ArtifactId) -> Option<usize> {
        self.releases.iter().position(|release| release.artifact == *artifact)
    }

    pub(crate) fn files_of(&self, place: usize) -> &Files {
        &self.files[self.releases[place].tree]
    }

    /// Somebody who has everything, and gives it to this writer.
    pub(crate) fn library(&self, to: &Writer) -> Library {
        Library { from: self.library.store().clone(), intake: to.intake() }
    }
}

impl Release {
    pub(crate) fn key(&self) -> RefKey {
        RefKey {
            name: self.package.parse().unwrap(),
            version: self.version.parse().unwrap(),
            platform: "linux/x86_64".parse().unwrap(),
        }
    }
}

impl Frame {
    /// Takes it in, as one that has just arrived.
    pub(crate) fn arrive(&self, intake: &Intake) -> Result<()> {
        let frame = VerifiedFrame::verify(self.bytes.clone(), &mut Decoder::default()).unwrap();
        intake.keep(self.kind, &frame).map(drop)
    }
}

/// The store that has everything, as somebody to fetch from.
pub(crate) struct Library {
    from: Store,
    intake: std::sync::Arc<Intake>,
}

impl Fetch for Library {
    fn fetch(&self, wanted: &[ChunkRef], why: Why) -> Result<()> {
        send(&self.from, &self.intake, wanted.iter().map(|chunk| chunk.id).collect(), why)
    }
}

fn folders() -> Vec<Folder> {
    let folder = |files: &[(&str, Fill, usize)]| -> Folder {
        let file = |(name, fill, len): &(&str, Fill, usize)| {
            (name.as_bytes().to_vec(), Plan::File(*fill, *len, 0o644))
        };
        files.iter().map(file).collect()
    };
    let small =
        folder(&[("a", Fill::Text(1), 3000), ("b", Fill::Noise(1), 20_000), ("tiny", Fill::Text(2), 20)]);
    let mut nested = folder(&[("b", Fill::Noise(1), 20_000), ("c", Fill::Noise(2), 9000)]);
    nested.insert(b"sub".to_vec(), Plan::Dir(small.clone(), 0o755));
    // Its list of chunks has nodes of its own.
    let long = folder(&[("long", Fill::Noise(3), 640_000), ("a", Fill::Text(1), 3000)]);
    let inline = folder(&[("tiny", Fill::Text(2), 20), ("holes", Fill::Zeros, 300_000)]);
    let next =
        folder(&[("a", Fill::Text(3), 3100), ("b", Fill::Noise(1), 20_000), ("e", Fill::Noise(4), 5000)]);
    let many = (0..24u64).map(|n| (n.to_string().into_bytes(), Plan::File(Fill::Text(n), 400, 0o644)));
    let alone = folder(&[("x", Fill::Noise(7), 12_000), ("c", Fill::Noise(2), 9000)]);
    let others: [Folder; BUILDS_FROM as usize] = [small, nested, long, inline, next, many.collect(), alone];
    others.into_iter().chain((1..=BUILDS).map(build)).collect()
}

/// So many trees are builds of one program, so that versions are often like one another.
pub(crate) const BUILDS: u8 = 28;
/// The number of the first of them.
pub(crate) const BUILDS_FROM: u64 = 7;

/// A program as it is built from time to time: a little of every chunk is different.
fn build(number: u8) -> Folder {
    let mut program = Fill::Noise(8).bytes(90_000);
    program.iter_mut().skip(700).step_by(2500).for_each(|byte| *byte ^= number);
    let own = Plan::File(Fill::Noise(20 + u64::from(number)), 5000, 0o644);
    let mut executable = program::sample(100, false);
    executable.pad = 512 * usize::from(number);
    Folder::from([
        (b"program".to_vec(), Plan::Bytes(program)),
        (b"tool".to_vec(), Plan::Bytes(executable.link())),
        (b"own".to_vec(), own),
    ])
}
