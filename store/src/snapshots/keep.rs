//! How many snapshots of a name stay.

use std::num::NonZero;

use crate::error::{Error, Result};
use crate::id::ArtifactId;
use crate::lease::Held;
use crate::refs::Name;
use crate::retention::artifacts_of_generations;
use crate::snapshots::key_of;
use crate::writer::Writer;

/// What became of the snapshots of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptSnapshots {
    /// Rounds whose names went.
    pub removed: Vec<u64>,
    /// Rounds that would have gone, and stay since a channel or a generation names them or somebody holds them.
    pub in_use: Vec<u64>,
}

impl Writer {
    /// Takes the names of all snapshots of `name` away but the `keep` newest that are whole here, and what somebody relies on:
    /// a channel, a generation, another process or somebody in this one. What is not whole is not touched: somebody
    /// is bringing it. Bytes are for a collection to take.
    ///
    /// # Errors
    /// [`Error::Io`]. What went before that is gone.
    pub fn keep_snapshots(&self, name: &Name, keep: NonZero<usize>) -> Result<KeptSnapshots> {
        let view = self.names();
        let all = self.snapshots_of(&view, name, usize::MAX)?;
        let shown = artifacts_of_generations(&view, &[]);
        let held = self.held_artifacts()?;
        let mut kept = KeptSnapshots::default();
        for old in all.iter().filter(|info| info.is_whole).skip(keep.get()) {
            if shown.contains(&old.artifact) || held.contains(&old.artifact) {
                kept.in_use.push(old.round);
                continue;
            }
            match self.remove_ref(&key_of(name, old.round), false) {
                Ok(_) => kept.removed.push(old.round),
                Err(Error::Conflict { .. }) => kept.in_use.push(old.round),
                Err(Error::Absent { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(kept)
    }

    /// The artifacts that somebody holds, here or in another process, by their own id.
    fn held_artifacts(&self) -> Result<Vec<ArtifactId>> {
        let others = if self.is_shared() { self.leases()? } else { Vec::new() };
        let here = self.holds().held().0;
        let artifact = |held: &Held| match held {
            Held::Artifact(artifact) => Some(*artifact),
            _ => None,
        };
        Ok(others.iter().chain(&here).filter_map(|hold| artifact(&hold.held)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{add, name, writer};
    use super::*;
    use crate::generation::UseOptions;
    use crate::ingest::IngestOptions;

    fn rounds(writer: &Writer) -> Vec<u64> {
        let all = writer.snapshots_of(&writer.names(), &name("state"), 100).unwrap();
        all.iter().map(|info| info.round).collect()
    }

    #[test]
    fn the_newest_stay_and_whatever_somebody_relies_on() {
        let writer = writer();
        let mut artifacts = Vec::new();
        for round in 1..=7 {
            artifacts.push(add(&writer, &IngestOptions::snapshot(name("state"), round, None)));
        }
        add(&writer, &IngestOptions::snapshot(name("other"), 1, None));
        writer.tag(&key_of(&name("state"), 1), &"audited".parse().unwrap()).unwrap();
        let set = vec![(key_of(&name("state"), 2), artifacts[1])];
        writer.use_packages(&UseOptions { set, ..UseOptions::default() }).unwrap();
        let hold = writer.hold(Held::Artifact(artifacts[2]), "a joiner".to_owned());
        let two = NonZero::new(2).unwrap();
        let kept = writer.keep_snapshots(&name("state"), two).unwrap();
        assert_eq!((kept.removed, kept.in_use), (vec![5, 4], vec![3, 2, 1]));
        assert_eq!(rounds(&writer), [7, 6, 3, 2, 1]);
        drop(hold);
        let kept = writer.keep_snapshots(&name("state"), two).unwrap();
        assert_eq!((kept.removed, kept.in_use), (vec![3], vec![2, 1]));
        assert_eq!(writer.snapshots_of(&writer.names(), &name("other"), 9).unwrap().len(), 1);
        assert!(writer.keep_snapshots(&name("state"), NonZero::<usize>::MAX).unwrap().removed.is_empty());
    }
}
