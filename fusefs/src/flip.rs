//! The flip: from one moment on everybody sees the new names, and nobody sees an old one afterwards.
//!
//! The file system holds look-ups back while it tells the kernel, by one increment, that no name it has kept is to be
//! believed, and then shows the new view. A look-up that began before may still be answered with the old name, as if it
//! had come earlier; each that begins after comes to us and finds the new one. So the names of any number of packages
//! change in the same instant, and it takes as long for one as for a thousand.
//!
//! Whoever flips is not interrupted meanwhile, where that is allowed: all look-ups would wait until it is its turn again.
//!
//! Never from a handler: look-ups that wait for it could be what it waits for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_store::View;
use rustix::io::Errno;

use crate::device::Urgent;
use crate::mount::Mount;

impl Mount {
    /// Shows a newer view. If names changed that the kernel may have kept, tells it, and says how long look-ups were held
    /// back; else there was nothing to tell.
    pub fn publish(&self, view: &Arc<View>) -> Option<Duration> {
        self.set_read_ahead(view);
        let mut begun = None;
        let _inside = self.core.gate.pass();
        let told = self.core.fs.publish(Arc::clone(view), Urgent::begin, || {
            begun = Some(Instant::now());
            // Without the epoch the kernel keeps no name that changes.
            if !self.legacy.has_epoch() {
                return;
            }
            match self.core.device.increment_epoch() {
                // A mount that has ended keeps no names.
                Ok(()) | Err(Errno::NOTCONN | Errno::NODEV | Errno::PERM) => {}
                Err(errno) => tracing::error!(
                    dir = %self.dir().display(),
                    %errno,
                    "the kernel cannot be told of new names, and may show old ones"
                ),
            }
        });
        let held = begun.filter(|_| told)?.elapsed();
        self.flips.add(held);
        Some(held)
    }
}
