//! What lacks of an artifact that is named already.

use cairn_store::{ArtifactId, RefKey, Writer};

use crate::address::Source;
use crate::error::Result;
use crate::net::Net;
use crate::report::{Cancelling, Report, Watch};

impl Net {
    /// Brings what lacks of an artifact, and makes it durable. That it is whole is for the caller to publish.
    ///
    /// # Errors
    /// As [`Net::plan`] and [`Net::pull`].
    pub fn complete(
        &self,
        writer: &Writer,
        artifact: &ArtifactId,
        from: &[Source],
        watch: &dyn Watch,
    ) -> Result<Report> {
        let about = writer.store().local().artifact(artifact)?;
        let key = RefKey { name: about.name, version: about.version, platform: about.platform };
        let plan = self.plan_of(writer, from, artifact, key, &Cancelling(watch))?;
        self.pull(writer, plan, watch)
    }
}
