//! The daemon's Unix socket: made so that nobody connects who may not, at any time, and served.
//!
//! A socket's file keeps the name of a daemon that died. It is replaced by renaming the new one over it, so that there
//! is no moment without one; whether somebody still listens behind it is asked by connecting. Permissions are set
//! between binding and listening, while every connection is refused. A daemon that takes over from another prepares its
//! socket beside the other's, and puts it in its place when it is the one to answer.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::error::SocketError;
use crate::limits::Limits;
use crate::run::Caller;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// How long to wait when the system is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a request's head that are taken.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// A socket that is listened on. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file, by which it is known.
    identity: (u64, u64),
}

impl Listening {
    /// Listens at `path`, for this user (mode 0600) or for a group too (0660).
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn open(path: &Path, group: Option<u32>) -> Result<Self, SocketError> {
        if is_taken(path)? {
            return Err(SocketError::Taken(path.to_owned()));
        }
        Prepared::new(path, group)?.place()
    }

    fn bind(path: &Path, group: Option<u32>) -> io::Result<(UnixListener, (u64, u64))> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let (address, _folder) = address(path)?;
        rustix::net::bind(&socket, &address)?;
        // Nobody can connect yet: that begins with listen().
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        rustix::fs::chmod(path, Mode::from_raw_mode(mode))?;
        if let Some(group) = group {
            rustix::fs::chownat(CWD, path, None, Some(Gid::from_raw(group)), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        let metadata = fs::symlink_metadata(path)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok((UnixListener::from(socket), (metadata.dev(), metadata.ino())))
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the socket's file away: who looks for it from now on finds nobody. Connections go on.
    pub fn withdraw(&self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if is_ours {
            // A file that stays is replaced by the next daemon.
            let _ = rustix::fs::unlink(&self.path);
        }
    }

    /// Waits for somebody to connect; blocks.
    ///
    /// # Errors
    /// What the system says.
    pub fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let mut waits = [rustix::event::PollFd::new(&self.listener, rustix::event::PollFlags::IN)];
            match rustix::event::poll(&mut waits, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            match self.listener.accept() {
                Ok((stream, _)) => return Ok(stream),
                Err(error)
                    if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&error.kind()) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Answers connections until `stop` comes, and then no new ones; afterwards waits for answers to leave, as long as
    /// `stop` says. Who stops it lets the jobs end first.
    ///
    /// # Errors
    /// When the runtime does not take the socket.
    pub async fn serve(
        &self,
        router: Router,
        limits: &Limits,
        stop: impl Future<Output = Duration>,
    ) -> io::Result<()> {
        let listener = tokio::net::UnixListener::from_std(self.listener.try_clone()?)?;
        let places = Arc::new(Semaphore::new(limits.connections));
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        let last_answers = loop {
            let accepted = tokio::select! {
                time = &mut stop => break time,
                Some(_) = connections.join_next() => continue,
                accepted = accept(&listener, &places) => accepted,
            };
            match accepted {
                Ok((stream, place)) => {
                    connections.spawn(converse(stream, place, router.clone(), limits.request_time_max));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        // Who connected before the socket's name went is told, and not cut off.
        while let Ok((stream, _)) = self.listener.accept()
            && let Ok(place) = Arc::clone(&places).try_acquire_owned()
            && let Ok(stream) =
                stream.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(stream))
        {
            connections.spawn(converse(stream, place, router.clone(), limits.request_time_max));
        }
        drop(listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(last_answers, ended).await.is_err() {
            tracing::info!("connections are cut off that took no answer");
        }
        Ok(())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// A socket that is listened on under a name that nobody knows, ready to be put in the place of another one.
#[derive(Debug)]
pub struct Prepared {
    /// Under the name that nobody knows; it goes with this.
    listening: Listening,
    path: PathBuf,
}

impl Prepared {
    /// Listens beside `path`, for this user (mode 0600) or for a group too (0660).
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn new(path: &Path, group: Option<u32>) -> Result<Self, SocketError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let new = path.with_file_name(name);
        let failed =
            |source: io::Error| SocketError::Io { action: "listen at", path: path.to_owned(), source };
        // A process of the same number may have died here.
        match rustix::fs::unlink(&new) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        let bound = Listening::bind(&new, group).inspect_err(|_| {
            // It may not have been made.
            let _ = rustix::fs::unlink(&new);
        });
        let (listener, identity) = bound.map_err(failed)?;
        Ok(Self { listening: Listening { listener, path: new, identity }, path: path.to_owned() })
    }

    /// Puts it in its place, also where another process listens: who connects from now on comes here.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn place(self) -> Result<Listening, SocketError> {
        match self.place_or_stay() {
            (listening, None) => Ok(listening),
            (_, Some(error)) => Err(error),
        }
    }

    /// The same, for whom it is too late to fail: where it cannot be put in its place, it goes on listening where it is,
    /// and why is said beside it.
    #[must_use]
    pub fn place_or_stay(self) -> (Listening, Option<SocketError>) {
        let Self { mut listening, path } = self;
        match rustix::fs::rename(&listening.path, &path) {
            Ok(()) => {
                listening.path = path;
                (listening, None)
            }
            Err(errno) => {
                (listening, Some(SocketError::Io { action: "listen at", path, source: errno.into() }))
            }
        }
    }
}

/// Connects to whoever listens at `path`; nobody may.
///
/// # Errors
/// What the system says, other than that nobody listens there or that this user may not connect.
pub fn connect(path: &Path) -> io::Result<Option<UnixStream>> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let connected = address(path).and_then(|(address, _folder)| Ok(rustix::net::connect(&socket, &address)?));
    match connected {
        Ok(()) => Ok(Some(UnixStream::from(socket))),
        Err(error) if is_nobody(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_nobody(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | ConnectionRefused | PermissionDenied | NotADirectory)
}

/// Whether somebody listens at `path`. A socket that is not listened on may be replaced, nothing else.
fn is_taken(path: &Path) -> Result<bool, SocketError> {
    let failed = |source| SocketError::Io { action: "look at", path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => Ok(connect(path).map_err(failed)?.is_some()),
        Ok(_) => Err(SocketError::NoSocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// The address of a socket. A path that is longer than an address takes is named through its open folder, which has to
/// stay open for as long as the address is used.
fn address(path: &Path) -> io::Result<(SocketAddrUnix, Option<OwnedFd>)> {
    match SocketAddrUnix::new(path.as_os_str().as_bytes()) {
        Err(rustix::io::Errno::NAMETOOLONG) => {}
        address => return Ok((address?, None)),
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok((SocketAddrUnix::new(short.as_os_str().as_bytes())?, Some(folder)))
}

async fn accept(
    listener: &tokio::net::UnixListener,
    places: &Arc<Semaphore>,
) -> io::Result<(tokio::net::UnixStream, OwnedSemaphorePermit)> {
    // It is never closed.
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// One request and its answer.
async fn converse(
    stream: tokio::net::UnixStream,
    _place: OwnedSemaphorePermit,
    router: Router,
    head_time_max: Option<Duration>,
) {
    let caller = match stream.peer_cred() {
        Ok(peer) => {
            let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
            Caller { uid: peer.uid(), gid: peer.gid(), pid }
        }
        Err(error) => return tracing::warn!(%error, "the kernel does not say who connects"),
    };
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(caller);
        router.clone().oneshot(request.map(Body::new))
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_time_max).max_buf_size(HEAD_BYTES_MAX);
    // One request a connection: a job's connection is its life line, and nothing else comes behind it.
    http.keep_alive(false);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(pid = caller.pid, uid = caller.uid, %error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn who_has_connected_is_answered_though_the_server_stops() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for _ in 0..20 {
            let listening = Listening::open(&path, None).unwrap();
            let mut streams: Vec<UnixStream> =
                (0..8).map(|_| connect(&path).unwrap().expect("somebody listens")).collect();
            for stream in &mut streams {
                stream.write_all(b"GET / HTTP/1.1\r\nhost: c\r\n\r\n").unwrap();
            }
            listening.withdraw();
            assert!(connect(&path).unwrap().is_none());
            let limits = Limits::default();
            runtime
                .block_on(listening.serve(Router::new(), &limits, std::future::ready(Duration::from_secs(2))))
                .unwrap();
            for mut stream in streams {
                let mut answer = String::new();
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                stream.read_to_string(&mut answer).unwrap();
                assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
            }
        }
    }

    #[test]
    fn what_cannot_be_put_in_its_place_is_still_listened_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let prepared = Prepared::new(&path, None).unwrap();
        fs::create_dir(&path).unwrap();
        let (listening, error) = prepared.place_or_stay();
        assert!(matches!(error, Some(SocketError::Io { .. })), "{error:?}");
        let there = listening.path().to_owned();
        assert_ne!(there, path);
        assert!(connect(&there).unwrap().is_some());
        drop(listening);
        assert!(!there.exists(), "its file goes with it");
        assert!(Prepared::new(&path, None).unwrap().place().is_err());
        assert!(!there.exists());
    }
}
