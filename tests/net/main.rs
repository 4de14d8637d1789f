//! The exchange between peers: real servers, hostile ones, and links that break.
