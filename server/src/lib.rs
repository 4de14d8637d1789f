//! The API of cairn: one router for its command line, its peers and scripts.
//!
//! A command is a job: `POST /v1/control/run` starts it and streams what it says, as [`events`] has it. What commands
//! there are and what they do is given from outside, as [`Commands`]; this crate carries them. It is the same router
//! whether it is called in the process of the command line or over the daemon's Unix socket, and [`Client`] is the
//! other end of both.
//!
//! It knows no terminal, no mount and no store.

mod app;
mod auth;
pub mod binaries;
mod cached;
mod client;
mod deltas;
mod entrance;
mod enumerations;
mod error;
pub mod events;
mod files;
mod follow;
mod incoming;
mod job;
mod limits;
mod listen;
mod metrics;
#[cfg(test)]
mod move_tests;
mod outflow;
mod peer_api;
mod peer_error;
mod peer_limits;
mod pieces;
mod promises;
mod routes;
mod run;
mod shutdown;
pub mod socket;
mod tls;
pub mod tokens;
mod visit;
mod work;

pub use app::{About, router};
pub use auth::{Access, Guest};
pub use client::{Answer, Client};
pub use deltas::DeltaServing;
pub use entrance::{Door, behind};
pub use error::{ClientError, Failure, SocketError};
pub use events::{Event, Request, Task};
pub use job::{Input, JobIo};
pub use limits::Limits;
pub use listen::{Listen, ListenError, Serving, Stop};
pub use peer_api::{PeerApi, PeerOptions, peer_router};
pub use peer_limits::PeerLimits;
pub use routes::health::Health;
pub use run::{Caller, Commands, Hold, Jobs};
pub use shutdown::drain;
pub use tls::{TlsError, TlsFiles};
pub use tokens::{Glob, Grant, NewToken, Scope, Token, TokenError, TokenFile, TokenId, TokenSecret};
pub use visit::RequestId;
