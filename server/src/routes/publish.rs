//! `PUT /v1/refs/{name}/{version}`: a ref, once everything that it leads to is here. What is missing is said by id.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use cairn_net::wire::{Failure, RefAnswer};
use cairn_store::refs::{RefStatement, Subject};
use cairn_store::writer::PulledOptions;
use cairn_store::{
    ArtifactId, ChunkId, Content, Error, Name, Node, ObjectSource, Platform, Published, RefKey, Store,
    Version, Writer, content, tree,
};
use hyper::header::{CACHE_CONTROL, HeaderValue};
use hyper::{HeaderMap, StatusCode, Uri};
use serde::Serialize;

use super::query;
use crate::auth::Guest;
use crate::error::json;
use crate::incoming;
use crate::peer_api::PeerApi;
use crate::peer_error::PeerRefusal;
use crate::tokens::Scope;

/// What was published.
#[derive(Debug, Serialize)]
struct PublishedAnswer {
    artifact: String,
    /// Whether it was so before.
    unchanged: bool,
    /// The artifact that it was before.
    replaced: Option<String>,
}

pub(crate) async fn publish(
    State(api): State<Arc<PeerApi>>,
    Extension(guest): Extension<Guest>,
    Path((name, version)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, PeerRefusal> {
    let (name, version): (Name, Version) = (name.parse()?, version.parse()?);
    guest.name(name.as_str())?;
    let replace = match query(&uri, "replace")?.as_deref() {
        None | Some("0") => false,
        Some("1") => true,
        Some(_) => return Err(PeerRefusal::NotUnderstood("replace is 0 or 1".to_owned())),
    };
    if replace {
        guest.scope(Scope::Admin)?;
    }
    let platform: Option<Platform> = query(&uri, "platform")?.map(|text| text.parse()).transpose()?;
    let (bytes, _memory) = incoming::collect(&api, &headers, body, api.limits().ref_bytes_max).await?;
    let given: RefAnswer =
        serde_json::from_slice(&bytes).map_err(|error| PeerRefusal::NotUnderstood(error.to_string()))?;
    let (key, artifact) = stated(&given)?;
    let is_asked = key.name == name
        && key.version == version
        && platform.is_none_or(|platform| platform == key.platform);
    if !is_asked {
        return Err(PeerRefusal::NotUnderstood(format!("the statement is about {key}")));
    }
    let writer = api.writer().ok_or(PeerRefusal::ReadOnly)?;
    api.promise();
    let who = guest.grant().id.as_ref().map_or("a peer".to_owned(), |id| format!("token {id}"));
    let writer = writer.signed(who);
    let published = api.work.run(move || put(&writer, &key, &artifact, given, replace)).await??;
    let status = if published.unchanged { StatusCode::OK } else { StatusCode::CREATED };
    let answer = PublishedAnswer {
        artifact: artifact.to_string(),
        unchanged: published.unchanged,
        replaced: published.replaced.map(|id| id.to_string()),
    };
    let mut response = json(status, &answer);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Which ref is stated to be which artifact.
fn stated(given: &RefAnswer) -> Result<(RefKey, ArtifactId), PeerRefusal> {
    let not_understood = |detail: String| PeerRefusal::NotUnderstood(detail);
    let statement = RefStatement::of(&given.reference).map_err(|error| not_understood(error.to_string()))?;
    match statement.subject {
        Subject::Ref { key, artifact } => Ok((key, artifact)),
        Subject::Channel { .. } => Err(not_understood("it states a channel where a ref is due".to_owned())),
    }
}

fn put(
    writer: &Writer,
    key: &RefKey,
    artifact: &ArtifactId,
    given: RefAnswer,
    replace: bool,
) -> Result<Published, PeerRefusal> {
    let envelopes: Vec<_> = std::iter::once(given.reference).chain(given.channel).collect();
    let options = PulledOptions { replace, ..PulledOptions::default() };
    // What uploads brought is durable before a name leads to it.
    writer.intake().flush()?;
    match writer.publish_pulled(artifact, &envelopes, &options) {
        Ok(published) => Ok(published),
        Err(Error::Incomplete { .. } | Error::Absent { .. }) => {
            let (ids, count) = missing(&writer.local(), artifact)?;
            Err(PeerRefusal::Incomplete { what: key.to_string(), count, ids })
        }
        // What was sent is no statement; nothing is damaged here.
        Err(error @ Error::Damaged { chunk: None, pack: None, .. }) => {
            Err(PeerRefusal::NotUnderstood(error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

/// What of an artifact is not here: the first ids, and how many there are as far as that can be seen. What lies below an
/// object that is missing is not known.
fn missing(store: &Store, artifact: &ArtifactId) -> Result<(Vec<ChunkId>, u64), PeerRefusal> {
    let search = Search { store, found: Mutex::default() };
    if search.is_here(&(*artifact).into())? {
        search.walk(store.artifact(artifact)?.root)?;
    }
    let found = search.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((found.first, found.ids.len() as u64))
}

struct Search<'a> {
    store: &'a Store,
    /// Locked for single look-ups: the walk has one thread.
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    first: Vec<ChunkId>,
    /// All that are missing.
    ids: HashSet<ChunkId>,
    /// Objects that were entered: a hostile tree may name one many times.
    entered: HashSet<ChunkId>,
}

impl Search<'_> {
    fn with_found<T>(&self, work: impl FnOnce(&mut Found) -> T) -> T {
        work(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it is here; if not, it is noted.
    fn is_here(&self, id: &ChunkId) -> Result<bool, Error> {
        let is_here = self.store.have(std::slice::from_ref(id))?.first() == Some(&true);
        if !is_here {
            self.with_found(|found| {
                if found.ids.insert(*id) && found.first.len() < Failure::MISSING_MAX {
                    found.first.push(*id);
                }
            });
        }
        Ok(is_here)
    }

    fn is_new(&self, id: ChunkId) -> bool {
        self.with_found(|found| found.entered.insert(id))
    }

    fn walk(&self, root: cairn_store::TreeId) -> Result<(), Error> {
        let mut open = vec![root];
        while let Some(tree) = open.pop() {
            if !self.is_new(tree.into()) {
                continue;
            }
            for entry in tree::entries(&tree, self) {
                match entry.map(|entry| entry.node) {
                    Ok(Node::Dir { tree }) => open.push(tree),
                    Ok(Node::File { size, content }) => self.file(size, &content)?,
                    Ok(_) => {}
                    // Noted by `get`.
                    Err(Error::Absent { .. }) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn file(&self, size: u64, content: &Content) -> Result<(), Error> {
        if let Content::Long { root, .. } = content
            && !self.is_new((*root).into())
        {
            return Ok(());
        }
        for chunk in content::chunks(content, size, self) {
            match chunk {
                Ok((_, chunk)) if chunk.is_hole() => {}
                Ok((_, chunk)) => drop(self.is_here(&chunk.id)?),
                Err(Error::Absent { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl ObjectSource for Search<'_> {
    fn get(&self, id: &ChunkId) -> Result<Arc<[u8]>, Error> {
        if !self.is_here(id)? {
            return Err(Error::Absent { what: format!("object {id}") });
        }
        self.store.get(id)
    }
}
