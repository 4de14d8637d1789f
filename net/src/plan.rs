//! What a pull will take: the metadata comes now, for it says what else is wanted; then what is here is left out.
//!
//! One request brings what the wanted artifact has and a version that is held has not. Objects that lack after that
//! (where an earlier pull was cut off, or the peer has only a part) are asked for by their ids, a few rounds at most.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cairn_store::delta::{UnitError, UnitTools};
use cairn_store::pack::PackKind;
use cairn_store::{
    Artifact, ArtifactId, ChunkId, Decoder, Held, HoldGuard, Progress, RefKey, Store, VerifiedFrame, Writer,
};

use crate::address::{PeerUrl, Source};
use crate::error::{Error, Fault, PeerError, Result};
use crate::feed::Ask;
use crate::net::{Net, PAUSE};
use crate::peer::{Part, Peer};
use crate::reach::Reach;
use crate::report::{PeerReport, Plan, Totals};
use crate::resolve::{Resolved, totals};
use crate::survey::{Survey, survey};
use crate::transfer::{DeltaUse, Unsound, cannot_be_read};
use crate::wire::{Head, Item};

/// Rounds of asking for objects by their ids, at most.
const ROUNDS_MAX: usize = 64;
/// Ids of objects in one such round, at most.
const ROUND_IDS_MAX: usize = 65_536;
/// Failures of one peer, at most.
const FAILURES_MAX: u32 = 3;
/// The rest after the first failure; each further one is 4 times as long.
const FIRST_REST: Duration = Duration::from_millis(250);
const REST_MAX: Duration = Duration::from_secs(10);
/// Versions that are tried as the one that is held, at most.
const HELD_MAX: usize = 8;

impl Net {
    /// Plans a pull, and brings the metadata that it needs for that: durable, and under no name yet.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no peer brings the metadata, [`Error::Peer`] when the only one failed,
    /// [`Error::RolledBack`], [`Error::Cancelled`], [`Error::Store`].
    pub fn plan(
        &self,
        writer: &Writer,
        from: &[Source],
        resolved: &Resolved,
        progress: &dyn Progress,
    ) -> Result<Plan> {
        check_statements(writer, from, resolved)?;
        let mut metadata = Metadata {
            net: self,
            writer,
            want: resolved.artifact,
            peers: self.peers(from)?,
            dropped: Vec::new(),
            faults: Vec::new(),
            failures: BTreeMap::new(),
            rest: FIRST_REST,
            head: Head::default(),
            objects: 0,
            object_bytes: 0,
            unsound: None,
            holds: Vec::new(),
            cancelled: &|| progress.cancelled(),
        };
        let held = metadata.held(&resolved.key)?;
        let brought = metadata.bring(&held);
        // What came is worth keeping, however it ended.
        if metadata.objects > 0 {
            writer.intake().flush()?;
        }
        let (found, have) = brought?;
        let artifact = writer.store().artifact(&resolved.artifact)?;
        check_names(&artifact, &resolved.key)?;
        let Metadata { peers, dropped, head, objects, object_bytes, unsound, holds, .. } = metadata;
        let mut all = resolved.totals;
        all.add(totals(&peers));
        let left: Vec<Source> = peers
            .iter()
            .filter(|peer| !dropped.iter().any(|report| report.url == *peer.url()))
            .map(|peer| peer.source().clone())
            .collect();
        progress.expect(found.bytes, 0);
        Ok(Plan {
            artifact: resolved.artifact,
            key: resolved.key.clone(),
            have,
            objects,
            object_bytes,
            chunks: found.chunks,
            plain_bytes: found.bytes,
            stored_bytes: stored_bytes(writer.store(), &found, &head),
            total_bytes: artifact.bytes,
            saved_bytes: artifact.bytes.saturating_sub(found.bytes),
            peers: left.iter().map(|source| source.url.clone()).collect(),
            dropped: resolved.others.iter().cloned().chain(dropped).collect(),
            deltas: DeltaUse::default(),
            sources: left,
            partial: Vec::new(),
            totals: all,
            unsound,
            _holds: holds.into(),
        })
    }

    /// Plans the completion of an artifact whose metadata may be here already.
    pub(crate) fn plan_of(
        &self,
        writer: &Writer,
        from: &[Source],
        artifact: &ArtifactId,
        key: RefKey,
        progress: &dyn Progress,
    ) -> Result<Plan> {
        let resolved = Resolved {
            key,
            artifact: *artifact,
            envelopes: Vec::new(),
            holders: from.to_vec(),
            others: Vec::new(),
            totals: Totals::default(),
        };
        self.plan(writer, from, &resolved, progress)
    }
}

