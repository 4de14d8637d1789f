//! What commands share that talk with peers: who is asked, what is pulled, and how that is told.

mod access;
mod background;
mod deltas;
mod healing;
mod pull;
mod told;

pub(crate) use self::access::{AccessArgs, FromArgs};
pub(crate) use self::background::{Background, Completion, CompletionState, fetcher};
pub(crate) use self::deltas::DeltaArgs;
pub(crate) use self::healing::read_healing;
pub(crate) use self::pull::{Extent, Pulled, Wanted, Watching, offer, plan, pull, rest_of};
pub(crate) use self::told::{PulledReport, tell_plan, tell_pulled};
