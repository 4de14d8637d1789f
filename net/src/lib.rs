//! The exchange between peers: the messages that travel, who is asked for what, and how it arrives. No server and no
//! terminal.
//!
//! What is where: [`wire`] is what travels, byte for byte, shared with the server. docs/protocol.md describes it for
//! other implementations.

mod address;
mod binaries;
mod complete;
mod error;
mod feed;
mod fetcher;
mod files;
mod http;
mod net;
mod peer;
pub mod peers;
mod plan;
mod push;
mod reach;
mod report;
mod resolve;
mod schedule;
mod seeds;
mod streams;
mod survey;
mod transfer;
pub mod wire;

pub use address::{PeerUrl, Secret, Source};
pub use binaries::{BinaryRecord, BinaryVersion};
pub use error::{Error, Fault, Kind, PeerError, Result};
pub use fetcher::{FetchPolicy, Sources};
pub use http::Timeouts;
pub use net::{Net, NetOptions};
pub use peers::{KnownPeer, Noted, Peers};
pub use report::{PeerReport, Plan, PushReport, Report, Watch};
pub use resolve::Resolved;
pub use seeds::Seeded;
pub use streams::{FollowAsk, FollowItem, Following};
pub use transfer::{DeltaOffer, DeltaReport, DeltaUse, HealReport};
