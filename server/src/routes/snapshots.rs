//! `GET /v1/snapshots`, `/v1/snapshots/{name}`, `/v1/snapshots/{name}/{round or latest}`: the states that are here, by the round
//! after which they were like that.
//!
//! A snapshot is an artifact of that kind whose version is its round, for any platform, and all of which is here. Somebody who
//! is told of a single one will want it, so it is held for a while though newer ones may come and its name go.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use cairn_net::wire::{HexId, RemoteSeries, RemoteSnapshot, SeriesList, SnapshotAnswer, SnapshotList};
use cairn_store::snapshots::{LATEST, facts_of, round_of};
use cairn_store::{
    ArtifactId, ChannelKey, Error, Name, Platform, RefKey, RefRecord, StateHash, Store, View, Writer,
};
use hyper::HeaderMap;

use super::refs::brief;
use crate::auth::Guest;
use crate::peer_api::PeerApi;
use crate::peer_error::PeerRefusal;

/// Snapshots that are listed of one name, at most.
const LISTED_MAX: usize = 1000;
/// Artifacts that are remembered, at most.
const KNOWN_MAX: usize = 8192;

/// What an artifact says of the state that it is. None if it is no snapshot.
type Said = Option<(u64, Option<StateHash>)>;

/// What was read of artifacts, which never change.
#[derive(Debug, Default)]
pub(crate) struct KnownSnapshots(
    /// Guards what is known. A leaf lock.
    Arc<Mutex<HashMap<ArtifactId, Said>>>,
);

impl KnownSnapshots {
    fn reader(&self, store: Store) -> Reader {
        Reader { store, known: Arc::clone(&self.0) }
    }
}

struct Reader {
    store: Store,
    known: Arc<Mutex<HashMap<ArtifactId, Said>>>,
}

impl Reader {
    fn said(&self, id: &ArtifactId) -> Result<Said, Error> {
        let known =
            |reader: &Self| reader.known.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some(said) = known(self) {
            return Ok(said);
        }
        let artifact = self.store.artifact(id)?;
        let said = facts_of(&artifact);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(*id, said.clone());
        Ok(said)
    }

