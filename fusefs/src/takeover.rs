//! A new process takes live mounts over from an old one: no file is closed, no operation fails.
//!
//! The old process keeps answering while it copies its tables and the new one makes itself ready. Then it closes the
//! gates, lets go of the devices, and sends what changed since: the pause. The new process says that it has everything,
//! the old one that it will never answer again; from then on the connections are the new one's. It has the kernel send
//! again what was asked and not answered, and serves. Whatever goes wrong before that last word, the old process opens
//! its gates and goes on: it lost nothing.
//!
//! What the kernel is told to forget in between is lost, and harmless: an inode lives a little longer.
//!
//! Both processes are of one user. The new one is given a view; nobody may change names between its reading it and the
//! old process's end.

mod wire;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLockWriteGuard};
use std::time::Duration;

use cairn_store::{ProfileName, Store, View};
use fuser::InitFlags;
use rustix::time::{ClockId, clock_gettime};

use crate::attr::Ino;
use crate::device::{Adopted, Device, Parking, exit_now};
use crate::files::Files;
use crate::handle::OpenFile;
use crate::kernel::{Core, Kernel};
use crate::mount::{Mount, MountError};
use crate::session;
use wire::{DESCRIPTORS_MAX, Hello, Last, Offer, Offered, VERSION, Word, receive, send};

/// How long the new process may take to make itself ready, and the old one to copy.
const PREPARE_MAX: Duration = Duration::from_secs(120);
/// How long the old process answers nobody before it goes on.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long the new process waits for the last word: longer than the old one can take to change its mind.
const LAST_WORD_MAX: Duration = Duration::from_secs(10);

/// Why mounts stay with the process that has them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeoverError {
    /// The other process is another user's.
    #[error("the other process belongs to user {uid}, this one to {own}")]
    Stranger {
        /// The other's user.
        uid: u32,
        /// Ours.
        own: u32,
    },
    /// The kernel cannot send requests again.
    #[error("the kernel is too old for a takeover: it takes Linux 6.9")]
    Kernel,
    /// More mounts than can be passed at once.
    #[error("{mounts} mounts are more than can be passed at once")]
    TooMany {
        /// How many.
        mounts: usize,
    },
    /// The other process speaks another version of this.
    #[error("the other process speaks version {version} of the takeover, this one {VERSION}")]
    Version {
        /// The other's.
        version: u32,
    },
    /// The other process went, or did not answer in time.
    #[error("cannot {action} the other process")]
    Lost {
        /// What was tried.
        action: &'static str,
        /// What it came to.
        source: io::Error,
    },
    /// What the other process said makes no sense.
    #[error("the other process is not understood: {0}")]
    Garbled(String),
    /// The other process keeps its mounts, and says why.
    #[error("the other process keeps its mounts: {why}")]
    Refused {
        /// Its own words.
        why: String,
    },
    /// The old process goes on.
    #[error("the other process went on serving its mounts")]
    Stayed,
    /// A mount could not be let go, or taken.
    #[error("cannot {action} {}", dir.display())]
    Mount {
        /// What was to be done.
        action: &'static str,
        /// The mount point.
        dir: PathBuf,
        /// What it came to.
        source: io::Error,
    },
}

impl TakeoverError {
    fn mount(action: &'static str, dir: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Mount { action, dir: dir.to_owned(), source }
    }
}

/// The mounts are another process's now. This one has nothing left to do but to end.
#[must_use = "mounts that nobody answers for hang"]
pub struct HandedOver<'a> {
    _stopped: Stopped<'a>,
    stream: UnixStream,
}

/// Nothing is answered any more.
struct Stopped<'a> {
    _gates: Vec<RwLockWriteGuard<'a, ()>>,
    /// The threads wait in it: if they ended, it would seem that the mounts had.
    _parking: Parking,
}

impl HandedOver<'_> {
    /// Waits until the new process has dropped its [`Predecessor`], or `max`.
    pub fn wait_for_successor(&mut self, max: Duration) {
        // Nothing more is said: what comes is the end.
        let _ = self.stream.set_read_timeout(Some(max));
        let _ = io::Read::read(&mut self.stream, &mut [0]);
    }

    /// Ends the process at once: nothing is unmounted, unlocked or removed.
    pub fn exit(self) -> ! {
        exit_now(0)
    }
}

/// What goes to the other process beside mounts.
pub struct Belongings<'a> {
    /// The open file that holds the store's lock.
    pub lock: BorrowedFd<'a>,
    /// Sockets that it is to listen on.
    pub sockets: Vec<BorrowedFd<'a>>,
    /// Whatever else it is to know.
    pub extra: Vec<u8>,
}

/// Offers mounts and what belongs to them to the process at the other end. When this returns well, they are its own.
///
/// Nobody may publish a view meanwhile.
///
/// # Errors
/// [`TakeoverError`]: the mounts are served here as before.
pub fn offer<'a>(
    mut stream: UnixStream,
    mounts: &[&'a Mount],
    belongings: Belongings<'_>,
) -> Result<HandedOver<'a>, TakeoverError> {
    if let Err(error) = check(mounts, &belongings) {
        // Who asks is told why; if that fails there is still this reason.
        let _ = refuse(stream, error.to_string());
        return Err(error);
    }
    check_peer(&stream)?;
    match offer_checked(&mut stream, mounts, belongings) {
        Ok(stopped) => Ok(HandedOver { _stopped: stopped, stream }),
        Err(error) => {
            mounts.iter().for_each(|mount| mount.core.fs.end_saving());
            Err(error)
        }
    }
}

