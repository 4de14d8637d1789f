//! A store of a test's own, mounted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_fusefs::{CacheOptions, Files, Mount, MountOptions, MountStatus};
use cairn_store::generation::{Switched, UseOptions};
use cairn_store::io::{Io, Os};
use cairn_store::{
    IngestOptions, Input, MetadataPolicy, ProfileName, PublishOptions, Spec, Store, View, Writer,
    WriterOptions,
};
use harness::neighbour::{Neighbour, copy_metadata};
use harness::scratch::Scratch;
use harness::user::{is_root, skip};

/// A file that is small enough to be served from the page cache, and one that is materialised.
pub(crate) const SMALL: usize = 3_000;
pub(crate) const LARGE: usize = 700_000;

/// How long requests wait for other machines where no test is about that.
const FETCH_MAX: Duration = Duration::from_secs(60);

/// Ends whoever looks at it, also when the test fails.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A store with one mount, which goes away with it.
pub(crate) struct Mounted {
    mount: Arc<Mount>,
    files: Arc<Files>,
    pub(crate) writer: Arc<Writer>,
    pub(crate) dir: PathBuf,
    /// What it showed first.
    view: Arc<View>,
    // Dropped after the mount itself.
    pub(crate) scratch: Arc<Scratch>,
}

impl Mounted {
    /// A mount of a new store; `None`, said loudly, where nothing can be mounted.
    pub(crate) fn new(test: &str) -> Option<Self> {
        Self::over(test, |folder, options| Writer::open(folder, options, &()).unwrap())
    }

    /// The same with a writer that is opened like this.
    pub(crate) fn over(test: &str, open: impl FnOnce(&Path, &WriterOptions) -> Writer) -> Option<Self> {
        if !Path::new("/dev/fuse").exists() || !is_root() {
            skip(test, "it needs root and /dev/fuse");
            return None;
        }
        let scratch = Scratch::new();
        scratch.open_to_all();
        let options = WriterOptions {
            wait: Duration::from_secs(10),
            command: "test".to_owned(),
            who: "test@test".to_owned(),
        };
        let folder = scratch.join("store");
        let writer = Arc::new(open(&folder, &options));
        let store = writer.store().clone();
        let view = writer.names();
        Some(Self::of(store, view, "bins", writer, Arc::new(scratch), FETCH_MAX))
    }

    /// One more mount of the same store, which has not read anything of it yet.
    pub(crate) fn anew(&self) -> Self {
        self.anew_over(Arc::new(Os))
    }

    /// Like [`Self::anew`], reading by these system calls.
    pub(crate) fn anew_over(&self, io: Arc<dyn Io>) -> Self {
        let store = Store::open_with(io, &self.scratch.join("store")).unwrap();
        let (writer, scratch) = (Arc::clone(&self.writer), Arc::clone(&self.scratch));
        Self::of(store, writer.names(), "bins-anew", writer, scratch, FETCH_MAX)
    }

    /// One more mount that shows the same, of a store that has nothing of it but the metadata, and fetches the rest from
    /// this one. Requests of the kernel wait for that so long at most, the neighbour itself without a bound.
    pub(crate) fn lazily(&self, fetch_max: Duration) -> (Self, Arc<Neighbour>) {
        let writer = Arc::new(harness::stores::writer(&self.scratch.join("near")));
        let view = self.writer.names();
        for record in view.refs.values() {
            copy_metadata(self.writer.store(), &writer, &record.artifact);
        }
        let neighbour = Neighbour::new(self.writer.store().clone(), &writer, 10 * FETCH_MAX);
        let (store, scratch) = (writer.store().clone(), Arc::clone(&self.scratch));
        (Self::of(store, view, "bins-lazy", writer, scratch, fetch_max), neighbour)
    }

    /// One more mount of such a store, by another process as it were, which fetches nothing.
    pub(crate) fn anew_near(&self) -> Self {
        self.anew_of("bins-near", Store::open(self.writer.store().path()).unwrap())
    }

