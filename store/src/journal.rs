//! The journal: the append-only log of every change to refs, channels and profiles. It is the truth; views, the
//! catalogue and the user's `cairn log` are read from it.
//!
//! # Roles
//! [`Journal`] is the one writer, held under the store's lock. [`Journal::open_read`] and [`log`] need no lock: a file
//! of the journal only ever grows, apart from a torn end that the next writer cuts off before it adds anything.
//!
//! # Bytes
//! `journal/` holds segments, `<first sequence number, 16 lower-case hexadecimal digits>.journal`. Every other name
//! (a leftover `*.part`) is ignored by readers. Integers are little-endian.
//!
//! A segment is a header and then groups, one after the other, with nothing between or behind them.
//!
//! | segment header, 24 bytes | |
//! |---|---|
//! | 0..4 | magic `CJNL` |
//! | 4..8 | u32: format version, 3; 1 and 2 are read too |
//! | 8..16 | u64: first sequence number, as in the file's name |
//! | 16..20 | zero |
//! | 20..24 | u32: CRC-32C of bytes 0..20 |
//!
//! The header keeps this form in all versions, so that a reader can say which version it met. A group is what was
//! appended, and becomes durable, together:
//!
//! | group | |
//! |---|---|
//! | 0..4 | magic `CJGR` |
//! | 4..8 | u32: payload length P |
//! | 8..16 | u64: sequence number of its first record |
//! | 16..20 | u32: number of records, at least 1 |
//! | 20..24 | u32: CRC-32C of the payload |
//! | 24..28 | zero |
//! | 28..32 | u32: CRC-32C of bytes 0..28 |
//! | 32..32+P | payload |
//! | 32+P..36+P | end mark `CJGE` |
//!
//! The payload is [postcard](https://postcard.jamesmunns.com/wire-format) of `Vec<Record>` in its canonical form
//! (encoding what was decoded gives the same bytes). In postcard's terms (varint for every integer below, a length
//! before each sequence and string, an enum as its varint index, an option as a byte 0 or 1, ids as 32 bytes as they
//! are):
//!
//! ```text
//! Record     = seq u64, time_ms u64, who string, body Body
//! Body       = 0 Checkpoint State | 1 Change Op
//! Op         = 0 SetRef key RefKey, old option(id), record RefRecord
//!            | 1 RemoveRef key RefKey, old id
//!            | 2 SetChannel key ChannelKey, old option(string), version string
//!            | 3 RemoveChannel key ChannelKey, old string
//!            | 4 AddGeneration profile string, number u64, base option(u64), delta Delta, preferred Vec<string>,
//!              time_ms u64
//!            | 5 SetCurrent profile string, old option(u64), number u64
//!            | 6 RemoveGeneration profile string, number u64
//!            | 7 Pin profile string, number u64
//!            | 8 Unpin profile string, number u64
//!            | 9 SetOrigin origin
//!            | 10 SetWitness envelope Envelope
//!            | 11 SetPartial artifact id
//!            | 12 SetWhole artifact id
//! RefKey     = name string, version string, platform string
//! ChannelKey = name string, channel string, platform string
//! RefRecord  = artifact id, files u64, bytes u64, chunks u64, new_bytes u64, stored_bytes u64, time_ms u64
//! Delta      = set Vec<(name string, old option(id), package Package)>, removed Vec<(name string, old id)>
//! Package    = version string, platform string, artifact id, commands Map<bytes, bytes>
//! Envelope   = payload_type string, payload bytes, signatures Vec<(keyid string, sig bytes)>
//! State      = refs Vec<(RefKey, RefRecord, change u64)>, channels Vec<(ChannelKey, version string, change u64)>,
//!              profiles Vec<(string, Profile)>, origin option(origin, change u64), witnessed Vec<Envelope>,
//!              partial Vec<id>
//! Profile    = current u64 (0: none), last u64, generations Vec<Generation>, pins Vec<u64>
//! Generation = number u64, parent option(u64), time_ms u64, delta Delta (against the one before it in the list),
//!              preferred Vec<string>
//! ```
//!
//! An origin is 16 bytes as they are. `change` is the record that made the name what it is, 0 where that is not known.
//!
//! Version 2 has neither the operations from 9 on, nor any `change`, nor what follows `profiles`; version 1 has neither the
//! operations from 4 on nor `profiles` either. Their segments are read and never appended to: the next change goes to a
//! new one.
//!
//! Sequence numbers begin at 1 and every record, checkpoints included, has the number after the one before it, across
//! groups and segments. The first group of a segment is one checkpoint: everything that is named at that point, in any
//! order but each key once. There are no checkpoints elsewhere. So the newest segment alone tells what is, and all of
//! them together what was.
//!
//! # Order of durability
//! - Append: take room for the group, write it, sync the segment, acknowledge. Where the disk is full nothing is written,
//!   or what was written of it is cut off and that synced: the change is refused, and the next one may succeed. Any other
//!   failure poisons the [`Journal`]. For what takes names away the store's reserve is given up before it is refused.
//! - New segment, once the old one has grown by 4 MiB or by its checkpoint's size, whichever is more, or if it is of an
//!   earlier version: write header and checkpoint under `*.part`, sync, rename, sync the directory; only then append to it.
//!   On a full disk the old one goes on.
//! - Opening to write: cut a torn end off, write the last group again as it is and sync (a sync that failed under an
//!   earlier process may have left it in memory only, seeming safe), sync the directory.
//!
//! # What a crash may leave, and what it may not
//! A bad group is a *torn end*, and not damage, only in the newest segment, with no whole group behind it, and if bytes
//! of it are missing: the file ends too early, or is all zeros from some place in the group on, or a 512-byte sector of
//! the group is all zeros. That is what a power cut leaves of one unacknowledged append. A group that is all there but
//! does not match its checksum was acknowledged and has rotted: [`Error::Damaged`], like a bad group anywhere else.
//! A newest segment whose header or checkpoint is torn was never used: the one before it is the truth.
//!
//! # Not here
//! No knowledge of what the refs name: whether an artifact's bytes are there is for whoever appends to ensure first.