/// Whether all of this can be taken over.
fn check(mounts: &[&Mount], belongings: &Belongings<'_>) -> Result<(), TakeoverError> {
    let resend = InitFlags::FUSE_HAS_RESEND.bits();
    if mounts.iter().any(|mount| mount.legacy.handshake.capabilities & resend == 0) {
        return Err(TakeoverError::Kernel);
    }
    if 1 + mounts.len() + belongings.sockets.len() > DESCRIPTORS_MAX {
        return Err(TakeoverError::TooMany { mounts: mounts.len() });
    }
    Ok(())
}

/// Tells the process at the other end why it does not get the mounts.
///
/// # Errors
/// [`TakeoverError`]: it was not told.
pub fn refuse(mut stream: UnixStream, why: String) -> Result<(), TakeoverError> {
    check_peer(&stream)?;
    limit_writing(&stream)?;
    send(&mut stream, &Hello { version: VERSION, refused: Some(why) })
}

fn limit_writing(stream: &UnixStream) -> Result<(), TakeoverError> {
    let limited = stream.set_write_timeout(Some(PREPARE_MAX));
    limited.map_err(|source| TakeoverError::Lost { action: "reach", source })
}

fn offer_checked<'a>(
    stream: &mut UnixStream,
    mounts: &[&'a Mount],
    belongings: Belongings<'_>,
) -> Result<Stopped<'a>, TakeoverError> {
    let Belongings { lock, sockets, extra } = belongings;
    let offered = mounts.iter().map(|mount| Offered {
        options: mount.options.clone(),
        legacy: mount.legacy,
        device_name: mount.device_name.clone(),
        inodes: mount.core.fs.save(),
        open: mount.core.opens.save(),
    });
    let offer = Offer { extra, mounts: offered.collect() };
    limit_writing(stream)?;
    send(stream, &Hello { version: VERSION, refused: None })?;
    send(stream, &offer)?;
    drop(offer);
    let mut descriptors = vec![lock];
    descriptors.extend(mounts.iter().map(|mount| mount.core.device.as_fd()));
    descriptors.extend(sockets);
    wire::send_descriptors(stream, &descriptors)?;
    let Word::Ready = receive(stream, PREPARE_MAX)? else { return Err(out_of_turn()) };
    hand_over(stream, mounts)
}

/// The pause.
fn hand_over<'a>(stream: &mut UnixStream, mounts: &[&'a Mount]) -> Result<Stopped<'a>, TakeoverError> {
    let mut sessions = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let device = mount.core.device.as_fd().try_clone_to_owned();
        let device = device.map_err(TakeoverError::mount("let go of", mount.dir()))?;
        sessions.push((mount.serving.line(), device));
    }
    let lost = |errno: rustix::io::Errno| TakeoverError::Lost { action: "let go for", source: errno.into() };
    let parking = Parking::new(sessions).map_err(lost)?;
    stream
        .set_write_timeout(Some(PAUSE_MAX))
        .map_err(|source| TakeoverError::Lost { action: "reach", source })?;
    let paused_at = now();
    let closed: Vec<_> = mounts.iter().map(|mount| mount.core.gate.close()).collect();
    let told = parking.park().map_err(lost).and_then(|()| {
        let last = mounts.iter().map(|mount| (mount.core.fs.changes(), mount.core.opens.save()));
        send(stream, &Word::Last(Last { paused_at, mounts: last.collect() }))?;
        match receive(stream, PAUSE_MAX)? {
            Word::Took => send(stream, &Word::Go),
            _ => Err(out_of_turn()),
        }
    });
    if let Err(error) = told {
        // Said before anything is answered again: the other one must not begin.
        let _ = send(stream, &Word::Stay);
        if let Err(errno) = parking.unpark() {
            tracing::error!(%errno, "the mounts cannot be served again");
        }
        return Err(error);
    }
    for mount in mounts {
        mount.let_go.store(true, Ordering::SeqCst);
        if let Err(errno) = mount.core.device.abandon() {
            tracing::warn!(dir = %mount.dir().display(), %errno, "the connection stays open until this process ends");
        }
    }
    Ok(Stopped { _gates: closed, _parking: parking })
}

/// What another process offers. It still serves its mounts.
pub struct Offering {
    stream: UnixStream,
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
        let core =
            offered.legacy.core(fs, Arc::clone(files), device, offered.options.threads).map_err(&failed)?;
        let kernel = Kernel::new(None);
        let config = session::config(offered.options.threads);
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

fn check_peer(stream: &UnixStream) -> Result<(), TakeoverError> {
    let peer = rustix::net::sockopt::socket_peercred(stream)
        .map_err(|errno| TakeoverError::Lost { action: "identify", source: errno.into() })?;
    let (uid, own) = (peer.uid.as_raw(), rustix::process::geteuid().as_raw());
    if uid == own { Ok(()) } else { Err(TakeoverError::Stranger { uid, own }) }
}

fn out_of_turn() -> TakeoverError {
    TakeoverError::Garbled("it spoke out of turn".to_owned())
}

/// The time since some moment, the same for all processes.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests;
