//! stub
use crate::Result;
use std::path::Path;
use std::time::Duration;
pub struct Lock;
impl Lock {
    pub fn acquire(_d: &Path, _w: Duration, _c: &str, _x: &dyn Fn() -> bool) -> Result<Lock> {
        Ok(Lock)
    }
}
