//! The one process that writes a store.
//!
//! Order of durability: data packs, metadata packs, their directory (all in [`crate::ingest`]), then the journal's
//! record, then whoever observes, then the acknowledgement. The catalogue follows the journal and is never ahead of it.
//!
//! Changes of refs and channels are in `refs`, names that came from other stores in `pulled`, changes of profiles in
//! [`crate::generation`].

mod make;
mod names;
mod pulled;
mod refs;

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use names::Names;
pub use names::Observer;
pub use pulled::PulledOptions;
pub use refs::{PublishOptions, Published};

use crate::catalogue::Catalogue;
use crate::collect::Collections;
use crate::error::{Error, Result};
use crate::ingest::{self, IngestOptions, Ingested, Input};
use crate::intake::Intake;
use crate::io::{Io, Os};
use crate::journal::{Journal, Op};
use crate::lock::Lock;
use crate::progress::Progress;
use crate::refs::View;
use crate::reserve::Reserve;
use crate::store::{Store, check_format, lock, write_format};

/// How long an ingest that waits for another one sleeps between two looks.
const TURN_PAUSE: Duration = Duration::from_millis(5);

/// How a store is opened for writing.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// How long to wait for another writer.
    pub wait: Duration,
    /// What this writer is, for those who wait for it: its command line.
    pub command: String,
    /// Who makes the changes, for the log: `user@host`.
    pub who: String,
}

/// A store, open for writing. There is one at a time, on one machine; it dereferences to the [`Store`] it writes.
pub struct Writer {
    store: Store,
    who: String,
    owned: Arc<Owned>,
}

/// What the one writer of a store owns, however many sign their changes with names of their own.
struct Owned {
    /// Guards the journal and the catalogue that follows it; held while a change is made durable and shown to
    /// observers. `shown` is taken under it.
    names: Mutex<Names>,
    /// Guards what the journal said after the last durable change. A leaf lock, held for a moment only.
    shown: Mutex<Arc<View>>,
    /// Held while something is ingested. An ingest that is cancelled removes the packs that it sealed, and so no other
    /// may have found chunks in them. The outermost lock.
    ingesting: Mutex<()>,
    /// What collections know of one another. One of them runs at a time, and not beside a repair.
    collections: Collections,
    /// Held while an index run is written: its file has a fixed name until it is whole.
    running: Arc<Mutex<()>>,
    /// Where what comes from elsewhere goes.
    intake: Arc<Intake>,
    lock: Option<Lock>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Before the lock is let go: from then on the store is another's.
        self.intake.close();
        // Whoever is asked keeps what it brings in the intake, and the intake keeps the store.
        self.intake.store().set_fetch(None);
    }
}

impl Deref for Writer {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Writer {
    /// Opens the store in a folder, or makes one where there is none, and recovers what a crash left.
    ///
    /// # Errors
    /// [`Error::Busy`] when another process holds it for longer than the wait, [`Error::Invalid`] when the folder holds
    /// something else, [`Error::NewerFormat`], [`Error::Io`].
    pub fn open(path: &Path, options: &WriterOptions, progress: &dyn Progress) -> Result<Self> {
        let io: Arc<dyn Io> = Arc::new(Os);
        make::make(&*io, path)?;
        let held = Lock::acquire(path, options.wait, &options.command, &|| progress.cancelled())?;
        Self::begin(io, path, options, Some(held), Some(Catalogue::at(&path.join("catalogue"))))
    }

    /// Opens the store by the lock that its present writer handed over: a descriptor from [`Writer::hand_over`]. That one
    /// stays the writer, and this may change nothing, until [`Writer::succeed`]; if it is dropped before, nothing has
    /// changed.
    ///
    /// # Errors
    /// As [`Writer::open`]; [`Error::Invalid`] if the descriptor does not hold this store's lock.
    pub fn inherit(path: &Path, lock: OwnedFd, options: &WriterOptions) -> Result<Self> {
        let io: Arc<dyn Io> = Arc::new(Os);
        let held = Lock::inherit(path, lock)?;
        Self::begin(io, path, options, Some(held), Some(Catalogue::at(&path.join("catalogue"))))
    }

