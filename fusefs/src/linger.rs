//! Staying awake between two requests that follow each other closely.
//!
//! A process that opens one small file after the other waits for us at each. To put the reading thread to sleep and to wake
//! it again, on a core that slept too, takes longer than the answer itself; on a virtual machine several times as long. So
//! after an answer to a process that asks quickly, the thread looks for the next request for a while before it sleeps, as
//! hypervisors do for a halted guest (`halt_poll_ns`).
//!
//! Only one process at a time is worth that: several keep the cores busy by themselves. Nor does it help on one core.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

/// Who comes back within this time is worth staying awake for, and so long we do.
const AWAKE_MAX: Duration = Duration::from_micros(50);
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// What the only reading thread of a mount knows of the pace of requests. Others may look; nothing else is written here.
#[derive(Debug)]
pub(crate) struct Linger {
    is_of_use: bool,
    begun: Instant,
    /// Nanoseconds from the beginning to the last answer.
    answered: AtomicU64,
    /// Who asked last.
    process: AtomicU32,
    /// Whether the next request may be close.
    is_awake: AtomicBool,
}

impl Linger {
    /// For so many reading threads, on this machine.
    pub(crate) fn new(threads: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            is_of_use: threads == 1 && cores > 1,
            begun: Instant::now(),
            answered: AtomicU64::new(0),
            process: AtomicU32::new(0),
            is_awake: AtomicBool::new(false),
        }
    }

    /// A request came, of this process; of nobody in particular if it is 0.
    pub(crate) fn came(&self, process: u32) {
        if !self.is_of_use {
            return;
        }
        let pause = self.now().saturating_sub(self.answered.load(Ordering::Relaxed));
        let is_same = process == 0 || self.process.swap(process, Ordering::Relaxed) == process;
        self.is_awake.store(is_same && u128::from(pause) < AWAKE_MAX.as_nanos(), Ordering::Relaxed);
    }

    /// The request was answered: waits a little for the next one, if it may be close.
    pub(crate) fn answered(&self, device: BorrowedFd<'_>) {
        if !self.is_of_use {
            return;
        }
        self.answered.store(self.now(), Ordering::Relaxed);
        if !self.is_awake.load(Ordering::Relaxed) {
            return;
        }
        let since = Instant::now();
        let mut devices = [PollFd::from_borrowed_fd(device, PollFlags::IN)];
        // Whatever poll says, an end or an error too, the thread finds out by reading.
        while matches!(poll(&mut devices, Some(&AT_ONCE)), Ok(0)) && since.elapsed() < AWAKE_MAX {
            std::hint::spin_loop();
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn linger() -> Linger {
        Linger { is_of_use: true, ..Linger::new(1) }
    }

    /// As if the last answer had just been given.
    fn at_once(linger: &Linger) {
        linger.answered.store(linger.now() + 1_000_000_000, Ordering::Relaxed);
    }

    #[test]
    fn one_process_that_asks_quickly_is_waited_for() {
        let linger = linger();
        linger.came(7);
        assert!(!linger.is_awake.load(Ordering::Relaxed), "nobody knows it yet");
        at_once(&linger);
        linger.came(7);
        assert!(linger.is_awake.load(Ordering::Relaxed));
        at_once(&linger);
        linger.came(0);
        assert!(linger.is_awake.load(Ordering::Relaxed), "a release is nobody's");
        at_once(&linger);
        linger.came(8);
        assert!(!linger.is_awake.load(Ordering::Relaxed), "two take turns");
    }

    #[test]
    fn a_process_that_takes_its_time_is_not() {
        let linger = linger();
        linger.came(7);
        linger.answered.store(0, Ordering::Relaxed);
        std::thread::sleep(AWAKE_MAX * 2);
        linger.came(7);
        assert!(!linger.is_awake.load(Ordering::Relaxed));
    }

    #[test]
    fn waiting_ends_with_a_request_and_without_one() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let linger = linger();
        linger.is_awake.store(true, Ordering::Relaxed);
        linger.answered(reader.as_fd());
        rustix::io::write(&writer, b"x").unwrap();
        linger.answered(reader.as_fd());
        drop(writer);
        linger.answered(reader.as_fd());
    }

    #[test]
    fn several_readers_never_wait_so() {
        let linger = Linger::new(2);
        linger.came(7);
        at_once(&linger);
        linger.came(7);
        assert!(!linger.is_awake.load(Ordering::Relaxed));
    }
}
