//! The store through its public surface, on real file systems.

mod archives;
mod at_once;
mod bad_input;
mod collecting;
mod cutting;
mod file_systems;
mod identity;
mod large_directory;
mod limits;
mod names;
mod presence;
mod profile_model;
mod profiles;
mod pulled;
mod ranges;
mod restoring;
mod round_trip;
mod sending;
mod stat_cache;
mod together;
