//! [`Io`] on a simulated machine, for tests: it loses what was not synced, tears writes, fails any call, and stops at
//! any sync. Everything it does by chance comes from its seed, so a failure is repeated by its seed (with several
//! threads, as far as their order repeats).
//!
//! # What it promises, and what not
//! It keeps exactly the contract of [`Io`], and is as unkind as that allows:
//! - A write is at once visible to every reader, and survives a crash for certain only after the file's sync. Of what
//!   was not synced, a crash keeps nothing, all, or any part: whole writes, the beginning of one, single sectors of it,
//!   or its length with zeros for its bytes.
//! - A name survives for certain only after its directory's sync. Unsynced creations, renames and removals are kept or
//!   lost each for itself, a rename always as one. What lies in a lost directory is lost.
//! - A failed write may have written a beginning. After a failed sync the bytes stay visible, but whether they are on
//!   the disk is unknown, and a later sync that succeeds does not change that: they have to be written again. That is
//!   what Linux does.
//!
//! After a crash every call fails until [`Sim::reboot`] gives the machine as it comes up again.
//!
//! ```
//! use std::path::Path;
//! use cairn_store::io::{Io, Sim};
//!
//! let sim = Sim::new(1);
//! let (dir, path) = (Path::new("/"), Path::new("/file"));
//! let file = sim.create(path)?;
//! sim.sync_dir(dir)?;
//! file.write_all_at(b"kept", 0)?;
//! file.sync()?;
//! file.write_all_at(b"lost or not", 4)?;
//! sim.crash();
//! assert!(sim.read(path).is_err());
//! let sim = sim.reboot(2);
//! assert!(sim.read(path)?.starts_with(b"kept"));
//! # Ok::<(), std::io::Error>(())
//! ```

mod disk;
mod random;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use self::disk::{Disk, Inode};
use self::random::Random;
use super::{Bytes, Io, Listed, ReadFile, WriteFile};

/// A simulated machine with its disk. Clones are the same machine.
#[derive(Clone)]
pub struct Sim {
    /// Guards the whole machine; taken for one call at a time, and nothing else is taken under it.
    machine: Arc<Mutex<Machine>>,
}

/// How an operation can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `EIO`.
    Io,
    /// `ENOSPC`.
    NoSpace,
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::Io => Errno::IO.into(),
            Self::NoSpace => Errno::NOSPC.into(),
        }
    }
}

struct Machine {
    disk: Disk,
    random: Random,
    operations: u64,
    syncs: u64,
    /// Operations that failed as planned, or stopped the world.
    failures: u64,
    /// Files that somebody has open.
    open_files: u64,
    /// The operations that fail, by number.
    faults: Vec<(u64, Fault)>,
    /// The operation from which on the disk is full.
    full_from: Option<u64>,
    crash_at_operation: Option<u64>,
    crash_at_sync: Option<u64>,
    crashed: bool,
}

/// What an operation does to the disk, as far as faults are concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Reads or frees: works on a full disk.
    None,
    /// May need space.
    Grows,
    /// Makes something durable.
    Syncs,
}

/// How an operation that was let begin is to end.
enum Fate {
    Works,
    Fails(Fault),
    /// It may have its effect, but nobody lives to see it.
    Crashes,
}

