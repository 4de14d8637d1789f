//! 24 to 26: nodes that join: how fast, with how few bytes, beside how many events, and how many at once.

mod at_once;
mod busy;
mod network;
mod transfer;

pub(super) use at_once::rows as at_once;
pub(super) use busy::rows as busy;
pub(super) use transfer::rows as transfer;
