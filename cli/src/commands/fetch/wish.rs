//! How a wanted program is found and brought: by chunks through the cache, or as one file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_net::{BinaryRecord, BinaryVersion, Error, Fault, Net, PeerUrl, Source, Watch};
use cairn_store::{ArtifactId, Platform, Progress, PulledOptions, RefKey, Spec, Store, Version, Writer};

use super::place::{New, Place, Placed, Sha256Hex};
use super::{FetchArgs, FetchError, Program};
use crate::app::App;
use crate::error::Absent;
use crate::meter::Meter;

/// How long a server that is busy is left alone, at most.
const PAUSE: Duration = Duration::from_secs(1);

/// Waits, unless it is to stop.
fn wait(time: Duration, watch: &dyn Watch) {
    let began = Instant::now();
    while began.elapsed() < time && !watch.cancelled() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What is wanted, and what is known of it.
pub(super) struct Wish<'a> {
    pub(super) args: &'a FetchArgs,
    pub(super) platform: &'a Platform,
    pub(super) source: Source,
    pub(super) net: Arc<Net>,
    /// What the server says of it, if it is one of its binaries.
    pub(super) record: Option<BinaryRecord>,
    pub(super) expected: Option<Sha256Hex>,
}

impl Wish<'_> {
    pub(super) fn find_record(&self, app: &App) -> anyhow::Result<Option<BinaryRecord>> {
        let Program { name, tag } = &self.args.program;
        let version = match tag.as_deref().map(str::parse::<Version>) {
            None => BinaryVersion::Latest,
            Some(Ok(version)) => BinaryVersion::Exactly(version),
            // Only a channel may be called so.
            Some(Err(_)) => return Ok(None),
        };
        let watching = Watching { app, meter: &app.meter("asking") };
        let began = Instant::now();
        loop {
            match self.net.find_binary(&self.source, name, &version, self.platform, &watching) {
                // It is just starting, or has much to do.
                Err(Error::Peer(error)) if error.fault == Fault::Busy && began.elapsed() < app.patience() => {
                    wait(error.retry_after.unwrap_or(PAUSE).min(PAUSE), &watching);
                }
                found => return Ok(found?),
            }
        }
    }

    pub(super) fn mismatch(&self, what: String, found: &Sha256Hex) -> FetchError {
        let expected = self.expected.as_ref().map(ToString::to_string).unwrap_or_default();
        FetchError { what, found: found.to_string(), expected }
    }

    /// Brings it by chunks where the server has these, else as one file. Gives its version, and what came over the wire.
    pub(super) fn bring(&self, app: &App, place: &Place) -> anyhow::Result<(String, Placed, u64)> {
        let mut came = 0;
        match (self.by_chunks(app, place, &mut came), &self.record) {
            (Ok((version, placed)), _) => Ok((version, placed, came)),
            // It is not in the server's store, or something else is there by this name.
            (Err(error), Some(record)) if is_elsewhere(&error) => {
                tracing::info!(%error, "it comes as one file");
                let placed = self.as_file(app, record, place)?;
                Ok((record.version.to_string(), placed, came + record.size_bytes))
            }
            (Err(error), _) => Err(error),
        }
    }

    fn by_chunks(&self, app: &App, place: &Place, came: &mut u64) -> anyhow::Result<(String, Placed)> {
        let writer = app.writer(&app.meter("waiting"))?;
        let artifact = match self.held(&writer) {
            Some(artifact) => artifact,
            None => self.pull(app, &writer, came)?,
        };
        let version = writer.artifact(&artifact)?.version.to_string();
        let path = program_in(&writer, &artifact, &self.args.program.name)?;
        let mut file = writer.open_file(&artifact, &path)?;
        let (mut new, stopper) = (place.begin()?, app.stopper());
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            if stopper() {
                return Err(cairn_store::Error::Cancelled.into());
            }
            match file.read_at(at, &mut buffer)? {
                0 => break,
                read => {
                    new.write(&buffer[..read])?;
                    at += read as u64;
                }
            }
        }
        Ok((version, self.finish(new)?))
    }

    /// Pulls what lacks into the cache.
    fn pull(&self, app: &App, writer: &Writer, came: &mut u64) -> anyhow::Result<ArtifactId> {
        let sources = [self.source.clone()];
        let resolved = self.net.resolve(&sources, &self.spec()?, Some(self.platform))?;
        let plan = self.net.plan(writer, &resolved.holders, &resolved, &app.meter("asking"))?;
        let (new_bytes, stored_bytes) = (plan.plain_bytes, plan.stored_bytes);
        let meter = app.transfer_meter("fetching");
        meter.expect(stored_bytes, 0);
        let report = self.net.pull(writer, plan, &Watching { app, meter: &meter })?;
        *came = report.wire_bytes;
        let options = PulledOptions { replace: true, partial: false, new_bytes, stored_bytes };
        writer.publish_pulled(&resolved.artifact, &resolved.envelopes, &options)?;
        Ok(resolved.artifact)
    }

    fn as_file(&self, app: &App, record: &BinaryRecord, place: &Place) -> anyhow::Result<Placed> {
        let meter = app.transfer_meter("fetching");
        meter.expect(record.size_bytes, 0);
        let mut new = place.begin()?;
        let watching = Watching { app, meter: &meter };
        let take = |bytes: &[u8]| new.write(bytes);
        self.net.download_binary(&self.source, record, &watching, take)?;
        self.finish(new)
    }

    fn finish(&self, new: New<'_>) -> anyhow::Result<Placed> {
        let found = new.sha256();
        if self.expected.as_ref().is_some_and(|expected| *expected != found) {
            let what = format!("what {} sent for {}", self.args.from, self.args.program);
            return Err(self.mismatch(what, &found).into());
        }
        new.put(found)
    }

    /// The name to pull: the one that was asked for, or the greatest release that the server has.
    fn spec(&self) -> anyhow::Result<Spec> {
        let Program { name, tag } = &self.args.program;
        let record = self.record.as_ref().map(|record| record.version.to_string());
        if let Some(tag) = record.or_else(|| tag.clone()) {
            return Ok(format!("{name}@{tag}").parse()?);
        }
        let list = self.net.list(&self.source)?;
        let fits =
            list.iter().filter(|entry| entry.name.as_str() == name && entry.platform == *self.platform);
        // A prerelease is taken only where there is no release.
        let greatest =
            fits.map(|entry| &entry.version).max_by_key(|version| (!version.is_prerelease(), *version));
        match greatest {
            Some(version) => Ok(format!("{name}@{version}").parse()?),
            None => Err(Absent {
                what: format!("{name} for {} at {}", self.platform, self.args.from),
                hint: "--platform OS/ARCH names another platform; the server's /api/binaries lists what it has",
            }
            .into()),
        }
    }

    /// What the cache has with the wanted bytes.
    fn held(&self, store: &Store) -> Option<ArtifactId> {
        let (record, expected) = (self.record.as_ref()?, self.expected.as_ref()?);
        let name = self.args.program.name.parse().ok()?;
        let key = RefKey { name, version: record.version.clone(), platform: self.platform.clone() };
        let artifact = store.view().ok()?.refs.get(&key)?.artifact;
        let provenance = store.artifact(&artifact).ok()?.provenance;
        (provenance.get(cairn_server::binaries::CHECKSUM_FACT)? == expected.as_str()).then_some(artifact)
    }
}

