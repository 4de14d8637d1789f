//! What the flipper and its readers tell each other, in memory that their processes share.
#![expect(unsafe_code, reason = "mapped memory is reached through a pointer; see SAFETY below")]

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

/// One number of them.
#[derive(Clone, Copy, Debug)]
pub enum Counter {
    /// Flips that were begun. Flip number i shows generation i mod [`Counter::Generations`] + 1.
    Begun,
    /// Flips that have returned.
    Done,
    /// The latest flip that any reader has seen the effect of.
    Seen,
    /// Not 0: readers are to end.
    Stop,
    /// Readers that have begun.
    Ready,
    /// How many generations take turns.
    Generations,
    /// Names that readers have looked up so far, all together.
    Lookups,
}

const COUNTERS: u64 = Counter::Lookups as u64 + 1;
const WORD_BYTES: u64 = 8;

/// A mapped file of counters.
#[derive(Debug)]
pub struct Shared(MmapRaw);

impl Shared {
    /// Makes the file anew, with all counters at 0.
    ///
    /// # Errors
    /// If the file cannot be made or mapped.
    pub fn create(path: &Path) -> io::Result<Shared> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(COUNTERS * WORD_BYTES)?;
        Ok(Shared(MmapOptions::new().map_raw(&file)?))
    }

    /// Opens a file that [`Shared::create`] made.
    ///
    /// # Errors
    /// If the file cannot be opened or mapped, or is too short.
    pub fn open(path: &Path) -> io::Result<Shared> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let map = MmapOptions::new().map_raw(&file)?;
        if (map.len() as u64) < COUNTERS * WORD_BYTES {
            return Err(io::Error::other("the file of counters is too short"));
        }
        Ok(Shared(map))
    }

    /// A counter now. All operations are in one order (`SeqCst`): what is concluded about time rests on it.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.word(counter).load(Ordering::SeqCst)
    }

    /// Sets a counter that this process alone changes.
    pub fn set(&self, counter: Counter, to: u64) {
        self.word(counter).store(to, Ordering::SeqCst);
    }

    /// Adds to a counter.
    pub fn add(&self, counter: Counter, amount: u64) {
        self.word(counter).fetch_add(amount, Ordering::SeqCst);
    }

    /// Raises a counter to `to` if it is lower.
    pub fn raise(&self, counter: Counter, to: u64) {
        self.word(counter).fetch_max(to, Ordering::SeqCst);
    }

    fn word(&self, counter: Counter) -> &AtomicU64 {
        // SAFETY: a mapping begins at a page, so that every word is aligned, and both constructors saw that the last one
        // is inside. The reference lives no longer than the mapping; nobody truncates the file, which is in a bench's
        // own folder; and whoever else has it mapped reaches it through this type.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().cast::<u64>().add(counter as usize)) }
    }
}
