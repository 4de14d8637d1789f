//! Sets what a tree says of a file beside its bytes.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod, fchown, fsetxattr,
    futimens, lsetxattr, utimensat,
};
use rustix::io::{Errno, Result};

use crate::artifact::Artifact;
use crate::tree::{Entry, FullMeta};

/// When restored files of the `portable` policy were last changed: 1980-01-01T00:00:00Z, which every archive format can
/// carry, so that two restored trees are alike to the last bit.
const PORTABLE_MTIME_S: i64 = 315_532_800;

/// A file's metadata.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    mode: u16,
    full: Option<FullMeta>,
}

impl Meta {
    pub(super) fn of(entry: &Entry) -> Self {
        Self { mode: entry.mode, full: entry.full.clone() }
    }

    pub(super) fn of_root(artifact: &Artifact) -> Self {
        Self { mode: artifact.root_meta.mode, full: artifact.root_meta.full.clone() }
    }

    pub(super) fn mode(&self) -> u16 {
        self.mode
    }

    pub(super) fn link_group(&self) -> Option<u32> {
        self.full.as_ref().map(|full| full.link).filter(|group| *group != 0)
    }

    /// Sets it on an open file or directory.
    pub(super) fn set(&self, file: impl AsFd) -> Result<()> {
        if let Some(full) = &self.full {
            ignore_unprivileged(fchown(&file, Some(Uid::from_raw(full.uid)), Some(Gid::from_raw(full.gid))))?;
            for (name, value) in &full.xattrs {
                ignore_unprivileged(fsetxattr(&file, &name[..], value, XattrFlags::empty()))?;
            }
        }
        fchmod(&file, Mode::from_raw_mode(u32::from(self.mode)))?;
        futimens(&file, &self.times())
    }

    /// Sets it on what has no descriptor; `has_mode` is false for symbolic links.
    pub(super) fn set_by_path(&self, root: &OwnedFd, path: &[u8], has_mode: bool) -> Result<()> {
        if let Some(full) = &self.full {
            let (uid, gid) = (Uid::from_raw(full.uid), Gid::from_raw(full.gid));
            ignore_unprivileged(chownat(root, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW))?;
            if !full.xattrs.is_empty() {
                // There is no setxattrat before Linux 6.13: through the directory's own name in /proc.
                use std::os::fd::AsRawFd;
                let through = [format!("/proc/self/fd/{}/", root.as_raw_fd()).as_bytes(), path].concat();
                for (name, value) in &full.xattrs {
                    ignore_unprivileged(lsetxattr(&through[..], &name[..], value, XattrFlags::empty()))?;
                }
            }
        }
        if has_mode {
            chmodat(root, path, Mode::from_raw_mode(u32::from(self.mode)), AtFlags::empty())?;
        }
        utimensat(root, path, &self.times(), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn times(&self) -> Timestamps {
        let (tv_sec, tv_nsec) =
            self.full.as_ref().map_or((PORTABLE_MTIME_S, 0), |full| (full.mtime_s, full.mtime_ns.into()));
        let time = Timespec { tv_sec, tv_nsec };
        Timestamps { last_access: time, last_modification: time }
    }
}

/// Who may not give files away, or whose file system has no such attributes, gets the rest, as with `tar`.
fn ignore_unprivileged(result: Result<()>) -> Result<()> {
    match result {
        Err(errno @ (Errno::PERM | Errno::OPNOTSUPP)) => {
            tracing::debug!(%errno, "some metadata is not restored");
            Ok(())
        }
        result => result,
    }
}
