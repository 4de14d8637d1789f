//! Writes down what is read, every few seconds and out of everybody's way: whoever opens a file leaves it here, and a thread
//! finds out which path of which package it is and what was touched of it.
//!
//! A file that stays open is looked at again and again; one whose name the kernel has forgotten by then is left out.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cairn_store::{Content, Name, Store};

use super::folder::Folder;
use super::record::Record;
use crate::attr::Ino;
use crate::files::FileId;
use crate::handle::OpenFile;

/// How long what was read may not be written down.
const PAUSE: Duration = Duration::from_secs(5);
/// Files that wait to be looked at, at most; what comes then is left out.
const OPENED_MAX: usize = 1 << 16;
/// Files that count as a whole and are remembered, so as not to be looked at again.
const KNOWN_MAX: usize = 1 << 16;
/// Records that are kept in memory between two rounds.
const RECORDS_MAX: usize = 16;

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) package: Name,
    /// Its path in the artifact.
    pub(crate) path: Vec<u8>,
}

/// Who knows what inodes are called.
pub(crate) trait Names: Send + Sync {
    /// Where a file is, if that can be told; it may take reading.
    fn origin(&self, ino: Ino) -> Option<Origin>;
}

struct Opened {
    names: Weak<dyn Names>,
    ino: Ino,
    file: Arc<OpenFile>,
    /// Whether nobody can tell what is read of it.
    is_opaque: bool,
    origin: Option<Origin>,
}

#[derive(Default)]
struct State {
    opened: Vec<Opened>,
    /// Files that count as a whole and were left here.
    known: HashSet<FileId>,
    /// How many rounds were asked for, and how many of these are over.
    wanted: u64,
    ended: u64,
    over: bool,
}

impl State {
    fn is_urgent(&self) -> bool {
        self.over || self.wanted > self.ended
    }
}

struct Shared {
    store: Store,
    /// Guards what waits; a leaf lock.
    state: Mutex<State>,
    changed: Condvar,
}

/// The thread that writes down. When this is dropped it writes the rest.
pub(crate) struct Recorder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    pub(crate) fn new(store: Store) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { store, state: Mutex::default(), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let builder = std::thread::Builder::new().name("cairn-touched".to_owned());
        let thread = builder.spawn(move || theirs.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Somebody opened a file of a mount. `is_opaque` says that nobody can tell what is read of it.
    pub(crate) fn opened(&self, names: &Weak<dyn Names>, ino: Ino, file: &Arc<OpenFile>, is_opaque: bool) {
        if matches!(file.spec.content, Content::Inline(_)) {
            return;
        }
        let mut state = self.shared.lock();
        if state.opened.len() >= OPENED_MAX {
            return;
        }
        if is_opaque {
            if state.known.len() >= KNOWN_MAX {
                state.known.clear();
            }
            if !state.known.insert(file.id) {
                return;
            }
        }
        let (names, file) = (Weak::clone(names), Arc::clone(file));
        state.opened.push(Opened { names, ino, file, is_opaque, origin: None });
        if state.opened.len() == 1 {
            self.shared.changed.notify_all();
        }
    }

    /// Writes down what was read until now.
    pub(crate) fn flush(&self) {
        let mut state = self.shared.lock();
        state.wanted += 1;
        let wanted = state.wanted;
        self.shared.changed.notify_all();
        while state.ended < wanted && !state.over {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let folder = Folder::of(&self.store);
        let mut records = HashMap::new();
        let mut state = self.lock();
        loop {
            state = self.wait(state);
            let (round, is_over) = (state.wanted, state.over);
            let opened = std::mem::take(&mut state.opened);
            drop(state);
            let kept = write_down(&folder, opened, &mut records);
            state = self.lock();
            state.opened.extend(kept);
            state.ended = round;
            self.changed.notify_all();
            if is_over {
                return;
            }
        }
    }

    /// Waits until there is something to do, and then for more of it, unless somebody is in a hurry.
    fn wait<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while state.opened.is_empty() && !state.is_urgent() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let until = Instant::now() + PAUSE;
        while !state.is_urgent() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }
}

/// Writes down what was touched of files; gives back those that are still open.
fn write_down(folder: &Folder, opened: Vec<Opened>, records: &mut HashMap<Name, Record>) -> Vec<Opened> {
    let (mut kept, mut changed) = (Vec::new(), HashSet::new());
    for mut opened in opened {
        // Before what was touched: what is touched in between is seen the next time.
        let is_open = Arc::strong_count(&opened.file) > 1;
        let runs = if opened.is_opaque { Vec::new() } else { opened.file.touched.runs() };
        if opened.origin.is_none() {
            opened.origin = opened.names.upgrade().and_then(|names| names.origin(opened.ino));
        }
        let Some(origin) = &opened.origin else { continue };
        let record = records
            .entry(origin.package.clone())
            .or_insert_with_key(|package| folder.read(package).unwrap_or_default());
        if record.add(&origin.path, opened.file.id, opened.file.spec.size, &runs, opened.is_opaque) {
            changed.insert(origin.package.clone());
        }
        if is_open && !opened.is_opaque {
            kept.push(opened);
        }
    }
    for package in &changed {
        if let Some(record) = records.get(package)
            && let Err(errno) = folder.write(package, record)
        {
            tracing::debug!(%package, %errno, "what was read of it is not written down");
        }
    }
    if records.len() > RECORDS_MAX {
        records.clear();
    }
    kept
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
        let this = std::thread::current().id();
        // Who knows names may own a mount, and be dropped last by the thread itself.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != this) {
            // Its panic was reported when it happened.
            let _ = thread.join();
        }
    }
}
