//! What the store has of what packages may need, by the SHA-256 of files: their artifacts say it (`files` in the provenance).
//!
//! Found out by reading the store beside whoever writes it. A store that this user may not read, or that is not there, has
//! nothing; then more is fetched than need be, and `add` finds that it was here.

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;

use cairn_sources::{Held, Sha256};
use cairn_store::{Artifact, ArtifactId, Channel, ChannelKey, Name, Platform, RefKey, Store, Version};

use super::facts::{FILES, SOURCE, listed};
use crate::app;
use crate::args::Global;
use crate::commands::install::program::{self, CopyError};

/// The folder of an artifact in which the programs lie.
pub(crate) const BIN: &str = "bin";

/// The store, as far as it is read here.
pub(crate) struct Shelf {
    store: Option<Store>,
    books: OnceLock<Books>,
}

/// Where which programs are.
#[derive(Default)]
struct Books {
    by_hash: HashMap<Sha256, (ArtifactId, String)>,
    /// Of each program of a package, the one that was published last.
    newest: HashMap<(String, String), (u64, ArtifactId)>,
}

impl Shelf {
    pub(crate) fn open(global: &Global) -> Self {
        let store = app::locate_store(global.store.clone()).ok().and_then(|path| Store::open(&path).ok());
        Self { store, books: OnceLock::new() }
    }

    /// The artifact that a version names, if it is here.
    pub(crate) fn artifact(&self, name: &Name, version: &Version, platform: &Platform) -> Option<Artifact> {
        let store = self.store.as_ref()?;
        let key = RefKey { name: name.clone(), version: version.clone(), platform: platform.clone() };
        let record = store.view().ok()?.refs.get(&key).cloned()?;
        store.artifact(&record.artifact).ok()
    }

    /// The version of the package that has just these programs, the one that was published last.
    pub(crate) fn version_with(
        &self,
        name: &Name,
        platform: &Platform,
        files: &BTreeMap<String, Sha256>,
        source: &str,
    ) -> Option<(Version, Artifact)> {
        let store = self.store.as_ref()?;
        let view = store.view().ok()?;
        let mut refs: Vec<_> = view.refs_of(name).filter(|(key, _)| key.platform == *platform).collect();
        refs.sort_by_key(|(_, record)| std::cmp::Reverse(record.time_ms));
        refs.into_iter().find_map(|(key, record)| {
            let artifact = store.artifact(&record.artifact).ok()?;
            let is_it = artifact.provenance.get(SOURCE).is_some_and(|said| said == source)
                && listed(&artifact.provenance, FILES) == *files;
            is_it.then(|| (key.version.clone(), artifact))
        })
    }

    /// Whether the channel names the version.
    pub(crate) fn is_tagged(
        &self,
        name: &Name,
        channel: &Channel,
        platform: &Platform,
        version: &Version,
    ) -> bool {
        let key = ChannelKey { name: name.clone(), channel: channel.clone(), platform: platform.clone() };
        let view = self.store.as_ref().and_then(|store| store.view().ok());
        view.is_some_and(|view| view.channels.get(&key) == Some(version))
    }

    fn books(&self) -> &Books {
        self.books.get_or_init(|| self.store.as_ref().map(read).unwrap_or_default())
    }

    /// Writes a program of an artifact to `to`, which is not there; says whether it could be read.
    fn write(&self, id: &ArtifactId, binary: &str, to: &Path) -> io::Result<bool> {
        let Some(store) = &self.store else { return Ok(false) };
        // It may be collected at any time from here on; then it cannot be read, and comes from elsewhere.
        let _lease = store.lease(cairn_store::Held::Artifact(*id), "cairn sync").ok().flatten();
        let Ok(mut reader) = store.open_file(id, format!("{BIN}/{binary}").as_bytes()) else {
            return Ok(false);
        };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        match program::copy(&mut reader, &mut file) {
            Ok(()) => Ok(true),
            Err(CopyError::Write(error)) => Err(error),
            Err(CopyError::Read(error)) => {
                tracing::warn!(%id, binary, %error, "a program that is here cannot be read; it is fetched");
                drop(file);
                rustix::fs::unlink(to)?;
                Ok(false)
            }
        }
    }
}

impl Held for Shelf {
    fn copy(&self, sha256: &Sha256, to: &Path) -> io::Result<bool> {
        match self.books().by_hash.get(sha256) {
            Some((id, binary)) => self.write(id, binary, to),
            None => Ok(false),
        }
    }

    fn copy_newest(&self, package: &str, binary: &str, to: &Path) -> io::Result<bool> {
        match self.books().newest.get(&(package.to_owned(), binary.to_owned())) {
            Some((_, id)) => self.write(id, binary, to),
            None => Ok(false),
        }
    }
}

fn read(store: &Store) -> Books {
    let mut books = Books::default();
    let Ok(view) = store.view() else { return books };
    for (key, record) in view.refs.iter() {
        let Ok(artifact) = store.artifact(&record.artifact) else { continue };
        for (binary, sha256) in listed(&artifact.provenance, FILES) {
            let newest =
                books.newest.entry((key.name.to_string(), binary.clone())).or_insert((0, record.artifact));
            if newest.0 <= record.time_ms {
                *newest = (record.time_ms, record.artifact);
            }
            books.by_hash.insert(sha256, (record.artifact, binary));
        }
    }
    books
}
