//! The exchange between peers: real servers, hostile ones, and links that break.

mod child;
mod endless;
mod entries;
mod fixture;
mod bomb;
mod honest;
mod lengths;
mod pulls;
mod redirects;
mod rollback;
mod shortened;
mod sharing;
mod several;
mod trees;
mod trickle;
mod wrong_bytes;
mod lazy;
