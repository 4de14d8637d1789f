//! The tree as it was written.

use std::path::Path;

use super::Site;
use crate::error::Result;

#[expect(clippy::unnecessary_wraps, reason = "as the others, which can fail")]
pub(super) fn show(native: &Path) -> Result<Site> {
    Ok(Site { root: native.to_owned(), _service: None, _mounted: None })
}
