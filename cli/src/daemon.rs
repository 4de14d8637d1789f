//! The daemon: the one process that writes the store for as long as it runs, its mounts, and its socket.
//!
//! It begins in this order: the lock; the socket, at which who comes waits; the mounts; the place where a successor asks;
//! "ready", and commands are answered. It ends the other way round: the socket's name goes, so that new commands run in
//! their own processes; jobs end; no successor is heard any more; mounts end; the lock is given back. A daemon that is
//! taken over gives all of that to its successor instead (`handover`), which began with it (`inherit`).
//!
//! One that a mount began (`--auto`) ends by itself when there is no mount, and it alone decides when that is.

mod collector;
mod config;
mod detach;
mod handover;
mod inherit;
pub(crate) mod mounts;
mod optimiser;
mod room;
mod scrub;
mod serve;
mod settings;
mod shared;
mod signals;
mod snapshots;
mod turn;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use cairn_fusefs::MountOptions;
use cairn_fusefs::takeover::Predecessor;
use cairn_server::socket::Listening;
use cairn_server::{About, Client, Jobs, Limits};
use cairn_store::{Error, Streams, Writer, WriterOptions};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;

pub(crate) use self::collector::{CollectorArgs, LastCollection};
pub(crate) use self::config::ConfigArgs;
use self::handover::{Gone, Successors};
pub(crate) use self::inherit::Takeover;
use self::inherit::{Inheritance, Inherited};
use self::mounts::Mounts;
pub(crate) use self::optimiser::{LastOptimising, OptimiserArgs};
pub(crate) use self::scrub::ScrubArgs;
use self::serve::Opened;
pub(crate) use self::serve::Served;
use self::settings::Settings;
pub(crate) use self::shared::Daemon;
use self::signals::Signals;
pub(crate) use self::snapshots::SnapshotsOf;
pub(crate) use self::turn::Taken;
use crate::app::{self, Place};
use crate::args::Global;
use crate::commands::daemon::DaemonArgs;
use crate::{error, job};

/// How long jobs that were asked to stop may take.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long answers may take to leave after the last job has ended.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// The same when another daemon has taken over, and nobody waits for this one to end.
const LATE_ANSWERS: Duration = Duration::from_secs(600);
/// How long after another daemon answers at the socket somebody may still come to this one.
const LAST_CALLERS: Duration = Duration::from_millis(50);
/// How long a daemon that ends with its last mount waits for the first.
const FIRST_MOUNT_MAX: Duration = Duration::from_secs(10);
/// What it is to those who wait for the store.
const COMMAND: &str = "cairn daemon";

/// Runs until it is told to stop.
pub(crate) fn run(global: &Global, args: DaemonArgs) -> anyhow::Result<u8> {
    if args.detach {
        return detach::run(global);
    }
    let mut global = global.clone();
    let mut args = args;
    if args.detached || args.auto && args.other.is_none() {
        detach::leave(&mut global, &mut args)?;
    }
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    runtime.block_on(live(&global, args))?;
    Ok(0)
}

/// What a daemon begins with.
struct Begun {
    daemon: Arc<Daemon>,
    control: Listening,
    successors: Successors,
    settings: Settings,
    opened: Option<Opened>,
    /// What is still to be mounted.
    missing: Vec<MountOptions>,
    predecessor: Option<Predecessor>,
    signals: Signals,
}

