//! The kernel's EROFS: an image of the tree, not compressed, on a loop device.

use std::path::Path;

use super::Site;
use crate::error::Result;
use crate::ground::Ground;
use crate::harness::{Line, Mounted};

pub(super) fn show(ground: &Ground, native: &Path) -> Result<Site> {
    let image = ground.join("erofs.img");
    Line::new("mkfs.erofs").arg("--quiet").arg(&image).arg(native).run()?;
    let mounted = Mounted::on(&ground.join("erofs"), ground.janitor())?;
    Line::new("mount").args(["-t", "erofs", "-o", "loop,ro"]).arg(&image).arg(mounted.dir()).run()?;
    Ok(Site { root: mounted.dir().to_owned(), _service: None, _mounted: Some(mounted) })
}
