//! file_systems