/// Refuses names that were something newer already, as their own origins say.
fn check_statements(writer: &Writer, from: &[Source], resolved: &Resolved) -> Result<()> {
    let view = writer.names();
    for envelope in &resolved.envelopes {
        let statement = cairn_store::RefStatement::of(envelope)?;
        if let Err(error) = view.check_statement(&statement) {
            let Some(source) = resolved.holders.first().or(from.first()) else { return Err(error.into()) };
            let what = statement.subject.name().to_string();
            return Err(Error::RolledBack { peer: source.url.clone(), what, detail: error.to_string() });
        }
    }
    Ok(())
}

/// Refuses an artifact that was published as something else.
fn check_names(artifact: &Artifact, key: &RefKey) -> Result<()> {
    if artifact.name == key.name && artifact.platform == key.platform {
        return Ok(());
    }
    Err(Error::Store(cairn_store::Error::Damaged {
        what: format!("ref {key}"),
        chunk: None,
        pack: None,
        offset: None,
        detail: format!(
            "its artifact was made as {}@{} for {}",
            artifact.name, artifact.version, artifact.platform
        ),
    }))
}

/// About what the lacking chunks come to on the wire: the part of what the peer said that they are of it. Where it said
/// nothing of chunks, as what is here compresses.
fn stored_bytes(store: &Store, found: &Survey, head: &Head) -> u64 {
    let (stored, plain) = match u128::from(head.plain_bytes) {
        0 => store.stats().map_or((0, 0), |stats| (stats.data.stored_bytes, stats.data.plain_bytes.into())),
        plain => (head.stored_bytes, plain + u128::from(head.object_bytes)),
    };
    if plain == 0 {
        return found.bytes / 2;
    }
    let part = u128::from(stored) * u128::from(found.bytes) / plain;
    u64::try_from(part).unwrap_or(u64::MAX).min(found.bytes)
}

/// The metadata of one artifact on its way here.
struct Metadata<'a> {
    net: &'a Net,
    writer: &'a Writer,
    want: ArtifactId,
    peers: Vec<Peer>,
    dropped: Vec<PeerReport>,
    faults: Vec<PeerError>,
    failures: BTreeMap<PeerUrl, u32>,
    /// How long is waited before peers that failed are asked again.
    rest: Duration,
    head: Head,
    objects: u64,
    object_bytes: u64,
    /// A version that is held and cannot be read in full.
    unsound: Option<Unsound>,
    /// What keeps the versions that are held from being collected.
    holds: Vec<HoldGuard>,
    cancelled: &'a dyn Fn() -> bool,
}

