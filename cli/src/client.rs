//! The terminal's side of a command: finds who runs it, prints what comes, and turns Ctrl-C into the wish that it stops.
//!
//! A daemon that listens at the store's socket runs the command; where none does, the same router runs it in this
//! process. Everything that concerns the terminal is decided here: the bar, colours, the exit code.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use cairn_server::{About, Answer, Client, ClientError, Event, Jobs, Limits, Request};
use signal_hook::flag;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant as Deadline;

use crate::app::{self, Place};
use crate::args::{Command, Global};
use crate::progress::{self, Bar};
use crate::start::Started;
use crate::{error, job};

/// How long a daemon's job that was asked to stop may take to say its last words.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long after a daemon that is stopping somebody else is looked for.
const AGAIN: Duration = Duration::from_millis(20);

/// Runs a command to its end; gives its exit code.
pub(crate) fn run(global: &Global, command: Command) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let code = runtime.block_on(ask(global, command));
    // A thread that reads standard input may still wait for it.
    runtime.shutdown_background();
    code
}

/// Runs a command for one that consists of several: gives what it printed as JSON.
///
/// # Errors
/// Its failure, as [`ClientError::Refused`]; [`cairn_store::Error::Cancelled`] if `is_cancelled` says so meanwhile.
pub(crate) fn call(
    global: &Global,
    command: Command,
    is_cancelled: &dyn Fn() -> bool,
) -> anyhow::Result<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(answer(global, command, is_cancelled))
}

async fn answer(
    global: &Global,
    mut command: Command,
    is_cancelled: &dyn Fn() -> bool,
) -> anyhow::Result<Vec<u8>> {
    command.prepare()?;
    let wait_ms = u64::try_from(global.wait.as_millis()).unwrap_or(u64::MAX);
    let request =
        Request { json: true, quiet: true, verbose: global.verbose, progress: false, wait_ms, command };
    let patience = Instant::now() + global.wait + LAST_WORDS;
    let (mut client, mut answer) = loop {
        let mut client = find(global, &request.command)?;
        match client.run(&request, None).await {
            Err(ClientError::Stopping) if Instant::now() < patience => tokio::time::sleep(AGAIN).await,
            asked => break (client, asked?),
        }
    };
    let (mut out, mut said, mut is_asked) = (Vec::new(), String::new(), false);
    loop {
        let event = tokio::select! {
            event = answer.next() => event?.ok_or(ClientError::CutOff)?,
            () = tokio::time::sleep(AGAIN) => {
                if is_cancelled() && !is_asked {
                    is_asked = true;
                    stop(&mut client, &answer).await;
                }
                continue;
            }
        };
        match event {
            Event::Out(text) => out.extend_from_slice(text.as_bytes()),
            Event::OutBase64(bytes) => out.extend_from_slice(&bytes),
            Event::Err(lines) => said.push_str(&lines),
            Event::Progress(_) | Event::Alive {} => {}
            Event::Exit(0) => return Ok(out),
            Event::Exit(_) if is_asked => return Err(cairn_store::Error::Cancelled.into()),
            Event::Exit(_) => return Err(error::read(&said)),
        }
    }
}

async fn ask(global: &Global, mut command: Command) -> anyhow::Result<u8> {
    let mut interrupts = Interrupts::watch();
    command.prepare()?;
    let request = Request {
        json: global.json,
        quiet: global.quiet,
        verbose: global.verbose,
        progress: !global.json && !global.quiet && progress::is_visible(),
        wait_ms: u64::try_from(global.wait.as_millis()).unwrap_or(u64::MAX),
        command,
    };
    let patience = Instant::now() + global.wait + LAST_WORDS;
    let (mut client, answer) = loop {
        let mut client = reach(global, &request.command, &mut interrupts).await?;
        let input = request.command.takes_input().then(|| Box::new(io::stdin()) as Box<dyn Read + Send>);
        let asked = tokio::select! {
            answer = client.run(&request, input) => answer,
            () = interrupts.next() => return Err(cairn_store::Error::Cancelled.into()),
        };
        match asked {
            // Its socket goes at once: the next who looks finds another daemon, or none.
            Err(ClientError::Stopping) if Instant::now() < patience => tokio::time::sleep(AGAIN).await,
            asked => break (client, asked?),
        }
    };
    follow(&mut client, answer, interrupts).await
}

/// Who runs the command; for a mount a daemon, which is started if none is there.
async fn reach(global: &Global, command: &Command, interrupts: &mut Interrupts) -> anyhow::Result<Client> {
    let client = find(global, command)?;
    let Command::Mount(args) = command else { return Ok(client) };
    if client.is_remote() {
        return Ok(client);
    }
    let daemon = Started::new(global, args)?;
    let socket = socket(global).context("there is nowhere to look for a store")?;
    tokio::select! {
        connected = daemon.ready(&socket) => connected,
        () = interrupts.next() => Err(cairn_store::Error::Cancelled.into()),
    }
}

