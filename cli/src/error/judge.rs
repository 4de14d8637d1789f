//! Which kind each error is of, and what to do about it.

use std::io;

use cairn_agent::snapshot::SnapshotError;
use cairn_fusefs::MountError;
use cairn_server::tokens::TokenError;
use cairn_server::{ClientError, Failure, ListenError, SocketError};
use cairn_store::{Error, Kind};

use super::{Absent, FailureKind, Foreign, Hinted, NoStore, Usage};
use crate::commands::fetch::FetchError;
use crate::commands::umount::InUse;

pub(super) fn judge(error: &anyhow::Error) -> (FailureKind, Option<String>) {
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
        Source::Program { .. } => {
            Some("install it, or take another strategy: `cairn sync NAME --strategy S`")
        }
        Source::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Some("run it as a user who may; --cache or $CAIRN_CACHE names another folder for downloads")
        }
        Source::Io { source, .. } => hint_for_io(source),
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

pub(super) fn kind_of(error: &Error) -> FailureKind {
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
pub(super) fn hint_for(error: &Error) -> Option<String> {
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