impl Metadata<'_> {
    /// Artifacts that may be held by the peer too, the likeliest first: whole ones of the same name, the nearest version
    /// before the wanted one first.
    fn held(&mut self, key: &RefKey) -> Result<Vec<ArtifactId>> {
        let view = self.writer.names();
        let same = view.refs_of(&key.name).filter(|(other, _)| other.platform == key.platform);
        let (mut before, mut after): (Vec<_>, Vec<_>) =
            same.partition(|(other, _)| other.version <= key.version);
        before.reverse();
        before.append(&mut after);
        let mut held: Vec<ArtifactId> = Vec::new();
        for (_, record) in before {
            let id = record.artifact;
            if held.len() >= HELD_MAX {
                break;
            }
            if id == self.want || held.contains(&id) {
                continue;
            }
            // Before it is looked at: what is found to be whole then stays so.
            let hold = self.writer.hold(Held::Artifact(id), format!("a pull of {key}"));
            if self.is_whole(&id) {
                held.push(id);
                self.holds.push(hold);
            }
        }
        Ok(held)
    }

    fn is_whole(&mut self, id: &ArtifactId) -> bool {
        match self.writer.store().local().missing(id, &()) {
            Ok(missing) => missing.is_nothing(),
            Err(error) => {
                self.note_unsound(id, &error);
                false
            }
        }
    }

    fn note_unsound(&mut self, id: &ArtifactId, error: &cairn_store::Error) {
        if self.unsound.is_none() {
            self.unsound = Unsound::of(id, error);
        }
    }

    fn look(&self) -> Result<Survey> {
        survey(&self.writer.store().local(), &self.want, 0, self.cancelled).map_err(|error| self.blame(error))
    }

    /// A malformed artifact is the fault of whoever brought it. What is damaged in a pack of this store is not.
    fn blame(&self, error: Error) -> Error {
        match error {
            Error::Store(cairn_store::Error::Damaged { what, detail, pack: None, .. })
                if self.objects > 0 =>
            {
                let peer = self.peers.iter().find(|peer| !self.is_dropped(peer)).or(self.peers.first());
                match peer {
                    Some(peer) => Error::Peer(peer.error(Fault::Lied, format!("damaged {what}: {detail}"))),
                    None => Error::Store(cairn_store::Error::Damaged {
                        what,
                        detail,
                        chunk: None,
                        pack: None,
                        offset: None,
                    }),
                }
            }
            error => error,
        }
    }

    fn is_dropped(&self, peer: &Peer) -> bool {
        self.dropped.iter().any(|report| report.url == *peer.url())
    }

    /// Brings what lacks. Gives what of the data lacks then, and the artifact it was compared with.
    fn bring(&mut self, held: &[ArtifactId]) -> Result<(Survey, Option<ArtifactId>)> {
        let found = self.look()?;
        if found.absent.is_empty() {
            return Ok((found, held.first().copied()));
        }
        let mut have = None;
        // Where nothing is known of the artifact, the peer knows best what lacks.
        if found.absent == [ChunkId::from(self.want)] {
            have = self.bring_delta(held)?;
        }
        for _ in 0..ROUNDS_MAX {
            let found = self.look()?;
            if found.absent.is_empty() {
                return Ok((found, have));
            }
            self.bring_round(found.absent)?;
        }
        Err(self.nobody("its directories are more deeply nested than is asked for"))
    }

    /// Asks each peer in turn for all at once, until something of it came.
    fn bring_delta(&mut self, held: &[ArtifactId]) -> Result<Option<ArtifactId>> {
        for _ in 0..FAILURES_MAX {
            for peer in self.peers.clone() {
                if self.is_dropped(&peer) {
                    continue;
                }
                let (mut have, before) = (held.first().copied(), self.objects);
                let mut result = self.delta(&peer, have);
                if let (Some(told), Err(Error::Store(error))) = (&have, &result)
                    && cannot_be_read(error)
                {
                    // What it is told in terms of cannot be read here.
                    self.note_unsound(told, error);
                    have = None;
                    result = self.delta(&peer, have);
                }
                if let Err(Error::Peer(error)) = &result
                    && let Some(unknown) = have
                    && error.missing.contains(&unknown.into())
                {
                    have = self.common(&peer, held)?;
                    result = self.delta(&peer, have);
                }
                match result {
                    Ok(()) => return Ok(have),
                    Err(Error::Peer(error)) => self.note(&peer, error),
                    Err(error) => return Err(error),
                }
                if self.objects > before {
                    return Ok(have);
                }
            }
            if self.peers.iter().all(|peer| self.is_dropped(peer)) {
                break;
            }
            self.pause()?;
        }
        Err(self.nobody("nobody brought its metadata"))
    }

    fn delta(&mut self, peer: &Peer, have: Option<ArtifactId>) -> Result<()> {
        let ask = Ask::Delta { have, want: self.want, part: Part::Objects };
        self.receive(peer, ask, Reach::new(&self.want))
    }

    /// A held artifact that the peer has published too.
    fn common(&self, peer: &Peer, held: &[ArtifactId]) -> Result<Option<ArtifactId>> {
        let name = self
            .writer
            .store()
            .view()?
            .refs
            .iter()
            .find(|(_, record)| held.contains(&record.artifact))
            .map(|(key, _)| key.name.clone());
        let asked = peer.clone();
        let list = self.net.wait(async move { asked.refs(name.as_ref()).await }, self.cancelled)?;
        // Who has no list is asked for everything.
        let there = list.map(|list| list.refs).unwrap_or_default();
        Ok(held.iter().copied().find(|id| there.iter().any(|found| found.artifact.0 == *id)))
    }

    /// Asks for some objects by their ids, each peer in turn until one brings any of them.
    fn bring_round(&mut self, mut absent: Vec<ChunkId>) -> Result<()> {
        absent.truncate(ROUND_IDS_MAX);
        let mut may_come = false;
        for peer in self.peers.clone() {
            if self.is_dropped(&peer) {
                continue;
            }
            let before = self.objects;
            let result = self.receive(&peer, Ask::Chunks(absent.clone()), Reach::of(absent.iter().copied()));
            if self.objects > before && result.is_ok() {
                return Ok(());
            }
            match result {
                Ok(()) => {
                    self.fault(peer.error(Fault::Absent, "it does not have what lacks of its metadata"));
                }
                Err(Error::Peer(error)) => {
                    self.note(&peer, error);
                    may_come |= !self.is_dropped(&peer);
                }
                Err(error) => return Err(error),
            }
        }
        if may_come {
            return self.pause();
        }
        Err(self.nobody("nobody has all of its metadata"))
    }

    /// Takes one answer in. What came before an error stays.
    fn receive(&mut self, peer: &Peer, ask: Ask, mut reach: Reach) -> Result<()> {
        let result = self.take_in(peer, ask, &mut reach);
        self.objects += reach.objects();
        self.object_bytes += reach.bytes();
        result
    }

    fn take_in(&mut self, peer: &Peer, ask: Ask, reach: &mut Reach) -> Result<()> {
        let intake = self.writer.intake();
        let mut decoder = Decoder::default();
        let have = if let Ask::Delta { have, .. } = &ask { *have } else { None };
        let mut feed = self.net.feed(peer, ask)?;
        let lied = |detail: String| Error::Peer(peer.error(Fault::Lied, detail));
        while let Some(item) = feed.next(self.net, self.cancelled)? {
            match item {
                Item::Head(head) => self.head = head,
                Item::Metadata(bytes) | Item::Data(bytes) => {
                    let frame = VerifiedFrame::verify(bytes, &mut decoder);
                    let frame = frame.map_err(|error| lied(error.to_string()))?;
                    reach.accept(&frame).map_err(lied)?;
                    intake.keep(PackKind::Metadata, &frame)?;
                }
                Item::Unit(unit) => {
                    let told =
                        have.ok_or_else(|| lied("it sends a delta that was not asked for".to_owned()))?;
                    for frame in self.objects_of(&told, &unit).map_err(|error| match error {
                        UnitError::Lied(error) => lied(error.to_string()),
                        UnitError::Store(error) => error.into(),
                    })? {
                        reach.accept(&frame).map_err(lied)?;
                        intake.keep(PackKind::Metadata, &frame)?;
                    }
                }
                Item::Absent(_) | Item::Failure(_) | Item::End(_) => {}
            }
        }
        reach.finish().map_err(lied)
    }

    /// Objects that came in terms of those of an artifact that is held.
    fn objects_of(&self, have: &ArtifactId, unit: &[u8]) -> Result<Vec<VerifiedFrame>, UnitError> {
        self.writer.store().local().decode_objects(have, unit, &mut UnitTools::default(), &())
    }

    /// Notes a failure. Who failed too often, or in a way that does not pass, is dropped.
    fn note(&mut self, peer: &Peer, error: PeerError) {
        let failures = self.failures.entry(peer.url().clone()).or_default();
        *failures += 1;
        self.rest = error.retry_after.unwrap_or(FIRST_REST * 4u32.pow((*failures).min(4) - 1)).min(REST_MAX);
        if !error.fault.may_pass() || *failures >= FAILURES_MAX {
            let lied = matches!(error.fault, Fault::Lied | Fault::Misbehaved);
            self.dropped.push(PeerReport::dropped(peer.url(), &*error.detail, lied));
        }
        self.fault(error);
    }

    /// Remembers the last fault of each peer.
    fn fault(&mut self, error: PeerError) {
        self.faults.retain(|fault| fault.peer != error.peer);
        self.faults.push(error);
    }

    /// Waits before peers that failed are asked again.
    fn pause(&self) -> Result<()> {
        let until = Instant::now() + self.rest;
        while Instant::now() < until {
            if (self.cancelled)() {
                return Err(Error::Cancelled);
            }
            std::thread::sleep(PAUSE.min(until.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    /// What it comes to when nobody is left.
    fn nobody(&mut self, otherwise: &str) -> Error {
        let faults = std::mem::take(&mut self.faults);
        match &faults[..] {
            [only] => Error::Peer(only.clone()),
            _ => {
                let mut detail: Vec<String> = faults.iter().map(ToString::to_string).collect();
                detail.push(otherwise.to_owned());
                Error::Unavailable {
                    what: format!("artifact {}", self.want.short()),
                    detail: detail.join("; "),
                }
            }
        }
    }
}
