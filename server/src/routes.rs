//! What is behind each path.

pub(crate) mod binaries;
pub(crate) mod control;
pub(crate) mod health;
mod range;
