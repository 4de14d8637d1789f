//! Reading all packs again and again, behind everything else, so that what has rotted is found while somebody still has it.
//!
//! It keeps to a rate, and to a quarter of the time where reading is slow: then others want the disk. What it finds lost
//! is asked of peers as a read would ask for it. How far it is and what is damaged is in the store (`cache/scrub`), for
//! the next daemon and for `status`.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use cairn_store::scrub::{Scrub, Step};
use cairn_store::time::now_ms;
use cairn_store::{ChunkRef, Writer};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::text;

/// Bytes a second where nothing is said.
const RATE: u64 = 4 << 20;
/// How often it begins again where nothing is said.
const EVERY: Duration = Duration::from_secs(7 * 86_400);
/// Of the time that reading takes, so many times as much is left to others at least.
const OTHERS: u32 = 3;
/// How often it is written down how far it is.
const SAVE_EVERY: Duration = Duration::from_secs(30);
/// How long whoever stops it waits for the step that runs.
const LAST_STEP_MAX: Duration = Duration::from_secs(5);
/// How often it is looked again whether what is damaged can be mended, and whether it is time to begin.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// How everything is read again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(default)]
#[command(next_help_heading = "Reading everything again, to find damage")]
pub(crate) struct ScrubArgs {
    /// Read the packs again, so many bytes a second; 0 never does [default: 4MiB]
    #[arg(long, env = "CAIRN_SCRUB_RATE", value_name = "SIZE", value_parser = parse_rate, hide_env_values = true)]
    pub(crate) scrub_rate: Option<u64>,
    /// Begin again so long after the last time began, or when that has come to its end [default: 7d]
    #[arg(long, env = "CAIRN_SCRUB_EVERY", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    pub(crate) scrub_every: Option<Duration>,
}

/// As rates are, and 0.
fn parse_rate(text: &str) -> Result<u64, String> {
    text::parse_size(text.strip_suffix("/s").unwrap_or(text))
}

impl ScrubArgs {
    /// These, and what they do not say as `before` says it.
    pub(crate) fn or(self, before: &Self) -> Self {
        Self {
            scrub_rate: self.scrub_rate.or(before.scrub_rate),
            scrub_every: self.scrub_every.or(before.scrub_every),
        }
    }

    /// Bytes a second; 0 is never.
    pub(crate) fn rate(&self) -> u64 {
        self.scrub_rate.unwrap_or(RATE)
    }

    fn every_ms(&self) -> u64 {
        u64::try_from(self.scrub_every.unwrap_or(EVERY).as_millis()).unwrap_or(u64::MAX)
    }

    /// How long it rests after a step.
    fn pause(&self, bytes: u64, took: Duration) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate().max(1));
        let share = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        share.saturating_sub(took).max(took * OTHERS)
    }
}

/// Reads everything again.
pub(crate) struct Scrubber {
    writer: Writer,
    args: ScrubArgs,
    /// Guards what it is told. A leaf lock.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_over: bool,
    /// It does nothing while this is not 0.
    held: usize,
    is_working: bool,
    has_ended: bool,
}

/// Nothing is read while this lives.
pub(crate) struct ScrubHold<'a>(&'a Scrubber);

impl Drop for ScrubHold<'_> {
    fn drop(&mut self) {
        self.0.lock().held -= 1;
        self.0.changed.notify_all();
    }
}

impl Scrubber {
    /// Begins, if it is to.
    pub(crate) fn start(writer: Writer, args: ScrubArgs) -> anyhow::Result<Option<Arc<Self>>> {
        if args.rate() == 0 {
            return Ok(None);
        }
        let scrubber = Arc::new(Self { writer, args, state: Mutex::default(), changed: Condvar::new() });
        let working = Arc::clone(&scrubber);
        let thread = std::thread::Builder::new().name("scrub".to_owned());
        thread
            .spawn(move || {
                crate::priority::lower();
                working.work();
            })
            .context("cannot read everything again in the background")?;
        Ok(Some(scrubber))
    }

