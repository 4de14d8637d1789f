//! stat_cache
