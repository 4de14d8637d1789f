//! cairn's store.

pub mod block;
pub mod chunker;
pub mod error;
pub mod id;
pub mod index;
pub mod io;
pub mod pack;
pub mod progress;
pub mod refs;

pub use error::{Error, Kind, Result};
pub use id::{ArtifactId, ChunkId, ContentId, PackId, TreeId};
pub use progress::Progress;
pub use refs::{Channel, ChannelKey, Name, Platform, RefKey, RefRecord, Spec, Version, View};
