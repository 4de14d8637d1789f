//! A mount, from the directory that it appears at to its end.
//!
//! As root the mount is made, served and tried before any path leads to it: nobody ever sees it half ready. It lives until
//! somebody unmounts it, whoever that is; this side notices and says so. A mount that is dropped is unmounted, lazily.

mod attach;
mod error;
mod options;
mod table;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use cairn_store::{ProfileName, Store, View};
use fuser::{Session, SessionACL, Version};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, statx};
use rustix::io::Errno;

use crate::deadline::Deadlines;
use crate::device::{Device, Handshake};
use crate::files::Files;
use crate::fs::{Fs, FsOptions};
use crate::handle::Opens;
use crate::kernel::{Core, Kernel};
use crate::linger::Linger;
use crate::pause::Gate;
use crate::session::{self, End, Serving};
use crate::slow::Pool;
use crate::timings::Timings;

use attach::failed;
pub use error::MountError;
pub use options::{MountOptions, MountStatus, Passthrough};
pub(crate) use table::place;
pub use table::{is_dead, mounted, unmount_dead};

/// The read-ahead of a mount, in KiB; INIT can only lower the 128 that it begins with.
const READ_AHEAD_KIB: u32 = 1024;
/// The same while something is shown that is not all here: a page fault takes so much around it, and all of that would be
/// fetched first. Who reads on has more fetched at a time than that in any case.
const READ_AHEAD_PARTIAL_KIB: u32 = 64;
/// What `statfs` says of overlayfs, from include/uapi/linux/magic.h.
const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;
/// Threads that decode and write whole files, at least.
const SLOW_THREADS_MIN: usize = 4;

/// A profile of a store, mounted and served by this process.
pub struct Mount {
    pub(crate) options: MountOptions,
    pub(crate) core: Arc<Core>,
    pub(crate) serving: Serving,
    /// What the next process needs to go on with it.
    pub(crate) legacy: Legacy,
    /// `major:minor`, by which it is known among mounts.
    pub(crate) device_name: String,
    /// Somebody here ends it, or another process has it now.
    pub(crate) let_go: Arc<AtomicBool>,
    pub(crate) flips: Timings,
    /// The read-ahead that was set last, in KiB.
    read_ahead_kib: AtomicU32,
}

/// What a mount was begun with and keeps, whichever process serves it.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Legacy {
    pub(crate) key: [u8; 32],
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) handshake: Handshake,
    pub(crate) passthrough: bool,
}

impl Legacy {
    /// A file system as this mount wants it.
    pub(crate) fn fs(&self, store: Store, view: Arc<View>, options: &MountOptions) -> Fs {
        let options = FsOptions {
            profile: options.profile.clone(),
            platform: options.platform.clone(),
            uid: self.uid,
            gid: self.gid,
            key: self.key,
            dynamic_ttl_zero: !self.has_epoch(),
        };
        Fs::new(store, view, options)
    }

    pub(crate) fn has_epoch(&self) -> bool {
        Device::has_epoch(Version(self.handshake.abi.0, self.handshake.abi.1))
    }

    /// All that answers for a mount.
    pub(crate) fn core(&self, fs: Fs, files: Arc<Files>, device: Arc<Device>) -> io::Result<Arc<Core>> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = Pool::new(cores.max(SLOW_THREADS_MIN))?;
        let opens = Opens::new(Arc::clone(&files), Arc::clone(&device), self.passthrough);
        let core = Arc::new(Core {
            fs,
            files,
            opens,
            gate: Gate::default(),
            device,
            pool,
            deadlines: Deadlines::new()?,
            linger: Linger::new(session::THREADS),
        });
        let names: Weak<Core> = Arc::downgrade(&core);
        core.opens.record_as(names);
        Ok(core)
    }
}

