//! What is behind each path.

pub(crate) mod control;
pub(crate) mod health;
