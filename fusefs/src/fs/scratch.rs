//! Stores, views and trees for the tests of what shows them.

#![expect(clippy::disallowed_methods, reason = "the trees that are ingested are ordinary files")]

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cairn_store::{
    ArtifactId, Generation, IngestOptions, Input, MetadataPolicy, Name, Package, ProfileName, RefKey,
    RefRecord, Store, View, Writer, WriterOptions,
};

use crate::fs::{Fs, FsOptions, Widths};

/// A store in a folder of its own.
pub(crate) struct Scratch {
    folder: tempfile::TempDir,
    writer: Writer,
}

/// A file of a tree to ingest.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    File(Vec<u8>, u32),
    Link(String),
}

pub(crate) fn file(text: &str) -> Item {
    Item::File(text.as_bytes().to_vec(), 0o644)
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = WriterOptions {
            wait: Duration::from_secs(10),
            command: "test".to_owned(),
            who: "test".to_owned(),
        };
        let writer = Writer::open(&folder.path().join("store"), &options, &()).unwrap();
        Self { folder, writer }
    }

    pub(crate) fn store(&self) -> &Store {
        self.writer.store()
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Ingests a tree that is made of these files.
    pub(crate) fn artifact(&self, name: &str, version: &str, items: &[(&str, Item)]) -> ArtifactId {
        let tree = self.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        for (path, item) in items {
            let path = tree.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match item {
                Item::File(bytes, mode) => {
                    std::fs::write(&path, bytes).unwrap();
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).unwrap();
                }
                Item::Link(target) => symlink(target, &path).unwrap(),
            }
        }
        let id = self.ingest(name, version, &tree, MetadataPolicy::Portable);
        std::fs::remove_dir_all(&tree).unwrap();
        id
    }

    /// Ingests a folder.
    pub(crate) fn ingest(
        &self,
        name: &str,
        version: &str,
        tree: &Path,
        policy: MetadataPolicy,
    ) -> ArtifactId {
        let options = IngestOptions {
            policy,
            special_files: true,
            ..IngestOptions::package(name.parse().unwrap(), version.parse().unwrap())
        };
        self.writer.ingest(Input::Paths(vec![tree.to_owned()]), &options, &()).unwrap().artifact
    }

    /// A file system for `linux/x86_64` with the default profile.
    pub(crate) fn fs(&self, view: &View) -> Fs {
        self.fs_with(view, Widths::default())
    }

    pub(crate) fn fs_with(&self, view: &View, widths: Widths) -> Fs {
        Fs::with_widths(self.store().clone(), Arc::new(view.clone()), options(), widths)
    }
}

pub(crate) fn options() -> FsOptions {
    FsOptions {
        profile: ProfileName::default(),
        platform: Some("linux/x86_64".parse().unwrap()),
        uid: 1000,
        gid: 100,
        key: [7; 32],
        dynamic_ttl_zero: false,
    }
}

/// Gives a view a ref.
pub(crate) fn add_ref(view: &mut View, name: &str, version: &str, platform: &str, artifact: ArtifactId) {
    let key = RefKey {
        name: name.parse().unwrap(),
        version: version.parse().unwrap(),
        platform: platform.parse().unwrap(),
    };
    let record =
        RefRecord { artifact, files: 1, bytes: 1000, chunks: 1, new_bytes: 0, stored_bytes: 0, time_ms: 0 };
    view.refs.insert(key, record);
    view.seq += 1;
}

/// A package with commands, each at `bin/` and its name.
pub(crate) fn package(
    version: &str,
    platform: &str,
    artifact: ArtifactId,
    commands: &[&str],
) -> Arc<Package> {
    let path = |command: &&str| (command.as_bytes().to_vec(), format!("bin/{command}").into_bytes());
    Arc::new(Package {
        version: version.parse().unwrap(),
        platform: platform.parse().unwrap(),
        artifact,
        commands: commands.iter().map(path).collect(),
    })
}

/// Gives the default profile of a view a generation and makes it current.
pub(crate) fn add_generation(view: &mut View, packages: &[(&str, Arc<Package>)]) -> u64 {
    let profile = view.profiles.entry(ProfileName::default()).or_default();
    profile.last += 1;
    let packages: BTreeMap<Name, Arc<Package>> =
        packages.iter().map(|(name, package)| (name.parse().unwrap(), Arc::clone(package))).collect();
    let time_ms = 1_600_000_000_000 + profile.last;
    let generation = Generation { parent: None, time_ms, packages, preferred: Vec::new() };
    profile.generations.insert(profile.last, Arc::new(generation));
    profile.current = profile.last;
    view.seq += 1;
    profile.last
}
