//! What is left of a journal that cannot be read to its end: the newest whole state in it, and going back to that. This
//! loses changes that were acknowledged, so it is done only when somebody asks for it.
//!
//! Nothing is deleted. A segment that is damaged goes to the quarantine as it is, and where its beginning is whole, that
//! takes its place; later segments go there too, newest first, so that whenever this stops it can be begun anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::apply::apply;
use super::replay::{self, Groups};
use super::segments::{self, Segment};
use crate::io::Io;
use crate::refs::View;
use crate::{Error, Result};

/// What going back to the newest whole state would mean.
#[derive(Debug, Clone)]
pub struct JournalRepair {
    /// The damaged segment.
    pub file: PathBuf,
    /// Where in it the damage begins.
    pub offset: Option<u64>,
    /// What does not hold.
    pub detail: String,
    /// The last change that is whole.
    pub seq: u64,
    /// When it was made, in milliseconds since 1970, if a record tells.
    pub time_ms: Option<u64>,
    /// What is named then.
    pub view: Arc<View>,
    /// Segments that go to the quarantine, newest first.
    pub quarantined: Vec<PathBuf>,
    /// The segment of which the beginning stays, and its length then.
    pub cut: Option<(PathBuf, u64)>,
}

/// A segment as far as it is whole.
struct Beginning {
    view: View,
    end: usize,
    time_ms: Option<u64>,
}

/// What can be done about a journal that is damaged; nothing where it is not.
///
/// # Errors
/// [`Error::Damaged`] when no state at all is whole, [`Error::Io`], [`Error::NewerFormat`].
pub(crate) fn plan(io: &dyn Io, dir: &Path) -> Result<Option<JournalRepair>> {
    let (offset, detail, what) = match replay::read(io, dir) {
        Ok(_) => return Ok(None),
        Err(Error::Damaged { offset, detail, what, .. }) => (offset, detail, what),
        Err(error) => return Err(error),
    };
    let listing = segments::list(io, dir)?;
    let mut quarantined = Vec::new();
    for segment in listing.segments.iter().rev() {
        let bytes = segments::read(io, &segment.path)?;
        let Some(beginning) = beginning(&bytes, segment) else {
            quarantined.push(segment.path.clone());
            continue;
        };
        let is_cut = beginning.end < bytes.len();
        let file = if is_cut { &segment.path } else { quarantined.last().unwrap_or(&segment.path) };
        return Ok(Some(JournalRepair {
            file: file.clone(),
            offset,
            detail,
            seq: beginning.view.seq,
            time_ms: beginning.time_ms,
            view: Arc::new(beginning.view),
            cut: is_cut.then(|| (segment.path.clone(), beginning.end as u64)),
            quarantined,
        }));
    }
    let detail = format!("{detail}; no segment of it has a whole checkpoint");
    Err(Error::Damaged { what, chunk: None, pack: None, offset, detail })
}

/// Goes back to what a plan says. Whoever calls this holds the store's lock.
///
/// # Errors
/// [`Error::Io`]: it can be begun anew.
pub(crate) fn run(io: &dyn Io, dir: &Path, plan: &JournalRepair, quarantine: &Path) -> Result<()> {
    io.create_dir_all(quarantine).map_err(Error::io("create", quarantine))?;
    if let Some(root) = quarantine.parent() {
        io.sync_dir(root).map_err(Error::io("sync", root))?;
    }
    for segment in &plan.quarantined {
        let aside = free_name(io, quarantine, segment);
        io.rename(segment, &aside).map_err(Error::io("rename", segment))?;
        io.sync_dir(quarantine).map_err(Error::io("sync", quarantine))?;
        io.sync_dir(dir).map_err(Error::io("sync", dir))?;
    }
    if let Some((segment, end)) = &plan.cut {
        let bytes = segments::read(io, segment)?;
        let aside = free_name(io, quarantine, segment);
        io.write_atomic(&aside, &bytes).map_err(Error::io("write", &aside))?;
        let end = usize::try_from(*end).unwrap_or(usize::MAX).min(bytes.len());
        io.write_atomic(segment, &bytes[..end]).map_err(Error::io("write", segment))?;
    }
    Ok(())
}

/// A name in the quarantine that nothing has: what a first attempt left there stays.
fn free_name(io: &dyn Io, quarantine: &Path, segment: &Path) -> PathBuf {
    let name = segment.file_name().unwrap_or_default();
    let numbered = |number: u32| {
        let mut name = name.to_owned();
        name.push(format!(".{number}"));
        quarantine.join(name)
    };
    let mut names = std::iter::once(quarantine.join(name)).chain((1..).map(numbered));
    names.find(|name| io.open(name).is_err()).unwrap_or_else(|| quarantine.join(name))
}

/// The checkpoint of a segment and the changes after it, up to the first that is not whole.
fn beginning(bytes: &[u8], segment: &Segment) -> Option<Beginning> {
    let mut groups = Groups::of(bytes, segment);
    let mut view = groups.checkpoint().ok()?;
    let (mut end, mut time_ms) = (groups.offset, None);
    'groups: while let Ok(Some(records)) = groups.changes() {
        let mut next = view.clone();
        for record in &records {
            if apply(&mut next, &record.op, record.seq).is_err() {
                break 'groups;
            }
            next.seq = record.seq;
        }
        time_ms = records.last().map(|record| record.time_ms).or(time_ms);
        (view, end) = (next, groups.offset);
    }
    Some(Beginning { view, end, time_ms })
}
