//! The old side of a takeover: a socket at which another process of this user gets the store, its mounts and its lock.
//!
//! While it is asked, no command begins: what comes waits, and what runs gets the grace time to end; then nobody changes
//! a name. If the exchange comes to nothing, those that wait begin here as if nothing had been. If it succeeds they are
//! sent to the new daemon, answers that are on their way may leave, and this process ends without touching anything.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context, bail};
use cairn_fusefs::Mount;
use cairn_fusefs::takeover::{self, HandedOver};
use cairn_server::socket::{Listening, Prepared};
use cairn_server::{Hold, Jobs};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Daemon;
use super::settings::Settings;

/// The name of the socket in the store.
pub(crate) const SOCKET: &str = "takeover.sock";
/// How long the new daemon may take from having the mounts to answering at its socket.
const SUCCESSOR_MAX: Duration = Duration::from_secs(10);
/// The most of the grace time that the other process can be kept waiting; it gives up later than that.
const GRACE_MAX: Duration = Duration::from_secs(100);
/// How long to wait when the system is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What waits for a successor.
pub(crate) struct Handover {
    daemon: Arc<Daemon>,
    jobs: Arc<Jobs>,
    settings: Settings,
    listening: Listening,
    /// Held during an exchange, and for ever after one that succeeded.
    exchange: Mutex<()>,
    /// The other process of the exchange that runs. A leaf lock.
    other: Mutex<Option<std::os::unix::net::UnixStream>>,
}

/// The store is another's. Dropping it ends this process at once.
pub(crate) struct Gone(#[expect(dead_code, reason = "its end is the message")] mpsc::Sender<()>);

impl Handover {
    /// Begins to listen in the store, also in the place of the daemon that this one took over from. What is received
    /// comes when a successor has taken over and answers.
    pub(crate) fn listen(
        store: &Path,
        daemon: Arc<Daemon>,
        jobs: Arc<Jobs>,
        settings: Settings,
    ) -> anyhow::Result<(Arc<Self>, oneshot::Receiver<Gone>)> {
        let listening = Prepared::new(&store.join(SOCKET), None)?.place()?;
        let (exchange, other) = (Mutex::default(), Mutex::default());
        let handover = Arc::new(Self { daemon, jobs, settings, listening, exchange, other });
        let (tell, told) = oneshot::channel();
        let (serving, runtime) = (Arc::clone(&handover), Handle::current());
        let thread = std::thread::Builder::new().name("takeover".to_owned());
        thread.spawn(move || serving.serve(&runtime, tell)).context("cannot wait for a successor")?;
        Ok((handover, told))
    }

    /// Lets no exchange begin while what this returns lives, and breaks one off that runs. One that has succeeded ends
    /// this process.
    pub(crate) fn stop(&self) -> MutexGuard<'_, ()> {
        self.listening.withdraw();
        if let Some(other) = &*lock(&self.other) {
            // It may be gone.
            let _ = other.shutdown(std::net::Shutdown::Both);
        }
        lock(&self.exchange)
    }

    fn serve(&self, runtime: &Handle, tell: oneshot::Sender<Gone>) {
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
            let mounts = self.daemon.mounts().alive();
            match self.offer(runtime, stream, &mounts) {
                Ok((mut handed, hold)) => {
                    // Who waits asks again until the new one is found.
                    hold.moved();
                    tracing::info!("another process has taken over");
                    handed.wait_for_successor(SUCCESSOR_MAX);
                    let (gone, end) = mpsc::channel();
                    // Nobody listens to it if this one was just about to stop.
                    let _ = tell.send(Gone(gone));
                    let _ = end.recv();
                    handed.exit();
                }
                Err(error) => {
                    self.daemon.writer.resume();
                    tracing::warn!(error = format!("{error:#}"), "nobody took over");
                }
            }
            *lock(&self.other) = None;
        }
    }

    fn offer<'a>(
        &self,
        runtime: &Handle,
        stream: std::os::unix::net::UnixStream,
        mounts: &'a [Arc<Mount>],
    ) -> anyhow::Result<(HandedOver<'a>, Hold)> {
        let Some(hold) = self.jobs.hold() else { return refuse(stream, "it is about to stop".to_owned()) };
        let grace = self.settings.grace().min(GRACE_MAX);
        let idle = async { tokio::time::timeout(grace, self.jobs.idle()).await.is_ok() };
        if !runtime.block_on(idle) {
            let running = crate::text::count(self.jobs.count() as u64, "command");
            let grace = crate::text::duration(grace);
            return refuse(stream, format!("{running} did not end within {grace}, see its --grace"));
        }
        let Some(lock) = self.daemon.writer.hand_over() else {
            return refuse(stream, "its store has no lock".to_owned());
        };
        let mounts: Vec<&Mount> = mounts.iter().map(|mount| &**mount).collect();
        let handed = takeover::offer(stream, &mounts, lock, self.settings.to_bytes())?;
        Ok((handed, hold))
    }
}

fn refuse<T>(stream: std::os::unix::net::UnixStream, why: String) -> anyhow::Result<T> {
    takeover::refuse(stream, why.clone())?;
    bail!(why)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they guard is replaced whole: a panic elsewhere leaves it sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
