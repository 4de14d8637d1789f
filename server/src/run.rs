//! Jobs: who asks, what runs it, and how many run at a time.
//!
//! Each job has a thread of its own, since commands block; their number is bounded before the thread is made. A job that
//! panics ends with code 1 and takes nothing else with it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

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
    /// Guards the list of those that run, and that none begins after `intake` has changed. Only that is locked under it.
    running: Mutex<BTreeMap<u64, Running>>,
    /// Woken when one ends.
    ended: Notify,
    /// What becomes of those that come.
    intake: watch::Sender<Intake>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intake {
    /// They begin.
    Open,
    /// They wait.
    Held,
    /// Another server has taken over, and runs them.
    Moved,
    /// Nobody runs them any more.
    Closed,
}

/// No job begins while this lives; those that come wait.
#[derive(Debug)]
pub struct Hold {
    jobs: Arc<Jobs>,
}

impl Hold {
    /// Sends those that wait, and all that come, to the server that has taken over.
    pub fn moved(self) {
        self.jobs.turn(Intake::Held, Intake::Moved);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.jobs.turn(Intake::Held, Intake::Open);
    }
}

/// The right to begin one job. It counts as one that runs.
pub(crate) struct Admitted {
    place: OwnedSemaphorePermit,
    listed: Listed,
    pub(crate) cancel: Arc<Cancel>,
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
            intake: watch::Sender::new(Intake::Open),
        })
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.list().len()
    }

    /// Lets no more begin.
    pub fn close(&self) {
        let _list = self.list();
        self.intake.send_replace(Intake::Closed);
        self.places.close();
    }

    /// Lets no more begin until what this returns is dropped: they wait. None if that is so already, or all is over.
    pub fn hold(self: &Arc<Self>) -> Option<Hold> {
        self.turn(Intake::Open, Intake::Held).then(|| Hold { jobs: Arc::clone(self) })
    }

    /// The same, once whoever holds them now does so no longer. None if all is over.
    pub async fn hold_next(self: &Arc<Self>) -> Option<Hold> {
        let mut intake = self.intake.subscribe();
        loop {
            if let Some(hold) = self.hold() {
                return Some(hold);
            }
            // The sender lives as long as this.
            match intake.wait_for(|intake| *intake != Intake::Held).await.as_deref() {
                Ok(Intake::Open | Intake::Held) => {}
                Ok(Intake::Moved | Intake::Closed) | Err(_) => return None,
            }
        }
    }

    fn turn(&self, from: Intake, to: Intake) -> bool {
        let _list = self.list();
        self.intake.send_if_modified(|intake| {
            let is_from = *intake == from;
            if is_from {
                *intake = to;
            }
            is_from
        })
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

    /// A place among those that run, as soon as there is one, for a job of `uid`.
    pub(crate) async fn admit(self: &Arc<Self>, wait: Duration, uid: u32) -> Result<Admitted, Refusal> {
        let mut intake = self.intake.subscribe();
        loop {
            // The sender lives as long as this.
            let _ = intake.wait_for(|intake| *intake != Intake::Held).await;
            let place = self.place(wait).await?;
            let mut list = self.list();
            match *self.intake.borrow() {
                Intake::Open => {}
                Intake::Held => continue,
                Intake::Moved => return Err(Refusal::Moved),
                Intake::Closed => return Err(Refusal::Stopping),
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let cancel = Arc::<Cancel>::default();
            list.insert(number, Running { uid, cancel: Arc::clone(&cancel) });
            drop(list);
            return Ok(Admitted { place, listed: Listed { jobs: Arc::clone(self), number }, cancel });
        }
    }

    async fn place(&self, wait: Duration) -> Result<OwnedSemaphorePermit, Refusal> {
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
        admitted: Admitted,
        commands: Arc<C>,
        request: Request<C::Command>,
        caller: Caller,
        io: JobIo,
    ) -> Result<u64, Refusal> {
        let Admitted { place, listed, .. } = admitted;
        let number = listed.number;
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
