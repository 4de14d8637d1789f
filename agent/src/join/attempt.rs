//! One attempt to join, from following events to a state that is known to be what peers have. What goes wrong says what is
//! not to be tried again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn_net::{Net, Watch as _};
use cairn_store::streams::EventLog;
use cairn_store::{ArtifactId, Held, Platform, PulledOptions, Spec, StateHash, Writer};

use super::choose::{Choice, Offers};
use super::feed::Feed;
use super::network::{Network, Peers};
use super::place::Place;
use super::replay::Replay;
use super::rounds::Run;
use super::{JoinOptions, Joined, Step, Watching};
use crate::error::{JoinError, Result};
use crate::hook::{self, Hook, HookError};

/// How long the first word of a peer's events is waited for.
const HEARD_MAX: Duration = Duration::from_secs(30);
/// State hashes of the last rounds that are known, to be compared with what peers say later.
const HASHES_MAX: usize = 4096;

/// What earlier attempts have taught.
#[derive(Debug, Default)]
pub(super) struct Lessons {
    /// Snapshots that are not tried again.
    pub(super) excluded: BTreeSet<ArtifactId>,
    /// Peers that said what is not so: they are asked last, and not alone.
    pub(super) blamed: BTreeMap<usize, u32>,
    /// Whether what is in the log is not to be believed.
    pub(super) distrusts_log: bool,
}

/// One attempt.
pub(super) struct Attempt<'a> {
    pub(super) writer: &'a Writer,
    pub(super) net: &'a Arc<Net>,
    pub(super) network: Arc<Peers>,
    pub(super) log: Arc<EventLog>,
    pub(super) options: &'a JoinOptions,
    pub(super) place: &'a mut Place,
    pub(super) lessons: &'a mut Lessons,
    pub(super) watch: &'a Watching<'a>,
    pub(super) replay: Option<&'a mut dyn Replay>,
    /// State hashes of rounds that were replayed.
    pub(super) hashes: VecDeque<(u64, StateHash)>,
}