mod apply;
mod frame;
mod record;
mod recover;
mod replay;
mod room;
pub(crate) mod salvage;
mod segments;
mod state;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod exchange_tests;
#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod full_tests;
#[cfg(test)]
mod profile_crash_tests;
#[cfg(test)]
mod profile_tests;
#[cfg(test)]
mod salvage_tests;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use record::{Op, Record};
pub use replay::{Log, Position};
pub use salvage::JournalRepair;

use crate::io::{Io, WriteFile};
use crate::refs::View;
use crate::reserve::Reserve;
use crate::{Error, Result};
use apply::{Undo, apply};
use record::{Body, Stored};

/// A segment is left for a new one when it has grown by this much since its checkpoint, or by the checkpoint's size.
const ROLL_BYTES: u64 = 4 << 20;
/// The most payload bytes of a group that is not a checkpoint.
const GROUP_BYTES_MAX: usize = 64 << 20;
/// The most bytes of a checkpoint's payload: some three million refs.
const CHECKPOINT_BYTES_MAX: usize = 512 << 20;
/// The longest `who`, in bytes.
const WHO_LEN_MAX: usize = 255;

/// The journal's writer. There is at most one for a store: whoever opens it holds the store's lock.
pub struct Journal {
    io: Arc<dyn Io>,
    dir: PathBuf,
    segment: OpenSegment,
    /// Grown beyond which the segment is left for a new one.
    roll_bytes: u64,
    /// Grown beyond which that is tried again, after there was no room for it.
    roll_again: u64,
    /// What is given up on a full disk for changes that take away.
    reserve: Option<Reserve>,
    view: Arc<View>,
    poisoned: bool,
}

/// The newest segment, open for appending.
struct OpenSegment {
    path: PathBuf,
    file: Arc<dyn WriteFile>,
    /// Its format; one of an earlier version is not appended to.
    version: u32,
    /// Where the checkpoint ends.
    checkpoint_end: u64,
    /// Where the next group goes: the end of the last whole one.
    end: u64,
    /// Up to where there is room on the disk, as far as is known.
    room: u64,
}

impl Journal {
    /// What the journal in `dir` says now, without a lock. A group that is just being appended, or was torn by a
    /// crash, is not seen. A journal without a segment says nothing.
    ///
    /// # Errors
    /// [`Error::Damaged`] with path and offset, [`Error::NewerFormat`], [`Error::Io`].
    pub fn open_read(io: &dyn Io, dir: &Path) -> Result<(View, Position)> {
        replay::read(io, dir)
    }

    /// What the journal says now, if it is not what it said at `position`. Costs a directory listing if nothing
    /// changed.
    ///
    /// # Errors
    /// As [`Journal::open_read`].
    pub fn refresh(io: &dyn Io, dir: &Path, position: &Position) -> Result<Option<(View, Position)>> {
        replay::refresh(io, dir, position)
    }

    /// Opens to append, creating the journal if there is none, and puts right what a crash left. The caller holds the
    /// store's lock.
    ///
    /// # Errors
    /// [`Error::Damaged`] with path and offset, [`Error::NewerFormat`], [`Error::Io`].
    pub fn open_write(io: Arc<dyn Io>, dir: &Path) -> Result<Self> {
        let (segment, view) = recover::recover(&*io, dir)?;
        let dir = dir.to_owned();
        let (view, roll_bytes) = (Arc::new(view), ROLL_BYTES);
        Ok(Self { io, dir, segment, roll_bytes, roll_again: 0, reserve: None, view, poisoned: false })
    }

