//! A replay that runs: it reads the log, gives each event to whoever applies it, and compares what the state hashes to then
//! with what is said of it.

use std::collections::VecDeque;
use std::time::Duration;

use cairn_store::{Event, StateHash};

use super::Joined;
use super::attempt::{Attempt, expect};
use super::feed::Feed;
use super::replay::{Ack, Replayer};
use crate::error::{JoinError, Result};

/// Bytes of events that are read from the log at a time, unless it is one.
const READ_BYTES: usize = 1 << 20;
/// How long is waited when nothing is to be done.
const PAUSE: Duration = Duration::from_millis(50);

/// Who applies events.
enum Target {
    Command(Replayer),
    /// The program that joins; what it has done and was not looked at yet.
    Program(VecDeque<Ack>),
}

/// A replay that runs.
pub(super) struct Run {
    /// The round that is given next.
    cursor: u64,
    /// What is given, and not acknowledged: with what the state should hash to after it.
    given: VecDeque<(u64, Option<StateHash>)>,
    /// Read, and not given yet.
    ready: VecDeque<Event>,
    target: Target,
}

impl Run {
    pub(super) fn start(attempt: &Attempt<'_>, round: u64) -> Result<Self> {
        let options = attempt.options;
        let target = match (&attempt.replay, &options.replay) {
            (None, Some(command)) => {
                let dir = attempt.place.dir();
                Target::Command(Replayer::start(command, &options.name, dir, round, options.hook_time)?)
            }
            _ => Target::Program(VecDeque::new()),
        };
        Ok(Self { cursor: round + 1, given: VecDeque::new(), ready: VecDeque::new(), target })
    }

    /// Replays until everything to `last` is acknowledged, or for ever. Gives what the state hashes to then, if that is
    /// said.
    pub(super) fn until(
        &mut self,
        attempt: &mut Attempt<'_>,
        feed: &Feed,
        mut last: Option<u64>,
        joined: &mut Joined,
    ) -> Result<Option<StateHash>> {
        let mut state_hash =
            if last.is_some_and(|last| joined.round >= last) { joined.state_hash.clone() } else { None };
        loop {
            if last.is_some_and(|last| joined.round >= last) && self.given.is_empty() {
                return Ok(state_hash);
            }
            attempt.watch.check()?;
            feed.check()?;
            let gave = self.give(attempt, last)?;
            let mut heard = false;
            let mut wait = if gave { Duration::ZERO } else { PAUSE };
            while let Some((round, hash)) = self.heard(wait)? {
                (heard, wait) = (true, Duration::ZERO);
                state_hash = self.acknowledged(attempt, round, hash)?;
                joined.round = round;
                attempt.watch.replayed(round);
            }
            if !gave && !heard && self.given.is_empty() {
                // Who said that there is more may have taken it back.
                last = last.map(|last| last.min(feed.known_next().saturating_sub(1)).max(joined.round));
                feed.pause(PAUSE);
            }
        }
    }

    /// Gives what there is and may be given; whether that was anything.
    fn give(&mut self, attempt: &mut Attempt<'_>, last: Option<u64>) -> Result<bool> {
        if self.ready.is_empty() {
            let span = attempt.log.span();
            if span.first > self.cursor {
                return Err(JoinError::Overflow { round: self.cursor - 1, first: span.first });
            }
            if span.next > self.cursor {
                self.ready = attempt.log.read(self.cursor, READ_BYTES)?.into();
            }
        }
        let mut gave = false;
        while let Some(event) = self.ready.pop_front() {
            let has_room = match &self.target {
                Target::Command(command) => command.has_room(),
                Target::Program(done) => done.is_empty(),
            };
            if !has_room || last.is_some_and(|last| event.round > last) {
                self.ready.push_front(event);
                break;
            }
            match &mut self.target {
                Target::Command(command) => command.give(&event)?,
                Target::Program(done) => {
                    let Some(replay) = &mut attempt.replay else { break };
                    let round = event.round;
                    let hash = replay.apply(&event).map_err(|source| JoinError::Replay { round, source })?;
                    done.push_back((round, hash));
                }
            }
            self.cursor = event.round + 1;
            self.given.push_back((event.round, event.state_hash));
            gave = true;
        }
        Ok(gave)
    }

    fn heard(&mut self, wait: Duration) -> Result<Option<Ack>> {
        match &mut self.target {
            Target::Command(command) => command.heard(wait),
            Target::Program(done) => Ok(done.pop_front()),
        }
    }

    /// Looks whether what came of an event is what should have.
    fn acknowledged(
        &mut self,
        attempt: &mut Attempt<'_>,
        round: u64,
        found: Option<StateHash>,
    ) -> Result<Option<StateHash>> {
        let due = self.given.pop_front().and_then(|(_, due)| due);
        if let Some(found) = &found {
            if let Some(due) = &due {
                expect(round, found, due, "its event")?;
            }
            attempt.note_hash(round, found);
        }
        Ok(found)
    }

    /// Nothing more comes.
    pub(super) fn finish(self, attempt: &Attempt<'_>) -> Result<()> {
        match self.target {
            Target::Command(command) => command.finish(&|| attempt.watch.check().is_err()),
            Target::Program(_) => Ok(()),
        }
    }
}
