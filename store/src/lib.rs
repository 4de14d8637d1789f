//! cairn's store.

pub mod artifact;
pub mod block;
pub mod chunker;
pub mod content;
mod cursor;
pub mod error;
pub mod id;
pub mod index;
pub mod io;
pub mod journal;
pub mod object;
pub mod pack;
pub mod progress;
pub mod refs;
pub mod tree;

pub use artifact::{Artifact, ArtifactKind, MetadataPolicy};
pub use content::{ChunkRef, Content, ContentBuilder};
pub use error::{Error, Kind, Result};
pub use id::{ArtifactId, ChunkId, ContentId, PackId, TreeId};
pub use journal::{Journal, Op, Record};
pub use object::{MemoryObjects, ObjectSink, ObjectSource};
pub use progress::Progress;
pub use refs::{Channel, ChannelKey, Name, Platform, RefKey, RefRecord, Spec, Version, View};
pub use tree::{Entry, FullMeta, Node, TreeBuilder};
