//! cairn's store.

pub mod error;
pub mod id;
pub mod io;
pub mod progress;

pub use error::{Error, Kind, Result};
pub use id::{ArtifactId, ChunkId, ContentId, PackId, TreeId};
pub use progress::Progress;
