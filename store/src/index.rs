//! Where each chunk lies: derived from the packs' footers, never the truth. Sorted runs on disk (`index/*.run`) cover
//! most packs; the entries of the rest are gathered from their footers when the index is opened. Losing or damaging a run
//! costs time only.
//!
//! Invariant: an id that the index gives a place for is in the footer of that pack; an id that it does not find may
//! still be there when a run is damaged, which is why a reader that misses asks for [`Index::without_damaged_runs`]
//! before it says that a chunk is absent.
//!
//! Only a writer writes and merges runs; readers that find none that suits them do without. A run is not used when it
//! names a pack that is gone, for it would hide that another pack may hold the same chunk, and when larger runs cover
//! all of its packs: it was merged into one of them by a writer that stopped before it removed it.

mod check;
mod entry;
mod loose;
mod merge;
mod overlay;
mod run;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use loose::Loose;
use merge::Part;
pub(crate) use overlay::{Overlay, PackNumber};
pub use run::Run;

use crate::block::format::id_at;
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId};
use crate::io::Io;
use crate::pack::{Pack, SEALED};

/// Entries outside any run from which on a writer makes a run of them. Fewer are read from the packs' footers in 8 ms,
/// and a run would be the third copy of their ids.
const RUN_ENTRIES_MIN: usize = 128 << 10;
/// Packs outside any run from which on a writer makes a run of them: each costs an opened file otherwise.
const RUN_PACKS_MIN: usize = 64;
/// A new run takes in older ones that are less than this many times its size, so that their number stays logarithmic.
const RUN_RATIO: usize = 4;

