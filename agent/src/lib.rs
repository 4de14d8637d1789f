//! What the nodes of a network do with their state: they take snapshots of it, and whoever joins gets the newest one from
//! its peers and every event after it. No server and no terminal.

mod error;
pub mod hook;
pub mod join;
pub mod snapshot;

pub use error::JoinError;
pub use join::{JoinOptions, JoinWatch, Joined, Replay, Step, join};