impl Mount {
    /// Mounts a profile as a view of the store shows it. A dead mount of cairn at the directory is replaced.
    ///
    /// # Errors
    /// [`MountError`]: what is in the way, or what this process may not do. Nothing is mounted then.
    pub fn new(
        store: Store,
        view: Arc<View>,
        files: Arc<Files>,
        mut options: MountOptions,
    ) -> Result<Self, MountError> {
        options.dir = attach::prepare(&options.dir)?;
        options.allow_other |= attach::is_root();
        let attached = attach::attach(&options.dir, options.allow_other)?;
        let wants_passthrough = options.passthrough == Passthrough::Auto && attach::is_root();
        let kernel = Kernel::new(wants_passthrough.then(|| stack_depth(files.dir())));
        let begun = Self::begin(kernel, store, view, files, &options, attached);
        if begun.is_err() && !attach::is_root() {
            // The helper has put it in its place already.
            let _ = attach::detach(&options.dir, true);
        }
        begun
    }

    fn begin(
        kernel: Kernel,
        store: Store,
        view: Arc<View>,
        files: Arc<Files>,
        options: &MountOptions,
        attached: attach::Attached,
    ) -> Result<Self, MountError> {
        let dir = &options.dir;
        let broken = |source: io::Error| MountError::Io { action: "mount", dir: dir.clone(), source };
        let device = Arc::new(Device::new(attached.device.try_clone().map_err(broken)?));
        let config = session::config();
        let session = Session::from_fd(kernel.clone(), attached.device, SessionACL::All, config);
        let session = session.map_err(broken)?;
        let handshake = kernel.handshake().ok_or_else(|| broken(Errno::PROTO.into()))?;
        let mut key = [0; 32];
        rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())
            .map_err(failed("mount", dir))?;
        let legacy = Legacy {
            key,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            handshake,
            passthrough: kernel.wants_passthrough() && takes_backing_files(&device, files.dir()),
        };
        let fs = legacy.fs(store, Arc::clone(&view), options);
        kernel.begin(legacy.core(fs, files, device).map_err(broken)?);
        let core = kernel.core().ok_or_else(|| broken(Errno::PROTO.into()))?;
        // The kernel answers for a root that was just mounted without asking.
        let device = match &attached.detached {
            Some(detached) => {
                statx(detached, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::empty())
            }
            None => statx(CWD, dir, AtFlags::STATX_DONT_SYNC, StatxFlags::empty()),
        };
        let device = device.map_err(failed("mount", dir))?;
        let device_name = table::device_name(device.stx_dev_major, device.stx_dev_minor);
        let mount = Self::serve(session, core, options.clone(), legacy, device_name)?;
        if let Some(detached) = attached.detached {
            attach::place(detached.as_fd(), dir)?;
        }
        mount.set_read_ahead(&view);
        tracing::info!(
            dir = %dir.display(),
            profile = %options.profile,
            passthrough = legacy.passthrough,
            epoch = legacy.has_epoch(),
            "mounted"
        );
        Ok(mount)
    }

    /// Starts to answer.
    pub(crate) fn serve(
        session: Session<Kernel>,
        core: Arc<Core>,
        options: MountOptions,
        legacy: Legacy,
        device_name: String,
    ) -> Result<Self, MountError> {
        let let_go = Arc::new(AtomicBool::new(false));
        let (known, dir) = (Arc::clone(&let_go), options.dir.clone());
        let (device, place) = (device_name.clone(), dir.clone());
        let is_seen = move || table::place(&device, &place).is_some();
        let serving = Serving::start(session, is_seen, move |end| report(&dir, end, &known));
        let broken = |source| MountError::Io { action: "serve", dir: options.dir.clone(), source };
        let serving = serving.map_err(broken)?;
        Ok(Self {
            options,
            core,
            serving,
            legacy,
            device_name,
            let_go,
            flips: Timings::default(),
            read_ahead_kib: AtomicU32::new(0),
        })
    }

    /// Has the kernel read as far ahead as is good for what a view shows. It holds for files that are opened afterwards.
    pub(crate) fn set_read_ahead(&self, view: &View) {
        let kib = if view.partial.is_empty() { READ_AHEAD_KIB } else { READ_AHEAD_PARTIAL_KIB };
        if self.read_ahead_kib.swap(kib, Ordering::Relaxed) == kib {
            return;
        }
        let path = format!("/sys/class/bdi/{}/read_ahead_kb", self.device_name);
        let written = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|file| rustix::io::write(&file, kib.to_string().as_bytes()));
        if let Err(errno) = written {
            tracing::debug!(%errno, "the read-ahead stays as it is");
        }
    }

    /// Its mount point, without symbolic links.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// The profile that it shows.
    #[must_use]
    pub fn profile(&self) -> &ProfileName {
        &self.options.profile
    }

    /// Whether it has not ended. It may be unmounted and still be in use.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.serving.ended().is_none()
    }

    /// Where it is seen. A mount point is not lost when a directory above it is renamed: it is at another path then.
    #[must_use]
    pub fn place(&self) -> Option<PathBuf> {
        table::place(&self.device_name, &self.options.dir)
    }

    /// Waits until it ends, by whomever.
    pub fn wait(&self) -> End {
        self.serving.wait()
    }

    /// Unmounts it. If `lazy`, who uses it may go on, and it ends with the last of them; else it has ended when this
    /// returns.
    ///
    /// # Errors
    /// [`MountError::Busy`] if somebody uses it; [`MountError::NotMounted`] if it is not there any more.
    pub fn unmount(&self, lazy: bool) -> Result<(), MountError> {
        let Some(place) = self.place() else {
            return Err(MountError::NotMounted { dir: self.options.dir.clone() });
        };
        self.let_go.store(true, Ordering::SeqCst);
        let detached = attach::detach(&place, lazy);
        match &detached {
            Ok(()) if !lazy => {
                self.wait();
            }
            Ok(()) => {}
            Err(_) => self.let_go.store(false, Ordering::SeqCst),
        }
        detached
    }

    /// Figures.
    #[must_use]
    pub fn status(&self) -> MountStatus {
        let (damage, damage_count) = self.core.fs.damage();
        MountStatus {
            dir: self.options.dir.clone(),
            profile: self.options.profile.clone(),
            end: self.serving.ended(),
            place: self.place(),
            passthrough: self.core.opens.has_passthrough(),
            epoch: self.legacy.has_epoch(),
            open_files: self.core.opens.len(),
            flips: self.flips.spread(),
            fs: self.core.fs.stats(),
            damage,
            damage_count,
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !self.let_go.load(Ordering::SeqCst)
            && self.is_alive()
            && let Err(error) = self.unmount(true)
        {
            tracing::warn!(dir = %self.options.dir.display(), %error, "stays mounted");
        }
    }
}

