//! Packs: append-only files of block frames, sealed with a sorted footer. A sealed pack never changes and is named by
//! the hash of its footer; a pack that a crash left unsealed is recovered by scanning its frames.

mod filling;
pub mod format;
mod reader;
mod recover;
mod salvage;
mod writer;

pub(crate) use filling::Filling;
pub use format::{ChunkRow, Footer, FrameRow, PackKind};
pub use reader::Pack;
pub(crate) use reader::TableState;
pub use recover::recover;
pub use writer::PackWriter;

/// Bytes of frames at which a pack is sealed.
pub const PACK_TARGET: u64 = 64 << 20;
/// File name extension of sealed packs.
pub const SEALED: &str = "pack";
/// File name extension of a writer's unsealed packs.
pub const UNSEALED: &str = "open";
