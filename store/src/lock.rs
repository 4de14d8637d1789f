//! The lock that makes one process the store's writer.
//!
//! It is an exclusive `flock(2)` on the file `lock` of the store: the kernel gives it back when its holder ends,
//! however that ends. The file says who holds it, for the message that others show, and is never removed: two processes could
//! otherwise hold locks on different files of one name. Readers do not lock.
//!
//! A `flock` belongs to the open file, not to the process: who is given the descriptor has the lock, and at no moment
//! has nobody. Until it says that the lock is its own ([`Lock::keep`]), dropping it leaves the lock with the giver.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::time::{now_ms, rfc3339};
use crate::{Error, Result};

const FILE_NAME: &str = "lock";
/// How long a waiter sleeps between two attempts, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// More of the file is not read, and longer commands are cut.
const HOLDER_BYTES_MAX: usize = 4096;
const COMMAND_CHARS_MAX: usize = 200;

/// Who holds the lock: the content of the lock file, as JSON.
#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    since: String,
    #[serde(default)]
    command: String,
}

/// The right to write a store, until dropped.
#[derive(Debug)]
pub struct Lock {
    file: OwnedFd,
    /// Not while it is still the lock of the process that gave it.
    is_ours: AtomicBool,
}

impl Lock {
    /// Locks the store at `dir`, which exists, for a process that runs `command`. While another process holds it, tries
    /// again for as long as `wait`, asking `cancelled` at least every 50 ms.
    ///
    /// # Errors
    /// [`Error::Busy`] with who holds it, after `wait`; [`Error::Cancelled`]; [`Error::Io`] if the file cannot be made
    /// or locked at all.
    pub fn acquire(dir: &Path, wait: Duration, command: &str, cancelled: &dyn Fn() -> bool) -> Result<Self> {
        let path = dir.join(FILE_NAME);
        let failed = |errno: Errno| Error::io("lock", &path)(errno.into());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644)).map_err(failed)?;
        let begun = Instant::now();
        let mut pause = PAUSE_MIN;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::INTR) => continue,
                Err(Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(failed(errno)),
            }
            if cancelled() {
                return Err(Error::Cancelled);
            }
            let left = wait.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(busy(dir, &file));
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(PAUSE_MAX);
        }
        let lock = Self { file, is_ours: AtomicBool::new(true) };
        // On a full disk the lock still locks, so that bytes can be collected.
        if let Err(error) = lock.sign(command) {
            tracing::debug!(path = %path.display(), %error, "cannot say in the lock file who holds it");
        }
        Ok(lock)
    }

    /// The lock of the store at `dir` that another process holds and gave this one the descriptor of. It stays the
    /// other's until [`Lock::keep`].
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is the lock of something else, or of nobody; [`Error::Io`].
    pub fn inherit(dir: &Path, file: OwnedFd) -> Result<Self> {
        let path = dir.join(FILE_NAME);
        let failed = |errno: Errno| Error::io("look at", &path)(errno.into());
        let invalid = |reason: &str| Error::Invalid {
            what: "lock",
            given: path.display().to_string(),
            reason: reason.to_owned(),
        };
        let (given, named) =
            (rustix::fs::fstat(&file).map_err(failed)?, rustix::fs::stat(&path).map_err(failed)?);
        if (given.st_dev, given.st_ino) != (named.st_dev, named.st_ino) {
            return Err(invalid("the descriptor that was handed over is another file's"));
        }
        // Whoever has the lock gets it again; anybody else would be refused.
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { file, is_ours: AtomicBool::new(false) }),
            Err(Errno::WOULDBLOCK) => {
                Err(invalid("another process holds it, not the one that handed it over"))
            }
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Makes an inherited lock this process' own, which runs `command`: who is refused is told so, and dropping it
    /// gives it back.
    pub fn keep(&self, command: &str) {
        self.is_ours.store(true, Ordering::SeqCst);
        if let Err(error) = self.sign(command) {
            tracing::debug!(%error, "cannot say in the lock file who holds it");
        }
    }

    fn sign(&self, command: &str) -> Result<(), Errno> {
        let command = command.chars().take(COMMAND_CHARS_MAX).collect();
        let holder = Holder { pid: std::process::id(), since: rfc3339(now_ms()), command };
        // Numbers and strings always have a JSON form.
        let mut text = serde_json::to_string(&holder).unwrap_or_default();
        text.push('\n');
        rustix::fs::ftruncate(&self.file, 0)?;
        rustix::io::pwrite(&self.file, text.as_bytes(), 0)?;
        Ok(())
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !*self.is_ours.get_mut() {
            return;
        }
        let _ = rustix::fs::ftruncate(&self.file, 0);
        // Closing would unlock too, but not before a child that is just being started has closed its copy.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

fn busy(dir: &Path, file: &OwnedFd) -> Error {
    let mut text = vec![0; HOLDER_BYTES_MAX];
    let read = rustix::io::pread(file, &mut text, 0).unwrap_or(0);
    let holder: Option<Holder> = serde_json::from_slice(&text[..read]).ok();
    // Anyone may have written there what a terminal should not be shown.
    let holder = holder.filter(|holder| holder.since.bytes().all(|byte| byte.is_ascii_graphic()));
    let (pid, since) = holder.map_or((0, "an unknown time".to_owned()), |holder| (holder.pid, holder.since));
    Error::Busy { path: dir.to_owned(), pid, since }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::Kind;
    use crate::io::{Io, Os};

    const NOW: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_secs(60);

    fn acquire(dir: &Path, wait: Duration) -> Result<Lock> {
        Lock::acquire(dir, wait, "test \"run\"", &|| false)
    }

    #[test]
    fn the_second_is_told_who_holds_it_and_the_third_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = acquire(dir.path(), NOW).unwrap();
        let text = Os.read(&dir.path().join("lock")).unwrap();
        let holder: Holder = serde_json::from_slice(&text).unwrap();
        assert_eq!((holder.pid, holder.command.as_str()), (std::process::id(), "test \"run\""));
        let error = acquire(dir.path(), Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        let expected =
            format!("busy: process {} holds {} since {}", holder.pid, dir.path().display(), holder.since);
        assert_eq!(error.to_string(), expected);
        drop(first);
        assert!(dir.path().join("lock").exists());
        acquire(dir.path(), NOW).unwrap();
    }

    #[test]
    fn a_waiter_gets_it_as_soon_as_it_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let first = acquire(dir.path(), NOW).unwrap();
        let waits = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                Lock::acquire(dir.path(), LONG, "waiter", &|| {
                    waits.store(true, Ordering::Release);
                    false
                })
            });
            while !waits.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            drop(first);
            waiter.join().unwrap().unwrap();
        });
    }

    #[test]
    fn waiting_can_be_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let _first = acquire(dir.path(), NOW).unwrap();
        let asked = std::cell::Cell::new(0);
        let cancelled = || {
            asked.set(asked.get() + 1);
            asked.get() > 2
        };
        let error = Lock::acquire(dir.path(), LONG, "waiter", &cancelled).unwrap_err();
        assert!(matches!(error, Error::Cancelled));
    }

    #[test]
    fn an_inherited_lock_is_the_givers_until_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = acquire(dir.path(), NOW).unwrap();
        let given = || first.as_fd().try_clone_to_owned().unwrap();
        drop(Lock::inherit(dir.path(), given()).unwrap());
        assert_eq!(acquire(dir.path(), NOW).unwrap_err().kind(), Kind::Conflict, "still the first one's");
        let second = Lock::inherit(dir.path(), given()).unwrap();
        second.keep("the next");
        let text = Os.read(&dir.path().join("lock")).unwrap();
        let holder: Holder = serde_json::from_slice(&text).unwrap();
        assert_eq!(holder.command, "the next");
        assert_eq!(acquire(dir.path(), NOW).unwrap_err().kind(), Kind::Conflict);
        drop(second);
        acquire(dir.path(), NOW).unwrap();
    }

    #[test]
    fn a_descriptor_without_the_lock_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = acquire(dir.path(), NOW).unwrap();
        let open = |path: &Path| rustix::fs::open(path, OFlags::RDWR, Mode::empty()).unwrap();
        let error = Lock::inherit(dir.path(), open(&dir.path().join("lock"))).unwrap_err();
        assert!(error.to_string().contains("another process holds it"), "{error}");
        let other = tempfile::NamedTempFile::new().unwrap();
        let error = Lock::inherit(dir.path(), open(other.path())).unwrap_err();
        assert!(error.to_string().contains("another file's"), "{error}");
    }

    #[test]
    fn a_holder_that_says_nothing_is_still_a_holder() {
        let dir = tempfile::tempdir().unwrap();
        let first = acquire(dir.path(), NOW).unwrap();
        for text in ["", "{", "{\"pid\": -1}", "[]", "{\"pid\":1,\"since\":\"\\u001b[2J\"}"] {
            rustix::fs::ftruncate(&first.file, 0).unwrap();
            rustix::io::pwrite(&first.file, text.as_bytes(), 0).unwrap();
            let error = acquire(dir.path(), NOW).unwrap_err();
            assert!(error.to_string().ends_with("since an unknown time"), "{error}");
        }
    }

    #[test]
    fn a_killed_holder_leaves_it_free() {
        let dir = tempfile::tempdir().unwrap();
        // --no-fork: the killed process is the only one that holds the lock.
        let holder = Command::new("flock")
            .arg("--no-fork")
            .arg(dir.path().join("lock"))
            .args(["sh", "-c", "echo held; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut holder = match holder {
            Ok(holder) => holder,
            Err(error) => return eprintln!("skipped: there is no flock(1) here: {error}"),
        };
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        assert_eq!(acquire(dir.path(), NOW).unwrap_err().kind(), Kind::Conflict);
        holder.kill().unwrap();
        holder.wait().unwrap();
        acquire(dir.path(), NOW).unwrap();
    }

    #[test]
    fn a_store_that_is_not_there_cannot_be_locked() {
        let error = acquire(Path::new("/nonexistent/store"), NOW).unwrap_err();
        assert_eq!(error.to_string(), "cannot lock /nonexistent/store/lock");
    }
}
