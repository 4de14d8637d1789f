//! Stores of a test's own, and what is done with them all the time.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cairn_store::content::chunks;
use cairn_store::io::Io;
use cairn_store::{
    ArtifactId, ChunkRef, Content, IngestOptions, Ingested, Input, Node, PublishOptions, RestoreOptions,
    Restored, Result, Store, VerifyOptions, VerifyReport, Writer, WriterOptions, tree,
};

/// How writers of tests are opened.
#[must_use]
pub fn writer_options() -> WriterOptions {
    WriterOptions { wait: Duration::from_secs(60), command: "a test".to_owned(), who: "test@here".to_owned() }
}

/// Opens a store for writing.
///
/// # Panics
/// If it cannot be opened.
#[must_use]
pub fn writer(path: &Path) -> Writer {
    Writer::open(path, &writer_options(), &()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Opens a store on another file system for writing.
///
/// # Errors
/// As [`Writer::open_with`].
pub fn writer_on(io: impl Io + 'static, path: &Path) -> Result<Writer> {
    Writer::open_with(Arc::new(io), path, &writer_options())
}

/// How an artifact is made: for `linux/x86_64`, whatever this machine is.
///
/// # Panics
/// If name or version are not acceptable.
#[must_use]
pub fn options(name: &str, version: &str) -> IngestOptions {
    let (name, version) = (name.parse().expect("a name"), version.parse().expect("a version"));
    let platform = Some("linux/x86_64".parse().expect("a platform"));
    IngestOptions { platform, ..IngestOptions::package(name, version) }
}

/// The same with so many threads.
#[must_use]
pub fn with_threads(threads: usize, options: IngestOptions) -> IngestOptions {
    IngestOptions { threads: NonZero::new(threads), ..options }
}

/// What is at a path, as an input.
#[must_use]
pub fn at(path: &Path) -> Input {
    Input::Paths(vec![path.to_owned()])
}

/// A stream, as an input.
#[must_use]
pub fn stream(name: &str, bytes: Vec<u8>) -> Input {
    Input::Reader { name: name.to_owned(), executable: false, reader: Box::new(std::io::Cursor::new(bytes)) }
}

/// Ingests and publishes what is at a path.
///
/// # Panics
/// If that fails.
pub fn add(writer: &Writer, path: &Path, options: &IngestOptions) -> Ingested {
    let ingested = writer.ingest(at(path), options, &()).expect("it can be ingested");
    writer.publish(&ingested, &PublishOptions::default()).expect("it can be published");
    ingested
}

/// Restores an artifact.
///
/// # Panics
/// If that fails.
pub fn restore(store: &Store, artifact: &ArtifactId, dest: &Path) -> Restored {
    let options = RestoreOptions { no_sync: true, ..RestoreOptions::default() };
    store.restore(artifact, dest, &options, &()).expect("it can be restored")
}

/// Restores an artifact with the help of a folder that is there already.
///
/// # Panics
/// If that fails.
pub fn restore_with_seed(store: &Store, artifact: &ArtifactId, dest: &Path, seed: &Path) -> Restored {
    let seeds = vec![PathBuf::from(seed)];
    let options = RestoreOptions { no_sync: true, seeds, ..RestoreOptions::default() };
    store.restore(artifact, dest, &options, &()).expect("it can be restored")
}

/// Verifies a whole store.
///
/// # Panics
/// If that fails. Damage is no failure.
#[must_use]
pub fn verify(store: &Store) -> VerifyReport {
    store.verify(&VerifyOptions::default(), &()).expect("it can be verified")
}

/// Verifies a whole store, which is expected to be sound.
///
/// # Panics
/// If it is not.
pub fn assert_sound(store: &Store) {
    let report = verify(store);
    assert!(report.is_clean(), "{:?} {:?}", report.damage, report.affected);
}

/// What a file of an artifact holds: its length, and how that is kept.
///
/// # Panics
/// If there is no such file.
#[must_use]
pub fn content(store: &Store, artifact: &ArtifactId, path: &[u8]) -> (u64, Content) {
    let artifact = store.artifact(artifact).expect("the artifact is there");
    let entry = tree::lookup(&artifact.root, path, store).expect("its tree can be read");
    match entry.map(|entry| entry.node) {
        Some(Node::File { size, content }) => (size, content),
        other => panic!("{} is {other:?}", path.escape_ascii()),
    }
}

/// The chunks of a file of an artifact.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn chunk_list(store: &Store, artifact: &ArtifactId, path: &[u8]) -> Vec<ChunkRef> {
    let (size, content) = content(store, artifact, path);
    chunks(&content, size, store).map(|chunk| chunk.expect("its list can be read").1).collect()
}

/// The whole bytes of a file of an artifact.
///
/// # Errors
/// As reading it.
pub fn read_file(store: &Store, artifact: &ArtifactId, path: &[u8]) -> Result<Vec<u8>> {
    let mut reader = store.open_file(artifact, path)?;
    let mut bytes = vec![0; usize::try_from(reader.len()).expect("a test's file")];
    let read = reader.read_at(0, &mut bytes)?;
    assert_eq!(read, bytes.len());
    Ok(bytes)
}
