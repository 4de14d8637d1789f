//! What a collection will do with each pack.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::marks::{Marked, Marks};
use crate::id::{ChunkId, PackId};
use crate::index::Place;
use crate::lease::Hold;
use crate::pack::PackKind;

/// A pack below this many bytes is small, and merged with others like it.
const SMALL_MAX: u64 = 8 << 20;
/// So many small packs of one kind are worth a merge.
const SMALL_MIN: usize = 8;
/// A small pack is merged with smaller ones that come to this part of it, so that bytes are not written again and again
/// for the sake of a few that are new.
const SMALL_RATIO: u64 = 4;
/// Packs below this many bytes are merged whatever the others come to.
const TINY_MAX: u64 = 64 << 10;
/// Bytes that a chunk takes in a pack beside its frame's.
const ROW_LEN: u64 = 36;

/// What a collection does with a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing in it is needed: it goes.
    Drop,
    /// What is needed of it is written into a new pack, since too much of it is not; then it goes.
    Rewrite,
    /// The same, since it is small and there are many like it.
    Merge,
    /// It stays.
    Keep(WhyKept),
}

/// Why a pack stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WhyKept {
    /// Enough of it is needed.
    Needed,
    /// Something in it does not hold. `cairn repair` is for it; a collection might throw the only good copy away.
    Damaged(String),
    /// Somebody holds everything.
    Held(String),
    /// It has to be found without use for longer.
    TooYoung,
    /// Somebody who is under way found something in it.
    ReliedOn,
    /// It was sealed by somebody who is under way.
    JustSealed,
    /// Something in it came to be needed while the collection ran.
    NeededAgain,
    /// It has a chunk whose other copy is damaged.
    OnlyCopy,
    /// No room is left for what is needed of it.
    DiskFull,
    /// Names changed all the time.
    Busy,
    /// The collection was stopped before.
    Stopped,
}

impl fmt::Display for WhyKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Needed => f.write_str("enough of it is needed"),
            Self::Damaged(detail) => write!(f, "it is damaged ({detail})"),
            Self::Held(by) => write!(f, "everything is held: {by}"),
            Self::TooYoung => f.write_str("it has not been without use for long enough"),
            Self::ReliedOn => f.write_str("something that is being stored needs it"),
            Self::JustSealed => f.write_str("it belongs to something that is being stored"),
            Self::NeededAgain => f.write_str("something in it is needed again"),
            Self::OnlyCopy => f.write_str("another copy of something in it is damaged"),
            Self::DiskFull => f.write_str("no room is left to write what is needed of it"),
            Self::Busy => f.write_str("names changed all the time"),
            Self::Stopped => f.write_str("the collection was stopped before"),
        }
    }
}

/// A pack and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackPlan {
    /// The pack.
    pub pack: PackId,
    /// Whether it holds trees, chunk lists and artifacts, not files' bytes.
    pub metadata: bool,
    /// Whether it holds files' bytes that are told in terms of others.
    pub deltas: bool,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// Bytes of it that are needed, about.
    pub needed_bytes: u64,
    /// Chunks in it.
    pub chunks: u64,
    /// Of which so many are needed, and here rather than elsewhere.
    pub needed_chunks: u64,
    /// What becomes of it.
    pub verdict: Verdict,
}

impl PackPlan {
    fn of(
        pack: &Marked,
        is_to_change: bool,
        live_ratio: f64,
        damage: Option<String>,
        everything: Option<&Hold>,
    ) -> Self {
        let (needed_chunks, chunks) = (pack.needed(), pack.chunks());
        let (needed_bytes, stored) = pack.stored_bytes();
        #[expect(clippy::cast_precision_loss, reason = "a pack has far fewer than 2^52 bytes")]
        let is_sparse = needed_chunks < chunks && (needed_bytes as f64) < (stored as f64) * live_ratio;
        let verdict = match (damage, everything) {
            (Some(detail), _) => Verdict::Keep(WhyKept::Damaged(detail)),
            (None, Some(hold)) => Verdict::Keep(WhyKept::Held(hold.by.clone())),
            (None, None) if needed_chunks == 0 => Verdict::Drop,
            (None, None) if is_sparse || is_to_change => Verdict::Rewrite,
            (None, None) => Verdict::Keep(WhyKept::Needed),
        };
        let (metadata, deltas) = (pack.kind == PackKind::Metadata, pack.kind == PackKind::Delta);
        let (pack, file_bytes) = (pack.id, pack.file_bytes);
        Self { pack, metadata, deltas, file_bytes, needed_bytes, chunks, needed_chunks, verdict }
    }

    /// Bytes that its going frees, about, less those that are written for it.
    #[must_use]
    pub fn freed_bytes(&self) -> u64 {
        match self.verdict {
            Verdict::Drop => self.file_bytes,
            Verdict::Rewrite | Verdict::Merge => {
                self.file_bytes.saturating_sub(self.needed_bytes + self.needed_chunks * ROW_LEN)
            }
            Verdict::Keep(_) => 0,
        }
    }

