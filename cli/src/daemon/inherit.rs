//! The new side of a takeover: the store, its mounts and its lock from the daemon that runs.
//!
//! All that can fail is done before the mounts change hands: the store is opened by the other's lock, the cache is
//! opened, both sockets are made beside the other's, and the threads that will be wanted wait. Until then the other
//! daemon goes on as before if this process fails; from then on nothing is an error that ends this one.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use cairn_fusefs::takeover::{self, Offering, Predecessor, Taken};
use cairn_server::socket::{Listening, Prepared};
use cairn_store::{Streams, Writer, WriterOptions};

use super::handover::{SOCKET, Successors};
use super::mounts::{Mounts, Watcher};
use super::settings::Settings;
use super::{COMMAND, MountArg};
use crate::exchange::Background;

/// What another daemon offers.
pub(crate) struct Inheritance {
    offering: Offering,
    pub(crate) settings: Settings,
}

/// How a daemon came by its mounts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Takeover {
    /// The process that had them.
    pub(crate) pid: u32,
    /// How long nobody was answered.
    pub(crate) paused: Duration,
}

/// All that was taken over.
pub(crate) struct Inherited {
    pub(crate) writer: Writer,
    pub(crate) streams: Arc<Streams>,
    pub(crate) mounts: Arc<Mounts>,
    pub(crate) background: Arc<Background>,
    pub(crate) control: Listening,
    pub(crate) successors: Successors,
    pub(crate) takeover: Takeover,
    /// It waits until this is dropped.
    pub(crate) predecessor: Predecessor,
}

/// Asks the daemon of the store; none may run.
pub(crate) fn ask(store: &Path) -> anyhow::Result<Option<Inheritance>> {
    let socket = store.join(SOCKET);
    let stream = cairn_server::socket::connect(&socket)
        .with_context(|| format!("cannot reach {}", socket.display()))?;
    let Some(stream) = stream else { return Ok(None) };
    let offering = takeover::ask(stream).context("cannot take over from the daemon that runs")?;
    let settings = Settings::from_bytes(offering.extra())?;
    Ok(Some(Inheritance { offering, settings }))
}

impl Inheritance {
    /// The sockets on which the other one listens for peers, once.
    pub(crate) fn take_sockets(&mut self) -> Vec<OwnedFd> {
        self.offering.take_sockets()
    }

    /// Refuses what cannot be had together with the mounts that there are; gives those that have to be made.
    pub(crate) fn missing(&self, wanted: Vec<MountArg>) -> anyhow::Result<Vec<MountArg>> {
        let mut missing = Vec::new();
        for arg in wanted {
            let dir = std::path::absolute(&arg.dir)?;
            // A mount that another process serves at this moment answers as always.
            let resolved = std::fs::canonicalize(&dir).unwrap_or(dir);
            match self.offering.mounts().find(|(there, _)| *there == resolved) {
                Some((_, profile)) if *profile == arg.profile => {}
                Some((there, profile)) => bail!(
                    "{} shows the profile {profile}, not {}: unmount it first",
                    there.display(),
                    arg.profile
                ),
                None => missing.push(arg),
            }
        }
        Ok(missing)
    }

    /// Takes over.
    pub(crate) fn take(
        self,
        store: &Path,
        settings: &Settings,
        options: &WriterOptions,
    ) -> anyhow::Result<Inherited> {
        let pid = self.offering.pid();
        let lock = self.offering.lock().try_clone_to_owned().context("cannot keep the store's lock")?;
        let writer = Writer::inherit(store, lock, options)?;
        // The other one appends no more; logs are opened when somebody asks for them, and nobody does before this one answers.
        let streams = Streams::open(&writer, settings.serve.stream_bounds())?;
        let mounts = Mounts::new(settings.cache_max, settings.fetch_max());
        let background = settings.background(&writer)?;
        // The first read may be of what is not here.
        background.attach();
        let files = mounts.files(&writer)?;
        let control = Prepared::new(&settings.socket, settings.group)?;
        let successors = Successors::prepare(store)?;
        let watchers = (0..self.offering.count()).map(|_| mounts.watcher());
        let watchers: Vec<Watcher> = watchers.collect::<anyhow::Result<_>>()?;
        let taken = self.offering.take(writer.store(), &writer.names(), &files);
        let Taken { mounts: taken, paused, predecessor } =
            taken.context("cannot take over from the daemon that runs")?;
        writer.succeed(COMMAND);
        let takeover = Takeover { pid, paused };
        let inodes: u64 = taken.iter().map(|mount| mount.status().fs.inodes).sum();
        tracing::info!(process = pid, mounts = taken.len(), inodes, ?paused, "took over");
        mounts.adopt(taken, watchers);
        let control = place(control);
        Ok(Inherited { writer, streams, mounts, background, control, successors, takeover, predecessor })
    }
}

/// Puts a socket in its place. Whose mounts this process has already, they outlive a socket that stays elsewhere.
pub(super) fn place(socket: Prepared) -> Listening {
    let (listening, stayed) = socket.place_or_stay();
    if let Some(error) = stayed {
        let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        tracing::error!(%error, why, socket = %listening.path().display(), "a socket is not in its place");
    }
    listening
}
