//! A daemon in the background: the same command once more in a process of its own, waited for until it is ready.

use std::io::{IsTerminal, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::app;
use crate::args::Global;
use crate::start;

/// The option that is left out in the process of its own.
const OPTION: &str = "--detach";
/// What a daemon says on standard output when it is ready. It closes it then.
pub(super) const READY: &str = "ready\n";

/// Starts it; gives 0 when it is ready, else its exit code. What it says goes to standard error, or to the store's log
/// where that is a terminal, which is wanted for other things.
pub(crate) fn run(global: &Global) -> anyhow::Result<u8> {
    let store = std::path::absolute(app::locate_store(global.store.clone())?)?;
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.args(std::env::args_os().skip(1).filter(|argument| argument != OPTION));
    if std::io::stderr().is_terminal() {
        command.stderr(start::open_log(&store)?);
    }
    // The terminal's Ctrl-C is not for it.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
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
