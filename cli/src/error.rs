//! The one funnel for failures: every error gets a kind, the kind an exit code, and the person a hint of what to do
//! next. The chain of causes is put into words once, here: where the command ran; the client prints it.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use cairn_agent::snapshot::SnapshotError;
use cairn_fusefs::MountError;
use cairn_server::tokens::TokenError;
use cairn_server::{ClientError, Failure, ListenError, SocketError};
use cairn_store::{Error, Kind, RefKey};
use serde::{Deserialize, Serialize};

use crate::commands::fetch::FetchError;
use crate::commands::umount::InUse;
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

fn judge(error: &anyhow::Error) -> (FailureKind, Option<String>) {
    if let Some(error) = error.downcast_ref::<Error>() {
        return (kind_of(error), hint_for(error));
    }
    if let Some(Hinted { error, hint }) = error.downcast_ref() {
        return (kind_of(error), Some((*hint).to_owned()));
    }
    if error.is::<NoStore>() {
        let hint = "`cairn add` makes one; --store or $CAIRN_STORE names another place";
        return (FailureKind::NotFound, Some(hint.to_owned()));
    }
    if let Some(ClientError::Refused(Failure { kind, hint, .. })) = error.downcast_ref() {
        // A newer daemon may have kinds that are not known here.
        let kind = serde_json::from_value(kind.as_str().into()).unwrap_or(FailureKind::Failed);
        return (kind, hint.clone());
    }
    if let Some(ClientError::Stopping) = error.downcast_ref() {
        return (FailureKind::Busy, Some("run it again in a moment".to_owned()));
    }
    if error.is::<InUse>() {
        let hint = "end them, or take it from its place with --lazy: who uses it may finish";
        return (FailureKind::Busy, Some(hint.to_owned()));
    }
    if let Some(error) = error.downcast_ref::<MountError>() {
        return judge_mount(error);
    }
    if let Some(error) = error.downcast_ref::<SnapshotError>() {
        return judge_snapshot(error);
    }
    if error.is::<Foreign>() {
        let hint = "send bytes: `cairn add - --file-name NAME` takes standard input, `cairn cat` gives a file; mounting is for the daemon's own user";
        return (FailureKind::Failed, Some(hint.to_owned()));
    }
    if let Some(error) = error.downcast_ref::<cairn_net::Error>() {
        return judge_exchange(error);
    }
    if let Some(error) = error.downcast_ref::<cairn_agent::JoinError>() {
        return judge_join(error);
    }
    if let Some(error) = error.downcast_ref::<cairn_sources::Error>() {
        return judge_source(error);
    }
    if let Some(absent) = error.downcast_ref::<Absent>() {
        return (FailureKind::NotFound, Some(absent.hint.to_owned()));
    }
    if error.is::<FetchError>() {
        let hint = "what was there is as it was; the server's /api/binaries says what it has";
        return (FailureKind::Damaged, Some(hint.to_owned()));
    }
    if let Some(error) = error.downcast_ref::<TokenError>() {
        return judge_tokens(error);
    }
    if let Some(error) = error.downcast_ref::<ListenError>() {
        return judge_listen(error);
    }
    if let Some(SocketError::Taken(_)) = error.downcast_ref() {
        return (FailureKind::Busy, None);
    }
    if let Some(usage) = error.downcast_ref::<Usage>() {
        return (FailureKind::Usage, Some(usage.hint.to_owned()));
    }
    (FailureKind::Failed, None)
}

fn judge_source(error: &cairn_sources::Error) -> (FailureKind, Option<String>) {
    use cairn_sources::Error as Source;
    let kind = match error {
        Source::Config { .. } | Source::Usage { .. } => FailureKind::Usage,
        Source::Absent { .. } => FailureKind::NotFound,
        Source::Unavailable { .. } => FailureKind::Unavailable,
        Source::Refused { .. } => FailureKind::Refused,
        Source::Untrusted { .. } | Source::Archive { .. } => FailureKind::Damaged,
        Source::Cancelled => FailureKind::Interrupted,
        _ => FailureKind::Failed,
    };
    let hint = match error {
        Source::Config { .. } => Some("docs/sources.md says what the file may hold; `cairn init` shows it"),
        Source::Archive { .. } => Some("nothing of it was kept; what was here is as it was"),
        other => other.hint(),
    };
    (kind, hint.map(ToOwned::to_owned))
}

