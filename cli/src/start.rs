//! Starting a daemon for a mount where none runs: detached from the terminal, its log in the store. It is not ended from
//! here: others may use it by then, and it ends by itself when there is nothing for it to do.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cairn_server::Client;
use rustix::fs::{Mode, OFlags};

use crate::app;
use crate::args::Global;
use crate::commands::mount::MountArgs;

/// The name of the daemon's log in the store.
const LOG: &str = "daemon.log";
/// How long a daemon may take, beside waiting for another writer, until it answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is asked whether it answers.
const EVERY: Duration = Duration::from_millis(10);
/// Of a log no more than this is told.
const TOLD_BYTES_MAX: usize = 2000;

/// Opens the log of daemons that no terminal and no service manager listens to.
pub(crate) fn open_log(store: &Path) -> anyhow::Result<File> {
    let log = store.join(LOG);
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::open(&log, flags, Mode::from_raw_mode(0o600));
    Ok(file.with_context(|| format!("cannot open the log {}", log.display()))?.into())
}

/// A daemon that this process started.
pub(crate) struct Started {
    child: Mutex<Child>,
    log: PathBuf,
    /// Where the log began.
    log_from: u64,
    deadline: Instant,
}

impl Started {
    /// Starts it, with the store and the cache that the command line names.
    pub(crate) fn new(global: &Global, args: &MountArgs) -> anyhow::Result<Self> {
        let store = std::path::absolute(app::locate_store(global.store.clone())?)?;
        // Nothing is made for a store that is not there.
        app::open(&store)?;
        let log = store.join(LOG);
        let file = open_log(&store)?;
        let log_from = file.metadata().map_or(0, |metadata| metadata.len());
        let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
        command.arg("--store").arg(&store);
        if let Some(socket) = global.socket.as_ref().filter(|path| !path.as_os_str().is_empty()) {
            command.arg("--socket").arg(std::path::absolute(socket)?);
        }
        command.args([
            "--wait",
            &format!("{}ms", global.wait.as_millis()),
            "daemon",
            "--auto",
            "--listen",
            "off",
        ]);
        if let Some(bytes) = args.cache_max {
            command.args(["--cache-max", &bytes.to_string()]);
        }
        if let Some(time) = args.fetch_max {
            command.args(["--fetch-max", &format!("{}ms", time.as_millis())]);
        }
        // What the mount is comes as a request, over the socket.
        for variable in ["CAIRN_MOUNT", "CAIRN_JSON", "CAIRN_QUIET"] {
            command.env_remove(variable);
        }
        // It keeps no folder busy.
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().context("cannot start the daemon")?;
        let deadline = Instant::now() + global.wait + PATIENCE;
        Ok(Self { child: Mutex::new(child), log, log_from, deadline })
    }

    /// Waits until it answers at `socket`.
    pub(crate) async fn ready(&self, socket: &Path) -> anyhow::Result<Client> {
        loop {
            if let Some(client) = Client::connect(socket)? {
                return Ok(client);
            }
            if self.has_ended() {
                bail!("the daemon did not start: {}", self.last_words());
            }
            if Instant::now() > self.deadline {
                bail!("the daemon does not answer; its log is {}", self.log.display());
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    fn has_ended(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        !matches!(child.try_wait(), Ok(None))
    }

    /// What it said, on one line.
    fn last_words(&self) -> String {
        let log = std::os::unix::fs::FileExt::read_at;
        let mut bytes = vec![0; TOLD_BYTES_MAX];
        let read = rustix::fs::open(&self.log, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(std::io::Error::from)
            .and_then(|file| log(&File::from(file), &mut bytes, self.log_from));
        bytes.truncate(read.unwrap_or(0));
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().filter_map(|line| line.strip_prefix("error: "));
        let said: Vec<&str> = lines.map(str::trim).collect();
        if said.is_empty() { format!("its log is {}", self.log.display()) } else { said.join("; ") }
    }
}
