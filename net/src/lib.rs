//! The exchange between peers: the messages that travel, who is asked for what, and how it arrives. No server and no
//! terminal.
//!
//! What is where: [`wire`] is what travels, byte for byte, shared with the server. docs/protocol.md describes it for
//! other implementations.

pub mod wire;