/// How long after a disk could not be read it is asked for the same again.
const ASKED_AGAIN: Duration = Duration::from_secs(1);
/// Copies that are remembered, at most: some 80 MB.
const COPIES_MAX: usize = 1 << 19;

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
    /// Files that are not used, and not to be kept by a writer.
    unused: Vec<PathBuf>,
    /// Entries of packs that no run on disk covers.
    loose: Vec<Loose>,
    packs: HashSet<PackId>,
    opened: Instant,
    /// Places of chunks that are in several packs, but for those that a look-up gives; gathered when they are wanted.
    copies: OnceLock<HashMap<ChunkId, Vec<Place>>>,
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
        Self::open_without(&**io, root, &HashSet::new())
    }

    /// Opens it as if some packs were not there.
    pub(crate) fn open_without(io: &dyn Io, root: &Path, without: &HashSet<PackId>) -> Result<Self> {
        Self::open_except(io, root, &HashSet::new(), without)
    }

    fn open_except(
        io: &dyn Io,
        root: &Path,
        damaged: &HashSet<&PathBuf>,
        without: &HashSet<PackId>,
    ) -> Result<Self> {
        let mut packs = list_packs(io, &root.join("packs"))?;
        packs.retain(|pack| !without.contains(pack));
        let mut index = Self {
            runs: Vec::new(),
            unused: Vec::new(),
            loose: Vec::new(),
            packs,
            opened: Instant::now(),
            copies: OnceLock::new(),
        };
        let mut uncovered = index.packs.clone();
        for (path, run) in open_runs(io, &root.join("index"), &mut index.unused)? {
            let known = run.packs().iter().all(|pack| index.packs.contains(pack));
            if known && !damaged.contains(&path) && run.packs().iter().any(|pack| uncovered.contains(pack)) {
                for pack in run.packs() {
                    uncovered.remove(pack);
                }
                index.runs.push((path, run));
            } else {
                tracing::debug!(path = %path.display(), "an index run is not used");
                index.unused.push(path);
            }
        }
        index.loose = Loose::read(io, &root.join("packs"), uncovered.into_iter().collect())?;
        Ok(index)
    }

    /// Where a chunk lies.
    #[must_use]
    pub fn lookup(&self, id: &ChunkId) -> Option<Place> {
        let in_runs = self.runs.iter().find_map(|(_, run)| run.lookup(id));
        in_runs.or_else(|| self.loose.iter().find_map(|loose| loose.lookup(id)))
    }

    /// Whether the disk failed when it was opened, and it is time to ask it again.
    pub(crate) fn is_to_be_read_again(&self) -> bool {
        !self.loose.iter().all(Loose::is_whole) && self.opened.elapsed() >= ASKED_AGAIN
    }

    /// Whether it has every chunk that a pack was sealed with.
    pub(crate) fn has_all_of(&self, pack: &PackId) -> bool {
        self.packs.contains(pack) && !self.loose.iter().any(|loose| loose.is_unsound(pack))
    }

    /// The packs that it covers.
    #[must_use]
    pub fn packs(&self) -> &HashSet<PackId> {
        &self.packs
    }

    /// The places of chunks that several packs have, without the one that [`Index::lookup`] gives. The first call reads
    /// the footers of all packs; a pack that cannot be read has no copies of anything.
    pub(crate) fn copies(&self, io: &dyn Io, packs: &Path) -> &HashMap<ChunkId, Vec<Place>> {
        self.copies.get_or_init(|| self.gather_copies(io, packs))
    }

    fn gather_copies(&self, io: &dyn Io, dir: &Path) -> HashMap<ChunkId, Vec<Place>> {
        let mut copies: HashMap<ChunkId, Vec<Place>> = HashMap::new();
        let (mut buffer, mut count) = (Vec::new(), 0);
        for pack in &self.packs {
            let path = dir.join(format!("{pack}.{SEALED}"));
            let rows = match Pack::chunk_table(io, &path, *pack, &mut buffer) {
                Ok((rows, _)) => rows,
                Err(error) => {
                    tracing::debug!(%pack, %error, "a pack is passed over in the search for copies");
                    continue;
                }
            };
            for row in rows {
                let (id, place) = (id_at(row), entry::place(&entry::entry(row, 0), &[*pack]));
                if let Some(place) = place.filter(|place| self.lookup(&id) != Some(*place))
                    && count < COPIES_MAX
                {
                    count += 1;
                    copies.entry(id).or_default().push(place);
                }
            }
        }
        copies
    }

    /// Figures for people.
    #[must_use]
    pub fn summary(&self) -> IndexSummary {
        let loose_entries = self.loose.iter().map(Loose::len).sum();
        let runs = || self.runs.iter().map(|(_, run)| run);
        IndexSummary {
            runs: self.runs.len(),
            entries: runs().map(Run::len).sum::<usize>() + loose_entries,
            loose_entries,
            bytes: runs().map(Run::bytes).chain(self.loose.iter().map(Loose::bytes)).sum(),
        }
    }

    /// Writes a run for the packs that none covers, once they are many; small older runs are merged into it, and runs
    /// that are of no use are removed. `force` writes it however few they are. For writers: there is one at a time.
    ///
    /// # Errors
    /// [`Error::Io`]. The index on disk is as good as before.
    pub fn persist(&self, io: &dyn Io, root: &Path, force: bool) -> Result<()> {
        let dir = root.join("index");
        let threshold = if force { 1 } else { RUN_ENTRIES_MIN };
        let mut old: Vec<_> = self.runs.iter().collect();
        // First, so that it works where no room is left.
        self.unused.iter().try_for_each(|path| remove(io, path))?;
        let mut unused: Vec<&PathBuf> = Vec::new();
        for loose in &self.loose {
            let few = loose.len() < threshold && loose.packs().len() < RUN_PACKS_MIN;
            // A run of packs that the disk did not give would hide what they hold.
            if few || !loose.is_whole() || loose.len() > run::ENTRIES_MAX {
                continue;
            }
            let mut parts = vec![Part::of_loose(loose)];
            let (mut entries, mut packs) = (loose.len(), loose.packs().len());
            let fits = |entries, packs, run: &Run| {
                run.len() <= entries * RUN_RATIO
                    && entries + run.len() <= run::ENTRIES_MAX
                    && packs + run.packs().len() <= run::PACKS_MAX
            };
            while let Some((path, run)) = old.pop_if(|(_, run)| fits(entries, packs, run)) {
                unused.push(path);
                // What is damaged is not carried on under a checksum that holds; its packs are loose from now on.
                if run.checksum_holds() {
                    entries += run.len();
                    packs += run.packs().len();
                    parts.push(Part::of_run(run));
                }
            }
            let path = merge::write(io, &dir, parts)?;
            unused.retain(|unused| **unused != path);
        }
        unused.into_iter().try_for_each(|path| remove(io, path))
    }

    /// The pack that a chunk was in that is in none any more, if a run still tells.
    pub(crate) fn trace(&self, io: &dyn Io, id: &ChunkId) -> Option<PackId> {
        let run = |path: &PathBuf| Run::open(io.open(path).and_then(|file| file.map()).ok()?).ok();
        let places = self.unused.iter().filter_map(run).filter_map(|run| run.lookup(id));
        places.map(|place| place.pack).find(|pack| !self.packs.contains(pack))
    }

    /// Removes the runs whose checksum does not hold, and opens the index anew without them, from the footers of their
    /// packs; nothing when there are none.
    ///
    /// # Errors
    /// As [`Index::open`]. It is no error when a damaged run cannot be removed.
    pub fn without_damaged_runs(&self, io: &Arc<dyn Io>, root: &Path) -> Result<Option<Self>> {
        self.without_damaged(&**io, root, &HashSet::new())
    }

    /// The same, as if some packs were not there.
    pub(crate) fn without_damaged(
        &self,
        io: &dyn Io,
        root: &Path,
        without: &HashSet<PackId>,
    ) -> Result<Option<Self>> {
        let damaged: HashSet<_> =
            self.runs.iter().filter(|(_, run)| !run.checksum_holds()).map(|(path, _)| path).collect();
        if damaged.is_empty() {
            return Ok(None);
        }
        for path in &damaged {
            tracing::warn!(path = %path.display(), "an index run is damaged; it is rebuilt from the packs");
            if let Err(error) = remove(io, path) {
                tracing::warn!(%error, "the damaged index run stays");
            }
        }
        Self::open_except(io, root, &damaged, without).map(Some)
    }
}

