//! large_directory
