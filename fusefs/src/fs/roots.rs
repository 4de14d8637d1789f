//! Root directories of artifacts, kept up to a number of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cairn_store::id::TreeId;
use cairn_store::tree::FullMeta;
use cairn_store::{ArtifactId, Error, MetadataPolicy, Store};

use crate::attr::{Attr, Ino, Kind};
use crate::dirs::{Owner, PORTABLE_MTIME_S};

/// Roots that are kept.
const ROOTS_MAX: usize = 4096;

/// The root directory of an artifact.
pub(super) struct Root {
    pub(super) tree: TreeId,
    mode: u16,
    /// Owner and time, if the artifact keeps these; extended attributes are left out.
    pub(super) full: Option<FullMeta>,
}

impl Root {
    pub(super) fn attr(&self, ino: Ino, owner: Owner) -> Attr {
        let full = self.full.as_ref();
        Attr {
            ino,
            kind: Kind::Dir,
            mode: self.mode,
            size: 0,
            nlink: 1,
            uid: full.map_or(owner.uid, |full| full.uid),
            gid: full.map_or(owner.gid, |full| full.gid),
            mtime: full.map_or((PORTABLE_MTIME_S, 0), |full| (full.mtime_s, full.mtime_ns)),
            rdev: 0,
        }
    }
}

/// The roots of one mount.
pub(super) struct Roots {
    /// It fetches nothing.
    store: Store,
    /// Guards what is kept. A leaf lock: nothing is read under it.
    kept: Mutex<HashMap<ArtifactId, Arc<Root>>>,
}

impl Roots {
    pub(super) fn new(store: Store) -> Self {
        Self { store, kept: Mutex::default() }
    }

    /// The root of an artifact, if it is kept.
    pub(super) fn known(&self, artifact: &ArtifactId) -> Option<Arc<Root>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(artifact).map(Arc::clone)
    }

    /// The root of an artifact.
    pub(super) fn get(&self, artifact: &ArtifactId) -> Result<Arc<Root>, Error> {
        self.get_from(&self.store, artifact)
    }

    /// The same, read from this store if it is not kept.
    pub(super) fn get_from(&self, store: &Store, artifact: &ArtifactId) -> Result<Arc<Root>, Error> {
        if let Some(root) = self.known(artifact) {
            return Ok(root);
        }
        let read = store.artifact(artifact)?;
        debug_assert_eq!(read.policy == MetadataPolicy::Full, read.root_meta.full.is_some());
        let full = read.root_meta.full.map(|full| FullMeta { xattrs: Default::default(), ..full });
        let root = Arc::new(Root { tree: read.root, mode: read.root_meta.mode, full });
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= ROOTS_MAX {
            // Reading one again takes microseconds, so which go does not matter.
            let half: Vec<ArtifactId> = kept.keys().take(ROOTS_MAX / 2).copied().collect();
            half.iter().for_each(|artifact| drop(kept.remove(artifact)));
        }
        kept.insert(*artifact, Arc::clone(&root));
        Ok(root)
    }
}
