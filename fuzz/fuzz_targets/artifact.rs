//! Artifacts: one encoding each.
#![no_main]

use cairn_store::{Artifact, ArtifactId, ChunkId, references};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(artifact) = Artifact::decode(data) {
        assert_eq!(artifact.encode(), data);
        assert_eq!(ArtifactId::of(data).0, ChunkId::of(data).0);
        assert_eq!(references(&ChunkId::of(data), data).expect("it decodes"), [artifact.root.into()]);
    }
});