    /// Reads nothing until what this returns is dropped. It waits for the step that runs, unless that waits for peers.
    pub(crate) fn hold(&self) -> ScrubHold<'_> {
        let mut state = self.lock();
        state.held += 1;
        self.changed.notify_all();
        self.wait_while(state, |state| state.is_working);
        ScrubHold(self)
    }

    /// Reads nothing any more.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.is_over = true;
        self.changed.notify_all();
        self.wait_while(state, |state| !state.has_ended);
    }

    /// Waits for a moment at most: what it does may be done by another process as well.
    fn wait_while(&self, state: MutexGuard<'_, State>, is_so: impl Fn(&State) -> bool) {
        drop(self.changed.wait_timeout_while(state, LAST_STEP_MAX, |state| is_so(state)));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut scrub = Scrub::of(self.writer.store());
        let (mut saved, mut looked) = (None::<Instant>, None::<Instant>);
        let mut pause = Duration::ZERO;
        while self.rest(pause) {
            let begun = Instant::now();
            pause = LOOK_EVERY;
            if looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
                self.mend(&mut scrub);
                looked = Some(Instant::now());
            }
            if self.is_due(&scrub) {
                match scrub.step() {
                    Ok(Step::Read { bytes, lost }) => {
                        if !lost.is_empty() {
                            self.mend(&mut scrub);
                        }
                        pause = self.args.pause(bytes, begun.elapsed());
                    }
                    Ok(Step::PassEnded(pass)) => {
                        let damaged = scrub.state().damage.len();
                        tracing::info!(
                            packs = pass.packs,
                            bytes = pass.bytes,
                            damaged,
                            "all packs were read again"
                        );
                        self.mend(&mut scrub);
                        pause = Duration::ZERO;
                    }
                    Err(error) => tracing::warn!(%error, "the packs cannot be read again"),
                }
            }
            if saved.is_none_or(|saved| saved.elapsed() >= SAVE_EVERY) {
                save(&mut scrub);
                saved = Some(Instant::now());
            }
            self.worked();
        }
        save(&mut scrub);
        self.lock().has_ended = true;
        self.changed.notify_all();
    }

    /// Rests for so long, and for as long as it is held; false when it is over. It works from then on.
    fn rest(&self, pause: Duration) -> bool {
        let mut state = self.lock();
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if state.is_over || state.held == 0 && left.is_zero() {
                break;
            }
            let left = if state.held > 0 { LOOK_EVERY } else { left };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.is_working = !state.is_over;
        !state.is_over
    }

    fn worked(&self) {
        self.lock().is_working = false;
        self.changed.notify_all();
    }

    /// Whether a pass runs, or it is time for one.
    fn is_due(&self, scrub: &Scrub) -> bool {
        let state = scrub.state();
        let next = state.last.map_or(0, |last| last.began_ms.saturating_add(self.args.every_ms()));
        // A clock that was set back keeps nothing from being read.
        let is_ahead = state.last.is_some_and(|last| last.began_ms > now_ms());
        state.began_ms != 0 || next <= now_ms() || is_ahead
    }

    /// Has what is lost brought by whoever has it, and looks what is still damaged.
    fn mend(&self, scrub: &mut Scrub) {
        let lost = scrub.look_again();
        if !lost.is_empty() && self.writer.has_fetch() {
            self.heal(&lost);
            let left = scrub.look_again();
            let healed = lost.len().saturating_sub(left.len());
            tracing::info!(healed, left = left.len(), "peers were asked for what is damaged");
        }
        save(scrub);
    }

    fn heal(&self, lost: &[ChunkRef]) {
        let healed = self.writer.heal(lost).and_then(|()| self.writer.intake().flush());
        if let Err(error) = healed {
            tracing::warn!(%error, "not everything that is damaged could be mended");
        }
    }
}

/// Where that cannot be written, the next daemon goes on from an earlier place.
fn save(scrub: &mut Scrub) {
    if let Err(error) = scrub.save() {
        tracing::debug!(%error, "it is not written down how far the packs were read again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_to_its_rate_and_to_a_quarter_of_the_time() {
        let args = |rate| ScrubArgs { scrub_rate: Some(rate), scrub_every: None };
        let fast = Duration::from_millis(10);
        assert_eq!(args(1 << 20).pause(1 << 20, fast), Duration::from_millis(990));
        assert_eq!(args(1 << 30).pause(1 << 20, fast), Duration::from_millis(30));
        let slow = Duration::from_secs(2);
        assert_eq!(args(4 << 20).pause(512 << 10, slow), Duration::from_secs(6));
        assert_eq!(args(1).pause(0, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn rates_may_be_0() {
        assert_eq!((parse_rate("0"), parse_rate("8M/s")), (Ok(0), Ok(8 << 20)));
    }
}
