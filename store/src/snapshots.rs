//! Snapshots: artifacts that hold a state directory at a round. Which there are of a name, and what they say of themselves.
//!
//! One is made with [`IngestOptions::snapshot`](crate::IngestOptions::snapshot): its version is the round as decimal digits, its
//! platform `any/any`, and its provenance says the round and what the state hashes to. What only looks like one, such as
//! a package with a version of digits, is none.

mod keep;

use std::collections::BTreeMap;

use crate::artifact::{Artifact, ArtifactKind};
use crate::error::{Error, Kind, Result};
use crate::event::StateHash;
use crate::id::ArtifactId;
use crate::refs::{Name, Platform, RefKey, RefRecord, Version, View};
use crate::store::Store;

pub use keep::KeptSnapshots;

/// The key of the round in an artifact's provenance.
pub const ROUND: &str = "round";
/// The key of the state's hash there.
pub const STATE_HASH: &str = "state_hash";
/// The channel that names the newest snapshot that was made here.
pub const LATEST: &str = "latest";

/// A snapshot that a ref names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The round after which the state was so.
    pub round: u64,
    /// What holds it.
    pub artifact: ArtifactId,
    /// What the state hashes to, if whoever made it said so.
    pub state_hash: Option<StateHash>,
    /// Its files.
    pub files: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Chunks of all of them.
    pub chunks: u64,
    /// When it was named here, since 1970.
    pub time_ms: u64,
    /// Whether all of it is here.
    pub is_whole: bool,
}

/// The snapshots of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSeries {
    /// Whose state it is.
    pub name: Name,
    /// How many whole ones there are.
    pub rounds: u64,
    /// The newest of these, if there is one.
    pub latest: Option<u64>,
}

/// The ref of a snapshot.
#[must_use]
pub fn key_of(name: &Name, round: u64) -> RefKey {
    let version = Version::try_from(round.to_string()).expect("digits are a version");
    RefKey { name: name.clone(), version, platform: Platform::any() }
}

/// The round that a version stands for: decimal digits without leading zeros.
#[must_use]
pub fn round_of(version: &Version) -> Option<u64> {
    let round: u64 = version.as_str().parse().ok()?;
    (round.to_string() == version.as_str()).then_some(round)
}

/// What an artifact that is a snapshot says of itself: its round, and what its state hashes to.
#[must_use]
pub fn facts_of(artifact: &Artifact) -> Option<(u64, Option<StateHash>)> {
    let round = round_of(&artifact.version)?;
    let says_so = artifact.provenance.get(ROUND).is_some_and(|said| said == artifact.version.as_str());
    let is_snapshot = artifact.kind == ArtifactKind::Snapshot && artifact.platform == Platform::any();
    let hash = artifact.provenance.get(STATE_HASH).map(|hash| hash.parse()).transpose().ok()?;
    (says_so && is_snapshot).then_some((round, hash))
}

impl Store {
    /// The snapshots of a name, newest round first, at most `max` of them. Those that are not whole here are among them; one
    /// whose artifact is damaged or lost is not, and is told to the log.
    ///
    /// # Errors
    /// [`Error::Io`] when the store cannot be read.
    pub fn snapshots_of(&self, view: &View, name: &Name, max: usize) -> Result<Vec<SnapshotInfo>> {
        let mut found = Vec::new();
        for (round, record) in candidates(view, name).into_iter().rev() {
            if found.len() == max {
                break;
            }
            found.extend(self.snapshot_info(view, name, round, record)?);
        }
        Ok(found)
    }

    /// The snapshot of a round.
    ///
    /// # Errors
    /// As [`Store::snapshots_of`].
    pub fn snapshot_at(&self, view: &View, name: &Name, round: u64) -> Result<Option<SnapshotInfo>> {
        match view.refs.get(&key_of(name, round)) {
            Some(record) => self.snapshot_info(view, name, round, record),
            None => Ok(None),
        }
    }

    /// The newest snapshot of a name that is whole.
    ///
    /// # Errors
    /// As [`Store::snapshots_of`].
    pub fn latest_snapshot(&self, view: &View, name: &Name) -> Result<Option<SnapshotInfo>> {
        for (round, record) in candidates(view, name).into_iter().rev() {
            let info = self.snapshot_info(view, name, round, record)?;
            if info.as_ref().is_some_and(|info| info.is_whole) {
                return Ok(info);
            }
        }
        Ok(None)
    }

    /// The names that have snapshots, with how many are whole.
    ///
    /// # Errors
    /// As [`Store::snapshots_of`].
    pub fn snapshot_series(&self, view: &View) -> Result<Vec<SnapshotSeries>> {
        let mut series: Vec<SnapshotSeries> = Vec::new();
        let is_candidate = |key: &RefKey| key.platform == Platform::any() && round_of(&key.version).is_some();
        let mut names: Vec<&Name> =
            view.refs.keys().filter(|key| is_candidate(key)).map(|key| &key.name).collect();
        names.dedup();
        for name in names {
            let all = self.snapshots_of(view, name, usize::MAX)?;
            let mut whole = all.iter().filter(|info| info.is_whole);
            if let Some(newest) = whole.next() {
                let (name, rounds) = (name.clone(), 1 + whole.count() as u64);
                series.push(SnapshotSeries { name, rounds, latest: Some(newest.round) });
            } else if !all.is_empty() {
                series.push(SnapshotSeries { name: name.clone(), rounds: 0, latest: None });
            }
        }
        Ok(series)
    }

