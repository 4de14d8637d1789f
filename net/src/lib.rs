//! The exchange between peers: the messages that travel, who is asked for what, and how it arrives. No server and no
//! terminal.
//!
//! What is where: [`wire`] is what travels, byte for byte, shared with the server. docs/protocol.md describes it for
//! other implementations.

mod address;
mod error;
mod files;
mod http;
mod peer;
pub mod peers;
mod schedule;
pub mod wire;

pub use address::{PeerUrl, Secret, Source};
pub use error::{Error, Fault, Kind, PeerError, Result};
pub use http::Timeouts;
pub use peers::{KnownPeer, Peers};
