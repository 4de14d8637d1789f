//! From what a person types to an artifact, and who has it: all peers are asked at once, and statements of one origin are
//! compared by their numbers, so that a peer that lags behind decides nothing.

use std::time::{Duration, Instant};

use cairn_store::{ArtifactId, Name, Platform, RefKey, RefStatement, Spec, Subject};
use cairn_trust::Envelope;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::address::Source;
use crate::error::{Error, Fault, PeerError, Result};
use crate::net::Net;
use crate::peer::Peer;
use crate::report::{PeerReport, Totals};
use crate::schedule::PEERS_MAX;
use crate::wire::RemoteRef;

/// How long others are waited for once one has answered.
const GRACE: Duration = Duration::from_millis(500);

/// An artifact that peers have.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Its name.
    pub key: RefKey,
    /// What it is.
    pub artifact: ArtifactId,
    /// The statement of the ref and, if a channel was asked for, that of the channel: as they came.
    pub envelopes: Vec<Envelope>,
    /// Who has it.
    pub holders: Vec<Source>,
    /// Who was asked and does not take part, and why.
    pub others: Vec<PeerReport>,
    pub(crate) totals: Totals,
}

/// What one peer says.
#[derive(Debug, Clone)]
struct Answer {
    statement: RefStatement,
    channel: Option<RefStatement>,
    key: RefKey,
    artifact: ArtifactId,
    envelopes: Vec<Envelope>,
}

/// What is asked for.
#[derive(Debug, Clone)]
struct Question {
    spec: Spec,
    platform: Option<Platform>,
}

impl Net {
    /// Finds out what a spec is on a platform (this machine's if none is given, and else any), and who has it. One round
    /// trip with each peer; for the digits of an id, two.
    ///
    /// # Errors
    /// [`Error::Absent`] when those who answer do not have it, [`Error::Unavailable`] when nobody answers, [`Error::Peer`]
    /// when the only one who was asked fails otherwise.
    pub fn resolve(&self, from: &[Source], spec: &Spec, platform: Option<&Platform>) -> Result<Resolved> {
        self.resolve_unless(from, spec, platform, &|| false)
    }