fn judge_mount(error: &MountError) -> (FailureKind, Option<String>) {
    match error {
        MountError::NotFound { .. } => (FailureKind::NotFound, None),
        MountError::NotMounted { .. } => {
            (FailureKind::NotFound, Some("`cairn status` lists what is mounted".to_owned()))
        }
        MountError::NotDirectory { .. } => (FailureKind::Usage, None),
        MountError::Mounted { .. } | MountError::Covered { .. } => (FailureKind::Conflict, None),
        MountError::Busy { .. } => (FailureKind::Busy, Some("`cairn ps` shows who uses it".to_owned())),
        _ => (FailureKind::Failed, None),
    }
}

fn judge_join(error: &cairn_agent::JoinError) -> (FailureKind, Option<String>) {
    use cairn_agent::JoinError;
    let (kind, hint) = match error {
        JoinError::Net(error) => return judge_exchange(error),
        JoinError::Store(error) => return (kind_of(error), hint_for(error)),
        JoinError::NoSnapshot { .. } => (
            FailureKind::Unavailable,
            "`cairn snapshot ls --from URL` says what a peer offers, `cairn snapshot create` takes one there",
        ),
        JoinError::Disagree { .. } => (
            FailureKind::Conflict,
            "name more peers with --from, so that most decide, and --agree 2 or more; `cairn snapshot diff --with URL` says where states differ",
        ),
        JoinError::Inconsistent { .. } => {
            (FailureKind::Damaged, "join from other peers, or with --agree 2 or more")
        }
        JoinError::NoEvents { .. } => {
            (FailureKind::Unavailable, "`cairn stream ls --from URL` says what events a peer has")
        }
        JoinError::Overflow { .. } => {
            (FailureKind::Failed, "a greater --buffer-max holds more events while a state is on its way")
        }
        JoinError::Command { .. } => {
            (FailureKind::Failed, "what it said on standard error says more; --hook-time gives it more time")
        }
        JoinError::Folder { .. } => {
            (FailureKind::Usage, "--to DIR names the folder that the state comes to lie in")
        }
        JoinError::Late { .. } => (
            FailureKind::Unavailable,
            "the same command once more goes on from what came; --timeout gives it more time",
        ),
        JoinError::Cancelled => {
            (FailureKind::Interrupted, "the same command once more goes on from what came")
        }
        _ => return (FailureKind::Failed, None),
    };
    (kind, Some(hint.to_owned()))
}

fn judge_snapshot(error: &SnapshotError) -> (FailureKind, Option<String>) {
    let (kind, hint) = match error {
        SnapshotError::Store(error) => return (kind_of(error), hint_for(error)),
        SnapshotError::Thaw { .. } => (
            FailureKind::Failed,
            "thaw it by hand; the next snapshot, and the next daemon, try again before anything else",
        ),
        SnapshotError::Running { .. } => (FailureKind::Busy, "wait for it, or look at `cairn status`"),
        SnapshotError::Round { .. } => {
            (FailureKind::Failed, "it is to print nothing on standard output but ROUND, or ROUND STATE_HASH")
        }
        SnapshotError::Checkpoint { .. } => {
            (FailureKind::Failed, "docs/operations.md says how checkpoints are made")
        }
        SnapshotError::StateHash { .. } => {
            (FailureKind::Conflict, "leave --state-hash out, or find out who is wrong")
        }
        _ => (FailureKind::Failed, "whoever writes the state was thawed; run it again when that is mended"),
    };
    (kind, Some(hint.to_owned()))
}

fn judge_exchange(error: &cairn_net::Error) -> (FailureKind, Option<String>) {
    use cairn_net::Kind;
    if let cairn_net::Error::Store(error) = error
        && error.kind() != cairn_store::Kind::Cancelled
    {
        return (kind_of(error), hint_for(error));
    }
    let (kind, hint) = match error.kind() {
        Kind::Absent => {
            (FailureKind::NotFound, "`cairn peers ls` lists who is asked; --from URL names another")
        }
        Kind::Unavailable => (
            FailureKind::Unavailable,
            "run it again when one of them answers: what came is kept; `cairn peers ls` lists them",
        ),
        Kind::Refused => (
            FailureKind::Refused,
            "--token-file FILE or $CAIRN_TOKEN lets us in; `cairn token create` there makes one",
        ),
        Kind::Damaged => (FailureKind::Damaged, "ask another peer: --from URL"),
        Kind::Conflict => (FailureKind::Conflict, "`cairn show` and `cairn log` say what is here"),
        Kind::Misuse => return (FailureKind::Usage, None),
        Kind::Failed => return (FailureKind::Failed, None),
        Kind::Cancelled => {
            (FailureKind::Interrupted, "what came is kept; run it again and it goes on from there")
        }
    };
    (kind, Some(hint.to_owned()))
}

