//! A small store in memory of which everything is known: which frame of which pack each file needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cairn_store::content::chunks;
use cairn_store::io::{Io, Sim};
use cairn_store::object::ObjectSource;
use cairn_store::{ArtifactId, ChunkId, Node, PackId, Result, Store, tree};
use harness::plan::{Fill, Folder, Plan, make};
use harness::scratch::Scratch;
use harness::stores::{add, options, read_file, with_threads, writer_on};

/// Where the store is.
pub(crate) const STORE: &str = "/store";

/// A frame: its pack and its offset there.
pub(crate) type Frame = (PackId, u64);

/// A file: its artifact and its path in it.
pub(crate) type File = (ArtifactId, Vec<u8>);

/// The store and what is known of it.
pub(crate) struct Specimen {
    pub(crate) sim: Sim,
    pub(crate) scratch: Scratch,
    pub(crate) artifacts: Vec<ArtifactId>,
    /// The bytes of every file.
    pub(crate) bytes: BTreeMap<File, Vec<u8>>,
    /// What has to be read for each file.
    pub(crate) needs: BTreeMap<File, BTreeSet<Frame>>,
    /// Stored bytes of each frame.
    pub(crate) frames: BTreeMap<Frame, u64>,
}

/// The folder of the `number`-th artifact.
pub(crate) fn source(scratch: &Scratch, number: usize) -> PathBuf {
    scratch.join(number.to_string())
}

impl Specimen {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::in_memory();
        let shared = Plan::File(Fill::Text(1), 30_000, 0o644);
        let below = Folder::from([(b"three".to_vec(), Plan::File(Fill::Noise(3), 10_000, 0o644))]);
        let first = Folder::from([
            (b"one".to_vec(), Plan::File(Fill::Noise(1), 1_000_000, 0o644)),
            (b"two".to_vec(), shared.clone()),
            (b"tiny".to_vec(), Plan::File(Fill::Noise(2), 50, 0o644)),
            (b"sub".to_vec(), Plan::Dir(below, 0o755)),
        ]);
        let second = Folder::from([
            (b"two".to_vec(), shared),
            (b"four".to_vec(), Plan::File(Fill::Noise(4), 50_000, 0o644)),
        ]);
        let third = Folder::from([(b"five".to_vec(), Plan::File(Fill::Noise(5), 20_000, 0o644))]);
        let sim = Sim::new(0);
        let writer = writer_on(sim.clone(), Path::new(STORE)).unwrap();
        for (number, folder) in [first, second, third].iter().enumerate() {
            make(&source(&scratch, number), folder);
        }
        // So that the stat cache takes every file for unchanged.
        scratch.let_grain_pass(&source(&scratch, 2).join("five"));
        let mut artifacts = Vec::new();
        for number in 0..3 {
            let options = with_threads(1, options(&format!("specimen-{number}"), "1"));
            artifacts.push(add(&writer, &source(&scratch, number), &options).artifact);
        }
        let mut specimen = Self {
            sim,
            scratch,
            artifacts,
            bytes: BTreeMap::new(),
            needs: BTreeMap::new(),
            frames: BTreeMap::new(),
        };
        specimen.learn();
        specimen
    }

    fn learn(&mut self) {
        let store = self.open();
        for artifact in self.artifacts.clone() {
            let files = store.artifact(&artifact).unwrap().walk(&store);
            let is_file = |node: &Node| matches!(node, Node::File { .. });
            let paths: Vec<_> = files
                .map(Result::unwrap)
                .filter(|(_, entry)| is_file(&entry.node))
                .map(|(path, _)| path)
                .collect();
            for path in paths {
                let recorder = Recorder { store: &store, frames: Mutex::default() };
                recorder.record(&artifact.into());
                let root = store.artifact(&artifact).unwrap().root;
                let entry = tree::lookup(&root, &path, &recorder).unwrap().unwrap();
                let Node::File { size, content } = entry.node else { unreachable!("it is a file") };
                for chunk in chunks(&content, size, &recorder) {
                    let (_, chunk) = chunk.unwrap();
                    recorder.record(&chunk.id);
                }
                let needed = recorder.frames.into_inner().unwrap();
                let file = (artifact, path);
                self.bytes.insert(file.clone(), read_file(&store, &file.0, &file.1).unwrap());
                self.frames.extend(&needed);
                self.needs.insert(file, needed.into_keys().collect());
            }
        }
        assert!(self.bytes.len() == 7 && self.frames.len() > 6, "{:?}", self.frames);
    }

    /// Opens the store to read, with nothing remembered.
    pub(crate) fn open(&self) -> Store {
        Store::open_with(Arc::new(self.sim.clone()), Path::new(STORE)).unwrap()
    }

    /// The files in a folder of the store, with their bytes.
    pub(crate) fn files_in(&self, folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let dir = Path::new(STORE).join(folder);
        let listed = self.sim.list(&dir).unwrap();
        let paths = listed.into_iter().filter(|entry| !entry.is_dir).map(|entry| dir.join(entry.name));
        paths.map(|path| (path.clone(), self.sim.read(&path).unwrap())).collect()
    }

    /// Makes a file hold these bytes.
    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) {
        let file = self.sim.open_write(path).unwrap();
        file.set_len(0).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        // Or it would remember every change.
        self.sim.settle();
    }

    /// The artifacts that need one of these frames.
    pub(crate) fn users(&self, frames: &BTreeSet<Frame>) -> BTreeSet<ArtifactId> {
        let needing = self.needs.iter().filter(|(_, needs)| !needs.is_disjoint(frames));
        needing.map(|((artifact, _), _)| *artifact).collect()
    }

    /// Reads every file; gives those that could not be, with the error.
    pub(crate) fn unreadable(&self, store: &Store) -> BTreeMap<File, cairn_store::Error> {
        let mut failed = BTreeMap::new();
        for (file, wanted) in &self.bytes {
            match read_file(store, &file.0, &file.1) {
                Ok(found) => assert!(found == *wanted, "{file:?} has other bytes"),
                Err(error) => drop(failed.insert(file.clone(), error)),
            }
        }
        failed
    }
}

/// Notes the frames of what is read through it.
struct Recorder<'a> {
    store: &'a Store,
    frames: Mutex<BTreeMap<Frame, u64>>,
}

impl Recorder<'_> {
    fn record(&self, id: &ChunkId) {
        let placed = self.store.place(id).unwrap().unwrap();
        let frame = (placed.pack, placed.frame_offset);
        self.frames.lock().unwrap().insert(frame, placed.frame_stored.into());
    }
}

impl ObjectSource for Recorder<'_> {
    fn get(&self, id: &ChunkId) -> Result<Arc<[u8]>> {
        self.record(id);
        self.store.get(id)
    }
}