    /// Whether what is needed of it is written again.
    #[must_use]
    pub fn is_rewritten(&self) -> bool {
        matches!(self.verdict, Verdict::Rewrite | Verdict::Merge)
    }
}

/// What becomes of each pack, ascending by id.
pub(super) fn verdicts(
    marks: &Marks,
    find: &dyn Fn(&ChunkId) -> Option<Place>,
    live_ratio: f64,
    damaged: &BTreeMap<PackId, String>,
    everything: Option<&Hold>,
) -> Vec<PackPlan> {
    marks.weigh(find);
    let mut plans: Vec<PackPlan> = marks
        .packs()
        .iter()
        .map(|pack| {
            let damage = pack.damage.clone().or_else(|| damaged.get(&pack.id).cloned());
            PackPlan::of(pack, is_to_change(pack, marks, find), live_ratio, damage, everything)
        })
        .collect();
    for kind in [(false, false), (true, false), (false, true)] {
        let merged = merged(plans.iter().filter(|plan| (plan.metadata, plan.deltas) == kind));
        for plan in plans.iter_mut().filter(|plan| merged.contains(&plan.pack)) {
            if plan.verdict == Verdict::Keep(WhyKept::Needed) {
                plan.verdict = Verdict::Merge;
            }
        }
    }
    plans
}

/// Whether a pack of deltas has a frame that is to stand alone, or one that nobody needs and that keeps what it stands on.
fn is_to_change(pack: &Marked, marks: &Marks, find: &dyn Fn(&ChunkId) -> Option<Place>) -> bool {
    (0u16..).zip(&pack.bases).any(|(frame, bases)| {
        let is_idle = !bases.is_empty() && pack.of_frame(usize::from(frame)).1 == 0;
        is_idle || pack.is_to_stand_alone(frame, marks, find)
    })
}

/// The small packs that are merged: the smallest, as long as those before one come to a good part of it.
fn merged<'a>(plans: impl Iterator<Item = &'a PackPlan>) -> BTreeSet<PackId> {
    let stays = |plan: &&PackPlan| plan.is_rewritten() || plan.verdict == Verdict::Keep(WhyKept::Needed);
    let mut small: Vec<(u64, PackId)> = plans
        .filter(stays)
        .filter(|plan| plan.needed_bytes < SMALL_MAX)
        .map(|plan| (plan.needed_bytes, plan.pack))
        .collect();
    small.sort_unstable();
    let (mut sum, mut merged) = (0u64, BTreeSet::new());
    for (bytes, pack) in small {
        if bytes > TINY_MAX && bytes > sum.saturating_mul(SMALL_RATIO) {
            break;
        }
        sum += bytes;
        merged.insert(pack);
    }
    if merged.len() < SMALL_MIN { BTreeSet::new() } else { merged }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(number: u64, needed_bytes: u64) -> PackPlan {
        PackPlan {
            pack: PackId::of(&number.to_le_bytes()),
            metadata: false,
            deltas: false,
            file_bytes: needed_bytes + 100,
            needed_bytes,
            chunks: 10,
            needed_chunks: 10,
            verdict: Verdict::Keep(WhyKept::Needed),
        }
    }

    fn merged_sizes(sizes: &[u64]) -> Vec<u64> {
        let plans: Vec<PackPlan> = (0..).zip(sizes).map(|(number, size)| plan(number, *size)).collect();
        let merged = merged(plans.iter());
        let mut sizes: Vec<u64> =
            plans.iter().filter(|plan| merged.contains(&plan.pack)).map(|plan| plan.needed_bytes).collect();
        sizes.sort_unstable();
        sizes
    }

    #[test]
    fn many_small_packs_are_merged_and_few_or_large_ones_are_not() {
        assert_eq!(merged_sizes(&[1000; 7]), [0; 0]);
        assert_eq!(merged_sizes(&[1000; 8]), [1000; 8]);
        assert_eq!(merged_sizes(&[SMALL_MAX; 20]), [0; 0]);
        let mut sizes = vec![10 << 10; 10];
        sizes.extend([7 << 20, 300 << 10, 1 << 20]);
        // Ten of 10 KiB are little beside 7 MiB, and something beside 300 KiB.
        let merged = merged_sizes(&sizes);
        assert_eq!(merged.len(), 12, "{merged:?}");
        assert_eq!(merged.last(), Some(&(1 << 20)));
    }

    /// However many small packs come one after the other, each byte is written a few times only.
    #[test]
    fn merging_again_and_again_writes_each_byte_a_few_times() {
        let (mut sizes, mut written, mut stored): (Vec<u64>, u64, u64) = (Vec::new(), 0, 0);
        for _ in 0..2000 {
            sizes.push(20 << 10);
            stored += 20 << 10;
            let merged = merged_sizes(&sizes);
            if !merged.is_empty() {
                for size in &merged {
                    let at = sizes.iter().position(|other| other == size).unwrap();
                    sizes.swap_remove(at);
                }
                written += merged.iter().sum::<u64>();
                sizes.push(merged.iter().sum());
            }
        }
        assert!(written < stored * 12, "{written} of {stored}");
        assert!(sizes.len() < 40, "{}", sizes.len());
    }
}
