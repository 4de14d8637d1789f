//! Codecs that tell new bytes in terms of old ones that the reader has. Bytes in, bytes out: no input or output, no ids, no
//! threads of their own, no clock.
//!
//! Nothing here vouches for what is decoded: whoever decodes hashes the result. Decoders are total: whatever they are
//! given, they end, with an error or with as many bytes as were asked for, in memory and time that their input and the
//! named limits bound.

pub mod bitcode;
pub mod deflate;
mod error;
pub mod prefix;
pub mod reloc;
pub mod similar;

pub use error::DeltaError;

/// How hard an encoder tries. All that is encoded is decoded alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Effort {
    /// Prefixes alone, at a low level.
    Fast,
    /// What pays for a release that is fetched some times.
    #[default]
    Normal,
    /// Whatever makes it smaller.
    Max,
}