    /// One more mount of such a store, which has decoded nothing yet.
    pub(crate) fn anew_lazily(&self) -> Self {
        self.anew_of("bins-anew-lazy", self.writer.store().clone())
    }

    fn anew_of(&self, name: &str, store: Store) -> Self {
        let (writer, scratch) = (Arc::clone(&self.writer), Arc::clone(&self.scratch));
        Self::of(store, Arc::clone(&self.view), name, writer, scratch, FETCH_MAX)
    }

    fn of(
        store: Store,
        view: Arc<View>,
        name: &str,
        writer: Arc<Writer>,
        scratch: Arc<Scratch>,
        fetch_max: Duration,
    ) -> Self {
        let cache = CacheOptions::new(scratch.join("store/cache").join(name));
        let files = Files::open(store.clone(), CacheOptions { fetch_max, ..cache }).unwrap();
        let dir = scratch.folder(name);
        let options = MountOptions::new(dir.clone(), ProfileName::default());
        let mount = Arc::new(Mount::new(store, Arc::clone(&view), Arc::clone(&files), options).unwrap());
        let shown = Arc::clone(&mount);
        writer.observe(Box::new(move |view| {
            shown.publish(view);
        }));
        Self { mount, files, writer, dir, view, scratch }
    }

    /// Adds a version that holds these files. A name that begins with `bin/` is executable.
    pub(crate) fn add(&self, name: &str, version: &str, files: &[(&str, &[u8])]) {
        self.add_as(name, version, files, MetadataPolicy::Portable);
    }

    /// Like [`Mounted::add`], with this policy; gives the folder that was added.
    pub(crate) fn add_as(
        &self,
        name: &str,
        version: &str,
        files: &[(&str, &[u8])],
        policy: MetadataPolicy,
    ) -> PathBuf {
        let tree = self.scratch.join(format!("tree-{name}-{version}"));
        for (path, bytes) in files {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
            let executable = path.parent().unwrap().ends_with("bin");
            fs::set_permissions(&path, PermissionsExt::from_mode(if executable { 0o755 } else { 0o644 }))
                .unwrap();
        }
        self.add_tree(name, version, &tree, policy);
        tree
    }

    /// Adds a folder as a version.
    pub(crate) fn add_tree(&self, name: &str, version: &str, tree: &Path, policy: MetadataPolicy) {
        let options = IngestOptions {
            policy,
            special_files: true,
            ..IngestOptions::package(name.parse().unwrap(), version.parse().unwrap())
        };
        let ingested = self.writer.ingest(Input::Paths(vec![tree.to_owned()]), &options, &()).unwrap();
        self.writer.publish(&ingested, &PublishOptions { replace: true, channel: None }).unwrap();
    }

    /// A new generation with these packages.
    pub(crate) fn use_(&self, specs: &[&str]) -> Switched {
        let view = self.writer.names();
        let key = |spec: &&str| {
            let (key, artifact) = view.resolve(&spec.parse::<Spec>().unwrap(), None).unwrap();
            (key.unwrap(), artifact)
        };
        let set = specs.iter().map(key).collect();
        self.writer.use_packages(&UseOptions { set, ..UseOptions::default() }).unwrap()
    }

    pub(crate) fn switch(&self, number: u64) -> Switched {
        self.writer.switch(&ProfileName::default(), number, None).unwrap()
    }

    /// Something below the mount.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    pub(crate) fn status(&self) -> MountStatus {
        self.mount.status()
    }

    /// Unmounts it; if not lazily, it has ended then.
    pub(crate) fn unmount(&self, lazy: bool) -> Result<(), cairn_fusefs::MountError> {
        self.mount.unmount(lazy)
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.mount.unmount(true).is_err() {
            // Somebody else unmounted it, which a test may have wanted.
            let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.dir).output();
        }
    }
}
