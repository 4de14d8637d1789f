//! What can be signed, as exact bytes, and the envelope that carries it with its signatures. Which keys count is not
//! decided here. No input or output, no clock.

pub mod envelope;

pub use envelope::{Envelope, EnvelopeError, Signature};
