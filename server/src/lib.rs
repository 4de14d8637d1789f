//! The API of cairn: one router for its command line, its peers and scripts.
