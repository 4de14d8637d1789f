//! Stores that rot, are tampered with, or are given garbage: the damage is named exactly, what is not damaged is read as
//! before, and what is derived is made anew.

mod decoders;
mod depths;
mod derived;
mod index_runs;
mod packs;
mod specimen;
