//! The mounts of a daemon: made, ended and listed by its commands, and shown every change of names.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};

use std::time::Duration;

use anyhow::Context;
use cairn_fusefs::{CacheOptions, CacheStatus, Files, Mount, MountError, MountOptions, MountStatus};
use cairn_store::{Hold, Holder, ProfileName, View, Writer};
use tokio::sync::Notify;

/// The folder of the store where whole files are kept for the kernel.
const CACHE: &str = "cache/files";

/// All mounts of a daemon, those too that were unmounted and are still in use: several may have been at one directory.
pub(crate) struct Mounts {
    cache_bytes_max: Option<u64>,
    /// How long a request of the kernel waits for peers.
    fetch_max: Duration,
    /// Profiles of which versions are shown as soon as their names are here. A leaf lock.
    lazy: Mutex<BTreeSet<ProfileName>>,
    /// Opened by the first mount.
    files: OnceLock<Arc<Files>>,
    /// Guards the list, and that each mount is shown views in their order. `Writer::names` is asked under it.
    list: Mutex<Vec<Arc<Mount>>>,
    /// Woken when there is none, as far as this knows: the last has ended, or the first could not be made.
    pub(crate) emptied: Notify,
}

/// A thread that takes a mount off the list when it ends, before it is known which. It ends with this if it is given
/// none.
pub(crate) struct Watcher(mpsc::SyncSender<Arc<Mount>>);

impl Mounts {
    pub(crate) fn new(cache_bytes_max: Option<u64>, fetch_max: Duration) -> Arc<Self> {
        let (files, list, emptied) = (OnceLock::new(), Mutex::default(), Notify::new());
        Arc::new(Self { cache_bytes_max, fetch_max, lazy: Mutex::default(), files, list, emptied })
    }

    /// Mounts a profile. It shows every change from now on, and leaves the list when it ends.
    pub(crate) fn add(
        self: &Arc<Self>,
        writer: &Writer,
        options: MountOptions,
    ) -> anyhow::Result<MountStatus> {
        let made = self.make(writer, options);
        if made.is_err() {
            self.report_if_empty();
        }
        made
    }

    fn make(self: &Arc<Self>, writer: &Writer, options: MountOptions) -> anyhow::Result<MountStatus> {
        let files = self.files(writer)?;
        let watcher = self.watcher()?;
        let mount = Arc::new(Mount::new(writer.store().clone(), writer.names(), files, options)?);
        {
            let mut list = self.lock();
            list.push(Arc::clone(&mount));
            // What changed since it was begun; later changes wait for the list.
            mount.publish(&writer.names());
        }
        watcher.watch(Arc::clone(&mount));
        tracing::info!(dir = %mount.dir().display(), profile = %mount.profile(), "mounted");
        Ok(mount.status())
    }

    /// Takes mounts that were another process', which show what is named now. There is a watcher for each.
    pub(crate) fn adopt(&self, mounts: Vec<Mount>, watchers: Vec<Watcher>) {
        for (mount, watcher) in mounts.into_iter().map(Arc::new).zip(watchers) {
            self.lock().push(Arc::clone(&mount));
            watcher.watch(mount);
        }
    }

    /// Wakes who waits until there is none, if that is so.
    pub(crate) fn report_if_empty(&self) {
        if self.is_empty() {
            self.emptied.notify_one();
        }
    }

    /// Those that have not ended.
    pub(crate) fn alive(&self) -> Vec<Arc<Mount>> {
        self.lock().iter().filter(|mount| mount.is_alive()).cloned().collect()
    }

    /// Ends the mount at `dir`.
    pub(crate) fn remove(&self, dir: &Path, lazy: bool) -> Result<(), MountError> {
        let mount = self.lock().iter().find(|mount| mount.place().as_deref() == Some(dir)).cloned();
        mount.ok_or_else(|| MountError::NotMounted { dir: dir.to_owned() })?.unmount(lazy)
    }

    /// How each is.
    pub(crate) fn list(&self) -> Vec<MountStatus> {
        let mounts = self.lock().clone();
        mounts.iter().map(|mount| mount.status()).collect()
    }

