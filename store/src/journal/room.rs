//! Room on the disk for what is appended: it is taken before anything is written, so that a full disk refuses a change
//! and ends nobody. What takes names away finds it in the store's reserve when there is none left.

use std::io;

use super::{Journal, OpenSegment, frame, segments};
use crate::io::is_full;
use crate::{Error, Result};

/// Taken at a time: a few hundred changes, which then also find room on a disk that has filled up since.
const AHEAD: u64 = 64 << 10;

/// How an append ended that left the segment sound.
enum Appended {
    Done,
    /// There was no room, and nothing was written.
    Full(io::Error),
}

impl Journal {
    /// Appends a group, durably. It is there whole, or [`Error::Full`], or this is poisoned.
    pub(super) fn append_group(&mut self, group: &[u8], takes_away: bool) -> Result<()> {
        loop {
            let had = self.segment.room;
            self.poisoned = true;
            let appended = self.segment.append(group)?;
            self.poisoned = false;
            match appended {
                Appended::Done => {
                    if self.segment.room >= had.saturating_add(AHEAD) {
                        // There is room again.
                        self.fill_reserve();
                    }
                    return Ok(());
                }
                Appended::Full(source) if !self.give_up(takes_away) => {
                    return Err(Error::Full { path: self.segment.path.clone(), source });
                }
                Appended::Full(_) => {}
            }
        }
    }

    /// Gives a piece of the reserve up, for a change that takes away; false where that is not to be, or it has none.
    fn give_up(&mut self, takes_away: bool) -> bool {
        takes_away && self.give_up_reserve()
    }

    /// Goes on in a new segment if it is time for that. Where there is no room the old one will do, if it is of this
    /// version.
    pub(super) fn roll_if_due(&mut self, who: &str, now_ms: u64, takes_away: bool) -> Result<()> {
        let is_old = self.segment.version < frame::VERSION;
        loop {
            let grown = self.segment.end - self.segment.checkpoint_end;
            let due = self.roll_bytes.max(self.segment.checkpoint_end).max(self.roll_again);
            if !is_old && grown < due {
                return Ok(());
            }
            match self.roll(who, now_ms) {
                Err(error @ Error::Full { .. }) if is_old && !self.give_up(takes_away) => return Err(error),
                Err(Error::Full { .. }) if is_old => {}
                Err(Error::Full { .. }) => self.roll_again = grown + self.roll_bytes / 4 + 1,
                done => return done,
            }
        }
    }

    /// Goes on in a new segment, which begins with a checkpoint of the view.
    pub(super) fn roll(&mut self, who: &str, now_ms: u64) -> Result<()> {
        let seq = self.view.seq + 1;
        self.poisoned = true;
        match segments::create(&*self.io, &self.dir, &self.view, seq, who, now_ms) {
            Ok(segment) => self.segment = segment,
            Err(Error::Io { source, path, .. }) if is_full(&source) && self.is_absent(&path) => {
                self.poisoned = false;
                return Err(Error::Full { path, source });
            }
            Err(error) => return Err(error),
        }
        (self.poisoned, self.roll_again) = (false, 0);
        std::sync::Arc::make_mut(&mut self.view).seq = seq;
        Ok(())
    }

    /// Whether a segment did not get its name: then nobody will ever take it for begun.
    fn is_absent(&self, path: &std::path::Path) -> bool {
        self.io.open(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }
}

impl OpenSegment {
    fn append(&mut self, group: &[u8]) -> Result<Appended> {
        let end = self.end + group.len() as u64;
        if let Err(error) = self.take_room(end) {
            return if is_full(&error) {
                Ok(Appended::Full(error))
            } else {
                Err(Error::io("make room in", &self.path)(error))
            };
        }
        if let Err(error) = self.file.write_all_at(group, self.end) {
            if !is_full(&error) {
                return Err(Error::io("append to", &self.path)(error));
            }
            self.cut()?;
            return Ok(Appended::Full(error));
        }
        self.file.sync().map_err(Error::io("sync", &self.path))?;
        self.end = end;
        Ok(Appended::Done)
    }

    /// Takes room up to `end`, and some more if there is.
    fn take_room(&mut self, end: u64) -> io::Result<()> {
        if end <= self.room {
            return Ok(());
        }
        let ahead = end.max(self.end + AHEAD);
        let (room, taken) = match self.file.allocate(self.end, ahead - self.end) {
            Err(error) if is_full(&error) => (end, self.file.allocate(self.end, end - self.end)?),
            taken => (ahead, taken?),
        };
        // Where room cannot be taken it is not asked for again.
        self.room = if taken { room } else { u64::MAX };
        Ok(())
    }

    /// Makes sure that nothing is behind the last whole group.
    fn cut(&mut self) -> Result<()> {
        self.file.set_len(self.end).map_err(Error::io("cut", &self.path))?;
        self.file.sync().map_err(Error::io("sync", &self.path))?;
        self.room = self.end;
        Ok(())
    }
}
