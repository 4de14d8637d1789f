//! Where files come from that no cairn publishes: releases on GitHub or any web server, build machines that are reached by SSH,
//! folders.
//!
//! It finds out what a source has, brings what is not here yet, verifies it, and lays the programs that count in a folder. What is
//! then done with them is its caller's business: it knows neither the store's contents nor a terminal. Nothing that it
//! brings is ever executed.
//!
//! - [`config`]: `[packages.NAME]` of `cairn.toml`; [`choice`]: what flags, the environment and the file say together.
//! - [`release`]: official releases, by their checksums ([`checksum`]) and signatures.
//! - [`machine`]: builds on machines that `ssh` reaches; [`folder`]: builds in a folder of this machine.
//! - [`archive`]: the programs that are wanted, out of a tar or zip archive, and nothing else of it.
//! - [`signature`]: who signed some bytes, by OpenPGP or minisign, and whether that is enough.

pub mod archive;
pub mod checksum;
pub mod choice;
pub mod config;
mod disk;
mod error;
pub mod folder;
mod http;
pub mod machine;
pub mod release;
mod scratch;
mod sha256;
pub mod signature;
mod template;
mod together;
mod watch;

pub use error::{Error, Result};
pub use http::{Http, HttpOptions, HttpTimeouts, Retries, Variables};
pub use sha256::{Hasher, Sha256};
pub use template::{Template, Words};
pub use watch::{Held, NoWatch, NothingHeld, Watch};
