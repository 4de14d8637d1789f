//! `cairn hold`: a command during which nothing is collected, for backups by programs that know nothing of stores.
//!
//! It is no job: the process that runs the command holds a lease, beside whatever process has the store.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};

use anyhow::Context;
use cairn_store::Held;
use clap::Args;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::signal::unix::{SignalKind, signal};

use crate::app;
use crate::args::Global;
use crate::error::{self, Absent, Usage};

const EXAMPLES: &str = "\
What is added, removed and shown goes on meanwhile; docs/operations.md says in which order a store is copied. The exit code
is that of COMMAND (128 and its number where a signal ended it), 127 where there is no such command.

Examples:
  cairn hold -- cp -a /var/lib/cairn/{cairn-store,journal,packs} /backup/
  cairn --store ./store hold -- tar -C ./store -cf store.tar cairn-store journal packs
  cairn hold -- sh -c 'rsync -a --exclude=/packs /var/lib/cairn/ /backup/ && rsync -a /var/lib/cairn/packs /backup/'";

/// What a shell gives where there is no such command, and where it cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;
/// What is added to the number of a signal that ended a command.
const BY_SIGNAL: i32 = 128;

/// Run a command, and keep every pack of the store where it is until that has ended
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct HoldArgs {
    /// The command and what it takes
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

/// Runs the command; gives the exit code.
pub(crate) fn run(global: &Global, args: &HoldArgs) -> anyhow::Result<u8> {
    let store = app::open(&app::locate_store(global.store.clone())?)?;
    let words: Vec<_> = args.command.iter().map(|word| word.to_string_lossy()).collect();
    let lease = store.lease(Held::Everything, &format!("cairn hold -- {}", words.join(" ")))?;
    // What could not be held might go while it is copied.
    let _lease = lease.ok_or_else(|| Usage {
        problem: format!("nothing can be held in {}: no lease can be written there", store.path().display()),
        hint: "run it as a user who may write there, and with some room on the disk",
    })?;
    let Some((program, arguments)) = args.command.split_first() else { return Ok(0) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    // Signals are listened to before there is somebody to pass them to, so that none ends this process alone.
    let signals = runtime.block_on(async { Signals::listen() }).context("cannot listen to signals")?;
    let child = match Command::new(program).args(arguments).spawn() {
        Ok(child) => child,
        Err(error) => return Ok(not_run(program, &error, global.json)),
    };
    let ended = runtime.block_on(follow(child, signals))?;
    let code = ended.code().or_else(|| ended.signal().map(|signal| BY_SIGNAL + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Says why a command was not run.
fn not_run(program: &OsString, error: &io::Error, json: bool) -> u8 {
    let what = format!("command {}", program.display());
    let (code, error) = match error.kind() {
        io::ErrorKind::NotFound => {
            let hint = "it is looked for as a shell does; `sh -c '…'` runs several, and what a shell knows";
            (NOT_FOUND, anyhow::Error::from(Absent { what, hint }))
        }
        _ => (NOT_RUN, anyhow::Error::msg(error.to_string()).context(format!("cannot run {what}"))),
    };
    error::print(&error::tell(&error, json).text);
    code
}

/// Waits for a command, and passes on what this process is told.
async fn follow(mut child: Child, mut signals: Signals) -> anyhow::Result<ExitStatus> {
    // By this, nobody else is signalled who has its number later.
    let pidfd =
        pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).context("cannot watch the command")?;
    let ended = tokio::task::spawn_blocking(move || child.wait());
    tokio::pin!(ended);
    loop {
        tokio::select! {
            ended = &mut ended => {
                return ended.context("the command cannot be waited for")?.context("the command cannot be waited for");
            }
            signal = signals.next() => pass(&pidfd, signal),
        }
    }
}

fn pass(pidfd: &OwnedFd, signal: Signal) {
    // A terminal sends these to all who run in front of it, the command too.
    let is_from_terminal = matches!(signal, Signal::INT | Signal::QUIT) && io::stdin().is_terminal();
    if !is_from_terminal {
        // It may have ended just now.
        let _ = pidfd_send_signal(pidfd, signal);
    }
}

/// What is passed on.
struct Signals(Vec<(tokio::signal::unix::Signal, Signal)>);

impl Signals {
    fn listen() -> io::Result<Self> {
        let kinds = [
            (SignalKind::terminate(), Signal::TERM),
            (SignalKind::interrupt(), Signal::INT),
            (SignalKind::hangup(), Signal::HUP),
            (SignalKind::quit(), Signal::QUIT),
            (SignalKind::user_defined1(), Signal::USR1),
            (SignalKind::user_defined2(), Signal::USR2),
        ];
        kinds
            .into_iter()
            .map(|(kind, number)| Ok((signal(kind)?, number)))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            for (signal, number) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