/// Who runs the command as things are.
fn find(global: &Global, command: &Command) -> anyhow::Result<Client> {
    if !command.is_of_this_process()
        && let Some(socket) = socket(global)
        && let Some(client) = Client::connect(&socket)?
    {
        return Ok(client);
    }
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let command = format!("cairn {}", arguments.join(" "));
    let about = About {
        version: env!("CARGO_PKG_VERSION"),
        store: global.store.clone().unwrap_or_default(),
        started: Instant::now(),
    };
    let limits = Limits::in_process();
    let commands = job::Jobs::new(Place::Alone { store: global.store.clone(), command });
    let router = cairn_server::router(commands.into(), Jobs::new(limits.jobs), limits, about);
    Ok(Client::here(router))
}

/// Where a daemon of the store would listen; none if there is nowhere to look for a store.
pub(crate) fn socket(global: &Global) -> Option<PathBuf> {
    let given = global.socket.clone().filter(|path| !path.as_os_str().is_empty());
    given.or_else(|| Some(app::locate_store(global.store.clone()).ok()?.join(app::SOCKET)))
}

/// Prints what comes until the command ends.
async fn follow(client: &mut Client, mut answer: Answer, mut interrupts: Interrupts) -> anyhow::Result<u8> {
    let mut shown = Shown { bar: Bar::default(), is_broken: false };
    // From here on it was asked to stop; a job of this process is waited for, since it ends with it.
    let mut deadline: Option<Deadline> = None;
    let mut is_asked = false;
    let mut code = None;
    while code.is_none() {
        let event = tokio::select! {
            event = answer.next() => event?,
            () = interrupts.next(), if !is_asked => {
                deadline = stop(client, &answer).await;
                is_asked = true;
                continue;
            }
            () = until(deadline) => return Err(cairn_store::Error::Cancelled.into()),
        };
        let Some(event) = event else { return Err(ClientError::CutOff.into()) };
        code = shown.show(event).context("cannot write to standard output")?;
        if shown.is_broken && !is_asked {
            // Nobody reads any more: the command stops in order, and that is no failure.
            deadline = stop(client, &answer).await;
            is_asked = true;
        }
    }
    Ok(if shown.is_broken { 0 } else { code.unwrap_or_default() })
}

/// Asks the job to stop; says until when a daemon's is waited for.
async fn stop(client: &mut Client, answer: &Answer) -> Option<Deadline> {
    let deadline = client.is_remote().then(|| Deadline::now() + LAST_WORDS);
    if let Some(job) = answer.job() {
        let asked = client.cancel(job);
        let asked = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, asked).await,
            None => Ok(asked.await),
        };
        // The connection's end stops it too.
        if !matches!(asked, Ok(Ok(()))) {
            tracing::debug!(job, "the job did not hear that it is to stop");
        }
    }
    deadline
}

async fn until(deadline: Option<Deadline>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What is printed where.
struct Shown {
    bar: Bar,
    /// Whether the reader of standard output is gone.
    is_broken: bool,
}

impl Shown {
    /// Shows one event; gives the exit code if it is the last.
    fn show(&mut self, event: Event<'_>) -> io::Result<Option<u8>> {
        match event {
            Event::Progress(task) => self.bar.show(task.as_ref()),
            Event::Out(text) => self.print(text.as_bytes())?,
            Event::OutBase64(bytes) => self.print(&bytes)?,
            // A command that was stopped because nobody reads has nothing to say about it.
            Event::Err(_) if self.is_broken => {}
            Event::Err(lines) => {
                self.bar.clear();
                error::print(&lines);
            }
            Event::Alive {} => {}
            Event::Exit(code) => {
                self.bar.clear();
                return Ok(Some(code));
            }
        }
        Ok(None)
    }

    fn print(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_broken {
            return Ok(());
        }
        self.bar.clear();
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.is_broken = true,
            printed => printed?,
        }
        Ok(())
    }
}

/// Ctrl-C and SIGTERM: the first asks for an orderly stop, the second ends the process at once.
struct Interrupts {
    signals: Vec<Signal>,
}

impl Interrupts {
    fn watch() -> Self {
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mut signals = Vec::new();
        for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
            let number = kind.as_raw_value();
            // The order matters: the shutdown looks at the flag before this very signal sets it.
            let watched = flag::register_conditional_shutdown(number, error::INTERRUPTED, asked.clone())
                .and_then(|_| flag::register(number, asked.clone()))
                .and_then(|_| signal(kind));
            match watched {
                Ok(signal) => signals.push(signal),
                Err(error) => {
                    tracing::warn!(number, %error, "cannot watch a signal; it will end the program at once");
                }
            }
        }
        Self { signals }
    }

    /// The next of them.
    async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let mut any = self.signals.iter_mut().map(|signal| signal.poll_recv(context));
            match any.any(|polled| polled.is_ready()) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        })
        .await;
    }
}