    /// From now on this is the store's writer, `command` its command line, and the one that it inherited from is none any
    /// more.
    pub fn succeed(&self, command: &str) {
        if let Some(lock) = &self.owned.lock {
            lock.keep(command);
        }
    }

    /// The lock, for the process that is to be the next writer. Whoever calls this changes nothing from here until the
    /// other has begun or failed, and then calls [`Writer::resume`]. What comes from elsewhere waits. A collection that
    /// runs stops after the step that it is at. What only one process can have open is closed; this opens it again if it
    /// goes on.
    ///
    /// None if the store is one that nobody else writes.
    #[must_use]
    pub fn hand_over(&self) -> Option<BorrowedFd<'_>> {
        self.owned.collections.suspend();
        lock(&self.owned.names).hand_over();
        self.owned.intake.suspend();
        self.owned.lock.as_ref().map(Lock::as_fd)
    }

    /// Nobody took over after [`Writer::hand_over`]: this goes on.
    pub fn resume(&self) {
        lock(&self.owned.names).resume();
        self.owned.intake.resume();
        self.owned.collections.resume();
    }

    /// Opens a store on another file system, which nobody else writes: without lock and catalogue.
    ///
    /// # Errors
    /// As [`Writer::open`].
    pub fn open_with(io: Arc<dyn Io>, path: &Path, options: &WriterOptions) -> Result<Self> {
        make::make(&*io, path)?;
        Self::begin(io, path, options, None, None)
    }

    fn begin(
        io: Arc<dyn Io>,
        path: &Path,
        options: &WriterOptions,
        held: Option<Lock>,
        catalogue: Option<Catalogue>,
    ) -> Result<Self> {
        // Nothing was written before the lock was held, except by whoever held it.
        if !check_format(&*io, path)? {
            write_format(&*io, path)?;
        }
        make::recover_packs(&*io, &path.join("packs"))?;
        make::remove_unfinished(&*io, path);
        let journal = Journal::open_write(Arc::clone(&io), &path.join("journal"))?;
        let journal = journal.with_reserve(Reserve::open(Arc::clone(&io), path));
        let shown = Mutex::new(Arc::clone(journal.view()));
        let names = Mutex::new(Names::new(journal, catalogue));
        let (ingesting, running) = (Mutex::default(), Arc::default());
        let store = Store::assemble(io, path);
        let intake = Arc::new(Intake::new(&store, Arc::clone(&running)));
        let owned = Arc::new(Owned {
            names,
            shown,
            ingesting,
            running,
            collections: Collections::default(),
            intake,
            lock: held,
        });
        Ok(Self { store, who: options.who.clone(), owned })
    }

    /// The same writer for changes that somebody else makes: the log says that they are by `who`.
    #[must_use]
    pub fn signed(&self, who: String) -> Self {
        Self { store: self.store.clone(), who, owned: Arc::clone(&self.owned) }
    }

    /// The store, for readers that outlive this.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Stores a tree or a stream. The artifact is durable afterwards, and not visible until [`Writer::publish`]. One is
    /// stored at a time, on all cores; who comes second waits, and may be cancelled while it does.
    ///
    /// # Errors
    /// [`Error::Tree`] and [`Error::Input`] when the input cannot be read, [`Error::Cancelled`], [`Error::Io`].
    pub fn ingest(&self, input: Input, options: &IngestOptions, progress: &dyn Progress) -> Result<Ingested> {
        let _alone = self.wait_for_turn(progress)?;
        let ingested = ingest::ingest(&self.store, input, options, progress)?;
        if ingested.metadata_bytes > 0 || ingested.stored_bytes > 0 {
            self.store.refresh_index();
        }
        Ok(ingested)
    }

    /// Where chunks that come from elsewhere go.
    #[must_use]
    pub fn intake(&self) -> Arc<Intake> {
        Arc::clone(&self.owned.intake)
    }

