//! Requests that wait for other machines: answered when those have, or when the time is up, whichever comes first, and once.
//!
//! The kernel's word that whoever asked has given up (FUSE_INTERRUPT) does not reach us through fuser. Who waits for a page
//! of the page cache, as nearly everybody does, can be killed all the same; its answer then comes for nobody.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use fuser::INodeNo;

use super::Core;
use super::serve::guarded_part;
use crate::far::may_be_elsewhere;
use crate::slow::Length;

/// Whether other machines may have what could not be read here, and can be asked.
pub(super) fn can_be_brought(core: &Core, error: &cairn_store::Error) -> bool {
    may_be_elsewhere(error) && core.files.can_fetch()
}

/// Has something brought by a thread that may wait for other machines, and gives `answer` what it came to: nothing, when
/// the time was up before. `then` is done afterwards by the same thread, when the answer is given.
pub(super) fn wait_far<T: 'static>(
    core: &Arc<Core>,
    ino: INodeNo,
    bring: impl FnOnce(&Arc<Core>) -> T + Send + 'static,
    answer: impl FnOnce(&Arc<Core>, Option<T>) + Send + 'static,
    then: impl FnOnce(&Arc<Core>) + Send + 'static,
) {
    let answer = Arc::new(Mutex::new(Some(answer)));
    let take = |slot: &Mutex<Option<_>>| slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (late, weak) = (Arc::clone(&answer), Arc::downgrade(core));
    let watched = core.deadlines.watch(Instant::now() + core.files.fetch_max(), move || {
        // Without a mount nobody waits any more.
        let Some(core) = weak.upgrade() else { return };
        let job = Arc::clone(&core);
        core.pool.run(Length::Short, move || {
            if let Some(answer) = take(&late) {
                answer(&job, None);
            }
        });
    });
    let job = Arc::clone(core);
    core.pool.run(Length::Far, move || {
        if answer.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return;
        }
        let came = guarded_part("bring", ino, || bring(&job)).ok();
        let answer = take(&answer);
        drop(watched);
        if let Some(answer) = answer {
            answer(&job, came);
        }
        // It has no answer to fail with.
        let _ = guarded_part("bring ahead", ino, || then(&job));
    });
}
