//! How packs go. Those of deltas go before others, so that whatever is there always has what it stands on. Order: what is needed of them is in other packs, whose names are durable; what was named and held since
//! is marked; they are condemned while nobody names anything, and look-ups ask an index without them; their files are
//! removed, each unless somebody is making it anew; their directory is synced.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::copies::Copies;
use super::pace::Pace;
use super::plan::{PackPlan, Verdict, WhyKept};
use super::{CollectOptions, Collected, Found, Look};
use crate::error::{Error, Result};
use crate::holds::Spared;
use crate::id::PackId;
use crate::index::{Index, Place};
use crate::progress::Progress;
use crate::store::lock;
use crate::writer::Writer;

/// How often it looks again at what is named before it lets packs be for this time.
const ATTEMPTS_MAX: usize = 64;

/// A collection under way.
pub(super) struct Sweep<'a> {
    pub(super) writer: &'a Writer,
    pub(super) found: &'a Found,
    options: &'a CollectOptions,
    progress: &'a dyn Progress,
    pub(super) pace: Pace<'a>,
    /// Places that were read and hold.
    pub(super) read: HashSet<Place>,
    pub(super) result: Collected,
}

/// A pack that is to go, and how many of its chunks were needed when what is needed of it was last seen to.
pub(super) type Leaving = (PackId, u64);

