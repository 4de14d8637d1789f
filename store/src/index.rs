//! Where each chunk lies: derived from the packs' footers, never the truth. Sorted runs on disk (`index/*.run`) cover
//! most packs; the rest are merged in memory when the index is opened. Losing or damaging a run costs time only.
//!
//! Invariant: an id that the index gives a place for is in the footer of that pack; an id that it does not find may
//! still be there when a run is damaged, which is why a reader that misses calls [`Index::discard_damaged`] and opens
//! the index again before it says that a chunk is absent.

mod merge;
mod run;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use run::Run;

use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId};
use crate::io::Io;
use crate::pack::{ChunkRow, Pack, SEALED};

/// Entries outside any run from which on a writer makes a run of them.
const RUN_ENTRIES_MIN: usize = 16 << 10;
/// Packs outside any run from which on a writer makes a run of them: each costs an opened file otherwise.
const RUN_PACKS_MIN: usize = 64;
/// A new run takes in older ones that are less than this many times its size, so that their number stays logarithmic.
const RUN_RATIO: usize = 4;

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The pack.
    pub pack: PackId,
    /// The frame in the pack.
    pub frame: u16,
    /// The chunk in the frame.
    pub slot: u16,
}

/// The places of all chunks in sealed packs, as of when it was opened.
pub struct Index {
    /// Runs on disk, largest first.
    runs: Vec<(PathBuf, Run)>,
    /// Entries of packs that no run on disk covers.
    loose: Vec<Run>,
    packs: HashSet<PackId>,
}

/// Figures about an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexSummary {
    /// Runs on disk.
    pub runs: usize,
    /// Entries in runs and in memory; a chunk in two packs may count twice.
    pub entries: usize,
    /// Entries that are in memory only.
    pub loose_entries: usize,
    /// Bytes of all entries.
    pub bytes: u64,
}

impl Index {
    /// Opens the index of the store at `root`.
    ///
    /// # Errors
    /// [`Error::Io`] when the packs cannot be listed or read.
    pub fn open(io: &Arc<dyn Io>, root: &Path) -> Result<Self> {
        let packs = list_packs(&**io, &root.join("packs"))?;
        let mut runs = open_runs(&**io, &root.join("index"), &packs)?;
        runs.sort_by_key(|(_, run)| std::cmp::Reverse(run.len()));
        let mut uncovered = packs.clone();
        for (_, run) in &runs {
            for pack in run.packs() {
                uncovered.remove(pack);
            }
        }
        let loose = merge::footers(read_footers(&**io, &root.join("packs"), uncovered)?);
        Ok(Self { runs, loose, packs })
    }

    /// Where a chunk lies.
    #[must_use]
    pub fn lookup(&self, id: &ChunkId) -> Option<Place> {
        self.runs.iter().map(|(_, run)| run).chain(&self.loose).find_map(|run| run.lookup(id))
    }

    /// The packs that it covers.
    #[must_use]
    pub fn packs(&self) -> &HashSet<PackId> {
        &self.packs
    }

    /// Figures for people.
    #[must_use]
    pub fn summary(&self) -> IndexSummary {
        let all = || self.runs.iter().map(|(_, run)| run).chain(&self.loose);
        IndexSummary {
            runs: self.runs.len(),
            entries: all().map(Run::len).sum(),
            loose_entries: self.loose.iter().map(Run::len).sum(),
            bytes: all().map(Run::bytes).sum(),
        }
    }

    /// Writes a run for the packs that none covers, once they are many; small older runs are merged into it.
    /// `force` writes it however few they are.
    ///
    /// # Errors
    /// [`Error::Io`]. The index on disk is as good as before.
    pub fn persist(&self, io: &dyn Io, root: &Path, force: bool) -> Result<()> {
        let threshold = if force { 1 } else { RUN_ENTRIES_MIN };
        let mut old: Vec<_> = self.runs.iter().collect();
        for loose in &self.loose {
            if loose.len() < threshold && loose.packs().len() < RUN_PACKS_MIN {
                continue;
            }
            let (mut taken, mut replaced) = (vec![loose], Vec::new());
            let (mut entries, mut packs) = (loose.len(), loose.packs().len());
            while let Some((path, run)) = old.pop_if(|(_, run)| {
                run.len() <= entries * RUN_RATIO && packs + run.packs().len() <= run::PACKS_MAX
            }) {
                entries += run.len();
                packs += run.packs().len();
                taken.push(run);
                replaced.push(path);
            }
            write_run(io, &root.join("index"), &taken, &replaced)?;
        }
        Ok(())
    }

