//! casync's own FUSE mount of an index with its chunks beside it.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::Site;
use crate::error::Result;
use crate::ground::Ground;
use crate::harness::{Line, Mounted, Service, is_mounted};

const MOUNTED_WITHIN: Duration = Duration::from_secs(20);

pub(super) fn show(ground: &Ground, native: &Path) -> Result<Site> {
    let index = ground.join("casync.caidx");
    let mut store = OsString::from("--store=");
    store.push(ground.join("casync-chunks"));
    let casync = |action: &str| Line::new("casync").arg(action).arg(&store);
    casync("make").arg(&index).arg(native).run()?;
    let mounted = Mounted::on(&ground.join("casync"), ground.janitor())?;
    let mut service = Service::start(casync("mount").arg(&index).arg(mounted.dir()), ground.janitor())?;
    service.wait_until(MOUNTED_WITHIN, || is_mounted(mounted.dir()))?;
    Ok(Site { root: mounted.dir().to_owned(), _service: Some(service), _mounted: Some(mounted) })
}
