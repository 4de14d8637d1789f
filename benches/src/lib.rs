//! The bars that cairn is held to, each measured beside its reference in the same run.
//!
//! Candidate, references and peers are real programs, started as processes, taking turns on the same input. This crate
//! prepares inputs, starts the programs, and writes the table; it never measures itself, and it knows cairn by its
//! command line alone. `benches/README.md` has the method and how to read the table.
//!
//! - `bars` has one module for each kind of bar: what is run, and the limit.
//! - `tools` has the command lines: cairn, the peers, the references.
//! - `corpus` has the inputs.
//! - `ground` and `sites` have the mounts: where they are, and the file systems that show the same tree.
//! - `shared` is what the bench and its readers of flips tell each other.
//! - `harness` runs, measures, takes turns and reports; it knows no bar and no tool.
#![expect(
    clippy::disallowed_methods,
    reason = "prepares inputs and removes outputs with plain files; no byte of a store is written here"
)]

mod bars;
mod corpus;
mod error;
mod ground;
mod harness;
mod options;
mod run;
pub mod shared;
mod sites;
mod tools;

pub use run::{Programs, main};
