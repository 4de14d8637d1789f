//! cairn's store.

pub mod block;
pub mod chunker;
pub mod error;
pub mod id;
pub mod index;
pub mod io;
pub mod pack;
pub mod progress;

pub use error::{Error, Kind, Result};
pub use id::{ArtifactId, ChunkId, ContentId, PackId, TreeId};
pub use progress::Progress;