/// How it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    Stop,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(
        writer: &'a Writer,
        found: &'a Found,
        options: &'a CollectOptions,
        progress: &'a dyn Progress,
    ) -> Self {
        let pace = Pace::new(options, progress, writer.collections());
        let (read, result) = (HashSet::new(), Collected::default());
        Self { writer, found, options, progress, pace, read, result }
    }

    /// Does what is planned for these packs.
    pub(super) fn run(mut self, plans: &[PackPlan]) -> Result<Collected> {
        let chosen = self.chosen(plans);
        self.run_all(chosen)
    }

    /// The same for packs of which it does not matter for how long they were of no use.
    pub(super) fn run_all(mut self, chosen: Vec<&PackPlan>) -> Result<Collected> {
        let (dropped, rewritten): (Vec<&PackPlan>, Vec<&PackPlan>) =
            chosen.into_iter().partition(|plan| plan.verdict == Verdict::Drop);
        self.progress.expect(
            dropped.iter().map(|plan| plan.file_bytes).sum::<u64>()
                + rewritten.iter().map(|plan| plan.needed_bytes).sum::<u64>(),
            (dropped.len() + rewritten.len()) as u64,
        );
        let swept = self.sweep(&dropped, &rewritten);
        if !self.result.dropped.is_empty() || !self.result.rewritten.is_empty() {
            self.writer.write_index(true);
        }
        let next = swept?;
        self.result.complete = next == Next::GoOn;
        self.result.kept_back.sort_unstable();
        self.result.kept_back.dedup();
        Ok(self.result)
    }

    fn sweep(&mut self, dropped: &[&PackPlan], rewritten: &[&PackPlan]) -> Result<Next> {
        let (deltas, others): (Vec<&PackPlan>, Vec<&PackPlan>) = dropped.iter().partition(|plan| plan.deltas);
        let mut next = self.drop_all(&deltas)?;
        if next == Next::GoOn {
            // Those that stay keep what they stand on, whatever was planned for them.
            self.found.need_all_bases(&self.writer.list_packs()?);
            next = self.drop_all(&others)?;
        } else {
            self.keep_back(others.iter().map(|plan| plan.pack), &WhyKept::Stopped);
        }
        let (deltas, others): (Vec<&PackPlan>, Vec<&PackPlan>) =
            rewritten.iter().partition(|plan| plan.deltas);
        for plans in [deltas, others] {
            if next == Next::Stop {
                self.keep_back(plans.iter().map(|plan| plan.pack), &WhyKept::Stopped);
            } else {
                next = self.rewrite(&plans)?;
            }
        }
        Ok(next)
    }

    fn drop_all(&mut self, plans: &[&PackPlan]) -> Result<Next> {
        if self.pace.must_stop() {
            self.keep_back(plans.iter().map(|plan| plan.pack), &WhyKept::Stopped);
            return Ok(Next::Stop);
        }
        self.let_go(plans.iter().map(|plan| (plan.pack, 0)).collect())
    }

    /// The packs that are to go and may by now.
    fn chosen<'p>(&mut self, plans: &'p [PackPlan]) -> Vec<&'p PackPlan> {
        let mut since = lock(&self.writer.collections().useless_since);
        let (now, mut known, mut chosen) = (Instant::now(), HashMap::new(), Vec::new());
        for plan in plans {
            match &plan.verdict {
                Verdict::Keep(WhyKept::Needed) => {}
                Verdict::Keep(why) => self.result.kept_back.push((plan.pack, why.clone())),
                // It is no less needed than others, so no reader can miss anything.
                Verdict::Merge => chosen.push(plan),
                Verdict::Drop | Verdict::Rewrite => {
                    let first = since.get(&plan.pack).copied().unwrap_or(now);
                    known.insert(plan.pack, first);
                    if now.saturating_duration_since(first) >= self.options.grace {
                        chosen.push(plan);
                    } else {
                        self.result.kept_back.push((plan.pack, WhyKept::TooYoung));
                    }
                }
            }
        }
        *since = known;
        chosen
    }

    pub(super) fn advance(&self, bytes: u64) {
        self.progress.advance(bytes, 0);
    }

    pub(super) fn keep_back(&mut self, packs: impl IntoIterator<Item = PackId>, why: &WhyKept) {
        self.result.kept_back.extend(packs.into_iter().map(|pack| (pack, why.clone())));
    }

    /// Lets packs go whose needed chunks, as many as were counted, are elsewhere. Those of which more is needed by now
    /// stay.
    pub(super) fn let_go(&mut self, mut leaving: Vec<Leaving>) -> Result<Next> {
        let mut prepared: Option<(Vec<PackId>, Arc<Index>)> = None;
        let mut looked_at = None;
        for _ in 0..ATTEMPTS_MAX {
            if leaving.is_empty() {
                return Ok(Next::GoOn);
            }
            // Before the index is asked: where somebody else removes a pack that he has just made, copies are read again.
            let condemnations = self.writer.store().holds().condemnations();
            let index = self.writer.local().sound_index()?;
            let look = self.writer.look(self.found, &index, self.options, self.progress);
            let look = match look {
                Err(Error::Cancelled) => return Ok(self.stopped(&leaving)),
                look => look?,
            };
            if let Some(hold) = look.everything() {
                let why = WhyKept::Held(hold.by.clone());
                self.keep_back(leaving.iter().map(|(pack, _)| *pack), &why);
                return Ok(Next::GoOn);
            }
            if looked_at != Some(condemnations) || look.is_news {
                looked_at = Some(condemnations);
                let packs: Vec<PackId> = leaving.iter().map(|(pack, _)| *pack).collect();
                let before = self.needed(&packs);
                if self.read_copies(&packs, &index)? == Copies::Stopped {
                    return Ok(self.stopped(&leaving));
                }
                self.retain(&mut leaving, |sweep, (pack, _)| {
                    (sweep.needed_of(pack) != before[pack]).then_some(WhyKept::OnlyCopy)
                });
            }
            self.retain(&mut leaving, |sweep, (pack, needed)| {
                let spared = sweep.writer.store().holds().spares(pack).map(why);
                spared.or_else(|| (sweep.needed_of(pack) != *needed).then_some(WhyKept::NeededAgain))
            });
            let packs: Vec<PackId> = leaving.iter().map(|(pack, _)| *pack).collect();
            let without = match prepared.take() {
                Some((of, index)) if of == packs => index,
                _ => {
                    let mut without = self.writer.store().holds().condemned();
                    without.extend(&packs);
                    Arc::new(self.writer.store().open_index(&without)?)
                }
            };
            if self.condemn(&packs, (&look, condemnations), &without)? {
                return self.remove(&leaving);
            }
            prepared = Some((packs, without));
        }
        self.keep_back(leaving.iter().map(|(pack, _)| *pack), &WhyKept::Busy);
        Ok(Next::GoOn)
    }

    fn stopped(&mut self, leaving: &[Leaving]) -> Next {
        self.keep_back(leaving.iter().map(|(pack, _)| *pack), &WhyKept::Stopped);
        Next::Stop
    }

    fn needed_of(&self, pack: &PackId) -> u64 {
        self.found.marks.pack(pack).map_or(0, super::marks::Marked::needed)
    }

    fn needed(&self, packs: &[PackId]) -> BTreeMap<PackId, u64> {
        packs.iter().map(|pack| (*pack, self.needed_of(pack))).collect()
    }

    fn retain(&mut self, leaving: &mut Vec<Leaving>, why: impl Fn(&Self, &Leaving) -> Option<WhyKept>) {
        let mut back = Vec::new();
        leaving.retain(|one| match why(self, one) {
            Some(why) => {
                back.push((one.0, why));
                false
            }
            None => true,
        });
        self.result.kept_back.append(&mut back);
    }

    /// Condemns packs if nothing was named, held or condemned since the look; whether it did. From then on look-ups ask `without`.
    fn condemn(
        &self,
        packs: &[PackId],
        (look, condemnations): (&Look, u64),
        without: &Arc<Index>,
    ) -> Result<bool> {
        let holds = self.writer.store().holds();
        let commit = holds.commit();
        // What is being named by whoever had found it before this is named by now, or not at all.
        self.writer.check_names_are_known()?;
        if self.writer.names().seq != look.seq
            || holds.condemnations() != condemnations
            || commit.condemn(packs, look.held_changes).is_err()
        {
            return Ok(false);
        }
        self.writer.store().set_index(Arc::clone(without));
        Ok(true)
    }

    /// Removes condemned packs.
    fn remove(&mut self, leaving: &[Leaving]) -> Result<Next> {
        let store = self.writer.store();
        let spared = SpareRest { writer: self.writer, packs: leaving };
        let mut removed = Ok(());
        for (pack, needed) in leaving {
            match store.remove_condemned(pack) {
                Ok(true) => {}
                // Somebody has made it anew.
                Ok(false) => {
                    self.result.kept_back.push((*pack, WhyKept::JustSealed));
                    continue;
                }
                Err(error) => {
                    removed = Err(error);
                    break;
                }
            }
            let file_bytes = self.found.marks.pack(pack).map_or(0, |marked| marked.file_bytes);
            self.result.freed_bytes += file_bytes;
            if *needed == 0 {
                self.result.dropped.push(*pack);
                self.progress.advance(file_bytes, 1);
            } else {
                self.result.rewritten.push(*pack);
                self.progress.advance(0, 1);
            }
        }
        drop(spared);
        let dir = store.packs_dir();
        let synced = store.io().sync_dir(&dir).map_err(Error::io("sync", dir));
        removed.and(synced).map(|()| Next::GoOn)
    }
}

/// Packs that are still condemned when this is dropped stay.
struct SpareRest<'a> {
    writer: &'a Writer,
    packs: &'a [Leaving],
}

impl Drop for SpareRest<'_> {
    fn drop(&mut self) {
        let store = self.writer.store();
        let still = store.holds().condemned();
        self.packs
            .iter()
            .filter(|(pack, _)| still.contains(pack))
            .for_each(|(pack, _)| store.holds().spare(pack));
        // One that was not removed is to be found again.
        if let Err(error) = store.index_now() {
            tracing::debug!(%error, "the packs cannot be listed; the next look-up lists them");
        }
    }
}

fn why(spared: Spared) -> WhyKept {
    match spared {
        Spared::ReliedOn => WhyKept::ReliedOn,
        Spared::JustSealed => WhyKept::JustSealed,
    }
}
