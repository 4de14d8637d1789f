//! The old side of a takeover: a socket at which another process of this user gets the store, its mounts and its lock.
//!
//! While it is asked, no command begins: what comes waits, and what runs gets the grace time to end; then nobody changes
//! a name or makes a mount. If the exchange comes to nothing, those that wait begin here as if nothing had been. If it succeeds they are
//! sent to the new daemon, answers that are on their way may leave, and this process ends without touching anything.

use std::convert::Infallible;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context, bail};
use cairn_fusefs::Mount;
use cairn_fusefs::takeover::{self, Belongings};
use cairn_server::Jobs;
use cairn_server::socket::{Listening, Prepared};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::settings::Settings;
use super::{Daemon, inherit};

/// The name of the socket in the store.
pub(crate) const SOCKET: &str = "takeover.sock";
/// How long the new daemon may take from having the mounts to answering at its socket.
const SUCCESSOR_MAX: Duration = Duration::from_secs(10);
/// The most of the grace time that the other process can be kept waiting; it gives up later than that.
const GRACE_MAX: Duration = Duration::from_secs(100);
/// How long to wait when the system is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The socket for successors, and the thread that will wait at it: made before there is anything to hand over, when
/// failing still costs nothing.
pub(crate) struct Successors {
    socket: Prepared,
    begin: mpsc::SyncSender<(Arc<Handover>, oneshot::Sender<Gone>)>,
}

/// What waits for a successor.
pub(crate) struct Handover {
    daemon: Arc<Daemon>,
    jobs: Arc<Jobs>,
    settings: Settings,
    listening: Listening,
    /// Held during an exchange, and for ever after one that succeeded.
    exchange: Mutex<()>,
    /// The other process of the exchange that runs. A leaf lock.
    other: Mutex<Option<UnixStream>>,
}

/// The store is another's. Dropping the last of them ends this process at once, and so does [`end`](Self::end).
#[derive(Clone)]
pub(crate) struct Gone(mpsc::Sender<()>);

impl Gone {
    /// Ends this process. Whoever calls it waits for that.
    pub(crate) fn end(&self) {
        // Nobody receives it if this is not the first time.
        let _ = self.0.send(());
    }
}

impl Successors {
    /// Prepares to listen in the store.
    pub(crate) fn prepare(store: &Path) -> anyhow::Result<Self> {
        let socket = Prepared::new(&store.join(SOCKET), None)?;
        let runtime = Handle::current();
        let (begin, begun) = mpsc::sync_channel::<(Arc<Handover>, _)>(1);
        let serve = move || {
            // Nobody begins where this process fails before it is a daemon.
            if let Ok((handover, tell)) = begun.recv() {
                handover.serve(&runtime, tell);
            }
        };
        let thread = std::thread::Builder::new().name("takeover".to_owned());
        thread.spawn(serve).context("cannot wait for a successor")?;
        Ok(Self { socket, begin })
    }

    /// Begins to listen, also in the place of the daemon that this one took over from. What is received comes when a
    /// successor has taken over and answers.
    pub(crate) fn serve(
        self,
        daemon: Arc<Daemon>,
        jobs: Arc<Jobs>,
        settings: Settings,
    ) -> (Arc<Handover>, oneshot::Receiver<Gone>) {
        let listening = inherit::place(self.socket);
        let (exchange, other) = (Mutex::default(), Mutex::default());
        let handover = Arc::new(Handover { daemon, jobs, settings, listening, exchange, other });
        let (tell, told) = oneshot::channel();
        // The thread waits for just this, and there is room for it.
        let _ = self.begin.send((Arc::clone(&handover), tell));
        (handover, told)
    }
}

impl Handover {
    /// Lets no exchange begin while what this returns lives, and breaks one off that runs. One that has succeeded ends
    /// this process; nobody may keep its [`Gone`] from being dropped meanwhile.
    pub(crate) fn stop(&self) -> MutexGuard<'_, ()> {
        self.listening.withdraw();
        if let Some(other) = &*lock(&self.other) {
            // It may be gone.
            let _ = other.shutdown(std::net::Shutdown::Both);
        }
        lock(&self.exchange)
    }

    fn serve(&self, runtime: &Handle, tell: oneshot::Sender<Gone>) {
        let mut tell = Some(tell);
        loop {
            let stream = match self.listening.accept() {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    std::thread::sleep(PAUSE);
                    continue;
                }
            };
            let _exchange = lock(&self.exchange);
            *lock(&self.other) = stream.try_clone().ok();
            let Err(error) = self.exchange(runtime, stream, &mut tell);
            self.daemon.writer.resume();
            self.daemon.streams().resume();
            self.daemon.set_leaving(false);
            tracing::warn!(error = format!("{error:#}"), "nobody took over");
            *lock(&self.other) = None;
        }
    }

    /// Hands everything to the process at the other end, and ends this one. It returns only if nobody took over.
    fn exchange(
        &self,
        runtime: &Handle,
        stream: UnixStream,
        tell: &mut Option<oneshot::Sender<Gone>>,
    ) -> anyhow::Result<Infallible> {
        let Some(hold) = self.jobs.hold() else { return refuse(stream, "it is about to stop".to_owned()) };
        tracing::info!(jobs = self.jobs.count(), "another process asks to take over");
        self.daemon.set_leaving(true);
        let grace = self.settings.grace().min(GRACE_MAX);
        let idle = async { tokio::time::timeout(grace, self.jobs.idle()).await.is_ok() };
        if !runtime.block_on(idle) {
            let running = crate::text::count(self.jobs.count() as u64, "command");
            let grace = crate::text::duration(grace);
            return refuse(stream, format!("{running} did not end within {grace}, see its --grace"));
        }
        let _quiet = self.daemon.background().hold();
        // What runs is stopped: it is due again under the next daemon.
        let snapshots = self.daemon.snapshots.get();
        let Some(_no_snapshot) = snapshots.map_or(Some(None), |snapshots| snapshots.hold().map(Some)) else {
            return refuse(stream, "a snapshot that it takes does not end".to_owned());
        };
        let _unread = self.daemon.scrubber.get().map(|scrubber| scrubber.hold());
        let _shelf = self.daemon.served().map(|served| served.hold_binaries());
        self.daemon.streams().suspend();
        let Some(lock) = self.daemon.writer.hand_over() else {
            return refuse(stream, "its store has no lock".to_owned());
        };
        // Not before: a command that has just ended may have made one.
        let mounts = self.daemon.mounts().alive();
        let mounts: Vec<&Mount> = mounts.iter().map(|mount| &**mount).collect();
        let mut settings = self.settings.clone();
        settings.lazy = self.daemon.mounts().lazy();
        let sockets = self.daemon.served().map(|served| served.socket()).into_iter().collect();
        let belongings = Belongings { lock, sockets, extra: settings.to_bytes() };
        let mut handed = takeover::offer(stream, &mounts, belongings)?;
        self.daemon.streams().close();
        // Who waits asks again until the new one is found.
        hold.moved();
        tracing::info!("another process has taken over");
        handed.wait_for_successor(SUCCESSOR_MAX);
        let (gone, end) = mpsc::channel();
        // Where this one was just about to stop nobody listens, and it ends now.
        let _ = tell.take().map(|tell| tell.send(Gone(gone)));
        let _ = end.recv();
        handed.exit()
    }
}

fn refuse<T>(stream: UnixStream, why: String) -> anyhow::Result<T> {
    takeover::refuse(stream, why.clone())?;
    bail!(why)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they guard is replaced whole: a panic elsewhere leaves it sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
