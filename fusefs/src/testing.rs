//! Stores of a test's own, with files in them.

pub(crate) mod names;

use std::path::PathBuf;
use std::time::Duration;

use cairn_store::{IngestOptions, Input, Node, Store, Writer, WriterOptions, tree};
use tempfile::TempDir;

use crate::files::{CacheOptions, FileSpec};

/// So many bytes that look random and compress badly; each seed gives its own.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A store in a temporary folder.
pub(crate) struct Scratch {
    folder: TempDir,
    pub(crate) store: Store,
}

impl Scratch {
    /// A store with these files, and how the store names each.
    #[expect(clippy::disallowed_methods, reason = "these are files of the test")]
    pub(crate) fn with(files: &[Vec<u8>]) -> (Self, Vec<FileSpec>) {
        let folder = TempDir::new().unwrap();
        let release = folder.path().join("release");
        std::fs::create_dir_all(&release).unwrap();
        for (number, bytes) in files.iter().enumerate() {
            std::fs::write(release.join(format!("file{number:05}")), bytes).unwrap();
        }
        let path = folder.path().join("store");
        let options = WriterOptions {
            wait: Duration::from_secs(10),
            command: "test".to_owned(),
            who: "test".to_owned(),
        };
        let writer = Writer::open(&path, &options, &()).unwrap();
        let package = IngestOptions::package("files".parse().unwrap(), "1".parse().unwrap());
        let ingested = writer.ingest(Input::Paths(vec![release]), &package, &()).unwrap();
        drop(writer);
        let store = Store::open(&path).unwrap();
        let root = store.artifact(&ingested.artifact).unwrap().root;
        let spec = |entry: cairn_store::Result<cairn_store::Entry>| match entry.unwrap().node {
            Node::File { size, content } => FileSpec { content, size },
            node => panic!("{node:?}"),
        };
        let specs = tree::entries(&root, &store).map(spec).collect();
        (Self { folder, store }, specs)
    }

    pub(crate) fn cache_dir(&self) -> PathBuf {
        self.folder.path().join("store/cache/files")
    }

    pub(crate) fn options(&self) -> CacheOptions {
        CacheOptions { bytes_max: Some(64 << 20), ..CacheOptions::new(self.cache_dir()) }
    }
}
