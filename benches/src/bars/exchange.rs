//! 12 to 15: what moves between two stores and how fast, over loopback and over lines that are thin, long or bad.

mod lazy;
pub(crate) mod nodes;
mod speed;
mod swarm;
mod upgrade;

pub(super) use lazy::rows as lazy;
pub(super) use speed::rows as speed;
pub(super) use swarm::rows as swarm;
pub(super) use upgrade::{casync, rows as upgrade, rsync, through};