    /// The same, until it is to stop.
    ///
    /// # Errors
    /// As [`Net::resolve`], and [`Error::Cancelled`].
    pub fn resolve_unless(
        &self,
        from: &[Source],
        spec: &Spec,
        platform: Option<&Platform>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Resolved> {
        let peers = self.peers(&from[..from.len().min(PEERS_MAX)])?;
        if peers.is_empty() {
            let detail =
                "there is no peer to ask; `cairn peers add URL` adds one, --from URL asks one".to_owned();
            return Err(Error::Unavailable { what: spec.to_string(), detail });
        }
        // What a peer runs on is not what is wanted here.
        let platform = Some(platform.cloned().unwrap_or_else(Platform::current));
        let question = Question { spec: spec.clone(), platform };
        let asked = peers.clone();
        let answers = self.wait(async move { ask_all(asked, question).await }, cancelled)?;
        let totals = totals(&peers);
        choose(spec, peers, answers, totals)
    }

    /// What a peer has published.
    ///
    /// # Errors
    /// [`Error::Peer`].
    pub fn list(&self, from: &Source) -> Result<Vec<RemoteRef>> {
        let peer = self.peer(from)?;
        Ok(self.wait(async move { peer.refs(None).await }, &|| false)??.refs)
    }
}

pub(crate) fn totals(peers: &[Peer]) -> Totals {
    let mut totals = Totals::default();
    for traffic in peers.iter().map(Peer::traffic) {
        let (received, sent, round_trips) = (traffic.received(), traffic.sent(), traffic.round_trips());
        totals.add(Totals { received, sent, round_trips });
    }
    totals
}

/// Each peer's answer; nothing from those who took much longer than the first.
async fn ask_all(peers: Vec<Peer>, question: Question) -> Vec<Option<Result<Answer, PeerError>>> {
    let mut answers: Vec<_> = peers.iter().map(|_| None).collect();
    let mut tasks = JoinSet::new();
    for (number, peer) in peers.into_iter().enumerate() {
        let question = question.clone();
        tasks.spawn(async move { (number, ask(&peer, &question).await) });
    }
    let began = Instant::now();
    let mut deadline: Option<Instant> = None;
    loop {
        let next = match deadline {
            Some(deadline) => timeout_at(deadline.into(), tasks.join_next()).await.unwrap_or(None),
            None => tasks.join_next().await,
        };
        let Some(Ok((number, answer))) = next else { return answers };
        if answer.is_ok() {
            deadline.get_or_insert_with(|| Instant::now() + GRACE.max(2 * began.elapsed()));
        }
        answers[number] = Some(answer);
    }
}

async fn ask(peer: &Peer, question: &Question) -> Result<Answer, PeerError> {
    match &question.spec {
        Spec::Version { name, version_or_channel } => {
            let answer = peer.reference(name, version_or_channel, question.platform.as_ref()).await?;
            let envelopes = std::iter::once(answer.reference).chain(answer.channel).collect();
            read(envelopes, name, Some(version_or_channel), question.platform.as_ref())
                .map_err(|detail| peer.error(Fault::Misbehaved, detail))
        }
        Spec::Artifact(prefix) => {
            let list = peer.refs(None).await?;
            let fits = |found: &&RemoteRef| found.artifact.0.to_string().starts_with(prefix);
            let mut found: Vec<RemoteRef> = list.refs.iter().filter(fits).cloned().collect();
            found.sort_by_key(|found| Some(&found.platform) != question.platform.as_ref());
            let Some(first) = found.first() else {
                return Err(peer.error(Fault::Absent, format!("it has no artifact {prefix}")));
            };
            if found.iter().any(|other| other.artifact != first.artifact) {
                return Err(
                    peer.error(Fault::Absent, format!("several of its artifacts begin with {prefix}"))
                );
            }
            let RemoteRef { name, version, platform, artifact, .. } = first;
            let answer = peer.reference(name, version.as_str(), Some(platform)).await?;
            let answer = read(vec![answer.reference], name, Some(version.as_str()), Some(platform))
                .map_err(|detail| peer.error(Fault::Misbehaved, detail))?;
            if answer.artifact != artifact.0 {
                return Err(
                    peer.error(Fault::Absent, format!("{name}@{version} is not {prefix} there any more"))
                );
            }
            Ok(answer)
        }
    }
}

/// What the envelopes state, if it is an answer to the question.
fn read(
    envelopes: Vec<Envelope>,
    name: &Name,
    tag: Option<&str>,
    platform: Option<&Platform>,
) -> Result<Answer, String> {
    let mut statements =
        envelopes.iter().map(|envelope| RefStatement::of(envelope).map_err(|error| error.to_string()));
    let statement = statements.next().ok_or("it states nothing")??;
    let channel = statements.next().transpose()?;
    let Subject::Ref { key, artifact } = statement.subject.clone() else {
        return Err("it states something else than a ref".to_owned());
    };
    let fits = |asked: &Platform| key.platform == *asked || key.platform == Platform::any();
    if key.name != *name || !platform.is_none_or(fits) {
        return Err(format!("asked for {name}, it states {key}"));
    }
    match channel.as_ref().map(|channel| &channel.subject) {
        None if tag.is_none_or(|tag| tag == key.version.as_str() || tag == "latest") => {}
        None => return Err(format!("asked for {name}@{}, it states {key}", tag.unwrap_or_default())),
        Some(Subject::Channel { key: channel, version, artifact: named }) => {
            let is_asked = tag.is_none_or(|tag| tag == channel.channel.as_str());
            let agrees = channel.name == key.name && channel.platform == key.platform;
            if !is_asked || !agrees || *version != key.version || *named != artifact {
                return Err(format!("its statements of {channel} and of {key} contradict each other"));
            }
        }
        Some(Subject::Ref { .. }) => return Err("it states a ref as a channel".to_owned()),
    }
    drop(statements);
    Ok(Answer { statement, channel, key, artifact, envelopes })
}

/// The answer that counts, and who gave it.
fn choose(
    spec: &Spec,
    peers: Vec<Peer>,
    answers: Vec<Option<Result<Answer, PeerError>>>,
    totals: Totals,
) -> Result<Resolved> {
    let (mut good, mut others, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    for (peer, answer) in peers.iter().zip(answers) {
        match answer {
            Some(Ok(answer)) => good.push((peer, answer)),
            Some(Err(error)) => {
                let lied = matches!(error.fault, Fault::Lied | Fault::Misbehaved);
                others.push(PeerReport::dropped(peer.url(), &*error.detail, lied));
                faults.push(error);
            }
            None => {
                others.push(PeerReport::dropped(peer.url(), "it was slower to answer than others", false))
            }
        }
    }
    let mut best = match good.first() {
        Some((_, answer)) => answer.clone(),
        None => return Err(nobody(spec, faults)),
    };
    for (_, answer) in &good {
        if is_newer(answer, &best) {
            best = answer.clone();
        }
    }
    let mut holders = Vec::new();
    for (peer, answer) in &good {
        if answer.artifact == best.artifact {
            holders.push(peer.source().clone());
        } else {
            let detail = format!("{} is {} there", answer.key, answer.artifact.short());
            others.push(PeerReport::dropped(peer.url(), detail, false));
        }
    }
    let Answer { key, artifact, envelopes, .. } = best;
    Ok(Resolved { key, artifact, envelopes, holders, others, totals })
}

/// Whether an answer has later statements of the same origins.
fn is_newer(answer: &Answer, than: &Answer) -> bool {
    let later = |a: &RefStatement, b: &RefStatement| {
        a.origin == b.origin && a.subject.name() == b.subject.name() && a.seq > b.seq
    };
    match (&answer.channel, &than.channel) {
        (Some(a), Some(b)) if later(a, b) => true,
        (Some(a), Some(b)) if later(b, a) => false,
        _ => later(&answer.statement, &than.statement),
    }
}

fn nobody(spec: &Spec, mut faults: Vec<PeerError>) -> Error {
    let detail = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let what = spec.to_string();
    if faults.iter().any(|error| error.fault == Fault::Absent) {
        return Error::Absent { what, detail };
    }
    match faults.pop() {
        Some(only) if faults.is_empty() && !only.fault.may_pass() => Error::Peer(only),
        Some(last) if !last.fault.may_pass() && faults.iter().all(|error| error.fault == last.fault) => {
            Error::Peer(PeerError { detail, ..last })
        }
        _ => Error::Unavailable { what, detail },
    }
}