async fn live(global: &Global, mut args: DaemonArgs) -> anyhow::Result<()> {
    let path = std::path::absolute(app::locate_store(global.store.clone())?)?;
    let inheritance = if args.takeover { inherit::ask(&path)? } else { None };
    if args.takeover && inheritance.is_none() {
        tracing::info!("no daemon runs that could be taken over: this one begins by itself");
    }
    let other = args.other.take();
    let begun = match inheritance {
        Some(inheritance) => begin_with(global, args, &path, inheritance)?,
        None => begin(global, args, &path).await?,
    };
    let Begun { daemon, control, successors, settings, opened, missing, predecessor, mut signals } = begun;
    let jobs = Jobs::new(settings.jobs());
    let mounts = Arc::clone(daemon.mounts());
    if predecessor.is_none() {
        let mut all = missing.iter().chain(&other);
        if let Err(error) = all.try_for_each(|options| daemon.mount(options.clone()).map(drop)) {
            mounts.end();
            return Err(error);
        }
    }
    let limits = Limits { jobs: settings.jobs(), ..Limits::default() };
    let about = About { version: env!("CARGO_PKG_VERSION"), store: path.clone(), started: Instant::now() };
    let commands = job::Jobs::new(Place::Daemon(Arc::clone(&daemon)));
    let router = cairn_server::router(commands.into(), Arc::clone(&jobs), limits.clone(), about);
    let (grace, is_auto) = (settings.grace(), settings.auto);
    if let Some(opened) = opened
        && let Err(error) = daemon.serve(opened)
    {
        // Mounts that were taken over have nobody else.
        if predecessor.is_none() {
            mounts.end();
            return Err(error);
        }
        tracing::error!(error = format!("{error:#}"), "peers are not served");
    }
    // The daemon before this one may not have been done.
    daemon.background().wake();
    daemon.keep_up(&settings, &jobs);
    let status = format!("serving {}", path.display());
    tell(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready, NotifyState::Status(&status)]);
    tracing::info!(store = %path.display(), socket = %control.path().display(), "ready");
    say_ready();
    if predecessor.is_some() {
        // Nobody who uses what was taken over pays for what is new.
        drop(predecessor);
        mount_late(&daemon, missing);
    }
    // Only now, and commands after it: whoever takes over finds all mounts.
    let (handover, mut gone) = successors.serve(Arc::clone(&daemon), Arc::clone(&jobs), settings);
    let mut successor = None;
    let stop = async {
        tokio::select! {
            () = signals.next() => {}
            () = until_unused(&mounts, &jobs), if is_auto => {}
            Ok(handed) = &mut gone => {
                tell(&[NotifyState::Status("taken over")]);
                control.withdraw();
                // Whoever found this one's socket just before has connected by then.
                tokio::time::sleep(LAST_CALLERS).await;
                tokio::spawn(end_at_signal(signals, handed.clone()));
                successor = Some(handed);
                serve::leave_peers(&daemon, LATE_ANSWERS).await;
                return LATE_ANSWERS;
            }
        }
        tell(&[NotifyState::Stopping, NotifyState::Status("waiting for commands to end")]);
        tracing::info!(jobs = jobs.count(), "stopping");
        control.withdraw();
        drain(&daemon, &jobs, grace, &mut signals).await;
        LAST_ANSWERS
    };
    let served = control.serve(router, &limits, stop).await.context("cannot serve the socket");
    if let Some(handed) = successor {
        // The process ends.
        handed.end();
        return std::future::pending().await;
    }
    // A successor that has everything by now has nobody here to wait for.
    drop(gone);
    let end = move || {
        let _alone = handover.stop();
        daemon.end_upkeep();
        mounts.end();
        daemon.background().end();
    };
    tokio::task::spawn_blocking(end).await.context("cannot end the mounts")?;
    tracing::info!("stopped");
    served
}

/// Mounts what the daemon before this one did not have. What fails ends nobody: there are mounts in use.
fn mount_late(daemon: &Daemon, missing: Vec<MountOptions>) {
    for options in missing {
        let dir = options.dir.clone();
        if let Err(error) = daemon.mount(options) {
            tracing::error!(dir = %dir.display(), error = format!("{error:#}"), "cannot mount");
        }
    }
    daemon.mounts().report_if_empty();
}

/// Lets commands and peers end that are being answered, and nothing begin. A second signal cuts that short.
async fn drain(daemon: &Daemon, jobs: &Jobs, grace: Duration, signals: &mut Signals) {
    let all = async {
        tokio::join!(cairn_server::drain(jobs, grace, LAST_WORDS), serve::drain_peers(daemon, grace))
    };
    tokio::select! {
        _ = all => {}
        () = signals.next() => {
            jobs.cancel_all();
            tokio::select! {
                _ = tokio::time::timeout(LAST_WORDS, jobs.idle()) => {}
                () = signals.next() => {}
            }
        }
    }
}

/// Waits until there is no mount, and then lets no more commands begin. Whether it is so is asked while none runs: one
/// that runs may be about to mount, and is not to lose the daemon that it uses.
async fn until_unused(mounts: &Mounts, jobs: &Arc<Jobs>) {
    // Who started this one for a mount may have gone without asking for it.
    let mut none_yet = std::pin::pin!(tokio::time::sleep(FIRST_MOUNT_MAX));
    loop {
        tokio::select! {
            () = mounts.emptied.notified() => {}
            () = &mut none_yet, if !none_yet.is_elapsed() => {}
        }
        while mounts.is_empty() {
            jobs.idle().await;
            // None if all is over, which others see to.
            let Some(_hold) = jobs.hold_next().await else { return std::future::pending().await };
            if jobs.count() == 0 && mounts.is_empty() {
                return jobs.close();
            }
        }
    }
}

