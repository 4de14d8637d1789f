//! The daemon: the one process that writes the store for as long as it runs, its mounts, and its socket.
//!
//! It begins in this order: the lock, the mounts, the socket, "ready". It ends the other way round: the socket's name
//! goes, so that new commands run in their own processes; jobs end; mounts end; the lock is given back.

pub(crate) mod mounts;
mod turn;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use cairn_fusefs::{Spread, Timings};
use cairn_server::socket::Listening;
use cairn_server::{About, Caller, Client, Jobs, Limits};
use cairn_store::{Error, Store, Writer, WriterOptions};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::mounts::Mounts;
pub(crate) use self::turn::Taken;
use self::turn::{Holder, Refused, Turn};
use crate::app::{self, Place};
use crate::args::Global;
use crate::commands::daemon::DaemonArgs;
use crate::error::Usage;
use crate::{client, job};

/// How long jobs that were asked to stop may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What the jobs of a daemon share.
pub(crate) struct Daemon {
    writer: Writer,
    mounts: Arc<Mounts>,
    turn: Turn,
    started: Instant,
    /// From when a request was accepted until what it changed in a profile was durable and to be seen.
    changes: Timings,
}

impl Daemon {
    /// Mounts a profile.
    pub(crate) fn mount(
        &self,
        options: cairn_fusefs::MountOptions,
    ) -> anyhow::Result<cairn_fusefs::MountStatus> {
        self.mounts.add(&self.writer, options)
    }

    /// For how long it has run.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// A profile was changed, so long after the request for it.
    pub(crate) fn note_change(&self, took: Duration) {
        self.changes.add(took);
    }

    /// How long changes of profiles took.
    pub(crate) fn changes(&self) -> Spread {
        self.changes.spread()
    }

    /// The store's writer; what it changes is `who`'s.
    pub(crate) fn writer(&self, who: String) -> Writer {
        self.writer.signed(who)
    }

    /// The store, with what is open of it.
    pub(crate) fn store(&self) -> &Store {
        self.writer.store()
    }

    /// The mounts.
    pub(crate) fn mounts(&self) -> &Arc<Mounts> {
        &self.mounts
    }

    /// The right to ingest, within `wait`.
    pub(crate) fn turn(
        &self,
        caller: Caller,
        wait: Duration,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Taken<'_>, Error> {
        let since = cairn_store::time::rfc3339(cairn_store::time::now_ms());
        let taken = self.turn.take(Holder { pid: caller.pid, since }, wait, is_cancelled);
        taken.map_err(|refused| match refused {
            Refused::Cancelled => Error::Cancelled,
            Refused::Busy(Holder { pid, since }) => {
                Error::Busy { path: self.writer.path().to_owned(), pid, since }
            }
        })
    }
}

