//! A daemon that is killed, and what becomes of its mounts.
