//! What a reader sees while `current` is switched again and again, held against what it may see.
//!
//! The flipper counts each flip twice: before it asks for it, and after it has returned. A reader takes the second counter
//! before a look-up and the first one after it; the look-up must have shown a flip between the two, ends included, and
//! none before one that any reader had seen the effect of when it began. That is linearizability, observed by all
//! readers through all names; no clock takes part.
//!
//! Generations take turns, so a generation stands for the latest flip to it that had begun. That is exact while fewer
//! flips than there are generations go by during one look-up; a look-up during which more did can only be counted.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cairn_benches::shared::{Counter, Shared};
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::Serialize;
use serde_json::Value;

use super::Result;

/// One turn in so many starts a program: a start takes as long as many look-ups.
const EXEC_EVERY: u64 = 16;
/// One turn in so many opens the held file anew.
const REOPEN_EVERY: u64 = 512;
/// How much of the held file is read again in each turn.
const REREAD_BYTES: usize = 4096;

/// What went on and what must not have.
#[derive(Debug, Default, Serialize)]
struct Tally {
    turns: u64,
    lookups: u64,
    execs: u64,
    /// Showed what was before a flip that had returned when the look-up began.
    stale: u64,
    /// Showed what was before what somebody had already seen when the look-up began.
    backwards: u64,
    /// Files with bytes of several generations, and folders with files of several.
    torn: u64,
    /// Open files whose bytes changed.
    changed: u64,
    /// What could not be looked up, opened or run, or made no sense.
    failed: u64,
    first_failure: Option<String>,
    /// Too many flips went by to tell which one was seen.
    undecided: u64,
}

/// The two counters that were taken before a look-up.
#[derive(Clone, Copy)]
struct Before {
    done: u64,
    seen: u64,
}

struct Watch {
    mount: PathBuf,
    shared: Shared,
    generations: u64,
    tally: Tally,
}

/// The names are those that `bars/flip/packages.rs` makes.
pub(crate) fn run(mount: &Path, shared: &Path) -> Result<Value> {
    let shared = Shared::open(shared)?;
    let generations = shared.get(Counter::Generations);
    let mut watch = Watch { mount: mount.to_owned(), shared, generations, tally: Tally::default() };
    let mut held = None;
    watch.shared.add(Counter::Ready, 1);
    while watch.shared.get(Counter::Stop) == 0 {
        let lookups = watch.tally.lookups;
        if watch.tally.turns.is_multiple_of(REOPEN_EVERY) {
            held = watch.open_held();
        }
        watch.turn();
        if let Some((file, generation)) = &held {
            watch.reread(file, *generation);
        }
        watch.tally.turns += 1;
        watch.shared.add(Counter::Lookups, watch.tally.lookups - lookups);
    }
    Ok(serde_json::to_value(watch.tally)?)
}

impl Watch {
    fn turn(&mut self) {
        let current = self.mount.join("current");
        self.look(|| number_after(&fs::read_link(&current)?, "generations/"));
        let payload = current.join("flip/payload");
        let mut torn = false;
        self.look(|| uniform(&fs::read(&payload)?, &mut torn));
        let version = self.mount.join("flip/current");
        self.look(|| number_after(&fs::read_link(&version)?, ""));
        let folder = current.join("flip");
        self.look(|| {
            let folder =
                openat(CWD, &folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let open = |name: &str| openat(&folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            let stamp = number(&read_all(open("stamp")?)?)?;
            torn |= uniform(&read_all(open("payload")?)?, &mut torn)? != stamp;
            Ok(stamp)
        });
        self.tally.torn += u64::from(torn);
        if self.tally.turns.is_multiple_of(EXEC_EVERY) {
            let program = self.mount.join("bin/flip");
            self.tally.execs += 1;
            self.look(|| {
                let output = Command::new(&program).stdin(Stdio::null()).stderr(Stdio::null()).output()?;
                number(&output.stdout)
            });
        }
    }

    /// Looks once, and judges what was seen.
    fn look(&mut self, look: impl FnOnce() -> Result<u64>) {
        let seen = self.shared.get(Counter::Seen);
        let before = Before { done: self.shared.get(Counter::Done), seen };
        let generation = look();
        self.tally.lookups += 1;
        match generation {
            Ok(generation) if (1..=self.generations).contains(&generation) => self.judge(before, generation),
            Ok(generation) => self.fail(format!("there is no generation {generation}")),
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn judge(&mut self, before: Before, generation: u64) {
        let begun = self.shared.get(Counter::Begun);
        // The latest flip to this generation that had begun; none if even the first of them had not.
        let behind = (begun + self.generations - (generation - 1)) % self.generations;
        let Some(flip) = begun.checked_sub(behind) else {
            return self.fail(format!("generation {generation} before it was switched to"));
        };
        self.tally.stale += u64::from(flip < before.done);
        self.tally.backwards += u64::from(flip < before.seen);
        if begun - before.done >= self.generations {
            self.tally.undecided += 1;
        } else {
            self.shared.raise(Counter::Seen, flip);
        }
    }

    fn open_held(&mut self) -> Option<(File, u64)> {
        let opened = File::open(self.mount.join("current/flip/payload"))
            .map_err(Into::into)
            .and_then(|file| first_word(&file).map(|word| (file, word)));
        self.tally.lookups += 1;
        match opened {
            Ok((file, generation)) => Some((file, generation)),
            Err(error) => {
                self.fail(error.to_string());
                None
            }
        }
    }

    fn reread(&mut self, file: &File, generation: u64) {
        let mut bytes = [0; REREAD_BYTES];
        let pages = file.metadata().map_or(1, |metadata| (metadata.len() / REREAD_BYTES as u64).max(1));
        let offset = self.tally.turns % pages * REREAD_BYTES as u64;
        let mut torn = false;
        let same = file.read_exact_at(&mut bytes, offset).map_err(Into::into);
        match same.and_then(|()| uniform(&bytes, &mut torn)) {
            Ok(found) => self.tally.changed += u64::from(torn || found != generation),
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn fail(&mut self, why: String) {
        self.tally.failed += 1;
        self.tally.first_failure.get_or_insert(why);
    }
}

fn read_all(file: std::os::fd::OwnedFd) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut File::from(file), &mut bytes)?;
    Ok(bytes)
}

fn first_word(file: &File) -> Result<u64> {
    let mut word = [0; 8];
    file.read_exact_at(&mut word, 0)?;
    Ok(u64::from_le_bytes(word))
}

/// The word that all of a payload is made of.
fn uniform(bytes: &[u8], torn: &mut bool) -> Result<u64> {
    let first = bytes.first_chunk::<8>().ok_or("the payload is too short")?;
    *torn |= bytes.chunks(8).any(|word| word != first);
    Ok(u64::from_le_bytes(*first))
}

fn number(text: &[u8]) -> Result<u64> {
    Ok(std::str::from_utf8(text)?.trim().parse()?)
}

fn number_after(target: &Path, prefix: &str) -> Result<u64> {
    let text = target.to_str().ok_or("the target is not text")?;
    let rest = text.strip_prefix(prefix).ok_or_else(|| format!("the target is {text}"))?;
    Ok(rest.parse()?)
}
