//! Artifacts: a root directory with the name, version and circumstances under which it was published.
//!
//! Invariants:
//! - the id is the hash of the canonical bytes, and those hold nothing of when or where the artifact was made: equal
//!   input gives equal ids everywhere;
//! - one value has one encoding, and decoding refuses every other;
//! - an [`Artifact`] that was decoded is valid; one that is about to be written is checked by [`Artifact::put`].
//!
//! What the artifact says of its tree (files, bytes) is a claim until somebody has walked it. docs/format.md has the
//! bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::content::CHUNK_LEN_MAX;
use crate::cursor::{Cursor, Defect};
use crate::error::Result;
use crate::id::{ArtifactId, ChunkId, TreeId};
use crate::object::{OBJECT_LEN_MAX, ObjectSink, ObjectSource};
use crate::refs::{Name, Platform, Version};
use crate::tree::{self, FullMeta, Walk};

const MAGIC: [u8; 4] = *b"CART";
const VERSION: u8 = 1;
/// Pairs of provenance, at most.
pub const PROVENANCE_MAX: usize = 64;
/// Longest key of provenance, in bytes.
pub const PROVENANCE_KEY_LEN_MAX: usize = 64;
/// Longest value of provenance, in bytes.
pub const PROVENANCE_VALUE_LEN_MAX: usize = 4096;

/// What an artifact is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ArtifactKind {
    /// A release: programs and what belongs to them.
    Package,
    /// A state directory at a round or height.
    Snapshot,
}

/// What is kept of files beside names and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MetadataPolicy {
    /// Permission bits 0o777 and symbolic links: equal content gives an equal artifact whoever owns it. Restored files
    /// are dated 1980-01-01T00:00:00Z.
    Portable,
    /// All permission bits, owner, modification time, extended attributes, hard links, pipes and devices.
    Full,
}

/// How the artifact's files were cut. Readers do not need it; whoever adds the next version does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Chunking {
    /// Shortest content-defined chunk but a file's last, in bytes.
    pub min: u32,
    /// Length that chunks centre on, in bytes.
    pub avg: u32,
    /// Longest content-defined chunk, in bytes.
    pub max: u32,
    /// Whether files that are made of fixed pages were cut at these.
    pub paged: bool,
}

/// The root directory's own metadata: it has no entry anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootMeta {
    /// Permission bits.
    pub mode: u16,
    /// The rest, under [`MetadataPolicy::Full`] and only there.
    pub full: Option<FullMeta>,
}

/// A published tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// What it is for.
    pub kind: ArtifactKind,
    /// Name that it was published under.
    pub name: Name,
    /// Version that it was published as.
    pub version: Version,
    /// Where it runs.
    pub platform: Platform,
    /// What is kept of its files' metadata.
    pub policy: MetadataPolicy,
    /// How its files were cut.
    pub chunking: Chunking,
    /// Its root directory.
    pub root: TreeId,
    /// The root directory's metadata.
    pub root_meta: RootMeta,
    /// Everything below the root: what [`Artifact::walk`] visits.
    pub entries: u64,
    /// Regular files among the entries; a file of several hard links counts once per name.
    pub files: u64,
    /// Lengths of these files, added up, in bytes.
    pub bytes: u64,
    /// Entries of their chunk lists, added up: holes count, inline bytes do not.
    pub chunks: u64,
    /// Where it comes from, in words of its publisher's choice: `url`, `commit`, `height`.
    pub provenance: BTreeMap<String, String>,
}

