//! A copy of the state that whoever writes it makes himself, beside it, for as long as it is read.
//!
//! It lies at the same place each time, so that what is remembered of its files is found again. What lies there when
//! the next one is made was left by a process that was killed.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cairn_store::Name;

use super::{CheckpointOptions, SnapshotError};

/// Where a checkpoint is made. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Checkpoint {
    path: PathBuf,
}

impl Checkpoint {
    /// Makes room for the checkpoint of the state in `dir`, an absolute path.
    pub(super) fn prepare(
        dir: &Path,
        name: &Name,
        options: &CheckpointOptions,
    ) -> Result<Self, SnapshotError> {
        let beside = dir.parent().zip(dir.file_name());
        let (parent, base) = match (&options.within, beside) {
            (Some(within), _) => (within.clone(), dir.file_name().unwrap_or(OsStr::new("root"))),
            (None, Some((parent, base))) => (parent.to_owned(), base),
            (None, None) => {
                let problem =
                    "the state directory has nothing beside it; say where checkpoints are to be made"
                        .to_owned();
                return Err(SnapshotError::Checkpoint { path: dir.to_owned(), problem });
            }
        };
        let mut file_name = OsString::from(".");
        file_name.push(base);
        file_name.push(format!(".{name}.cairn-checkpoint"));
        let problem = |problem: String| SnapshotError::Checkpoint { path: parent.clone(), problem };
        let status =
            |path: &Path| path.metadata().map_err(|error| problem(format!("cannot look at it: {error}")));
        let (state, there) = (status(dir)?, status(&parent)?);
        if state.dev() != there.dev() {
            let text = "it is on another file system than the state, so nothing can be linked there; say where checkpoints are to be made";
            return Err(problem(text.to_owned()));
        }
        let parent = parent.canonicalize().map_err(|error| problem(format!("cannot look at it: {error}")))?;
        if parent.starts_with(dir) {
            return Err(problem("it is in the state directory, which it is to hold a copy of".to_owned()));
        }
        let made = Self { path: parent.join(file_name) };
        made.remove()?;
        Ok(made)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// That the command made a directory.
    pub(super) fn check(&self) -> Result<(), SnapshotError> {
        match self.path.symlink_metadata() {
            Ok(status) if status.is_dir() => Ok(()),
            Ok(_) => Err(self.problem("the command made something else than a directory")),
            Err(_) => Err(self
                .problem("the command made none: it is to make the directory that $CAIRN_CHECKPOINT names")),
        }
    }

    fn problem(&self, text: &str) -> SnapshotError {
        SnapshotError::Checkpoint { path: self.path.clone(), problem: text.to_owned() }
    }

    #[expect(clippy::disallowed_methods, reason = "a checkpoint is no file of a store")]
    fn remove(&self) -> Result<(), SnapshotError> {
        let removed = match self.path.symlink_metadata() {
            Ok(status) if status.is_dir() => std::fs::remove_dir_all(&self.path),
            Ok(_) => std::fs::remove_file(&self.path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(self.problem(&format!("it cannot be removed: {error}")))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, "a checkpoint stays until the next one is made");
        }
    }
}
