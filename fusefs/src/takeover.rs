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

mod give;
mod take;
mod wire;

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub use give::{Belongings, HandedOver, offer, refuse};
pub use take::{Offering, Predecessor, Taken, ask};
pub(crate) use wire::SentOptions;
use wire::VERSION;

/// How long the new process may take to make itself ready, and the old one to copy.
const PREPARE_MAX: Duration = Duration::from_secs(120);

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
