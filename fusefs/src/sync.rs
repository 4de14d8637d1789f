//! The locks of what is tested in every order of its steps: the standard library's, or those of the scheduler that tries
//! the orders (`--features shuttle`, for tests alone).

#[cfg(not(feature = "shuttle"))]
pub(crate) use std::sync::{Mutex, MutexGuard, RwLock};

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, RwLock};
