//! Networks of real processes on loopback: daemons of cairn, nodes of the example program, and joiners that are killed, lied to
//! and outpaced. At the end of each the dumps of all states are equal, byte for byte.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

mod joins;
mod kills;
mod liars;
mod proxy;
mod readme;
mod room;
mod streams;
mod world;
