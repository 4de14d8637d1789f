//! The new process: it asks for mounts, makes itself ready beside the one that serves them, and goes on where that stops.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn_store::{ProfileName, Store, View};

use super::wire::{self, DESCRIPTORS_MAX, Hello, Offer, Offered, VERSION, Word, receive, send};
use super::{PREPARE_MAX, TakeoverError, check_peer, now, out_of_turn};
use crate::attr::Ino;
use crate::device::{Adopted, Device};
use crate::files::Files;
use crate::handle::OpenFile;
use crate::kernel::{Core, Kernel};
use crate::mount::{Mount, MountError};
use crate::session;

/// How long the new process waits for the last word: longer than the old one can take to change its mind.
const LAST_WORD_MAX: Duration = Duration::from_secs(10);

/// What another process offers. It still serves its mounts.
pub struct Offering {
    pub(super) stream: UnixStream,
    extra: Vec<u8>,
    lock: OwnedFd,
    mounts: Vec<(Offered, OwnedFd)>,
    sockets: Vec<OwnedFd>,
}

/// Mounts that were taken over.
pub struct Taken {
    /// They are served. One that could not be is left out, and the log says so.
    pub mounts: Vec<Mount>,
    /// How long nobody was answered.
    pub paused: Duration,
    /// The process that had them, until it is let go.
    pub predecessor: Predecessor,
}

/// The process that had the mounts. It may wait until this is dropped before it ends: whoever still turns to it is to be
/// told that this one can be found.
pub struct Predecessor(#[expect(dead_code, reason = "its end is the message")] UnixStream);

/// Asks the process at the other end for its mounts.
///
/// # Errors
/// [`TakeoverError`]: nothing has changed.
pub fn ask(mut stream: UnixStream) -> Result<Offering, TakeoverError> {
    check_peer(&stream)?;
    let Hello { version, refused } = receive(&mut stream, PREPARE_MAX)?;
    if let Some(why) = refused {
        return Err(TakeoverError::Refused { why });
    }
    if version != VERSION {
        return Err(TakeoverError::Version { version });
    }
    let Offer { extra, mounts } = receive(&mut stream, PREPARE_MAX)?;
    if mounts.len() >= DESCRIPTORS_MAX {
        return Err(TakeoverError::TooMany { mounts: mounts.len() });
    }
    let mut descriptors = wire::receive_descriptors(&stream, 1 + mounts.len())?;
    let sockets = descriptors.split_off(1 + mounts.len());
    let devices = descriptors.split_off(1);
    let lock = descriptors.pop().ok_or_else(out_of_turn)?;
    Ok(Offering { stream, extra, lock, mounts: mounts.into_iter().zip(devices).collect(), sockets })
}

impl Offering {
    /// What the other process wants this one to know.
    #[must_use]
    pub fn extra(&self) -> &[u8] {
        &self.extra
    }

    /// The open file description that holds the store's lock.
    #[must_use]
    pub fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// The sockets that the other process listens on, once.
    pub fn take_sockets(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.sockets)
    }

    /// The other process' number; 0 if it is not known.
    #[must_use]
    pub fn pid(&self) -> u32 {
        let peer = rustix::net::sockopt::socket_peercred(&self.stream);
        peer.ok().and_then(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).ok()).unwrap_or(0)
    }

    /// How many mounts there are, seen or not.
    #[must_use]
    pub fn count(&self) -> usize {
        self.mounts.len()
    }

    /// Where the mounts are seen, and what they show. One that was unmounted and is still in use is not seen.
    pub fn mounts(&self) -> impl Iterator<Item = (PathBuf, &ProfileName)> {
        self.mounts.iter().filter_map(|(Offered { options, device_name, .. }, _)| {
            Some((crate::mount::place(device_name, &options.dir)?, &options.profile))
        })
    }

    /// Takes the mounts over and serves them. `view` is what the other process shows.
    ///
    /// # Errors
    /// [`TakeoverError`]: the other process serves them as before, if it still lives.
    pub fn take(
        mut self,
        store: &Store,
        view: &Arc<View>,
        files: &Arc<Files>,
    ) -> Result<Taken, TakeoverError> {
        let mut heirs = Vec::with_capacity(self.mounts.len());
        for (offered, device) in self.mounts {
            heirs.push(Heir::new(offered, device, store, view, files)?);
        }
        send(&mut self.stream, &Word::Ready)?;
        let Word::Last(last) = receive(&mut self.stream, PREPARE_MAX)? else { return Err(out_of_turn()) };
        if last.mounts.len() != heirs.len() {
            return Err(out_of_turn());
        }
        for (heir, (inodes, open)) in heirs.iter().zip(&last.mounts) {
            let garbled = |error: crate::SavedInodesError| TakeoverError::Garbled(error.to_string());
            heir.core.fs.restore(inodes).map_err(garbled)?;
            heir.core.opens.restore(open, |ino| heir.file(ino));
        }
        send(&mut self.stream, &Word::Took)?;
        wait_for_go(&mut self.stream)?;
        let mounts = heirs.into_iter().filter_map(Heir::serve).collect();
        let paused = now().saturating_sub(last.paused_at);
        Ok(Taken { mounts, paused, predecessor: Predecessor(self.stream) })
    }
}

