//! What a mount needs of the store though nothing may name it any more: files that are open, and versions that processes
//! run, have open or are in.
//!
//! An open file is held as what it holds, wherever that is. A version that a process uses is held whole: a program goes on
//! to open its libraries and data by paths that begin where it is.

use std::collections::BTreeSet;
use std::path::Path;

use cairn_store::{Held, Hold};

use crate::attr::Ino;
use crate::fs::Fs;
use crate::inode::What;
use crate::kernel::Core;
use crate::mount::Mount;
use crate::processes::{self, MountPoint, Process, UseKind};

/// Directories that are gone through on the way up, at most.
const DEPTH_MAX: usize = 4096;

impl Mount {
    /// What is in use of it, and by whom. Who cannot be looked into is not named; what he has open is held all the same.
    #[must_use]
    pub fn holds(&self) -> Vec<Hold> {
        let mut holds = of_open_files(&self.core, self.dir());
        let Some(point) = self.point() else { return holds };
        match processes::users(&point) {
            Ok(users) => {
                users
                    .processes
                    .iter()
                    .for_each(|process| holds.extend(of_process(&self.core.fs, &point, process)));
            }
            Err(error) => tracing::warn!(%error, "it cannot be told which processes use a mount"),
        }
        holds
    }

    /// The mount as processes see it; none if it is not seen any more.
    fn point(&self) -> Option<MountPoint> {
        let (major, minor) = self.device_name.split_once(':')?;
        let device = rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?);
        Some(MountPoint::new(device, self.place().unwrap_or_else(|| self.dir().to_owned())))
    }
}

fn of_open_files(core: &Core, dir: &Path) -> Vec<Hold> {
    let hold = |(ino, spec): (Ino, crate::files::FileSpec)| {
        let path = String::from_utf8_lossy(&core.fs.path_of(ino)).into_owned();
        let by = format!("{} is open", dir.join(path).display());
        Hold { held: Held::Content { content: spec.content, size: spec.size }, by }
    };
    core.opens.open_files().into_iter().map(hold).collect()
}

/// What a process uses, each thing once.
fn of_process(fs: &Fs, point: &MountPoint, process: &Process) -> Vec<Hold> {
    let (mut seen, mut holds) = (BTreeSet::new(), Vec::new());
    for one in &process.uses {
        let Some(held) = one.ino.and_then(|ino| version_of(fs, Ino(ino))) else { continue };
        if let Held::Artifact(artifact) = &held
            && !seen.insert(*artifact)
        {
            continue;
        }
        let verb = match one.kind {
            UseKind::Exe => "runs",
            UseKind::Map => "has mapped",
            UseKind::Open => "has open",
            UseKind::Cwd | UseKind::Root => "is in",
        };
        let command = process.command.to_string_lossy();
        let path = point.dir().join(&one.path);
        let by = format!("process {} ({command}) {verb} {}", process.pid, path.display());
        holds.push(Hold { held, by });
    }
    holds
}

/// The version that an inode is of, if it is of one; else what it is by itself.
fn version_of(fs: &Fs, ino: Ino) -> Option<Held> {
    let mut at = ino;
    for _ in 0..DEPTH_MAX {
        let inode = fs.inode(at).ok()?;
        match inode.what {
            What::Version { artifact, .. } => return Some(Held::Artifact(artifact)),
            What::Dir { .. } | What::Leaf { .. } if inode.parent != at => at = inode.parent,
            _ => return None,
        }
    }
    None
}
