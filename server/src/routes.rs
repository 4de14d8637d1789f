//! What is behind each path.

pub(crate) mod binaries;
pub(crate) mod control;
pub(crate) mod figures;
pub(crate) mod health;
pub(crate) mod openapi;
#[cfg(test)]
pub(crate) mod openapi_tests;
pub(crate) mod range;
pub(crate) mod ready;
