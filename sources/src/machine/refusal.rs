//! What `ssh` means by its last words, and what somebody can do about it.

use std::process::ExitStatus;

use crate::error::Error;

/// The status with which `ssh` ends when it is its own failure and not that of what it was to run.
const OWN_FAILURE: i32 = 255;

/// Why a machine did not answer: `ssh` ended with this status before anything came, and said this.
pub(super) fn explain(machine: &str, destination: &str, status: ExitStatus, said: &str) -> Error {
    let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.last().map(|line| (*line).to_owned());
    let has = |text: &str| said.to_lowercase().contains(text);
    let what = format!("machine {machine}");
    let reason = last.unwrap_or_else(|| format!("ssh ended with {status} and said nothing"));
    let by_hand = format!("ssh {destination} true");
    if status.code() != Some(OWN_FAILURE) {
        let hint =
            format!("the machine needs a POSIX shell and dd; `{by_hand}` shows whether commands run there");
        return Error::Unavailable { what, reason, hint };
    }
    if has("remote host identification has changed") {
        let hint = "its host key is another one than before: if that is right, remove the old one with `ssh-keygen -R`";
        return Error::Untrusted {
            what,
            reason: "its host key has changed".to_owned(),
            hint: hint.to_owned(),
        };
    }
    if has("host key verification failed") || has("no matching host key") {
        let hint =
            format!("its host key is not known here: run `{by_hand}` once and compare the fingerprint");
        return Error::Refused { what, reason, hint };
    }
    if has("permission denied") || has("too many authentication failures") {
        let hint =
            format!("no key that ssh has is accepted there: try `{by_hand}`, and ssh-add or `user = \"…\"`");
        return Error::Refused { what, reason, hint };
    }
    let hint = if has("could not resolve") {
        format!("check the name, or say in ~/.ssh/config what {machine} is")
    } else if has("connection refused") {
        "the machine is up and no sshd listens there: check the port, and that sshd runs".to_owned()
    } else if has("timed out") || has("no route to host") || has("unreachable") {
        "is the machine running, and can it be reached from here?".to_owned()
    } else {
        format!("`{by_hand}` shows what is wrong")
    };
    Error::Unavailable { what, reason, hint }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn each_refusal_has_its_advice() {
        let failed = ExitStatus::from_raw(255 << 8);
        for (said, advice) in [
            ("Host key verification failed.\r\n", "compare the fingerprint"),
            ("a@b: Permission denied (publickey).", "ssh-add"),
            ("ssh: Could not resolve hostname vm1: Name or service not known", "~/.ssh/config"),
            ("ssh: connect to host b port 22: Connection refused", "no sshd listens"),
            ("ssh: connect to host b port 22: Connection timed out", "is the machine running"),
            ("Bad configuration option: nonsense", "`ssh u@h true` shows"),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                "ssh-keygen -R",
            ),
        ] {
            let error = explain("vm1", "u@h", failed, said);
            assert!(error.hint().unwrap().contains(advice), "{error}: {:?}", error.hint());
        }
        let error = explain("vm1", "h", failed, "first\n\n last \n\n");
        assert_eq!(error.to_string(), "machine vm1: last");
        let error = explain("vm1", "h", ExitStatus::from_raw(1 << 8), "");
        assert_eq!(error.to_string(), "machine vm1: ssh ended with exit status: 1 and said nothing");
    }
}
