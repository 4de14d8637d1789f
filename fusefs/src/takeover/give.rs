//! The old process: it offers its mounts, lets go of them, and answers nobody any more.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::RwLockWriteGuard;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fuser::InitFlags;

use super::wire::{self, DESCRIPTORS_MAX, Hello, Last, Offer, Offered, VERSION, Word, receive, send};
use super::{PREPARE_MAX, TakeoverError, check_peer, now, out_of_turn};
use crate::device::{Parking, exit_now};
use crate::mount::Mount;

/// How long the old process answers nobody before it goes on.
const PAUSE_MAX: Duration = Duration::from_secs(2);

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
    /// Waits until the new process has dropped its [`super::Predecessor`], or `max`.
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
