//! cairn's store.

pub mod artifact;
pub mod block;
mod catalogue;
pub mod chunker;
pub mod content;
mod cursor;
pub mod diff;
pub mod error;
mod fetcher;
mod hash;
pub mod id;
pub mod index;
pub mod ingest;
pub mod io;
pub mod journal;
mod lock;
pub mod object;
pub mod pack;
mod pool;
pub mod progress;
pub mod read;
pub mod refs;
pub mod restore;
pub mod stats;
pub mod store;
#[cfg(test)]
mod testing;
pub mod tree;
pub mod usage;
pub mod verify;
pub mod writer;

pub use artifact::{Artifact, ArtifactKind, MetadataPolicy};
pub use content::{ChunkRef, Content, ContentBuilder};
pub use error::{Error, Kind, Result};
pub use id::{ArtifactId, ChunkId, ContentId, PackId, TreeId};
pub use ingest::{IngestOptions, Ingested, Input};
pub use journal::{Journal, Op, Record};
pub use object::{MemoryObjects, ObjectSink, ObjectSource};
pub use progress::Progress;
pub use read::FileReader;
pub use refs::{Channel, ChannelKey, Name, Platform, RefKey, RefRecord, Spec, Version, View};
pub use restore::{RestoreOptions, Restored};
pub use store::Store;
pub use tree::{Entry, FullMeta, Node, TreeBuilder};
pub use verify::{VerifyOptions, VerifyReport};
pub use writer::{PublishOptions, Published, Writer, WriterOptions};
