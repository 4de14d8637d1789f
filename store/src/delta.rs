//! Deltas: the chunks that one artifact has and another lacks, told in terms of what the other has.
//!
//! Between two builds of a program nearly every chunk is new, since addresses move, and nearly all of it is known. So a
//! block of new chunks is encoded against old bytes: behind a prefix of similar chunks (codec 2), or, for executables, as
//! what is left after the new bytes were predicted from the old file (codec 3). The codecs are in the crate
//! `cairn_delta`; here is what chooses for them, and the form in which it travels.
//!
//! Roles: `gap` is what lies between two artifacts, in an order that both sides find by themselves; `pairs` says which
//! old file goes with which new one; `bases` finds old chunks that are like a block; `old` and `files` have the bytes of
//! files; `encode` makes blocks, each in the smallest form; `unit` is how a block travels; `decode` is the other side;
//! `objects` does the same for metadata, `gzip` for what is in gzip files, `bitcode` for those of LLVM; `frames` is for the
//! store itself, which tells older versions in terms of newer ones.
//!
//! Nothing of a delta is believed: a chunk counts when its bytes hash to its id.

mod bases;
mod bitcode;
mod decode;
mod encode;
mod files;
mod frames;
mod gap;
mod gzip;
mod objects;
mod old;
mod pairs;
mod unit;

#[cfg(test)]
mod tests;

pub use cairn_delta::DeltaError;
pub use cairn_delta::Effort;
pub use decode::{DeltaReader, UnitError, UnitJob, UnitTools};
pub use encode::{CodecTotals, DeltaOptions, DeltaSummary};
pub(crate) use frames::{FrameMaker, FrameOf, Made, Rules};
pub use gap::Gap;
pub use unit::UNIT_LEN_MAX;
