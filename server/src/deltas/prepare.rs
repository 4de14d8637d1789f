//! Which deltas will be wanted: to the latest version of each name and platform, and to each that a channel names, from
//! some versions before it.

use std::collections::{BTreeSet, VecDeque};

use cairn_store::{ArtifactId, Name, Platform, View};

use super::{Pair, Shared};
use crate::enumerations::Part;

/// Pairs that are prepared for one state of the names, at most.
const PAIRS_MAX: usize = 1024;

/// What is left to prepare, as of the names at one moment.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    seq: Option<u64>,
    left: VecDeque<Pair>,
}

impl Shared {
    /// The next pair to prepare, if any is left.
    pub(super) fn to_prepare(&self, prepared: &mut Prepared) -> Option<Pair> {
        if self.serving.prepare == 0 {
            return None;
        }
        match self.store.view() {
            Ok(view) if prepared.seq != Some(view.seq) => {
                *prepared = Prepared { seq: Some(view.seq), left: pairs(&view, self.serving.prepare).into() };
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "what is published cannot be read, and no deltas are prepared")
            }
        }
        loop {
            let pair = prepared.left.pop_front()?;
            if !self.files.has(pair) && !self.lock().is_refused(pair) {
                return Some(pair);
            }
        }
    }
}

/// The pairs that are prepared, from `count` versions before each wanted one.
fn pairs(view: &View, count: usize) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = Vec::new();
    let of_names: BTreeSet<(&Name, &Platform)> =
        view.refs.keys().map(|key| (&key.name, &key.platform)).collect();
    for (name, platform) in of_names {
        let of_platform = view.refs_of(name).filter(|(key, _)| key.platform == *platform);
        let versions: Vec<_> = of_platform.map(|(key, record)| (&key.version, record.artifact)).collect();
        let of_name = view.channels.iter().filter(|(key, _)| key.name == *name && key.platform == *platform);
        let named: BTreeSet<_> = of_name.map(|(_, version)| version).collect();
        for (at, (version, want)) in versions.iter().enumerate() {
            if at + 1 < versions.len() && !named.contains(version) {
                continue;
            }
            let before = versions[..at].iter().rev().map(|(_, have)| *have);
            let mut known: Vec<ArtifactId> = vec![*want];
            for have in before {
                if known.len() > count || pairs.len() >= PAIRS_MAX {
                    break;
                }
                if !known.contains(&have) {
                    known.push(have);
                    pairs.extend([Part::Objects, Part::Chunks].map(|part| Pair { have, want: *want, part }));
                }
            }
        }
    }
    pairs
}