/// The old process says that it is over, or is over without a word.
fn wait_for_go(stream: &mut UnixStream) -> Result<(), TakeoverError> {
    match receive(stream, LAST_WORD_MAX) {
        Ok(Word::Go) => Ok(()),
        Ok(Word::Stay) => Err(TakeoverError::Stayed),
        Ok(_) => Err(out_of_turn()),
        Err(TakeoverError::Lost { source, .. }) if is_gone(&source) => {
            tracing::warn!("the other process died while it handed its mounts over");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

/// A mount that is about to change hands.
struct Heir {
    offered: Offered,
    kernel: Kernel,
    adopted: Adopted<Kernel>,
    core: Arc<Core>,
    /// What was open when the tables were copied.
    open: HashMap<u64, Arc<OpenFile>>,
}

impl Heir {
    fn new(
        mut offered: Offered,
        device: OwnedFd,
        store: &Store,
        view: &Arc<View>,
        files: &Arc<Files>,
    ) -> Result<Self, TakeoverError> {
        let failed = TakeoverError::mount("take over", &offered.options.dir);
        let fs = offered.legacy.fs(store.clone(), Arc::clone(view), &offered.options);
        fs.restore(&offered.inodes).map_err(|error| TakeoverError::Garbled(error.to_string()))?;
        let device = Arc::new(Device::new(device));
        let core = offered.legacy.core(fs, Arc::clone(files), device).map_err(&failed)?;
        let kernel = Kernel::new(None);
        let config = session::config();
        let adopted = Adopted::new(kernel.clone(), offered.legacy.handshake, config).map_err(&failed)?;
        let file = |ino| Some((ino, Arc::new(OpenFile::new(core.fs.file(Ino(ino)).ok()?))));
        let open = offered.open.drain(..).filter_map(|open| file(open.ino)).collect();
        drop(failed);
        Ok(Self { offered, kernel, adopted, core, open })
    }

    fn file(&self, ino: Ino) -> Option<Arc<OpenFile>> {
        let known = self.open.get(&ino.0).cloned();
        known.or_else(|| Some(Arc::new(OpenFile::new(self.core.fs.file(ino).ok()?))))
    }

    /// It is too late for an error: one mount that cannot be served, most likely because it was just unmounted, must not
    /// cost the others.
    fn serve(self) -> Option<Mount> {
        let Self { offered: Offered { options, legacy, device_name, .. }, kernel, adopted, core, .. } = self;
        let dir = options.dir.clone();
        kernel.begin(Arc::clone(&core));
        let failed = |errno: rustix::io::Errno| MountError::Io {
            action: "serve",
            dir: dir.clone(),
            source: errno.into(),
        };
        let session = adopted.connect(core.device.as_fd()).map_err(failed);
        let session = session.and_then(|session| core.device.resend().map(|()| session).map_err(failed));
        let served = session.and_then(|session| Mount::serve(session, core, options, legacy, device_name));
        match &served {
            Ok(mount) => tracing::info!(dir = %dir.display(), profile = %mount.profile(), "took over"),
            Err(error) => {
                let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                tracing::error!(dir = %dir.display(), %error, why, "a mount was lost in the takeover");
            }
        }
        served.ok()
    }
}
