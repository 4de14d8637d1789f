//! The exchange between peers: real servers, hostile ones, and links that break.

mod bomb;
mod child;
mod collected;
mod endless;
mod entries;
mod events;
mod fixture;
mod forged;
mod honest;
mod lazy;
mod lengths;
mod pulls;
mod real;
mod redirects;
mod rollback;
mod several;
mod sharing;
mod shortened;
mod told;
mod trees;
mod trickle;
mod ways;
mod wrong_bytes;
