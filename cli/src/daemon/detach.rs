//! A daemon in the background: the same command once more in a process of its own, waited for until it is ready.

use std::io::{IsTerminal, Read};
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::args::Global;
use crate::commands::daemon::DaemonArgs;
use crate::{app, start};

/// The option, and what the process of its own is given in its place.
const OPTION: &str = "--detach";
const OPTION_THERE: &str = "--detached";
/// What a daemon says on standard output when it is ready. It closes it then.
pub(super) const READY: &str = "ready\n";

/// Starts it; gives 0 when it is ready, else its exit code. What it says goes to standard error, or to the store's log
/// where that is a terminal, which is wanted for other things.
pub(crate) fn run(global: &Global) -> anyhow::Result<u8> {
    let store = std::path::absolute(app::locate_store(global.store.clone())?)?;
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    let arguments = std::env::args_os().skip(1);
    command.args(arguments.map(|one| if one == OPTION { OPTION_THERE.into() } else { one }));
    if std::io::stderr().is_terminal() {
        command.stderr(start::open_log(&store)?);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start the daemon")?;
    let mut said = String::new();
    if let Some(mut output) = child.stdout.take() {
        // What cannot be read was not said.
        let _ = output.read_to_string(&mut said);
    }
    if said == READY {
        return Ok(0);
    }
    // It has nothing more to say, because it ends.
    let status = child.wait().context("cannot tell how the daemon ended")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Leaves the terminal, whose Ctrl-C and end are not for a process of its own, and the folder, which it would keep busy.
/// Paths that are relative mean what they meant before.
pub(super) fn leave(global: &mut Global, args: &mut DaemonArgs) -> anyhow::Result<()> {
    global.store = Some(app::locate_store(global.store.take())?);
    let named = global.store.iter_mut().chain(&mut global.socket);
    let mounts = args.mount.iter_mut().map(|mount| &mut mount.dir);
    for path in named.chain(mounts).filter(|path| !path.as_os_str().is_empty()) {
        *path = std::path::absolute(&*path).context("cannot tell which folder this is")?;
    }
    args.serve.make_paths_absolute().context("cannot tell which folder this is")?;
    args.config.make_paths_absolute().context("cannot tell which folder this is")?;
    // It leads a session already where somebody saw to that.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/").context("cannot leave the folder")
}