/// Ends a daemon that was taken over at once, whoever still waits for an answer, when it is told to stop.
async fn end_at_signal(mut signals: Signals, gone: Gone) {
    signals.next().await;
    gone.end();
}

fn writer_options(global: &Global) -> WriterOptions {
    WriterOptions { wait: global.wait, command: COMMAND.to_owned(), who: app::who(own_uid()) }
}

/// Begins where no daemon was.
async fn begin(global: &Global, args: DaemonArgs, path: &Path) -> anyhow::Result<Begun> {
    let mut settings = Settings::new(global, &args, path, None)?;
    refuse_second(&settings.socket, path).await.map_err(|error| match args.serves {
        true => error::with_hint(error, "`cairn daemon --takeover --listen ADDRESS` lets it serve peers too"),
        false => error,
    })?;
    let writer = Writer::open(path, &writer_options(global), &())?;
    let opened = serve::open_peers(path, &mut settings, Vec::new())?;
    let mounts = Mounts::new(settings.cache_max, settings.fetch_max());
    let control = room::on_a_full_disk(&writer, || Ok(Listening::open(&settings.socket, settings.group)?))?;
    let successors = room::on_a_full_disk(&writer, || Successors::prepare(path))?;
    let background = settings.background(&writer)?;
    background.attach();
    let streams = Streams::open(&writer, settings.serve.stream_bounds())?;
    let daemon = Daemon::new(writer, streams, mounts, None, background);
    set_lazy(&daemon, &settings, &args);
    let missing = options_of(args.mount)?;
    let signals = Signals::watch()?;
    Ok(Begun { daemon, control, successors, settings, opened, missing, predecessor: None, signals })
}

/// Begins where another daemon was until now.
fn begin_with(
    global: &Global,
    args: DaemonArgs,
    path: &Path,
    mut inheritance: Inheritance,
) -> anyhow::Result<Begun> {
    let mut settings = Settings::new(global, &args, path, Some(&inheritance.settings))?;
    let opened = serve::open_peers(path, &mut settings, inheritance.take_sockets())?;
    let missing = options_of(inheritance.missing(args.mount.clone())?)?;
    // From the moment on at which it has the mounts it ends in order.
    let signals = Signals::watch()?;
    let Inherited { writer, streams, mounts, background, control, successors, takeover, predecessor } =
        inheritance.take(path, &settings, &writer_options(global))?;
    let daemon = Daemon::new(writer, streams, mounts, Some(takeover), background);
    set_lazy(&daemon, &settings, &args);
    let predecessor = Some(predecessor);
    Ok(Begun { daemon, control, successors, settings, opened, missing, predecessor, signals })
}

/// Notes of which profiles versions are shown as soon as their names are here.
fn set_lazy(daemon: &Daemon, settings: &Settings, args: &DaemonArgs) {
    let named = args.mount.iter().map(|mount| &mount.profile).filter(|_| args.lazy);
    let other = args.other.iter().map(|options| &options.profile).filter(|_| args.lazy);
    for profile in settings.lazy.iter().chain(named).chain(other) {
        daemon.mounts().set_lazy(profile, true);
    }
}

fn options_of(args: Vec<MountArg>) -> anyhow::Result<Vec<MountOptions>> {
    args.into_iter().map(MountArg::into_options).collect()
}

/// Each open file of a mount may cost a descriptor, and the soft limit is often 1,024.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if limit != raised
        && let Err(errno) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%errno, "the limit of open files stays as it is");
    }
}

/// Tells whoever started this, and reads what it prints, that it is ready. Nothing is printed after that.
fn say_ready() {
    let mut stdout = std::io::stdout().lock();
    // Nobody has to listen.
    let _ = stdout.write_all(detach::READY.as_bytes()).and_then(|()| stdout.flush());
    let null = rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    if let Err(errno) = null.and_then(rustix::stdio::dup2_stdout) {
        tracing::debug!(%errno, "standard output stays open");
    }
}

/// A daemon that answers at the socket has the store.
async fn refuse_second(socket: &Path, store: &Path) -> anyhow::Result<()> {
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
