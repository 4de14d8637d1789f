//! The API of cairn: one router for its command line, its peers and scripts.
//!
//! A command is a job: `POST /v1/control/run` starts it and streams what it says, as [`events`] has it. What commands
//! there are and what they do is given from outside, as [`Commands`]; this crate carries them. It is the same router
//! whether it is called in the process of the command line or over the daemon's Unix socket, and [`Client`] is the
//! other end of both.
//!
//! It knows no terminal, no mount and no store.

mod app;
pub mod binaries;
mod client;
mod error;
pub mod events;
mod job;
mod limits;
#[cfg(test)]
mod move_tests;
mod routes;
mod run;
mod shutdown;
pub mod socket;

pub use app::{About, router};
pub use client::{Answer, Client};
pub use error::{ClientError, Failure, SocketError};
pub use events::{Event, Request, Task};
pub use job::{Input, JobIo};
pub use limits::Limits;
pub use routes::health::Health;
pub use run::{Caller, Commands, Hold, Jobs};
pub use shutdown::drain;
