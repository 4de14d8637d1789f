//! Opening the journal to write: whatever a crash, a kill or a failed sync left behind is put right first. Every step
//! may itself be interrupted and is then done again by the next opening.

use std::path::Path;

use super::OpenSegment;
use super::replay::{self, Loaded};
use super::segments;
use crate::io::Io;
use crate::refs::View;
use crate::{Error, Result};

/// Who begins a journal that has no record yet.
const FOUNDER: &str = "cairn";

pub(super) fn recover(io: &dyn Io, dir: &Path) -> Result<(OpenSegment, View)> {
    io.create_dir_all(dir).map_err(Error::io("create", dir))?;
    if let Some(parent) = dir.parent() {
        io.sync_dir(parent).map_err(Error::io("sync", parent))?;
    }
    let listing = segments::list(io, dir)?;
    let replayed = replay::replay(io, &listing.segments)?;
    for path in listing.unfinished.iter().chain(&replayed.unborn) {
        tracing::info!(path = %path.display(), "removing a journal segment that a crash kept from being begun");
        io.remove(path).map_err(Error::io("remove", path))?;
    }
    let mut view = replayed.view;
    let segment = match replayed.newest {
        Some(newest) => mend(io, newest)?,
        None => {
            view.seq = 1;
            segments::create(io, dir, &View::default(), view.seq, FOUNDER, 0)?
        }
    };
    io.sync_dir(dir).map_err(Error::io("sync", dir))?;
    Ok((segment, view))
}

/// Cuts a torn end off, and makes sure that the last group is on the disk and not only in memory: after a sync that
/// failed under an earlier process, the system may hold bytes that it takes for written. Earlier groups were synced
/// before it was written, and the checkpoint before the segment had its name.
fn mend(io: &dyn Io, newest: Loaded) -> Result<OpenSegment> {
    let Loaded { path, version, checkpoint_end, last_start, end, bytes, .. } = newest;
    let file = io.open_write(&path).map_err(Error::io("open", &path))?;
    if end < bytes.len() {
        let (at, torn) = (end, bytes.len() - end);
        tracing::warn!(path = %path.display(), at, torn, "cutting off what a crash left of an unacknowledged append");
        file.set_len(end as u64).map_err(Error::io("cut", &path))?;
    }
    if last_start >= checkpoint_end {
        let group = &bytes[last_start..end];
        file.write_all_at(group, last_start as u64).map_err(Error::io("write", &path))?;
    }
    file.sync().map_err(Error::io("sync", &path))?;
    let (checkpoint_end, end) = (checkpoint_end as u64, end as u64);
    Ok(OpenSegment { path, file, version, checkpoint_end, end, room: end })
}
