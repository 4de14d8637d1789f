//! Decoders that are the store's own business, for the fuzz targets. Nobody else is to use them: this is no part of the
//! surface, and changes with what it shows.

use crate::refs::{RefKey, RefRecord};

/// A ref in the catalogue, by its key and its value, and the key that is written for it.
#[must_use]
pub fn catalogue_entry(key: &[u8], value: &[u8]) -> Option<(RefKey, RefRecord, Vec<u8>)> {
    crate::catalogue::decode_entry(key, value)
}

/// How many files a stat cache remembers, if it is one.
#[must_use]
pub fn decode_stat_cache(bytes: &[u8]) -> Option<usize> {
    crate::ingest::decode_stat_cache(bytes)
}

/// How many artifacts a kept measurement is of, if it is one.
#[must_use]
pub fn decode_usage(bytes: &[u8]) -> Option<usize> {
    crate::usage::decode_usage(bytes)
}

/// The events of a log that has this segment alone, if it can be opened. Opening it once more and appending to it changes
/// nothing of what it says.
///
/// # Panics
/// If it does, or something is read that is not what it should be.
#[must_use]
pub fn event_log(segment: &[u8]) -> Option<Vec<crate::Event>> {
    crate::streams::open_segment(segment)
}
