//! Questions to mounts whose server may answer nobody.
//!
//! Whoever asks the file system of such a mount waits for as long as its server likes, and nothing can call it back. So a
//! question is asked by a thread of its own, which is left behind if no answer comes in time. There is one for each
//! directory at most, however often it is asked: who comes while one waits, waits for that one first.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// A mount that does not answer within this time hangs.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Where questions wait for an answer.
#[derive(Default)]
struct Asked {
    dirs: Mutex<BTreeSet<PathBuf>>,
    /// Woken when one of them is answered.
    answered: Condvar,
}

static ASKED: Asked = Asked { dirs: Mutex::new(BTreeSet::new()), answered: Condvar::new() };

/// What `question` finds at the mount `dir`; none if it does not answer in time.
pub(crate) fn ask<T: Send + 'static>(
    dir: &Path,
    question: impl FnOnce(&Path) -> T + Send + 'static,
) -> Option<T> {
    ASKED.ask(dir, ANSWER_MAX, question)
}

impl Asked {
    fn ask<T: Send + 'static>(
        &'static self,
        dir: &Path,
        max: Duration,
        question: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Option<T> {
        let deadline = Instant::now() + max;
        let left = || deadline.saturating_duration_since(Instant::now());
        let waited = self.answered.wait_timeout_while(self.dirs(), left(), |dirs| dirs.contains(dir));
        let (mut dirs, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return None;
        }
        dirs.insert(dir.to_owned());
        drop(dirs);
        let (tell, told) = mpsc::channel();
        let place = Place { asked: self, dir: dir.to_owned() };
        let work = move || {
            let answer = question(&place.dir);
            drop(place);
            // Nobody waits for it any more if it came late.
            let _ = tell.send(answer);
        };
        // Without a thread there is no answer, and the place is free again.
        std::thread::Builder::new().name("probe".to_owned()).spawn(work).ok()?;
        told.recv_timeout(left()).ok()
    }

    fn dirs(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        // Each change is one insertion or removal: a panic elsewhere leaves it sound.
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A directory that is asked, until this is dropped.
struct Place {
    asked: &'static Asked,
    dir: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.asked.dirs().remove(&self.dir);
        self.asked.answered.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_mount_that_hangs_costs_one_thread_however_often_it_is_asked() {
        static ASKED: Asked = Asked { dirs: Mutex::new(BTreeSet::new()), answered: Condvar::new() };
        let (dir, other) = (Path::new("/hangs"), Path::new("/answers"));
        let threads = Arc::new(AtomicU32::new(0));
        let (answer, answered) = mpsc::channel::<()>();
        let answered = Arc::new(Mutex::new(answered));
        let ask = |max| {
            let (threads, answered) = (Arc::clone(&threads), Arc::clone(&answered));
            ASKED.ask(dir, max, move |_| {
                threads.fetch_add(1, Ordering::SeqCst);
                answered.lock().unwrap().recv().unwrap();
            })
        };
        for _ in 0..3 {
            assert_eq!(ask(SHORT), None);
            assert_eq!(ASKED.ask(other, LONG, Path::to_owned).as_deref(), Some(other));
        }
        // It is asked once it hangs no longer.
        answer.send(()).unwrap();
        answer.send(()).unwrap();
        assert_eq!(ask(LONG), Some(()));
        assert_eq!(threads.load(Ordering::SeqCst), 2);
        assert!(ASKED.dirs().is_empty());
    }

    #[test]
    fn those_who_ask_at_the_same_time_are_all_answered() {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!(ASKED.ask(Path::new("/busy"), LONG, |_| 7), Some(7)));
            }
        });
    }
}
