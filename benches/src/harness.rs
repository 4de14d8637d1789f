//! Runs programs, measures them, lets them take turns, and reports.

mod command;
mod date;
mod janitor;
mod link;
mod machine;
mod mounted;
mod report;
mod sample;
mod scratch;
mod service;
mod turns;
mod wait;

pub(crate) use command::{Cost, Line};
pub(crate) use janitor::Janitor;
pub(crate) use link::{Fault, Link, Passed, Quality};
pub(crate) use machine::{Machine, file_system, pin_to_two_cores};
pub(crate) use mounted::{Mounted, is_mounted};
pub(crate) use report::{Report, Role, Row, Score, Subject};
pub(crate) use sample::{Limit, Outcome, Series, Unit, Verdict, to_f64};
pub(crate) use scratch::{Scratch, copy_tree, empty_folder, remove, tree_bytes, walk, warm};
pub(crate) use service::Service;
pub(crate) use turns::{Entrant, take_turns};
