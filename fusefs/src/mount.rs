//! x
mod attach;
mod error;
mod table;
pub use error::MountError;
pub use table::{is_dead, unmount_dead};
