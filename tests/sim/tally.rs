//! How much was run.

use std::fmt;
use std::ops::AddAssign;

/// Counts of what histories did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) histories: u64,
    pub(crate) steps: u64,
    /// Steps that failed.
    pub(crate) failed: u64,
    /// Operations of the disk that failed.
    pub(crate) faults: u64,
    /// Times that the machine stopped in the middle of something.
    pub(crate) crashes: u64,
    /// Those of them in a recovery.
    pub(crate) in_recovery: u64,
    /// Times that the machine came up again.
    pub(crate) reboots: u64,
    pub(crate) pulls: u64,
    pub(crate) collections: u64,
    /// Packs that went.
    pub(crate) dropped: u64,
    /// Packs of which a part was written again.
    pub(crate) rewritten: u64,
    /// Versions that were told in terms of newer ones.
    pub(crate) told: u64,
    pub(crate) rotten: u64,
    pub(crate) repairs: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.histories += other.histories;
        self.steps += other.steps;
        self.failed += other.failed;
        self.faults += other.faults;
        self.crashes += other.crashes;
        self.in_recovery += other.in_recovery;
        self.reboots += other.reboots;
        self.pulls += other.pulls;
        self.collections += other.collections;
        self.dropped += other.dropped;
        self.rewritten += other.rewritten;
        self.told += other.told;
        self.rotten += other.rotten;
        self.repairs += other.repairs;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { histories, steps, failed, faults, crashes, in_recovery, reboots, pulls, .. } = self;
        let Self { collections, dropped, rewritten, told, rotten, repairs, .. } = self;
        write!(
            out,
            "{histories} histories of {steps} steps, {failed} of which failed; {faults} failed operations of the disk; \
             {crashes} crashes, {in_recovery} of them in a recovery; {reboots} reboots; {pulls} pulls; \
             {collections} collections, {dropped} packs gone and {rewritten} written again; \
             {told} versions told in terms of newer ones; \
             {rotten} bits turned, {repairs} repairs"
        )
    }
}