    /// Gives `reserve` up on a full disk, for changes that take away.
    #[must_use]
    pub(crate) fn with_reserve(mut self, reserve: Reserve) -> Self {
        self.reserve = Some(reserve);
        self
    }

    /// Takes what the reserve lacks, as far as there is room.
    pub(crate) fn fill_reserve(&mut self) {
        if let Some(reserve) = &mut self.reserve {
            reserve.fill();
        }
    }

    /// Leaves segments after `roll_bytes` instead of 4 MiB.
    #[must_use]
    pub fn rolling_at(mut self, roll_bytes: u64) -> Self {
        self.roll_bytes = roll_bytes;
        self
    }

    /// Gives a piece of the reserve up; false where there is none.
    pub(crate) fn give_up_reserve(&mut self) -> bool {
        self.reserve.as_mut().is_some_and(Reserve::give_up)
    }

    /// What the journal says, with everything that was appended.
    #[must_use]
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Every record, oldest first.
    ///
    /// # Errors
    /// [`Error::Io`] if the segments cannot be listed.
    pub fn log(&self) -> Result<Log> {
        log(Arc::clone(&self.io), &self.dir)
    }

    /// The records after sequence number `seq`, oldest first.
    ///
    /// # Errors
    /// [`Error::Io`] if the segments cannot be listed.
    pub fn log_after(&self, seq: u64) -> Result<Log> {
        Log::open(Arc::clone(&self.io), &self.dir, seq)
    }

    /// Appends `ops` as one group: after a crash all of them are there or none. Durable on return. Gives the sequence
    /// number of the last, or of the last record so far if there are no `ops`.
    ///
    /// Each operation says what it expects to replace; they take effect in order.
    ///
    /// # Errors
    /// [`Error::Conflict`] if what is there is not what an operation expects, and [`Error::Invalid`] for a `who` or
    /// group that is too long: nothing is written. [`Error::Full`] where there is no room: nothing changed, and this goes
    /// on. [`Error::Io`] if a write or sync fails otherwise: whether the group is there is known when the journal is next
    /// opened, and until then every append is [`Error::Poisoned`].
    pub fn append(&mut self, ops: Vec<Op>, who: &str, now_ms: u64) -> Result<u64> {
        if self.poisoned {
            return Err(Error::Poisoned { path: self.segment.path.clone() });
        }
        if ops.is_empty() {
            return Ok(self.view.seq);
        }
        if who.len() > WHO_LEN_MAX {
            let reason = format!("it has {} bytes; at most {WHO_LEN_MAX} are allowed", who.len());
            return Err(Error::Invalid {
                what: "who",
                given: who.chars().take(WHO_LEN_MAX).collect(),
                reason,
            });
        }
        let takes_away = record::takes_away(&ops);
        self.roll_if_due(who, now_ms, takes_away)?;
        let undo = self.apply_all(&ops)?;
        let written = self.write(ops, who, now_ms, takes_away);
        let view = Arc::make_mut(&mut self.view);
        match written {
            Ok(seq) => view.seq = seq,
            Err(_) => undo.into_iter().rev().for_each(|undo| undo.run(view)),
        }
        written
    }

    /// Whether a write failed, so that it is not known what the journal will say when it is opened next.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Applies all of `ops` to the view, or none.
    fn apply_all(&mut self, ops: &[Op]) -> Result<Vec<Undo>> {
        let view = Arc::make_mut(&mut self.view);
        let mut done: Vec<Undo> = Vec::with_capacity(ops.len());
        for (op, seq) in ops.iter().zip(view.seq + 1..) {
            match apply(view, op, seq) {
                Ok(undo) => done.push(undo),
                Err(mismatch) => {
                    done.into_iter().rev().for_each(|undo| undo.run(view));
                    return Err(mismatch.into_conflict());
                }
            }
        }
        Ok(done)
    }

    fn write(&mut self, ops: Vec<Op>, who: &str, now_ms: u64, takes_away: bool) -> Result<u64> {
        let first = self.view.seq + 1;
        let records: Vec<Stored> = (first..)
            .zip(ops)
            .map(|(seq, op)| Stored { seq, time_ms: now_ms, who: who.to_owned(), body: Body::Change(op) })
            .collect();
        let group = frame::group(&records, GROUP_BYTES_MAX)?;
        let last = self.view.seq + records.len() as u64;
        self.append_group(&group, takes_away)?;
        Ok(last)
    }
}

/// Every record of the journal in `dir`, oldest first, without a lock.
///
/// # Errors
/// [`Error::Io`] if the segments cannot be listed.
pub fn log(io: Arc<dyn Io>, dir: &Path) -> Result<Log> {
    Log::open(io, dir, 0)
}
