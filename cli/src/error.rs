//! The one funnel for failures: every error gets a kind, the kind an exit code, and the person a hint of what to do
//! next. The chain of causes is put into words once, here: where the command ran; the client prints it. `judge` knows the kinds.

mod judge;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use cairn_server::{ClientError, Failure};
use cairn_store::{Error, Kind, RefKey};
use serde::{Deserialize, Serialize};

use self::judge::judge;
use crate::output::OutputError;

/// What an error for people begins with.
const ERROR: &str = "error:";
/// The exit code after Ctrl-C or SIGTERM.
pub(crate) const INTERRUPTED: i32 = 130;
/// The exit code when something stored is damaged.
pub(crate) const DAMAGED: u8 = 4;

/// How a command that ran to its end ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well.
    Done,
    /// The report, already printed, names damage.
    DamageFound,
}

/// The kinds of failure that a user can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FailureKind {
    Failed,
    Usage,
    NotFound,
    Damaged,
    Busy,
    Conflict,
    Unavailable,
    Refused,
    Interrupted,
}

impl FailureKind {
    fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Damaged => DAMAGED,
            Self::Busy | Self::Conflict => 5,
            Self::Unavailable => 6,
            Self::Refused => 7,
            Self::Interrupted => 130,
        }
    }
}

/// There is no store where one was to be read.
#[derive(Debug, thiserror::Error)]
#[error("there is no store at {}", .0.display())]
pub(crate) struct NoStore(pub(crate) PathBuf);

/// Something that a command names is not there.
#[derive(Debug, thiserror::Error)]
#[error("there is no {what}")]
pub(crate) struct Absent {
    pub(crate) what: String,
    pub(crate) hint: &'static str,
}

/// A daemon does nothing at paths that somebody else names.
#[derive(Debug, thiserror::Error)]
#[error(
    "the daemon runs as user {own} and does nothing at paths that user {caller} names: they might not be theirs"
)]
pub(crate) struct Foreign {
    pub(crate) own: u32,
    pub(crate) caller: u32,
}

/// An error with a hint that only the command at hand can give. It stands for the error in a chain of causes.
#[derive(Debug)]
struct Hinted {
    error: Error,
    hint: &'static str,
}

impl std::fmt::Display for Hinted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Hinted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Gives `hint` to a conflict, and leaves every other error as it is.
pub(crate) fn on_conflict(error: Error, hint: &'static str) -> anyhow::Error {
    match error.kind() {
        Kind::Conflict if !matches!(error, Error::Busy { .. }) => Hinted { error, hint }.into(),
        _ => error.into(),
    }
}

/// What is to be said where a version that was pulled cannot be named.
pub(crate) fn pulled_conflict(error: Error, key: &RefKey) -> anyhow::Error {
    let hint = match error {
        Error::RolledBack { .. } => {
            "the peer has an older state, or was set back; ask another one with --from URL"
        }
        _ => "`cairn pull --replace` lets the peer's word count from now on",
    };
    on_conflict(error, hint).context(format!("cannot pull {key}"))
}

/// What is to be said where an archive cannot be imported.
pub(crate) fn imported_conflict(error: Error) -> anyhow::Error {
    let hint = match error {
        Error::RolledBack { .. } => "the archive is older than what is here; nothing was changed",
        Error::Absent { .. } | Error::Incomplete { .. } => {
            "import an archive that has it, or pull it, and then this one again"
        }
        Error::Conflict { .. } => "`cairn import --replace` lets the archive's word count from now on",
        error => return error.into(),
    };
    Hinted { error, hint }.into()
}

/// Gives a hint to an error of the store, and leaves every other as it is.
pub(crate) fn with_hint(error: anyhow::Error, hint: &'static str) -> anyhow::Error {
    match error.downcast() {
        Ok(error) => Hinted { error, hint }.into(),
        Err(error) => error,
    }
}

/// What a daemon says of a failure where it has something else to say than a process of its own: its writer lives on.
pub(crate) fn in_daemon(error: anyhow::Error) -> anyhow::Error {
    if !matches!(error.downcast_ref(), Some(Error::Poisoned { .. })) {
        return error;
    }
    let hint = "restart the daemon: it recovers the store when it opens it; until then only reading goes on";
    with_hint(error, hint)
}

/// The command line asks for what cannot be; found after clap was content with it.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct Usage {
    pub(crate) problem: String,
    pub(crate) hint: &'static str,
}

/// The JSON form, on standard error: `{"error":{"kind":…,"message":…,"hint":…}}`.
#[derive(Serialize)]
struct Report<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    kind: FailureKind,
    message: &'a str,
    hint: Option<&'a str>,
}

/// The failure that a command told as JSON on standard error.
pub(crate) fn read(said: &str) -> anyhow::Error {
    #[derive(Deserialize)]
    struct Said {
        error: Failure,
    }
    let found = said.lines().rev().find_map(|line| serde_json::from_str::<Said>(line).ok());
    match found {
        Some(said) => ClientError::Refused(said.error).into(),
        None => anyhow::anyhow!("it failed: {}", said.trim()),
    }
}

/// A failure as text for standard error, and the exit code that goes with it.
pub(crate) struct Told {
    pub(crate) text: String,
    pub(crate) code: u8,
}

/// What is to be said of `error`. A reader of standard output that went away is no failure.
pub(crate) fn tell(error: &anyhow::Error, json: bool) -> Told {
    if error.downcast_ref::<OutputError>().is_some_and(|OutputError(e)| e.kind() == io::ErrorKind::BrokenPipe)
    {
        return Told { text: String::new(), code: 0 };
    }
    let (kind, hint) = judge(error);
    Told { text: form(kind, &message(error), hint.as_deref(), json), code: kind.exit_code() }
}

