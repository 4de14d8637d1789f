//! What can be signed, as exact bytes, and the envelope that carries it with its signatures. Which keys count is not
//! decided here. No input or output, no clock.
