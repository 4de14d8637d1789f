//! What is behind each path.

pub(crate) mod control;
pub(crate) mod figures;
pub(crate) mod health;
pub(crate) mod ready;