/// Runs until it is told to stop.
pub(crate) fn run(global: &Global, args: DaemonArgs) -> anyhow::Result<u8> {
    if args.auto && args.other.is_none() {
        // It outlives the terminal of whoever started it. Who leads a group has one of its own already.
        let _ = rustix::process::setsid();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    runtime.block_on(live(global, args))?;
    Ok(0)
}

async fn live(global: &Global, args: DaemonArgs) -> anyhow::Result<()> {
    let path = std::path::absolute(app::locate_store(global.store.clone())?)?;
    let socket = client::socket(global).map(std::path::absolute).transpose()?;
    let socket = socket.unwrap_or_else(|| path.join(app::SOCKET));
    let group = args.socket_group.as_deref().map(group).transpose()?;
    refuse_second(&socket, &path).await?;
    let options =
        WriterOptions { wait: global.wait, command: "cairn daemon".to_owned(), who: app::who(own_uid()) };
    let writer = Writer::open(&path, &options, &())?;
    let mounts = Mounts::new(args.cache_max);
    let shown = Arc::clone(&mounts);
    writer.observe(Box::new(move |view| shown.publish(view)));
    let daemon = Arc::new(Daemon {
        writer,
        mounts: Arc::clone(&mounts),
        turn: Turn::default(),
        started: Instant::now(),
        changes: Timings::default(),
    });
    let listening = Listening::open(&socket, group)?;
    let mut signals = Signals::watch()?;
    let named = args.mount.into_iter().map(MountArg::into_options);
    let mounted = named.chain(args.other.map(Ok)).try_for_each(|options| {
        let options = options?;
        mounts.add(&daemon.writer, options).map(drop)
    });
    if let Err(error) = mounted {
        mounts.end();
        return Err(error);
    }

    let limits = Limits { jobs: args.jobs.get(), ..Limits::default() };
    let jobs = Jobs::new(limits.jobs);
    let about = About { version: env!("CARGO_PKG_VERSION"), store: path.clone(), started: Instant::now() };
    let commands = job::Jobs::new(Place::Daemon(daemon));
    let router = cairn_server::router(commands.into(), Arc::clone(&jobs), limits.clone(), about);
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("serving {}", path.display()))]);
    tracing::info!(store = %path.display(), socket = %socket.display(), "ready");
    let stop = async {
        let is_auto = args.auto;
        tokio::select! {
            () = signals.next() => {}
            () = mounts.emptied.notified(), if is_auto => {}
        }
        tell(&[NotifyState::Stopping, NotifyState::Status("waiting for commands to end")]);
        tracing::info!(jobs = jobs.count(), "stopping");
        listening.withdraw();
        tokio::select! {
            _ = cairn_server::drain(&jobs, args.grace, LAST_WORDS) => {}
            () = signals.next() => {
                jobs.cancel_all();
                tokio::select! {
                    _ = tokio::time::timeout(LAST_WORDS, jobs.idle()) => {}
                    () = signals.next() => {}
                }
            }
        }
    };
    listening.serve(router, &limits, stop).await.context("cannot serve the socket")?;
    tokio::task::spawn_blocking(move || mounts.end()).await.context("cannot end the mounts")?;
    tracing::info!("stopped");
    Ok(())
}

/// A daemon that answers at the socket has the store.
async fn refuse_second(socket: &std::path::Path, store: &std::path::Path) -> anyhow::Result<()> {
    let Some(mut there) = Client::connect(socket)? else { return Ok(()) };
    let health =
        tokio::time::timeout(LAST_WORDS, there.health()).await.context("the daemon does not answer")??;
    let uptime = health.uptime_ms;
    let since = cairn_store::time::rfc3339(cairn_store::time::now_ms().saturating_sub(uptime));
    Err(Error::Busy { path: store.to_owned(), pid: health.pid, since }.into())
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Tells systemd, if that is who started this.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd does not hear");
    }
}

/// The number of a group, given by number or by name in the form of group(5).
fn group(given: &str) -> Result<u32, Usage> {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let named = || {
        groups.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == given).then(|| fields.nth(1)?.parse().ok())?
        })
    };
    given.parse().ok().or_else(named).ok_or_else(|| Usage {
        problem: format!("there is no group {given}"),
        hint: "--socket-group takes a name of /etc/group, or a number",
    })
}

/// SIGTERM and SIGINT; SIGHUP is heard and means nothing, so that a terminal that closes ends no daemon.
struct Signals {
    heard: [Signal; 2],
    _ignored: Signal,
}

impl Signals {
    fn watch() -> anyhow::Result<Self> {
        let heard = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
        Ok(Self { heard, _ignored: signal(SignalKind::hangup())? })
    }

    async fn next(&mut self) {
        let [term, int] = &mut self.heard;
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    }
}

/// `DIR[=PROFILE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountArg {
    pub(crate) dir: PathBuf,
    pub(crate) profile: cairn_store::ProfileName,
}

impl MountArg {
    fn into_options(self) -> anyhow::Result<cairn_fusefs::MountOptions> {
        let dir = std::path::absolute(self.dir)?;
        Ok(cairn_fusefs::MountOptions::new(dir, self.profile))
    }
}

impl std::str::FromStr for MountArg {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text.rsplit_once('=') {
            Some((dir, profile)) => Self { dir: dir.into(), profile: profile.parse()? },
            None => Self { dir: text.into(), profile: cairn_store::ProfileName::default() },
        })
    }
}