    /// How the cache of whole files is; nothing before the first mount.
    pub(crate) fn cache(&self) -> Option<CacheStatus> {
        self.files.get().map(|files| files.status())
    }

    /// Shows all a newer view.
    pub(crate) fn publish(&self, view: &Arc<View>) {
        for mount in &*self.lock() {
            mount.publish(view);
        }
    }

    /// Ends all. One that is in use is taken from its place, and who uses it may finish.
    pub(crate) fn end(&self) {
        let mounts = self.lock().clone();
        for mount in mounts {
            let dir = mount.dir().display();
            match mount.unmount(false) {
                Ok(()) => {}
                Err(MountError::Busy { .. }) => {
                    tracing::warn!(%dir, "it is in use; it goes from its place now, and ends with this process");
                    if let Err(error) = mount.unmount(true) {
                        tracing::warn!(%dir, %error, "cannot unmount");
                    }
                }
                Err(MountError::NotMounted { .. }) => {
                    tracing::warn!(%dir, "it was unmounted and is in use; it ends with this process");
                }
                Err(error) => tracing::warn!(%dir, %error, "cannot unmount"),
            }
        }
    }

    /// Whether versions of a profile are shown as soon as their names are here.
    pub(crate) fn is_lazy(&self, profile: &ProfileName) -> bool {
        self.lazy.lock().unwrap_or_else(PoisonError::into_inner).contains(profile)
    }

    /// Says whether that is so from now on.
    pub(crate) fn set_lazy(&self, profile: &ProfileName, is_lazy: bool) {
        let mut lazy = self.lazy.lock().unwrap_or_else(PoisonError::into_inner);
        if is_lazy {
            lazy.insert(profile.clone());
        } else {
            lazy.remove(profile);
        }
    }

    /// All profiles of which that is so.
    pub(crate) fn lazy(&self) -> BTreeSet<ProfileName> {
        self.lazy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The files of all mounts, if any was made.
    pub(crate) fn opened_files(&self) -> Option<&Arc<Files>> {
        self.files.get()
    }

    /// The files of all mounts.
    pub(crate) fn files(&self, writer: &Writer) -> anyhow::Result<Arc<Files>> {
        if let Some(files) = self.files.get() {
            return Ok(Arc::clone(files));
        }
        let dir = writer.path().join(CACHE);
        let options = CacheOptions {
            bytes_max: self.cache_bytes_max,
            fetch_max: self.fetch_max,
            ..CacheOptions::new(dir.clone())
        };
        let opened = Files::open(writer.store().clone(), options)
            .with_context(|| format!("cannot open the cache {}", dir.display()))?;
        Ok(Arc::clone(self.files.get_or_init(|| opened)))
    }

    /// Whoever unmounts it, a mount leaves the list when it ends.
    pub(crate) fn watcher(self: &Arc<Self>) -> anyhow::Result<Watcher> {
        let mounts = Arc::clone(self);
        let (give, given) = mpsc::sync_channel::<Arc<Mount>>(1);
        let watch = move || {
            let Ok(mount) = given.recv() else { return };
            let end = mount.wait();
            tracing::info!(dir = %mount.dir().display(), ?end, "a mount ended");
            let mut list = mounts.lock();
            list.retain(|there| !Arc::ptr_eq(there, &mount));
            if list.is_empty() {
                mounts.emptied.notify_one();
            }
        };
        let thread = std::thread::Builder::new().name("mount-end".to_owned());
        thread.spawn(watch).context("cannot watch a mount")?;
        Ok(Watcher(give))
    }

    /// Whether there is none, ended or not.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Mount>>> {
        // Each change is one insertion or removal: a panic elsewhere leaves it sound.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holder for Mounts {
    fn holds(&self) -> Vec<Hold> {
        let mounts = self.lock().clone();
        mounts.iter().flat_map(|mount| mount.holds()).collect()
    }
}

impl Watcher {
    fn watch(self, mount: Arc<Mount>) {
        // The thread waits for just this, and there is room for it.
        let _ = self.0.send(mount);
    }
}