    /// The snapshots of a name, newest first, at most so many. What cannot be read is left out, and logged.
    fn of_name(&self, view: &View, name: &Name, count_max: usize) -> Vec<(RefKey, RemoteSnapshot)> {
        let mut rounds: Vec<(u64, &RefKey, &RefRecord)> = view
            .refs_of(name)
            .filter(|(key, record)| {
                key.platform == Platform::any() && !view.partial.contains(&record.artifact)
            })
            .filter_map(|(key, record)| Some((round_of(&key.version)?, key, record)))
            .collect();
        rounds.sort_by_key(|(round, _, _)| std::cmp::Reverse(*round));
        let mut found = Vec::new();
        for (round, key, record) in rounds {
            if found.len() == count_max {
                break;
            }
            match self.said(&record.artifact) {
                Ok(Some((said, state_hash))) if said == round => {
                    let artifact = HexId(record.artifact);
                    let RefRecord { files, bytes, chunks, time_ms, .. } = *record;
                    let name = None;
                    let snapshot =
                        RemoteSnapshot { name, round, artifact, state_hash, files, bytes, chunks, time_ms };
                    found.push((key.clone(), snapshot));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(artifact = %record.artifact, %error, "a snapshot is not listed"),
            }
        }
        found
    }
}

/// The names of which there are snapshots.
pub(crate) async fn all(
    State(api): State<Arc<PeerApi>>,
    Extension(guest): Extension<Guest>,
    headers: HeaderMap,
) -> Result<Response, PeerRefusal> {
    let (reader, grant) = (api.snapshots.reader(api.store().clone()), guest.grant().clone());
    let look = move || -> Result<Vec<u8>, Error> {
        let view = reader.store.view()?;
        let mut names: BTreeMap<&Name, ()> = BTreeMap::new();
        for (key, _) in view.refs.iter() {
            if round_of(&key.version).is_some() && grant.covers(key.name.as_str()) {
                names.insert(&key.name, ());
            }
        }
        let series = names.into_keys().filter_map(|name| {
            let snapshots = reader.of_name(&view, name, usize::MAX);
            let latest = snapshots.first()?.1.round;
            Some(RemoteSeries { name: name.clone(), rounds: snapshots.len() as u64, latest })
        });
        Ok(text(&SeriesList { snapshots: series.collect() }))
    };
    Ok(brief(&guest, api.work.run(look).await??.into(), &headers))
}

/// The snapshots of one name.
pub(crate) async fn of_name(
    State(api): State<Arc<PeerApi>>,
    Extension(guest): Extension<Guest>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, PeerRefusal> {
    let name: Name = name.parse()?;
    guest.name(name.as_str())?;
    let reader = api.snapshots.reader(api.store().clone());
    let look = move || -> Result<Vec<u8>, Error> {
        let view = reader.store.view()?;
        let snapshots = reader.of_name(&view, &name, LISTED_MAX);
        if snapshots.is_empty() {
            return Err(Error::Absent { what: format!("a snapshot of {name}") });
        }
        let snapshots = snapshots.into_iter().map(|(_, snapshot)| snapshot).collect();
        Ok(text(&SnapshotList { name, snapshots }))
    };
    Ok(brief(&guest, api.work.run(look).await??.into(), &headers))
}

/// One of them, with the statements by which it can be pulled.
pub(crate) async fn one(
    State(api): State<Arc<PeerApi>>,
    Extension(guest): Extension<Guest>,
    Path((name, round)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, PeerRefusal> {
    let name: Name = name.parse()?;
    guest.name(name.as_str())?;
    let asked = match round.as_str() {
        LATEST => None,
        text => Some(text.parse().ok().as_ref().and_then(round_of).ok_or_else(|| {
            PeerRefusal::NotUnderstood(
                "a round is a decimal number without leading zeros, or `latest`".to_owned(),
            )
        })?),
    };
    let reader = api.snapshots.reader(api.store().clone());
    let writer = api.writer().map(|writer| writer.signed(String::new()));
    let look = move || -> Result<SnapshotAnswer, Error> {
        if let Some(found) = find(&reader, &name, asked)? {
            return Ok(found);
        }
        // A store that has published nothing since it could speak for itself gets a name to do so by.
        writer.as_ref().map(Writer::origin).transpose()?;
        find(&reader, &name, asked)?.ok_or_else(|| Error::Absent {
            what: format!(
                "a statement about {name}: this store has not been written since it makes any, and it"
            ),
        })
    };
    let found = api.work.run(look).await??;
    api.told_of(found.snapshot.artifact.0);
    Ok(brief(&guest, text(&found).into(), &headers))
}

/// A snapshot by its round, or the one that the channel names, or the newest. None if this store speaks for nobody yet.
fn find(reader: &Reader, name: &Name, round: Option<u64>) -> Result<Option<SnapshotAnswer>, Error> {
    let view = reader.store.view()?;
    let snapshots = reader.of_name(&view, name, usize::MAX);
    let channel = LATEST.parse().ok().map(|channel| ChannelKey {
        name: name.clone(),
        channel,
        platform: Platform::any(),
    });
    let named = channel.as_ref().and_then(|channel| view.channels.get(channel));
    let is_named = |key: &RefKey| named.is_some_and(|version| *version == key.version);
    let found = match round {
        Some(round) => snapshots.into_iter().find(|(_, snapshot)| snapshot.round == round),
        None => {
            let at = snapshots.iter().position(|(key, _)| is_named(key)).unwrap_or(0);
            snapshots.into_iter().nth(at)
        }
    };
    let what =
        || round.map_or_else(|| format!("a snapshot of {name}"), |round| format!("snapshot {name}@{round}"));
    let (key, snapshot) = found.ok_or_else(|| Error::Absent { what: what() })?;
    let Some(reference) = view.statement_of(&key) else { return Ok(None) };
    let channel = channel.filter(|_| is_named(&key)).and_then(|channel| view.channel_statement_of(&channel));
    let snapshot = RemoteSnapshot { name: Some(name.clone()), ..snapshot };
    Ok(Some(SnapshotAnswer { snapshot, reference, channel }))
}

fn text(value: &impl serde::Serialize) -> Vec<u8> {
    // Names and numbers always have a JSON form.
    serde_json::to_vec(value).unwrap_or_default()
}
