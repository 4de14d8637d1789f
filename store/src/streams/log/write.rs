//! Writing what waits: whoever finds no writer writes for all, a batch and a sync at a time.

use std::io;
use std::ops::Range;
use std::sync::{Arc, MutexGuard};

use super::{Batch, EventLog, Failure, Mode, Outcome, State};
use crate::io::is_full;
use crate::store::lock;
use crate::streams::segment::{Tail, Written};
use crate::streams::{record, recover};
use crate::{Error, Result};

impl EventLog {
    /// The state, once something may be appended and `ready` holds.
    pub(super) fn wait_until(&self, ready: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>> {
        let mut state = lock(&self.state);
        loop {
            if let Some(path) = &state.poisoned {
                return Err(Error::Poisoned { path: path.clone() });
            }
            match state.mode {
                Mode::Running if ready(&state) => return Ok(state),
                Mode::Closed => {
                    let detail = "another process has taken the store over".to_owned();
                    return Err(Error::Unavailable { what: format!("stream {}", self.name), detail });
                }
                Mode::Running if !state.is_written && !state.queue.records.is_empty() => {
                    // Whoever queued it may not have woken yet.
                    state = self.write(state);
                }
                Mode::Running | Mode::Suspended => state = self.wait(state),
            }
        }
    }

    /// Waits until a batch is durable, or not to be; writes it if nobody else does.
    pub(super) fn settle<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        batch: &Batch,
        upto: u64,
    ) -> Result<u64> {
        loop {
            if let Some(outcome) = batch.outcome.get() {
                return match &outcome.failure {
                    Some(failure) if outcome.next < upto => Err(failure.to_error()),
                    _ => Ok(state.next),
                };
            }
            state = if state.is_written { self.wait(state) } else { self.write(state) };
        }
    }

    /// Writes what is queued. Nobody else does.
    fn write<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.writing = std::mem::take(&mut state.queue);
        state.is_written = true;
        let mut bytes = std::mem::take(&mut state.writing.bytes);
        let records: Vec<(u64, Range<usize>)> =
            state.writing.records.iter().map(|queued| (queued.round, queued.at.clone())).collect();
        let (mut tail, segment_bytes) = (state.tail.take(), state.segment_bytes);
        drop(state);
        let written = self.write_records(&mut tail, &mut bytes, &records, segment_bytes);
        drop(bytes);
        let mut state = lock(&self.state);
        state.tail = tail;
        state.is_written = false;
        let done = std::mem::take(&mut state.writing);
        let next = state.next;
        let failure = written.err().map(|error| {
            if !matches!(error, Error::Full { .. }) {
                state.poisoned = Some(self.dir.clone());
            }
            error
        });
        if let Some(error) = &failure {
            // What came behind would leave a gap.
            let behind = std::mem::take(&mut state.queue);
            let outcome = || Outcome { next, failure: Some(Failure::of(error, self.dir.clone())) };
            let _ = behind.batch.outcome.set(outcome());
            let _ = done.batch.outcome.set(outcome());
        } else {
            let _ = done.batch.outcome.set(Outcome { next, failure: None });
        }
        let span = state.span();
        drop(state);
        self.moved.notify_all();
        self.trim();
        self.tell(span);
        lock(&self.state)
    }

    /// Writes records, durably, and says so as they are; goes on in a new segment where one is long enough.
    fn write_records(
        &self,
        tail: &mut Option<Tail>,
        bytes: &mut [u8],
        records: &[(u64, Range<usize>)],
        segment_bytes: u64,
    ) -> Result<()> {
        let mut from = 0;
        while let Some((first, start)) = records.get(from).map(|(round, at)| (*round, at.start)) {
            if tail.as_ref().is_none_or(|tail| tail.end >= segment_bytes) {
                *tail = Some(self.begin_segment(tail.as_mut(), first)?);
            }
            let Some(tail) = tail else { return Ok(()) };
            let (mut to, mark) = (from, tail.mark());
            while let Some((_, at)) = records.get(to) {
                record::seal(&mut bytes[at.clone()], mark, to == from);
                to += 1;
                if tail.end + (at.end - start) as u64 >= segment_bytes {
                    break;
                }
            }
            let (last, end) = (records[to - 1].0, records[to - 1].1.end);
            let batch_at = tail.end;
            match tail.append(&bytes[start..end])? {
                Written::Durable => self.publish(tail, (first, batch_at), last + 1),
                Written::Full(source) => {
                    return Err(Error::Full { path: tail.segment.path.clone(), source });
                }
            }
            from = to;
        }
        Ok(())
    }

    fn begin_segment(&self, mut tail: Option<&mut Tail>, first: u64) -> Result<Tail> {
        if let Some(tail) = &mut tail {
            tail.finish()?;
        }
        let before = tail.map(|tail| &tail.segment.header);
        let epoch = before.map_or(1, |before| before.epoch);
        let new = self.create(recover::new_header(epoch, first, before.map(|before| before.first))?)?;
        let mut state = lock(&self.state);
        if state.segments.is_empty() {
            (state.first, state.next) = (first, first);
        }
        state.segments.push_back((Arc::clone(&new.segment), new.end));
        Ok(new)
    }

    /// Makes a segment; [`Error::Full`] if there is no room for it and it has no name.
    pub(super) fn create(&self, header: record::Header) -> Result<Tail> {
        Tail::create(&*self.io, &self.dir, header).map_err(|error| match error {
            Error::Io { source, path, .. }
                if is_full(&source)
                    && self.io.open(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) =>
            {
                Error::Full { path, source }
            }
            error => error,
        })
    }

    /// Says that a batch is durable.
    fn publish(&self, tail: &Tail, batch: (u64, u64), next: u64) {
        tail.segment.mark(batch.0, batch.1);
        tail.segment.remember(batch.0, batch.1);
        let mut state = lock(&self.state);
        if let Some((_, end)) = state.segments.back_mut() {
            *end = tail.end;
        }
        state.next = next;
    }
}