/// The same, of one of several things that were done.
pub(crate) fn tell_of(what: Option<&str>, error: &anyhow::Error, json: bool) -> Told {
    let (kind, hint) = judge(error);
    let message = what.map_or_else(|| message(error), |what| format!("{what}: {}", message(error)));
    Told { text: form(kind, &message, hint.as_deref(), json), code: kind.exit_code() }
}

/// Tells of `error` on standard error and gives the exit code.
pub(crate) fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    let told = tell(error, json);
    print(&told.text);
    ExitCode::from(told.code)
}

/// Tells of a command line that clap refused; `--help` and `--version` are not failures.
pub(crate) fn report_usage(error: &clap::Error, json: bool) -> ExitCode {
    if !error.use_stderr() {
        // Nobody is left to tell if standard output is gone.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if !json {
        let _ = error.print();
        return ExitCode::from(FailureKind::Usage.exit_code());
    }
    let message = one_line(&error.to_string());
    let hint = "`cairn COMMAND --help` shows what a command takes";
    print(&form(FailureKind::Usage, &message, Some(hint), true));
    ExitCode::from(FailureKind::Usage.exit_code())
}

/// What clap says before it shows the usage.
fn one_line(text: &str) -> String {
    let told = text.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let words: Vec<&str> = told.map(str::trim).filter(|line| !line.is_empty()).collect();
    words.join(" ").trim_start_matches("error: ").to_owned()
}

fn form(kind: FailureKind, message: &str, hint: Option<&str>, json: bool) -> String {
    if json {
        let report = Report { error: Body { kind, message, hint } };
        // Texts always have a JSON form.
        return serde_json::to_string(&report).unwrap_or_default() + "\n";
    }
    let hint = hint.map(|hint| format!("\n hint: {hint}")).unwrap_or_default();
    format!("{ERROR} {message}{hint}\n")
}

/// Prints lines for people, or a JSON object, on standard error.
pub(crate) fn print(lines: &str) {
    let mut stderr = io::stderr().lock();
    // Nobody is left to tell if standard error is gone; the exit code still says it.
    let _ = match lines.strip_prefix(ERROR) {
        Some(rest) if is_coloured(&stderr) => write!(stderr, "\x1b[1;31m{ERROR}\x1b[0m{rest}"),
        _ => stderr.write_all(lines.as_bytes()),
    };
}

/// On a terminal, unless `NO_COLOR` is set to anything but an empty text (<https://no-color.org>).
fn is_coloured(stderr: &io::StderrLock<'_>) -> bool {
    stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The chain of causes on one line.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_documented_code() {
        let busy = Error::Busy { path: "s".into(), pid: 7, since: "then".into() };
        let absent = Error::Absent { what: "uv@1".into() };
        let table: [(anyhow::Error, FailureKind, u8); 6] = [
            (busy.into(), FailureKind::Busy, 5),
            (absent.into(), FailureKind::NotFound, 3),
            (Error::Cancelled.into(), FailureKind::Interrupted, 130),
            (NoStore("s".into()).into(), FailureKind::NotFound, 3),
            (Usage { problem: "no".into(), hint: "yes" }.into(), FailureKind::Usage, 2),
            (anyhow::anyhow!("anything"), FailureKind::Failed, 1),
        ];
        for (error, kind, code) in table {
            assert_eq!(judge(&error).0, kind, "{error}");
            assert_eq!(kind.exit_code(), code);
        }
    }

    #[test]
    fn a_hint_changes_neither_kind_nor_message() {
        let conflict = || Error::Conflict { what: "uv@1".into(), detail: "it exists".into() };
        let error = on_conflict(conflict(), "--replace");
        assert_eq!(judge(&error), (FailureKind::Conflict, Some("--replace".to_owned())));
        assert_eq!(message(&error), conflict().to_string());
        assert_eq!(judge(&on_conflict(Error::Cancelled, "--replace")).0, FailureKind::Interrupted);
    }

    #[test]
    fn a_writer_that_stopped_is_another_matter_in_a_daemon() {
        let hint = |error: anyhow::Error| judge(&error).1.unwrap();
        let poisoned = || anyhow::Error::from(Error::Poisoned { path: "s".into() });
        assert!(hint(poisoned()).contains("run the command again"));
        assert!(hint(in_daemon(poisoned())).contains("restart the daemon"));
        assert!(hint(in_daemon(poisoned().context("while adding"))).contains("restart the daemon"));
        assert_eq!(message(&in_daemon(anyhow::anyhow!("other").context("while"))), "while: other");
    }

    #[test]
    fn a_refusal_of_the_command_line_fits_on_one_line() {
        let text = "error: the following were not provided:\n  --name <NAME>\n  <PATH>...\n\nUsage: cairn add\n\nFor more";
        assert_eq!(one_line(text), "the following were not provided: --name <NAME> <PATH>...");
    }

    #[test]
    fn the_chain_is_printed_once() {
        let source = io::Error::other("the reason");
        let error = Error::Tree { action: "read", path: "/x".into(), source };
        assert_eq!(message(&error.into()), "cannot read /x: the reason");
    }

    #[test]
    fn a_kind_survives_context() {
        let error = anyhow::Error::from(Error::Cancelled).context("while adding");
        assert_eq!(judge(&error).0, FailureKind::Interrupted);
        assert_eq!(message(&error), "while adding: stopped on request");
    }
}