impl Sim {
    /// A machine with an empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_disk(Disk::default(), Random::new(seed))
    }

    fn with_disk(disk: Disk, random: Random) -> Self {
        let machine = Machine {
            disk,
            random,
            operations: 0,
            syncs: 0,
            failures: 0,
            open_files: 0,
            faults: Vec::new(),
            full_from: None,
            crash_at_operation: None,
            crash_at_sync: None,
            crashed: false,
        };
        Self { machine: Arc::new(Mutex::new(machine)) }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        // A test that panics elsewhere leaves the machine as it is between two operations.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations since it came up: every call of [`Io`], [`ReadFile`] and [`WriteFile`].
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.machine().operations
    }

    /// Syncs of files and directories since it came up.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.machine().syncs
    }

    /// Operations that failed as planned since it came up, and the one that stopped the world.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.machine().failures
    }

    /// Files that are open now: each opening or making of one counts until what it gave is dropped.
    #[must_use]
    pub fn open_files(&self) -> u64 {
        self.machine().open_files
    }

    /// Changes the bits of one byte of a file that are set in `bits`, now and on the disk, behind everybody's back. Counts
    /// as no operation. What is not there is left alone.
    pub fn rot(&self, path: &Path, byte: usize, bits: u8) {
        self.machine().disk.rot(path, byte, bits);
    }

    /// Stops the world in the `n`-th sync from now (1 is the next), which may or may not have its effect.
    pub fn crash_at_sync(&self, n: u64) {
        let mut machine = self.machine();
        machine.crash_at_sync = Some(machine.syncs + n);
    }

    /// Stops the world in the `n`-th operation from now (1 is the next), which may or may not have its effect.
    pub fn crash_at_operation(&self, n: u64) {
        let mut machine = self.machine();
        machine.crash_at_operation = Some(machine.operations + n);
    }

    /// Stops the world now.
    pub fn crash(&self) {
        self.machine().crashed = true;
    }

    /// Whether the world has stopped.
    #[must_use]
    pub fn crashed(&self) -> bool {
        self.machine().crashed
    }

    /// Fails the `n`-th operation from now (1 is the next), and only that. May be called for several.
    pub fn fail_at(&self, n: u64, fault: Fault) {
        let mut machine = self.machine();
        let at = machine.operations + n;
        machine.faults.push((at, fault));
    }

    /// From the `n`-th operation from now on (1 is the next), whatever may need space fails with `ENOSPC`.
    pub fn full_from(&self, n: u64) {
        let mut machine = self.machine();
        machine.full_from = Some(machine.operations + n);
    }

    /// The disk holds so many bytes from now on, counted in blocks of 4 KiB of what files that have a name hold and
    /// have allocated; a name itself takes none, but a new one wants a free block. None is any number.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.machine().disk.set_capacity(bytes);
    }

    /// From now on the disk has not a byte more than what is used. Counts as no operation.
    pub fn fill(&self) {
        let mut machine = self.machine();
        let used = machine.disk.used();
        machine.disk.set_capacity(Some(used));
    }

    /// Bytes that are used, as [`Sim::set_capacity`] counts them.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.machine().disk.used()
    }

    /// Whether its size was limited, so that anything may fail for want of room.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.machine().disk.is_limited()
    }

    /// Forgets every fault and crash that is still planned; a full disk has space again.
    pub fn heal(&self) {
        let mut machine = self.machine();
        machine.faults.clear();
        machine.disk.set_capacity(None);
        (machine.full_from, machine.crash_at_sync, machine.crash_at_operation) = (None, None, None);
    }

    /// Makes everything there is durable, as a test's starting point. Counts as no operation.
    pub fn settle(&self) {
        self.machine().disk.settle();
    }

    /// The machine as it comes up after a crash, or would if it crashed now: with everything synced, and what `seed`
    /// decides of the rest. This machine stays as it is, so one crash can be explored under many seeds.
    #[must_use]
    pub fn reboot(&self, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let disk = self.machine().disk.after_crash(&mut random);
        Self::with_disk(disk, random)
    }
}

impl Machine {
    fn begin(&mut self, effect: Effect) -> io::Result<Fate> {
        if self.crashed {
            return Err(stopped());
        }
        self.operations += 1;
        let mut crashes = self.crash_at_operation == Some(self.operations);
        if effect == Effect::Syncs {
            self.syncs += 1;
            crashes |= self.crash_at_sync == Some(self.syncs);
        }
        if crashes {
            self.crashed = true;
            self.failures += 1;
            return Ok(Fate::Crashes);
        }
        let planned = self.faults.iter().find(|(at, _)| *at == self.operations).map(|(_, fault)| *fault);
        let full = effect == Effect::Grows && self.full_from.is_some_and(|from| from <= self.operations);
        Ok(match planned.or(full.then_some(Fault::NoSpace)) {
            Some(fault) => {
                self.failures += 1;
                Fate::Fails(fault)
            }
            None => Fate::Works,
        })
    }

