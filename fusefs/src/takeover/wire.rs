//! What the two processes of a takeover say to each other: length-prefixed messages on a Unix stream, and descriptors.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use cairn_store::{Platform, ProfileName};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::TakeoverError;
use crate::handle::SavedOpen;
use crate::inode::SavedInodes;
use crate::mount::{Legacy, MountOptions, Passthrough};
use crate::session::THREADS;

/// What both sides have to speak.
pub(super) const VERSION: u32 = 1;
/// Bytes of a message: some millions of inodes.
const MESSAGE_BYTES_MAX: u32 = 1 << 30;
/// Descriptors that come together: the kernel takes 253 at most.
pub(super) const DESCRIPTORS_MAX: usize = 128;

/// The first word, of who has the mounts. It has this form in all versions.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) version: u32,
    /// Why it keeps them; else an [`Offer`] follows.
    pub(super) refused: Option<String>,
}

/// Everything that can be copied while it still serves.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Offer {
    /// The caller's own.
    pub(super) extra: Vec<u8>,
    pub(super) mounts: Vec<Offered>,
}

/// A mount that is offered.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Offered {
    pub(super) options: MountOptions,
    pub(super) legacy: Legacy,
    pub(super) device_name: String,
    pub(super) inodes: SavedInodes,
    pub(super) open: Vec<SavedOpen>,
}

/// The options of a mount, as this version of the takeover has them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SentOptions {
    dir: PathBuf,
    profile: ProfileName,
    platform: Option<Platform>,
    allow_other: bool,
    passthrough: Passthrough,
    /// How many threads read requests: those before it could be told. It is not looked at.
    threads: usize,
}

impl From<MountOptions> for SentOptions {
    fn from(options: MountOptions) -> Self {
        let MountOptions { dir, profile, platform, allow_other, passthrough } = options;
        Self { dir, profile, platform, allow_other, passthrough, threads: THREADS }
    }
}

impl From<SentOptions> for MountOptions {
    fn from(sent: SentOptions) -> Self {
        let SentOptions { dir, profile, platform, allow_other, passthrough, threads: _ } = sent;
        Self { dir, profile, platform, allow_other, passthrough }
    }
}

/// What both sides say after that, in this order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// The new process can begin.
    Ready,
    /// The old one answers no more; this is what changed, a part for each mount.
    Last(Last),
    /// The new one has got everything.
    Took,
    /// The old one will never answer again.
    Go,
    /// The old one goes on: the new one has nothing any more.
    Stay,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Last {
    /// When the first gate was closed, by the clock that both see.
    pub(super) paused_at: Duration,
    pub(super) mounts: Vec<(SavedInodes, Vec<SavedOpen>)>,
}

fn lost(action: &'static str) -> impl Fn(std::io::Error) -> TakeoverError {
    move |source| TakeoverError::Lost { action, source }
}

pub(super) fn send(stream: &mut UnixStream, message: &impl Serialize) -> Result<(), TakeoverError> {
    let failed = lost("write to");
    let bytes = postcard::to_stdvec(message).map_err(|error| TakeoverError::Garbled(error.to_string()))?;
    let len = u32::try_from(bytes.len()).ok().filter(|len| *len <= MESSAGE_BYTES_MAX);
    let len = len.ok_or_else(|| TakeoverError::Garbled(format!("a message of {} bytes", bytes.len())))?;
    stream.write_all(&len.to_le_bytes()).map_err(&failed)?;
    stream.write_all(&bytes).map_err(&failed)
}

/// The next message, if it comes in time.
pub(super) fn receive<T: DeserializeOwned>(
    stream: &mut UnixStream,
    wait: Duration,
) -> Result<T, TakeoverError> {
    let failed = lost("read from");
    stream.set_read_timeout(Some(wait)).map_err(&failed)?;
    let mut len = [0; 4];
    stream.read_exact(&mut len).map_err(&failed)?;
    let len = u32::from_le_bytes(len);
    if len > MESSAGE_BYTES_MAX {
        return Err(TakeoverError::Garbled(format!("a message of {len} bytes")));
    }
    // It grows with what arrives, not with what is claimed.
    let mut bytes = Vec::new();
    stream.take(len.into()).read_to_end(&mut bytes).map_err(&failed)?;
    if bytes.len() != len as usize {
        return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
    }
    postcard::from_bytes(&bytes).map_err(|error| TakeoverError::Garbled(error.to_string()))
}

/// Sends descriptors with a byte that stands for them.
pub(super) fn send_descriptors(
    stream: &UnixStream,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), TakeoverError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if descriptors.len() > DESCRIPTORS_MAX || !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(TakeoverError::TooMany { mounts: descriptors.len() });
    }
    let sent = rustix::net::sendmsg(stream, &[IoSlice::new(b"d")], &mut ancillary, SendFlags::NOSIGNAL);
    sent.map(|_| ()).map_err(|errno| lost("write to")(errno.into()))
}

/// As many descriptors as are expected.
pub(super) fn receive_descriptors(
    stream: &UnixStream,
    count_min: usize,
) -> Result<Vec<OwnedFd>, TakeoverError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(stream, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .map_err(|errno| lost("read from")(errno.into()))?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    if descriptors.len() >= count_min {
        Ok(descriptors)
    } else {
        Err(TakeoverError::Garbled(format!("{} descriptors instead of {count_min}", descriptors.len())))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn messages_and_descriptors_arrive_in_order() {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        send(&mut a, &Word::Ready).unwrap();
        send_descriptors(&a, &[a.as_fd(), b.as_fd()]).unwrap();
        send(&mut a, &Word::Go).unwrap();
        assert!(matches!(receive(&mut b, SOON).unwrap(), Word::Ready));
        assert_eq!(receive_descriptors(&b, 2).unwrap().len(), 2);
        assert!(matches!(receive(&mut b, SOON).unwrap(), Word::Go));
    }

    #[test]
    fn what_is_cut_or_claims_too_much_is_an_error() {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        a.write_all(&100u32.to_le_bytes()).unwrap();
        a.write_all(b"short").unwrap();
        drop(a);
        assert!(matches!(receive::<Word>(&mut b, SOON), Err(TakeoverError::Lost { .. })));
        let (mut a, mut b) = UnixStream::pair().unwrap();
        a.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(matches!(receive::<Word>(&mut b, SOON), Err(TakeoverError::Garbled(_))));
        let (mut a, mut b) = UnixStream::pair().unwrap();
        a.write_all(&[1, 0, 0, 0, 200]).unwrap();
        assert!(matches!(receive::<Word>(&mut b, SOON), Err(TakeoverError::Garbled(_))));
        send_descriptors(&a, &[a.as_fd()]).unwrap();
        assert!(matches!(receive_descriptors(&b, 2), Err(TakeoverError::Garbled(_))));
    }

    #[test]
    fn nobody_is_waited_for_for_ever() {
        let (_a, mut b) = UnixStream::pair().unwrap();
        assert!(matches!(
            receive::<Word>(&mut b, Duration::from_millis(10)),
            Err(TakeoverError::Lost { .. })
        ));
    }

    #[test]
    fn the_options_of_a_mount_have_the_form_that_they_always_had() {
        let options = MountOptions::new("/opt/bins".into(), ProfileName::default());
        let bytes = postcard::to_stdvec(&options).unwrap();
        // The directory, the profile, no platform, nobody else, passthrough where it can be, one thread.
        assert_eq!(bytes, b"\x09/opt/bins\x07default\x00\x00\x00\x01");
        let read: MountOptions = postcard::from_bytes(&bytes).unwrap();
        assert_eq!((read.dir, read.profile), (options.dir, options.profile));
    }
}