/// Says how a mount ended, unless it was ended here.
fn report(dir: &Path, end: &End, let_go: &AtomicBool) {
    let dir = dir.display();
    match end {
        End::Unmounted if let_go.load(Ordering::SeqCst) => tracing::info!(%dir, "unmounted"),
        End::Unmounted => tracing::warn!(%dir, "somebody else unmounted it, or its mount point vanished"),
        End::Broken(error) => {
            tracing::error!(%dir, %error, "the connection to the kernel broke: it has to be mounted again")
        }
    }
}

/// How many file systems lie one on another at most, this one counted: overlayfs, which the cache may be on, is two.
fn stack_depth(cache: &Path) -> u32 {
    let magic = rustix::fs::statfs(cache).map(|stat| u64::try_from(stat.f_type).unwrap_or(0));
    if magic == Ok(OVERLAYFS_SUPER_MAGIC) { 2 } else { 1 }
}

/// Whether the kernel takes a file of the cache's file system as a backing file. Where there is none to try it with, the
/// first open will tell.
fn takes_backing_files(device: &Device, cache: &Path) -> bool {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(cache, flags, Mode::RUSR) else { return true };
    match device.open_backing(file.as_fd()) {
        Ok(backing) => {
            // An idle number costs one open file until the mount ends.
            let _ = device.close_backing(backing);
            true
        }
        Err(error) => {
            tracing::info!(%error, "the kernel does not read whole files by itself: reads go through this process");
            false
        }
    }
}

#[cfg(test)]
mod tests;