/// Removes a file that may be gone already.
fn remove(io: &dyn Io, path: &Path) -> Result<()> {
    match io.remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The ids of the sealed packs in a directory.
pub(crate) fn list_packs(io: &dyn Io, dir: &Path) -> Result<HashSet<PackId>> {
    let names = io.names(dir).map_err(Error::io("list", dir))?;
    Ok(names.iter().filter_map(|name| pack_id(name)).collect())
}

fn pack_id(name: &str) -> Option<PackId> {
    name.strip_suffix(SEALED)?.strip_suffix('.')?.parse().ok()
}

/// The runs in a directory, largest first. Files that are none, and can be read, go to `unused`.
fn open_runs(io: &dyn Io, dir: &Path, unused: &mut Vec<PathBuf>) -> Result<Vec<(PathBuf, Run)>> {
    let listed = match io.list(dir) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", dir)(error)),
    };
    let mut runs = Vec::new();
    for entry in listed.into_iter().filter(|entry| entry.name.ends_with(".run") && !entry.is_dir) {
        let path = dir.join(entry.name);
        match io.open(&path).and_then(|file| file.map()).map(Run::open) {
            Ok(Ok(run)) => runs.push((path, run)),
            Ok(Err(detail)) => {
                tracing::warn!(path = %path.display(), detail, "an index run is not used");
                unused.push(path);
            }
            // Merged into another by a writer since the listing.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "an index run cannot be read"),
        }
    }
    runs.sort_by(|(path_a, a), (path_b, b)| b.len().cmp(&a.len()).then_with(|| path_a.cmp(path_b)));
    Ok(runs)
}
