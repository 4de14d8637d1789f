//! What is behind each path.

pub(crate) mod binaries;
pub(crate) mod control;
pub(crate) mod figures;
pub(crate) mod health;
mod range;
pub(crate) mod ready;