    /// For operations that have their effect whole or not at all.
    fn run<T>(
        &mut self,
        effect: Effect,
        operation: impl FnOnce(&mut Disk) -> io::Result<T>,
    ) -> io::Result<T> {
        match self.begin(effect)? {
            Fate::Works => operation(&mut self.disk),
            Fate::Fails(fault) => Err(fault.error()),
            Fate::Crashes => {
                if self.random.coin() {
                    let _ = operation(&mut self.disk);
                }
                Err(stopped())
            }
        }
    }
}

fn stopped() -> io::Error {
    io::Error::other("the simulated machine has stopped")
}

impl Io for Sim {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        let inode = self.machine().run(Effect::None, |disk| disk.file(path))?;
        Ok(Arc::new(SimFile::open(self, inode)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn WriteFile>> {
        let inode = self.machine().run(Effect::Grows, |disk| disk.create(path))?;
        Ok(Arc::new(SimFile::open(self, inode)))
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn WriteFile>> {
        let inode = self.machine().run(Effect::None, |disk| disk.file(path))?;
        Ok(Arc::new(SimFile::open(self, inode)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.machine().run(Effect::Grows, |disk| disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.machine().run(Effect::None, |disk| disk.remove(path))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.machine().run(Effect::Grows, |disk| disk.create_dir_all(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.machine().run(Effect::Syncs, |disk| disk.sync_dir(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        self.machine().run(Effect::None, |disk| disk.list(path))
    }
}

struct SimFile {
    sim: Sim,
    inode: u64,
}

impl SimFile {
    fn open(sim: &Sim, inode: u64) -> Self {
        sim.machine().open_files += 1;
        Self { sim: sim.clone(), inode }
    }

    fn run<T>(&self, effect: Effect, operation: impl FnOnce(&mut Inode) -> io::Result<T>) -> io::Result<T> {
        self.sim.machine().run(effect, |disk| operation(disk.inode(self.inode)))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.sim.machine().open_files -= 1;
    }
}

impl ReadFile for SimFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.run(Effect::None, |inode| inode.read(buf, offset))
    }

    fn len(&self) -> io::Result<u64> {
        self.run(Effect::None, |inode| Ok(inode.bytes().len() as u64))
    }

    fn map(&self) -> io::Result<Bytes> {
        self.run(Effect::None, |inode| Ok(Bytes::Owned(inode.bytes().to_vec())))
    }
}

impl WriteFile for SimFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut machine = self.sim.machine();
        let fate = machine.begin(Effect::Grows)?;
        let Machine { disk, random, .. } = &mut *machine;
        let fits = disk.fitting(self.inode, offset, bytes.len());
        let inode = disk.inode(self.inode);
        match fate {
            Fate::Works if fits < bytes.len() => {
                inode.write(&bytes[..random.below(fits + 1)], offset)?;
                Err(Fault::NoSpace.error())
            }
            Fate::Works => inode.write(bytes, offset),
            Fate::Fails(fault) => {
                inode.write(&bytes[..random.below(fits.min(bytes.len()) + 1)], offset)?;
                Err(fault.error())
            }
            Fate::Crashes => {
                inode.write(&bytes[..fits], offset)?;
                Err(stopped())
            }
        }
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<bool> {
        self.sim.machine().run(Effect::Grows, |disk| disk.allocate(self.inode, offset, len))?;
        Ok(true)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut machine = self.sim.machine();
        let is_longer = machine.disk.inode(self.inode).bytes().len() as u64 >= len;
        let effect = if is_longer { Effect::None } else { Effect::Grows };
        machine.run(effect, |disk| disk.set_len(self.inode, len))
    }

    fn sync(&self) -> io::Result<()> {
        let mut machine = self.sim.machine();
        let fate = machine.begin(Effect::Syncs)?;
        let Machine { disk, random, .. } = &mut *machine;
        let inode = disk.inode(self.inode);
        match fate {
            Fate::Works => {
                inode.sync();
                Ok(())
            }
            Fate::Fails(fault) => {
                inode.sync_in_part(random);
                Err(fault.error())
            }
            // Everything pending stays so: a reboot may keep all of it.
            Fate::Crashes => Err(stopped()),
        }
    }
}

#[cfg(test)]
mod tests;