impl Artifact {
    /// The canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        postcard::to_extend(self, bytes).expect("memory takes everything and every length is known")
    }

    /// The hash of the canonical bytes.
    #[must_use]
    pub fn id(&self) -> ArtifactId {
        ArtifactId::of(&self.encode())
    }

    /// The artifact that these bytes are the canonical encoding of.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) if there is none,
    /// [`Error::NewerFormat`](crate::Error::NewerFormat) for a later format.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Self::try_decode(bytes).map_err(|defect| defect.of("artifact", &ChunkId::of(bytes)))
    }

    fn try_decode(bytes: &[u8]) -> Result<Self, Defect> {
        if bytes.len() > OBJECT_LEN_MAX {
            return Err(Defect::new("longer than 1 MiB"));
        }
        let mut cursor = Cursor::new(bytes);
        if cursor.take(MAGIC.len())? != MAGIC {
            return Err(Defect::new("does not begin with its magic"));
        }
        match cursor.u8()? {
            VERSION => {}
            0 => return Err(Defect::new("format version 0")),
            found => return Err(Defect::Newer { found: found.into(), supported: VERSION.into() }),
        }
        let artifact: Self = postcard::from_bytes(cursor.take(cursor.left())?)
            .map_err(|error| Defect::new(format!("its fields do not decode: {error}")))?;
        artifact.check()?;
        if artifact.encode() != bytes {
            return Err(Defect::new("not its canonical encoding"));
        }
        Ok(artifact)
    }

    fn check(&self) -> Result<(), Defect> {
        let Chunking { min, avg, max, .. } = self.chunking;
        if !(1 <= min && min <= avg && avg <= max && max <= CHUNK_LEN_MAX) {
            return Err(Defect::new(format!("chunk lengths of {min}, {avg}, {max}")));
        }
        let mode_mask = match (self.policy, &self.root_meta.full) {
            (MetadataPolicy::Portable, None) => 0o777,
            (MetadataPolicy::Full, Some(full)) if full.link == 0 => {
                tree::check_full(full)?;
                0o7777
            }
            _ => return Err(Defect::new("the root's metadata contradict the metadata policy")),
        };
        if self.root_meta.mode & !mode_mask != 0 {
            return Err(Defect::new(format!("mode {:o} of the root", self.root_meta.mode)));
        }
        if self.files > self.entries {
            return Err(Defect::new("more files than entries"));
        }
        let fits = |(key, value): (&String, &String)| {
            (1..=PROVENANCE_KEY_LEN_MAX).contains(&key.len()) && value.len() <= PROVENANCE_VALUE_LEN_MAX
        };
        if self.provenance.len() > PROVENANCE_MAX || !self.provenance.iter().all(fits) {
            return Err(Defect::new(
                "provenance past its limits (64 pairs, keys of 1 to 64 bytes, values of 4,096)",
            ));
        }
        Ok(())
    }

    /// Stores the artifact.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for what no reader would take; whatever the sink returns.
    pub fn put(&self, sink: &mut dyn ObjectSink) -> Result<ArtifactId> {
        self.check()
            .map_err(|defect| defect.refusal("artifact", format!("{}@{}", self.name, self.version)))?;
        sink.put(self.encode()).map(|id| ArtifactId(id.0))
    }

    /// Reads an artifact.
    ///
    /// # Errors
    /// As [`Artifact::decode`]; whatever the source returns.
    pub fn get(id: &ArtifactId, source: &dyn ObjectSource) -> Result<Self> {
        let id = ChunkId::from(*id);
        Self::try_decode(&source.get(&id)?).map_err(|defect| defect.of("artifact", &id))
    }

    /// Everything below the root in canonical order. More than [`Artifact::entries`] entries are damage.
    #[must_use]
    pub fn walk<'a>(&self, source: &'a dyn ObjectSource) -> Walk<'a> {
        tree::walk(&self.root, source).with_limit(self.entries)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Error;
    use crate::object::MemoryObjects;

    fn sample() -> Artifact {
        Artifact {
            kind: ArtifactKind::Package,
            name: "uv".parse().unwrap(),
            version: "0.13.1".parse().unwrap(),
            platform: "linux/x86_64".parse().unwrap(),
            policy: MetadataPolicy::Portable,
            chunking: Chunking { min: 4096, avg: 16384, max: 65536, paged: true },
            root: TreeId([3; 32]),
            root_meta: RootMeta { mode: 0o755, full: None },
            entries: 12,
            files: 7,
            bytes: 60_000_000,
            chunks: 3_600,
            provenance: BTreeMap::from([("url".to_owned(), "https://example.org/uv".to_owned())]),
        }
    }

    fn full_sample() -> Artifact {
        let xattrs = BTreeMap::from([(b"user.a".to_vec(), b"1".to_vec()), (b"user.b".to_vec(), Vec::new())]);
        let full = FullMeta { uid: 1000, gid: 100, mtime_s: -1, mtime_ns: 999_999_999, link: 0, xattrs };
        Artifact {
            kind: ArtifactKind::Snapshot,
            policy: MetadataPolicy::Full,
            root_meta: RootMeta { mode: 0o2775, full: Some(full) },
            ..sample()
        }
    }

    #[test]
    fn artifacts_come_back_under_their_id() {
        let mut objects = MemoryObjects::new();
        for artifact in [sample(), full_sample()] {
            let id = artifact.put(&mut objects).unwrap();
            assert_eq!(id, artifact.id());
            assert_eq!(Artifact::get(&id, &objects).unwrap(), artifact);
            assert_eq!(Artifact::decode(&artifact.encode()).unwrap(), artifact);
        }
    }

    #[test]
    fn what_no_reader_takes_is_not_written() {
        let full = full_sample().root_meta.full;
        let linked = FullMeta { link: 1, ..full.clone().unwrap() };
        let pair = |key: usize, value: usize| BTreeMap::from([("k".repeat(key), "v".repeat(value))]);
        let refused = [
            Artifact { chunking: Chunking { min: 0, ..sample().chunking }, ..sample() },
            Artifact { chunking: Chunking { avg: 1, ..sample().chunking }, ..sample() },
            Artifact { chunking: Chunking { max: CHUNK_LEN_MAX + 1, ..sample().chunking }, ..sample() },
            Artifact { root_meta: RootMeta { mode: 0o755, full: full.clone() }, ..sample() },
            Artifact { root_meta: RootMeta { mode: 0o1755, full: None }, ..sample() },
            Artifact { root_meta: RootMeta { mode: 0o755, full: None }, ..full_sample() },
            Artifact { root_meta: RootMeta { mode: 0o10755, full }, ..full_sample() },
            Artifact { root_meta: RootMeta { mode: 0o755, full: Some(linked) }, ..full_sample() },
            Artifact { files: 13, ..sample() },
            Artifact { provenance: (0..65).map(|n| (n.to_string(), String::new())).collect(), ..sample() },
            Artifact { provenance: pair(0, 1), ..sample() },
            Artifact { provenance: pair(65, 1), ..sample() },
            Artifact { provenance: pair(1, 4097), ..sample() },
        ];
        for artifact in refused {
            let error = artifact.put(&mut MemoryObjects::new()).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{artifact:?}: {error}");
            let error = Artifact::decode(&artifact.encode()).unwrap_err();
            assert!(matches!(error, Error::Damaged { chunk: Some(_), .. }), "{artifact:?}: {error}");
        }
    }

    #[test]
    fn other_encodings_of_the_same_value_are_refused() {
        let bytes = sample().encode();
        let mut longer = bytes.clone();
        longer.push(0);
        // The kind (0) as a varint of two bytes.
        let mut padded = bytes.clone();
        padded.splice(5..6, [0x80, 0]);
        for bytes in [longer, padded] {
            let error = Artifact::decode(&bytes).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
        }
        let mut newer = bytes;
        newer[4] = 2;
        let error = Artifact::decode(&newer).unwrap_err();
        assert!(matches!(error, Error::NewerFormat { found: 2, supported: 1, .. }), "{error}");
    }

    proptest! {
        #[test]
        fn mutated_bytes_decode_to_another_value_or_not_at_all(
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        ) {
            for artifact in [sample(), full_sample()] {
                let mut bytes = artifact.encode();
                for (at, byte) in &edits {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
                if let Some(cut) = &cut {
                    bytes.truncate(cut.index(bytes.len() + 1));
                }
                if let Ok(decoded) = Artifact::decode(&bytes) {
                    prop_assert_eq!(decoded == artifact, bytes == artifact.encode());
                    prop_assert_eq!(decoded.encode(), bytes);
                }
            }
        }
    }
}