    fn snapshot_info(
        &self,
        view: &View,
        name: &Name,
        round: u64,
        record: &RefRecord,
    ) -> Result<Option<SnapshotInfo>> {
        let artifact = match self.artifact(&record.artifact) {
            Ok(artifact) => artifact,
            Err(error) if matches!(error.kind(), Kind::Absent | Kind::Damaged | Kind::Unavailable) => {
                tracing::warn!(%name, round, %error, "the artifact of a snapshot cannot be read");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Some((said, state_hash)) = facts_of(&artifact).filter(|(said, _)| *said == round) else {
            return Ok(None);
        };
        Ok(Some(SnapshotInfo {
            round: said,
            artifact: record.artifact,
            state_hash,
            files: artifact.files,
            bytes: artifact.bytes,
            chunks: artifact.chunks,
            time_ms: record.time_ms,
            is_whole: !view.partial.contains(&record.artifact),
        }))
    }
}

/// What may be a snapshot of a name, by round.
fn candidates<'a>(view: &'a View, name: &Name) -> BTreeMap<u64, &'a RefRecord> {
    view.refs_of(name)
        .filter(|(key, _)| key.platform == Platform::any())
        .filter_map(|(key, record)| Some((round_of(&key.version)?, record)))
        .collect()
}

/// The round that a text stands for.
///
/// # Errors
/// [`Error::Invalid`] for anything but decimal digits without leading zeros, up to 2^64 - 1.
pub fn parse_round(text: &str) -> Result<u64> {
    text.parse().ok().filter(|round: &u64| round.to_string() == text).ok_or_else(|| Error::Invalid {
        what: "round",
        given: text.chars().take(200).collect(),
        reason: "it is not a number from 0 to 18446744073709551615 without leading zeros".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::ingest::{IngestOptions, Input};
    use crate::io::Sim;
    use crate::writer::{PublishOptions, Writer, WriterOptions};

    pub(super) fn writer() -> Writer {
        let options = WriterOptions { wait: Duration::ZERO, command: String::new(), who: String::new() };
        Writer::open_with(Arc::new(Sim::new(1)), Path::new("/store"), &options).unwrap()
    }

    pub(super) fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    pub(super) fn add(writer: &Writer, options: &IngestOptions) -> ArtifactId {
        let reader = Box::new(std::io::Cursor::new(options.version.as_str().as_bytes().to_vec()));
        let input = Input::Reader { name: "data".to_owned(), executable: false, reader };
        let ingested = writer.ingest(input, options, &()).unwrap();
        writer.publish(&ingested, &PublishOptions::default()).unwrap();
        ingested.artifact
    }

    #[test]
    fn snapshots_are_listed_newest_first_and_packages_are_none() {
        let writer = writer();
        let hash: StateHash = "0xab12".parse().unwrap();
        for (round, hash) in [(9, None), (10, Some(&hash)), (100, None)] {
            add(&writer, &IngestOptions::snapshot(name("state"), round, hash));
        }
        add(&writer, &IngestOptions::snapshot(name("other"), 7, None));
        let any = Some(Platform::any());
        let package = IngestOptions::package(name("state"), "101".parse().unwrap());
        add(&writer, &IngestOptions { platform: any.clone(), ..package });
        let package = IngestOptions::package(name("tool"), "1".parse().unwrap());
        add(&writer, &IngestOptions { platform: any, ..package });
        let padded = IngestOptions::snapshot(name("state"), 11, None);
        add(&writer, &IngestOptions { version: "011".parse().unwrap(), ..padded });
        let view = writer.names();
        let rounds = |max| -> Vec<u64> {
            writer.snapshots_of(&view, &name("state"), max).unwrap().iter().map(|info| info.round).collect()
        };
        assert_eq!(rounds(10), [100, 10, 9]);
        assert_eq!(rounds(2), [100, 10]);
        let ten = writer.snapshot_at(&view, &name("state"), 10).unwrap().unwrap();
        assert_eq!((ten.state_hash, ten.files, ten.bytes, ten.is_whole), (Some(hash), 1, 2, true));
        assert_eq!(writer.snapshot_at(&view, &name("state"), 101).unwrap(), None);
        assert_eq!(writer.latest_snapshot(&view, &name("state")).unwrap().unwrap().round, 100);
        assert_eq!(writer.latest_snapshot(&view, &name("tool")).unwrap(), None);
        let series =
            |name: &str, rounds, latest| SnapshotSeries { name: name.parse().unwrap(), rounds, latest };
        let expected = [series("other", 1, Some(7)), series("state", 3, Some(100))];
        assert_eq!(writer.snapshot_series(&view).unwrap(), expected);
    }

    #[test]
    fn what_is_not_whole_is_not_the_latest() {
        let writer = writer();
        add(&writer, &IngestOptions::snapshot(name("state"), 1, None));
        let newer = add(&writer, &IngestOptions::snapshot(name("state"), 2, None));
        let mut view = (*writer.names()).clone();
        view.partial = [newer].into_iter().collect();
        let all = writer.snapshots_of(&view, &name("state"), 10).unwrap();
        assert_eq!(all.iter().map(|info| info.is_whole).collect::<Vec<_>>(), [false, true]);
        assert_eq!(writer.latest_snapshot(&view, &name("state")).unwrap().unwrap().round, 1);
        assert_eq!(writer.snapshot_series(&view).unwrap()[0].rounds, 1);
    }

    #[test]
    fn rounds_have_one_text() {
        assert_eq!(parse_round("0").unwrap(), 0);
        assert_eq!(parse_round("18446744073709551615").unwrap(), u64::MAX);
        for bad in ["", "01", "+1", "-1", "1.0", " 1", "18446744073709551616"] {
            parse_round(bad).unwrap_err();
        }
    }
}