/// Whether the cache may not hold what it should.
pub(super) fn is_damage(error: &anyhow::Error) -> bool {
    if let Some(error) = error.downcast_ref::<cairn_net::Error>() {
        return error.kind() == cairn_net::Kind::Damaged;
    }
    let error: Option<&cairn_store::Error> = error.downcast_ref();
    error.is_some_and(|error| error.kind() == cairn_store::Kind::Damaged)
}

/// Whether a file may be had though its chunks cannot.
fn is_elsewhere(error: &anyhow::Error) -> bool {
    if let Some(error) = error.downcast_ref::<cairn_net::Error>() {
        use cairn_net::Kind;
        return matches!(error.kind(), Kind::Absent | Kind::Conflict | Kind::Misuse);
    }
    if let Some(error) = error.downcast_ref::<cairn_store::Error>() {
        use cairn_store::Kind;
        return matches!(error.kind(), Kind::Absent | Kind::Conflict | Kind::Misuse);
    }
    error.is::<FetchError>() || error.is::<Absent>()
}

/// Tells of a transfer while it runs.
struct Watching<'a> {
    app: &'a App,
    meter: &'a Meter,
}

impl Watch for Watching<'_> {
    fn received(&self, _: &PeerUrl, bytes: u64) {
        self.meter.advance(bytes, 0);
    }

    fn dropped(&self, peer: &PeerUrl, why: &str) {
        self.app.warn(&format!("{peer} is not asked any more: {why}"));
    }

    fn cancelled(&self) -> bool {
        self.meter.cancelled()
    }
}

/// The path of the program in an artifact: the command of its name, or the only one.
fn program_in(store: &Store, artifact: &ArtifactId, name: &str) -> anyhow::Result<Vec<u8>> {
    let commands = store.commands(artifact)?;
    let named = [name.to_owned(), format!("{name}.exe")];
    let found = named.iter().find_map(|name| commands.get(name.as_bytes()));
    let only = || commands.values().next().filter(|_| commands.len() == 1);
    found.or_else(only).cloned().ok_or_else(|| {
        let what = format!("a program {name} in artifact {artifact}");
        Absent { what, hint: "`cairn pull` brings all of it, `cairn ls -l` shows what that is" }.into()
    })
}
