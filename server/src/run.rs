//! Jobs: who asks, what runs it, and how many run at a time.
//!
//! Each job has a thread of its own, since commands block; their number is bounded before the thread is made. A job that
//! panics ends with code 1 and takes nothing else with it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::error::Refusal;
use crate::events::Request;
use crate::job::{Cancel, JobIo};

/// As much as a program's first thread has.
const STACK_BYTES: usize = 8 << 20;
/// The exit code of a command that panicked.
const PANICKED: u8 = 1;

/// Who asks for a command, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// The process, 0 if it is not known.
    pub pid: u32,
}

impl Caller {
    /// This process.
    #[must_use]
    pub fn this_process() -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { uid, gid, pid: std::process::id() }
    }
}

/// The commands that there are.
pub trait Commands: Send + Sync + 'static {
    /// A command with what it takes.
    type Command: DeserializeOwned + Send + 'static;

    /// Runs one to its end, on a thread where it may block, and gives its exit code.
    fn run(&self, request: Request<Self::Command>, caller: Caller, io: JobIo) -> u8;
}

/// The jobs that run.
#[derive(Debug)]
pub struct Jobs {
    places: Arc<Semaphore>,
    places_max: usize,
    next: AtomicU64,
    /// Guards the list of those that run. A leaf lock.
    running: Mutex<BTreeMap<u64, Running>>,
    /// Woken when one ends.
    ended: Notify,
    is_closed: AtomicBool,
}

#[derive(Debug)]
struct Running {
    uid: u32,
    cancel: Arc<Cancel>,
}

impl Jobs {
    /// None run yet; at most so many will at a time.
    #[must_use]
    pub fn new(places_max: usize) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(places_max)),
            places_max,
            next: AtomicU64::new(1),
            running: Mutex::default(),
            ended: Notify::new(),
            is_closed: AtomicBool::new(false),
        })
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.list().len()
    }

    /// Lets no more begin.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.places.close();
    }

    /// Asks all that run to stop.
    pub fn cancel_all(&self) {
        self.list().values().for_each(|running| running.cancel.ask());
    }

    /// Waits until none runs.
    pub async fn idle(&self) {
        let mut ended = std::pin::pin!(self.ended.notified());
        loop {
            // Before the list is looked at, so that no end is missed.
            ended.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            ended.as_mut().await;
            ended.set(self.ended.notified());
        }
    }

    /// Asks one to stop, for `uid`: root, the server's own user, or whoever started it.
    pub(crate) fn cancel(&self, number: u64, uid: u32) -> Result<(), Refusal> {
        let list = self.list();
        let running = list.get(&number).ok_or_else(|| Refusal::NoJob(number.to_string()))?;
        let is_allowed = uid == 0 || uid == running.uid || uid == rustix::process::geteuid().as_raw();
        if !is_allowed {
            return Err(Refusal::NotYours(number));
        }
        running.cancel.ask();
        Ok(())
    }

    /// A place among those that run, as soon as there is one.
    pub(crate) async fn admit(&self, wait: Duration) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let waited = tokio::time::timeout(wait, Arc::clone(&self.places).acquire_owned()).await;
        match waited {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(Refusal::Stopping),
            Err(_) => Err(Refusal::Full { running: self.places_max, waited_ms: millis(wait) }),
        }
    }

    /// Starts a job on a thread of its own; gives its number.
    pub(crate) fn start<C: Commands>(
        self: &Arc<Self>,
        place: OwnedSemaphorePermit,
        commands: Arc<C>,
        request: Request<C::Command>,
        caller: Caller,
        (io, cancel): (JobIo, Arc<Cancel>),
    ) -> Result<u64, Refusal> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(Refusal::Stopping);
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.list().insert(number, Running { uid: caller.uid, cancel });
        let listed = Listed { jobs: Arc::clone(self), number };
        let work = move || {
            let ran = catch_unwind(AssertUnwindSafe(|| commands.run(request, caller, io.clone())));
            let code = ran.unwrap_or_else(|panic| {
                let why = panic_text(&*panic);
                tracing::error!(job = number, why, "a command panicked");
                io.err(&format!("error: this is a fault of cairn: {why}\n"));
                PANICKED
            });
            // Who reads the exit code finds the job gone.
            drop(place);
            drop(listed);
            io.exit(code);
        };
        let thread = std::thread::Builder::new().name(format!("job-{number}")).stack_size(STACK_BYTES);
        thread.spawn(work).map_err(Refusal::NoThread)?;
        Ok(number)
    }

    fn list(&self) -> MutexGuard<'_, BTreeMap<u64, Running>> {
        // Each change is one insertion or removal: a panic elsewhere leaves it sound.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the list of those that run, given up when dropped.
struct Listed {
    jobs: Arc<Jobs>,
    number: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.jobs.list().remove(&self.number);
        self.jobs.ended.notify_waiters();
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it panicked")
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
