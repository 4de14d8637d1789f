//! Makes one delta.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use cairn_net::wire::{End, Head, Item};
use cairn_store::delta::DeltaOptions;
use cairn_store::{Error, Progress, Store};

use super::files::Files;
use super::{DeltaServing, Pair};
use crate::enumerations::Part;

/// A delta has to save at least one part in so many of what goes without it.
const SAVED_PARTS_MIN: u64 = 16;

/// Makes a delta and keeps it; false where it does not pay, or where not all that it takes is here.
pub(super) fn make(
    store: &Store,
    serving: &DeltaServing,
    files: &Files,
    pair: Pair,
    is_over: &AtomicBool,
) -> Result<bool, Error> {
    let making = Making { store, serving, pair, progress: UntilOver(is_over) };
    let failed = |source| Error::Io { action: "keep a delta in", path: store.path().join("cache"), source };
    let mut written = files.create(pair).map_err(failed)?;
    let began = Instant::now();
    let mut end = End::default();
    let mut put = |item: Item| {
        if let Item::Unit(unit) = &item {
            end.frames += 1;
            end.bytes += unit.len() as u64;
        }
        written.write(&item.to_bytes()).map_err(failed)
    };
    let made = match pair.part {
        Part::Objects => making.objects(&mut put),
        Part::Chunks => making.chunks(&mut put),
    };
    let pays = made.and_then(|plainly| {
        written.write(&Item::End(end).to_bytes()).map_err(failed)?;
        Ok(plainly.filter(|plainly| end.bytes + end.bytes / SAVED_PARTS_MIN < *plainly))
    });
    let plainly = match pays {
        Ok(Some(plainly)) => plainly,
        pays => {
            written.discard();
            return pays.map(|_| false);
        }
    };
    tracing::info!(
        have = %pair.have.short(), want = %pair.want.short(), part = ?pair.part, plainly, bytes = end.bytes,
        seconds = began.elapsed().as_secs_f64(), "a delta was made"
    );
    files.keep(pair, written).map_err(failed)?;
    Ok(true)
}

struct Making<'a> {
    store: &'a Store,
    serving: &'a DeltaServing,
    pair: Pair,
    progress: UntilOver<'a>,
}

type Put<'a> = dyn FnMut(Item) -> Result<(), Error> + 'a;

impl Making<'_> {
    /// Metadata. Gives what it comes to plainly; nothing where there is no delta.
    fn objects(&self, put: &mut Put<'_>) -> Result<Option<u64>, Error> {
        let Pair { have, want, .. } = &self.pair;
        let told = self.store.encode_objects(have, want, self.serving.effort, &self.progress)?;
        let Some(unit) = told else { return Ok(None) };
        let objects = self.store.lacking_objects(Some(have), want, &self.progress)?;
        let chunks = self.store.lacking_chunks(Some(have), want, &self.progress)?;
        let head = Head {
            objects: objects.chunks.len() as u64,
            object_bytes: objects.plain_bytes,
            chunks: chunks.chunks.len() as u64,
            plain_bytes: chunks.plain_bytes,
            stored_bytes: objects.stored_bytes + chunks.stored_bytes,
        };
        put(Item::Head(head))?;
        put(Item::Unit(unit))?;
        Ok(Some(objects.stored_bytes))
    }

    /// Chunks of files.
    fn chunks(&self, put: &mut Put<'_>) -> Result<Option<u64>, Error> {
        let Pair { have, want, .. } = &self.pair;
        let Some(gap) = self.store.gap(have, want, &self.progress)? else { return Ok(None) };
        if gap.chunks() == 0 {
            return Ok(None);
        }
        let chunks: Vec<_> = (0..gap.chunks()).map(|number| gap.chunk(number)).collect();
        let plainly = self.store.stored_size(&chunks)?;
        let (chunks, plain_bytes) = (gap.chunks() as u64, gap.plain_bytes());
        put(Item::Head(Head { chunks, plain_bytes, stored_bytes: plainly, ..Head::default() }))?;
        let DeltaServing { effort, time_max, file_max, .. } = *self.serving;
        let options = DeltaOptions { effort, max_time: Some(time_max), file_max };
        self.store.encode_delta(&gap, &options, &self.progress, &mut |unit| put(Item::Unit(unit)))?;
        Ok(Some(plainly))
    }
}

struct UntilOver<'a>(&'a AtomicBool);

impl Progress for UntilOver<'_> {
    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
