//! Which round it is, as a command says.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use cairn_store::snapshots::parse_round;
use cairn_store::{Name, StateHash};

use super::SnapshotError;
use crate::hook::{self, Hook};

/// A command that says which round a state is at.
#[derive(Debug, Clone, Copy)]
pub struct RoundCommand<'a> {
    /// Whose state it is.
    pub name: &'a Name,
    /// The state directory.
    pub dir: &'a Path,
    /// What is, or would be, the snapshot: the directory or a checkpoint of it.
    pub snapshot_dir: &'a Path,
    /// The shell command.
    pub command: &'a str,
    /// How long it may take.
    pub time_max: Duration,
}

/// Asks which round it is, and what the state hashes to if the command knows.
///
/// # Errors
/// [`SnapshotError::Hook`] and [`SnapshotError::Round`].
pub fn ask(
    asked: RoundCommand<'_>,
    cancelled: &dyn Fn() -> bool,
) -> Result<(u64, Option<StateHash>), SnapshotError> {
    let env: Vec<(&'static str, OsString)> = vec![
        ("CAIRN_NAME", asked.name.as_str().into()),
        ("CAIRN_DIR", asked.dir.into()),
        ("CAIRN_SNAPSHOT_DIR", asked.snapshot_dir.into()),
    ];
    let (command, time_max) = (asked.command.to_owned(), asked.time_max);
    let said =
        hook::run(&Hook { purpose: "round", command, env, dir: Some("/".into()), time_max }, cancelled)?;
    parse(&said.stdout)
}

fn parse(stdout: &[u8]) -> Result<(u64, Option<StateHash>), SnapshotError> {
    let text = String::from_utf8_lossy(stdout);
    let bad = |reason: &dyn std::fmt::Display| SnapshotError::Round {
        given: text.trim().chars().take(200).collect(),
        reason: reason.to_string(),
    };
    let mut words = text.split_whitespace();
    let (round, hash) = (words.next(), words.next());
    if round.is_none() || words.next().is_some() {
        return Err(bad(&"it is to be ROUND, or ROUND STATE_HASH"));
    }
    let round = parse_round(round.unwrap_or_default()).map_err(|error| bad(&error))?;
    let hash = hash.map(str::parse).transpose().map_err(|error: cairn_store::Error| bad(&error))?;
    Ok((round, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_may_come_with_a_hash() {
        let hash: StateHash = "ab12".parse().unwrap();
        assert_eq!(parse(b"156\n").unwrap(), (156, None));
        assert_eq!(parse(b"  0 0xAB12 \n\n").unwrap(), (0, Some(hash)));
        for bad in ["", "\n", "-1", "01", "156 xyz", "156 ab12 more", "round 156", "\u{ff}"] {
            let error = parse(bad.as_bytes()).unwrap_err();
            assert!(matches!(error, SnapshotError::Round { .. }), "{bad}: {error}");
        }
    }
}