    pub(crate) fn collections(&self) -> &Collections {
        &self.owned.collections
    }

    /// That no change failed of which it is not known whether it was made.
    pub(crate) fn check_names_are_known(&self) -> Result<()> {
        if lock(&self.owned.names).journal.is_poisoned() {
            return Err(Error::Poisoned { path: self.store.journal_dir() });
        }
        Ok(())
    }

    /// Whether other processes may be reading the store: not on a simulated file system.
    pub(crate) fn is_shared(&self) -> bool {
        self.owned.lock.is_some()
    }

    pub(crate) fn wait_for_turn(&self, progress: &dyn Progress) -> Result<MutexGuard<'_, ()>> {
        wait_for(&self.owned.ingesting, progress)
    }

    /// What is named, with every change that this writer made. Reads nothing and waits for nobody.
    #[must_use]
    pub fn names(&self) -> Arc<View> {
        Arc::clone(&lock(&self.owned.shown))
    }

    /// Calls `observer` with what is named after each change, once the change is durable and before whoever made it is
    /// told so, in the order of the changes. Gives what is named now: the first call is about the change after it.
    ///
    /// Changes wait for the observer. It may call [`Writer::names`] and nothing that changes names.
    pub fn observe(&self, observer: Observer) -> Arc<View> {
        let mut names = lock(&self.owned.names);
        names.observers.push(observer);
        self.names()
    }

    /// What is named, for a change that depends on it: no other is made before the guard is dropped.
    pub(crate) fn lock_names(&self) -> (MutexGuard<'_, Names>, Arc<View>) {
        let names = lock(&self.owned.names);
        let view = Arc::clone(names.journal.view());
        (names, view)
    }

    /// Makes a change durable and shows it to whoever observes. Gives the sequence number of its last record.
    pub(crate) fn change(&self, names: &mut Names, ops: Vec<Op>) -> Result<u64> {
        let touches_refs = ops.iter().any(Op::is_of_refs);
        let seq = names.append(ops, &self.who)?;
        let view = names.journal.view();
        *lock(&self.owned.shown) = Arc::clone(view);
        for observer in &names.observers {
            observer(view);
        }
        if touches_refs {
            names.let_catalogue_follow();
        }
        Ok(seq)
    }

    /// Takes what the reserve for a full disk lacks, as far as there is room by now.
    pub fn fill_reserve(&self) {
        lock(&self.owned.names).journal.fill_reserve();
    }

    /// Gives a piece of that reserve up, for what cannot do without room; false where there is none left.
    pub fn give_up_reserve(&self) -> bool {
        lock(&self.owned.names).journal.give_up_reserve()
    }

    /// Does something with the runs of the index on disk.
    pub(crate) fn while_no_run_is_written<T>(&self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let _alone = lock(&self.owned.running);
        run()
    }

    /// Writes an index run if many chunks are in none.
    fn persist_index(&self) {
        self.write_index(false);
    }

    /// The same, however few they are if it is forced. Failing costs time at the next opening only.
    pub(crate) fn write_index(&self, force: bool) {
        let _alone = lock(&self.owned.running);
        let persisted =
            self.store.index().and_then(|index| index.persist(&**self.store.io(), self.store.path(), force));
        if let Err(error) = persisted {
            tracing::warn!(%error, "cannot write the index; it is derived from the packs each time");
        }
    }
}

/// Takes a lock that guards a turn and no data; who waits may be cancelled.
pub(crate) fn wait_for<'a>(turn: &'a Mutex<()>, progress: &dyn Progress) -> Result<MutexGuard<'a, ()>> {
    loop {
        match turn.try_lock() {
            Ok(turn) => return Ok(turn),
            // It guards no data that a panic could have left half done.
            Err(TryLockError::Poisoned(turn)) => return Ok(turn.into_inner()),
            Err(TryLockError::WouldBlock) if progress.cancelled() => return Err(Error::Cancelled),
            Err(TryLockError::WouldBlock) => std::thread::sleep(TURN_PAUSE),
        }
    }
}
