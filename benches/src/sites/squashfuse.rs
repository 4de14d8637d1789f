//! squashfuse, by its low-level program: an image as `mksquashfs` makes it by default, compressed.

use std::path::Path;
use std::time::Duration;

use super::Site;
use crate::error::Result;
use crate::ground::Ground;
use crate::harness::{Line, Mounted, Service, is_mounted};

const MOUNTED_WITHIN: Duration = Duration::from_secs(20);

pub(super) fn show(ground: &Ground, native: &Path) -> Result<Site> {
    let image = ground.join("squash.img");
    Line::new("mksquashfs").arg(native).arg(&image).args(["-noappend", "-no-progress", "-quiet"]).run()?;
    let mounted = Mounted::on(&ground.join("squashfuse"), ground.janitor())?;
    let line = Line::new("squashfuse_ll").arg("-f").arg(&image).arg(mounted.dir());
    let mut service = Service::start(line, ground.janitor())?;
    service.wait_until(MOUNTED_WITHIN, || is_mounted(mounted.dir()))?;
    Ok(Site { root: mounted.dir().to_owned(), _service: Some(service), _mounted: Some(mounted) })
}