fn judge_listen(error: &ListenError) -> (FailureKind, Option<String>) {
    let (kind, hint) = match error {
        ListenError::Insecure { lacks: "TLS", .. } => {
            let hint = "give --tls-cert and --tls-key, or listen on 127.0.0.1 behind a proxy that has them; --insecure-public does without";
            (FailureKind::Usage, hint)
        }
        ListenError::Insecure { .. } => (
            FailureKind::Usage,
            "`cairn token create --scope read` makes one; --insecure-public does without",
        ),
        ListenError::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
            (FailureKind::Busy, "another program listens there; --listen names another address or port")
        }
        _ => return (FailureKind::Failed, None),
    };
    (kind, Some(hint.to_owned()))
}

fn judge_tokens(error: &TokenError) -> (FailureKind, Option<String>) {
    let (kind, hint) = match error {
        TokenError::Unknown(_) => (FailureKind::NotFound, "`cairn token ls` lists them"),
        TokenError::TooMany => (FailureKind::Conflict, "`cairn token revoke ID` makes room"),
        TokenError::Exposed(_) => (FailureKind::Failed, "chmod 600 it, and make new tokens if somebody did"),
        TokenError::NotUnderstood { .. } => {
            (FailureKind::Damaged, "move it away and make new tokens; until then nobody is let in by one")
        }
        TokenError::Io { source, .. } => {
            return (FailureKind::Failed, hint_for_io(source).map(ToOwned::to_owned));
        }
    };
    (kind, Some(hint.to_owned()))
}

fn kind_of(error: &Error) -> FailureKind {
    match error.kind() {
        Kind::Absent => FailureKind::NotFound,
        Kind::Damaged => FailureKind::Damaged,
        Kind::Conflict if matches!(error, Error::Busy { .. }) => FailureKind::Busy,
        Kind::Conflict => FailureKind::Conflict,
        Kind::Misuse => FailureKind::Usage,
        Kind::Failed => FailureKind::Failed,
        Kind::Unavailable => FailureKind::Unavailable,
        Kind::Cancelled => FailureKind::Interrupted,
    }
}

/// What the person can do next, where there is something to say that the message does not.
fn hint_for(error: &Error) -> Option<String> {
    Some(match error {
        Error::Absent { .. } => "`cairn ls` lists what is in the store".to_owned(),
        Error::Damaged { what, .. } if what.starts_with("journal ") || what.ends_with("/cairn-store") => {
            "`cairn repair` says what can be done about it".to_owned()
        }
        Error::Damaged { .. } => {
            "`cairn verify` names everything that is damaged and what it touches; the rest still reads"
                .to_owned()
        }
        Error::Archive { .. } => {
            "have the archive made or copied again: nothing of this one is named, and what was sound of it is kept".to_owned()
        }
        Error::Busy { pid: 0, .. } => "wait longer with --wait 60s".to_owned(),
        Error::Busy { pid, .. } => format!("wait longer with --wait 60s, or look at process {pid}"),
        Error::Ambiguous { .. } => "give more digits of the id, or say which with --platform".to_owned(),
        Error::Incomplete { .. } => {
            "`cairn pull` brings it from peers, or add it again; `cairn verify` names what is missing"
                .to_owned()
        }
        Error::WrongPlatform { .. } => "--platform OS/ARCH if it is meant for other machines".to_owned(),
        Error::CommandClash { first, second, .. } => {
            format!("say whose is meant: --prefer {first}, or --prefer {second}")
        }
        Error::NoPackage { profile, .. } => {
            format!("`cairn generations --profile {profile}` shows what was changed when")
        }
        Error::NoGeneration { profile, .. } => format!("`cairn generations --profile {profile}` lists them"),
        Error::NewerFormat { .. } => "use a newer cairn with this store".to_owned(),
        Error::Full { .. } => {
            "remove versions or generations (`cairn rm`, `cairn prune`), which works on a full disk, and run `cairn gc`"
                .to_owned()
        }
        Error::Poisoned { .. } => "run the command again: opening the store recovers it".to_owned(),
        Error::Unavailable { .. } => {
            "run it again when a peer that has it answers; what is here stays".to_owned()
        }
        Error::RoundGap { next, .. } => format!("append round {next} first"),
        Error::RoundsGone { first, .. } => {
            format!("begin with round {first} or later; `cairn snapshot ls` lists states to begin from")
        }
        Error::Cancelled => "nothing became visible; the store is as it was".to_owned(),
        Error::Io { source, .. } | Error::Tree { source, .. } => hint_for_io(source)?.to_owned(),
        _ => return None,
    })
}

fn hint_for_io(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("make room and run it again; what the store held, it still holds")
        }
        io::ErrorKind::PermissionDenied => {
            Some("run it as a user who may, or name another store with --store")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            Some("reading works from here; to write, name another store with --store")
        }
        _ => None,
    }
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