impl Attempt<'_> {
    /// Joins, or says what is in the way.
    pub(super) fn run(&mut self) -> Result<Joined> {
        let provisional = self.find(0)?;
        let has_events = self.options.follow || self.survey()?.iter().any(|of| of.events.is_some());
        let feed = if has_events { Some(self.subscribe(&provisional)?) } else { None };
        if feed.is_none() {
            self.watch.warn(&format!(
                "no peer has a stream of events of {}: there is nothing to replay",
                self.options.name
            ));
        }
        // Asked again, now that no event after it can be missed.
        let choice = self.find(self.log_from(feed.as_ref()))?;
        self.watch.step(&Step::Chosen {
            round: choice.round,
            artifact: choice.artifact,
            state_hash: choice.state_hash.clone(),
            peers: choice.agreeing.len(),
        });
        let result = self.take(&choice, feed.as_ref());
        if let Err(error) = &result {
            self.learn(error, &choice, feed.as_ref());
        }
        result
    }

    /// The round that a snapshot has to be of at least, so that the events after it are in the buffer.
    fn log_from(&self, feed: Option<&Feed>) -> u64 {
        feed.map_or(0, |_| self.log.span().first.saturating_sub(1))
    }

    /// Notes what is not to be tried again.
    fn learn(&mut self, error: &JoinError, choice: &Choice, feed: Option<&Feed>) {
        match error {
            JoinError::Inconsistent { .. } => {
                self.lessons.excluded.insert(choice.artifact);
                self.lessons.distrusts_log = true;
                let sayers = choice.agreeing.iter().copied().chain(feed.and_then(Feed::primary));
                sayers.for_each(|peer| *self.lessons.blamed.entry(peer).or_default() += 1);
            }
            // Peers have the events after a newer one still, though the buffer has lost some of them.
            JoinError::Overflow { .. } => drop(self.lessons.excluded.insert(choice.artifact)),
            JoinError::Disagree { .. } | JoinError::NoEvents { .. } => self.lessons.distrusts_log = true,
            // Others may have a snapshot that is what it says, and of which the events go on.
            JoinError::Net(_)
            | JoinError::NoSnapshot { .. }
            | JoinError::Command { .. }
            | JoinError::Replay { .. } => {
                choice.holders.iter().for_each(|peer| *self.lessons.blamed.entry(*peer).or_default() += 1);
            }
            _ => {}
        }
        for peer in feed.map(Feed::outs).unwrap_or_default().into_keys() {
            *self.lessons.blamed.entry(peer).or_default() += 1;
        }
    }

    pub(super) fn no_snapshot(&self, detail: String) -> JoinError {
        JoinError::NoSnapshot { name: self.options.name.to_string(), detail }
    }

    /// Begins to buffer the events after a snapshot.
    fn subscribe(&mut self, provisional: &Choice) -> Result<Feed> {
        let from = provisional.round + 1;
        if std::mem::take(&mut self.lessons.distrusts_log) {
            self.log.reset(from)?;
        }
        let blamed = |peer: &usize| self.lessons.blamed.get(peer).copied().unwrap_or_default();
        let mut order: Vec<usize> = (0..self.network.peers()).collect();
        // Who has the snapshot is likely to have what comes after it.
        order.sort_by_key(|peer| (blamed(peer), !provisional.agreeing.contains(peer), *peer));
        let network = Arc::clone(&self.network) as Arc<dyn Network>;
        let name = self.options.name.to_string();
        let feed = Feed::start(network, Arc::clone(&self.log), name, &order, self.options.agree, from)?;
        let peer = feed.wait_heard(HEARD_MAX, &|| self.watch.cancelled())?;
        self.watch.step(&Step::Subscribed { from_round: from, peer: self.network.url(peer).clone() });
        Ok(feed)
    }

    /// Brings the snapshot, puts it in place, and replays what came after it.
    fn take(&mut self, choice: &Choice, feed: Option<&Feed>) -> Result<Joined> {
        let name = &self.options.name;
        let hold = self.writer.hold(Held::Artifact(choice.artifact), format!("a join of {name}"));
        self.transfer(choice)?;
        self.watch.check()?;
        self.check_buffer(choice, feed)?;
        self.watch.step(&Step::Verifying);
        let (making, checking) = (self.watch.progress("applying"), self.watch.progress("verifying"));
        let store = self.writer.store();
        let made = self.place.make(store, &choice.artifact, &self.options.seeds, &*making, &*checking)?;
        drop((making, checking));
        // From here on the name keeps it.
        drop(hold);
        self.place.show()?;
        self.watch.step(&Step::Applied { files: made.files, bytes: made.bytes, round: choice.round });
        let found = self.verify(choice.round, choice.state_hash.as_ref())?;
        let mut is_compared = false;
        if let Some(found) = &found {
            self.note_hash(choice.round, found);
        }
        if let (Some(found), Some(due)) = (&found, &choice.state_hash) {
            expect(choice.round, found, due, "the snapshot")?;
            is_compared = true;
        }
        let state_hash = found.or_else(|| choice.state_hash.clone());
        let mut joined = Joined { round: choice.round, artifact: choice.artifact, state_hash, is_compared };
        let Some(feed) = feed else {
            self.place.keep()?;
            self.tell_consistent(&joined);
            return Ok(joined);
        };
        if self.replay.is_none() && self.options.replay.is_none() {
            self.place.keep()?;
            self.tell_consistent(&joined);
            return Ok(joined);
        }
        self.replay(&mut joined, choice, feed)?;
        Ok(joined)
    }

    fn tell_consistent(&self, joined: &Joined) {
        self.watch.set_joined();
        let Joined { round, state_hash, is_compared, .. } = joined.clone();
        self.watch.step(&Step::Consistent { round, state_hash, compared: is_compared });
    }

    /// What the buffer has lost is what the snapshot would have needed.
    fn check_buffer(&self, choice: &Choice, feed: Option<&Feed>) -> Result<()> {
        let Some(feed) = feed else { return Ok(()) };
        feed.check()?;
        let first = self.log.span().first;
        if first > choice.round + 1 {
            return Err(JoinError::Overflow { round: choice.round, first });
        }
        Ok(())
    }

    fn transfer(&mut self, choice: &Choice) -> Result<()> {
        let network = Arc::clone(&self.network);
        let sources =
            |peers: &[usize]| -> Vec<_> { peers.iter().map(|peer| network.sources[*peer].clone()).collect() };
        let holders = sources(&choice.holders);
        let version = choice.round.to_string();
        let spec = Spec::Version { name: self.options.name.clone(), version_or_channel: version };
        let (net, cancelled) = (self.net, || self.watch.cancelled());
        let resolved = net.resolve_unless(&holders, &spec, Some(&Platform::any()), &cancelled)?;
        if resolved.artifact != choice.artifact {
            // It was taken anew meanwhile.
            return Err(self.no_snapshot(format!("that of round {} is another now", choice.round)));
        }
        self.check_artifact(choice)?;
        let mut plan =
            net.plan(self.writer, &resolved.holders, &resolved, &*self.watch.progress("planning"))?;
        self.check_artifact(choice)?;
        let others: Vec<usize> =
            (0..self.network.peers()).filter(|peer| !choice.holders.contains(peer)).collect();
        plan.also_ask(sources(&others));
        let mut seeds: Vec<PathBuf> = self.options.seeds.clone();
        seeds.extend(self.place.old());
        let seeded = net.seed(self.writer, &plan, &seeds, self.watch)?;
        self.watch.step(&Step::Transferring {
            bytes: 0,
            total: seeded.lacking_bytes,
            here: plan.total_bytes.saturating_sub(seeded.lacking_bytes),
        });
        self.watch.expect(seeded.lacking_bytes);
        let report = net.pull(self.writer, plan, self.watch)?;
        let options = PulledOptions {
            replace: true,
            partial: false,
            new_bytes: report.plain_bytes,
            stored_bytes: report.stored_bytes,
        };
        self.writer.publish_pulled(&choice.artifact, &resolved.envelopes, &options)?;
        self.watch.step(&Step::Transferred { bytes: report.wire_bytes, chunks: report.chunks });
        Ok(())
    }

    /// What the artifact says of itself is what was offered, as far as it is here.
    fn check_artifact(&mut self, choice: &Choice) -> Result<()> {
        let Ok(artifact) = self.writer.store().local().artifact(&choice.artifact) else { return Ok(()) };
        let says = |key: &str| artifact.provenance.get(key).map(String::as_str);
        let state_hash = choice.state_hash.as_ref().map(ToString::to_string);
        let is_so = artifact.version.as_str() == choice.round.to_string()
            && says("round").is_none_or(|round| round == artifact.version.as_str())
            && says("state_hash") == state_hash.as_deref();
        if is_so {
            return Ok(());
        }
        self.lessons.excluded.insert(choice.artifact);
        Err(self.no_snapshot(format!(
            "that of round {} says something else of itself than its peers do",
            choice.round
        )))
    }

    /// What the state hashes to, if a command says so.
    fn verify(&self, round: u64, due: Option<&StateHash>) -> Result<Option<StateHash>> {
        let Some(command) = &self.options.verify else { return Ok(None) };
        let failed = |detail: String| JoinError::Command { what: "verify", detail };
        let hook = Hook {
            purpose: "verify",
            command: command.clone(),
            env: self.environment(round, due),
            dir: None,
            time_max: self.options.hook_time,
        };
        let output = hook::run(&hook, &|| self.watch.cancelled()).map_err(|error| match error {
            HookError::Cancelled { .. } => JoinError::Cancelled,
            error => failed(with_causes(&error)),
        })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().and_then(|line| line.split_whitespace().last());
        last.map(|word| word.parse().map_err(|error| failed(format!("{error}")))).transpose()
    }

    fn environment(
        &self,
        round: u64,
        state_hash: Option<&StateHash>,
    ) -> Vec<(&'static str, std::ffi::OsString)> {
        let mut environment = vec![
            ("CAIRN_NAME", self.options.name.as_str().into()),
            ("CAIRN_DIR", self.place.dir().into()),
            ("CAIRN_ROUND", round.to_string().into()),
        ];
        environment.extend(state_hash.map(|hash| ("CAIRN_STATE_HASH", hash.to_string().into())));
        environment
    }

    /// Replays what came after the snapshot until nothing is left of what peers have; then follows, if that is wanted.
    fn replay(&mut self, joined: &mut Joined, choice: &Choice, feed: &Feed) -> Result<()> {
        let (first, target) = (choice.round + 1, feed.known_next().max(choice.round + 1) - 1);
        self.watch.step(&Step::Replaying { events: target + 1 - first, from: first, to: target });
        let mut run = Run::start(self, choice.round)?;
        let own_hash = run.until(self, feed, Some(target), joined)?;
        joined.state_hash = own_hash;
        let round = joined.round;
        if joined.state_hash.is_none() && self.options.verify.is_some() {
            // The command that applies events has the state open.
            run.finish(self)?;
            joined.state_hash = self.verify(round, None)?;
            if let Some(found) = &joined.state_hash {
                self.note_hash(round, found);
            }
            if let (Some(found), Some(due)) = (&joined.state_hash, self.due(round)?) {
                expect(round, found, &due, "its event")?;
                joined.is_compared = true;
            }
            run = Run::start(self, round)?;
        }
        joined.is_compared |= self.compare(joined, choice)?;
        if !self.options.follow {
            // Whoever applied them may fail yet to make them last.
            run.finish(self)?;
            self.place.keep()?;
            self.tell_consistent(joined);
            return Ok(());
        }
        self.place.keep()?;
        self.tell_consistent(joined);
        self.watch.step(&Step::Following { round });
        feed.be_patient();
        run.until(self, feed, None, joined)?;
        run.finish(self)
    }

    /// What the event of a round says that the state hashes to after it.
    fn due(&self, round: u64) -> Result<Option<StateHash>> {
        let span = self.log.span();
        if !(span.first..span.next).contains(&round) {
            return Ok(None);
        }
        Ok(self.log.head_of(round)?.and_then(|head| head.state_hash))
    }

    /// Compares what the state hashed to with what peers say of their snapshots of these rounds; whether anything was, here
    /// or before. Peers that were wrong or outvoted are not heard, and no single one overturns what others say.
    fn compare(&self, joined: &Joined, choice: &Choice) -> Result<bool> {
        let known: BTreeMap<u64, &StateHash> =
            self.hashes.iter().map(|(round, hash)| (*round, hash)).collect();
        if known.is_empty() {
            return Ok(false);
        }
        let is_told = known.contains_key(&joined.round) && self.due(joined.round)?.is_some();
        let is_heard = |of: &Offers| {
            !self.lessons.blamed.contains_key(&of.peer) && !choice.dissenting.contains(&of.peer)
        };
        // That nobody answers now says nothing against the state.
        let offers = self.survey().unwrap_or_default();
        let (mut agreeing, mut contradiction) = (BTreeSet::new(), None);
        let mut contradicting = BTreeSet::new();
        for of in offers.iter().filter(|of| is_heard(of)) {
            for offer in &of.snapshots {
                let (Some(found), Some(due)) = (known.get(&offer.round), &offer.state_hash) else { continue };
                match expect(offer.round, found, due, self.network.url(of.peer).as_str()) {
                    Ok(()) => drop(agreeing.insert(of.peer)),
                    Err(error) => {
                        contradicting.insert(of.peer);
                        contradiction.get_or_insert(error);
                    }
                }
            }
        }
        // What the events themselves say is what those said who sent them.
        let supporters = agreeing.difference(&contradicting).count() + usize::from(is_told);
        match contradiction {
            Some(error) if contradicting.len() > supporters => Err(error),
            Some(error) => {
                self.watch.warn(&format!("outvoted: {error}"));
                Ok(true)
            }
            None => Ok(is_told || !agreeing.is_empty()),
        }
    }

    pub(super) fn note_hash(&mut self, round: u64, hash: &StateHash) {
        self.hashes.push_back((round, hash.clone()));
        if self.hashes.len() > HASHES_MAX {
            self.hashes.pop_front();
        }
    }
}

/// The state has to be what somebody says that it is.
pub(super) fn expect(round: u64, found: &StateHash, due: &StateHash, by: &str) -> Result<()> {
    if found == due {
        return Ok(());
    }
    Err(JoinError::Inconsistent { round, found: found.clone(), due: due.clone(), by: by.to_owned() })
}

fn with_causes(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", with_causes(source)),
        None => error.to_string(),
    }
}
