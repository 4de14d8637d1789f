//! Why something does not decode.

/// Why something does not decode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// It ends too early.
    #[error("it ends too early")]
    Truncated,
    /// It contradicts itself.
    #[error("{0}")]
    Invalid(&'static str),
    /// It asks for more than is allowed.
    #[error("{0} past what is allowed")]
    TooLarge(&'static str),
    /// Its compressed bytes do not decompress to what they should.
    #[error("its compressed bytes do not hold")]
    Decompress,
    /// The old bytes are not there, or not as long as they have to be.
    #[error("the bytes that it builds on are not there")]
    Base,
}