    /// Removes runs whose checksum does not hold; says whether there were any. They are rebuilt from the packs' footers
    /// by the next [`Index::open`].
    #[must_use]
    pub fn discard_damaged(&self, io: &dyn Io) -> bool {
        let mut found = false;
        for (path, run) in &self.runs {
            if !run.checksum_holds() {
                tracing::warn!(path = %path.display(), "an index run is damaged; it is rebuilt from the packs");
                found = true;
                if let Err(error) = io.remove(path) {
                    tracing::warn!(path = %path.display(), %error, "cannot remove the damaged index run");
                }
            }
        }
        found
    }
}

/// Writes the merged entries of `runs` to `dir`, then removes the runs that it replaces.
fn write_run(io: &dyn Io, dir: &Path, runs: &[&Run], replaced: &[&PathBuf]) -> Result<()> {
    let merged;
    let run = match runs {
        [run] => run,
        runs => {
            merged = merge::runs(runs);
            &merged
        }
    };
    io.create_dir_all(dir).map_err(Error::io("create", dir))?;
    let path = dir.join(format!("{}.run", &blake3::hash(run.as_bytes()).to_hex()[..16]));
    io.write_atomic(&path, run.as_bytes()).map_err(Error::io("write", &path))?;
    for old in replaced.iter().filter(|old| ***old != path) {
        io.remove(old).map_err(Error::io("remove", *old))?;
    }
    Ok(())
}

/// The ids of the sealed packs in a directory.
pub(crate) fn list_packs(io: &dyn Io, dir: &Path) -> Result<HashSet<PackId>> {
    let listed = io.list(dir).map_err(Error::io("list", dir))?;
    Ok(listed.iter().filter_map(|entry| pack_id(&entry.name)).collect())
}

fn pack_id(name: &str) -> Option<PackId> {
    name.strip_suffix(SEALED)?.strip_suffix('.')?.parse().ok()
}

fn open_runs(io: &dyn Io, dir: &Path, packs: &HashSet<PackId>) -> Result<Vec<(PathBuf, Run)>> {
    let listed = match io.list(dir) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", dir)(error)),
    };
    let mut runs = Vec::new();
    for entry in listed.into_iter().filter(|entry| entry.name.ends_with(".run") && !entry.is_dir) {
        let path = dir.join(entry.name);
        let opened = io.open(&path).and_then(|file| file.map()).map(Run::open);
        match opened {
            // A run of a pack that is gone hides that another pack may hold the same chunk: it is not used.
            Ok(Ok(run)) if run.packs().iter().all(|pack| packs.contains(pack)) => runs.push((path, run)),
            Ok(Ok(_)) => tracing::debug!(path = %path.display(), "an index run names a pack that is gone"),
            Ok(Err(detail)) => tracing::warn!(path = %path.display(), detail, "an index run is not used"),
            Err(error) => tracing::warn!(path = %path.display(), %error, "an index run cannot be read"),
        }
    }
    Ok(runs)
}

fn read_footers(io: &dyn Io, dir: &Path, packs: HashSet<PackId>) -> Result<HashMap<PackId, Vec<ChunkRow>>> {
    let mut footers = HashMap::with_capacity(packs.len());
    for id in packs {
        let path = dir.join(format!("{id}.{SEALED}"));
        let pack = match Pack::open(io, &path, id) {
            Ok(pack) => pack,
            // Collected between the listing and now.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for (offset, detail) in pack.damage() {
            tracing::warn!(pack = %id, offset, detail, "a pack is damaged; its frames were found by scanning");
        }
        footers.insert(id, pack.into_chunk_rows());
    }
    Ok(footers)
}
