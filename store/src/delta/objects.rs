//! Metadata as a delta: the objects that one artifact has and another lacks, behind those of the other that the first has
//! not. Of a long list of chunks in which a few changed, the others' ids need not be told again.
//!
//! Objects are named by their hash, so that lengths are all that is said of them.

use std::collections::HashSet;

use cairn_delta::prefix::{self, PREFIX_MAX};
use cairn_delta::{DeltaError, Effort};

use super::decode::{UnitError, UnitTools};
use super::unit::{BASES_MAX, CHUNKS_MAX, PLAIN_MAX, Unit};
use crate::block::BlockBuilder;
use crate::content::ChunkRef;
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId};
use crate::intake::VerifiedFrame;
use crate::progress::Progress;
use crate::sending::lacking::objects;
use crate::store::Store;

impl Store {
    /// The metadata objects that `want` has and `have` lacks, as one unit; nothing where they are too many for that, or
    /// where not all metadata of both is here.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Io`].
    pub fn encode_objects(
        &self,
        have: &ArtifactId,
        want: &ArtifactId,
        effort: Effort,
        progress: &dyn Progress,
    ) -> Result<Option<Vec<u8>>> {
        match self.told_objects(have, want, effort, progress) {
            Err(Error::Absent { .. } | Error::Damaged { .. }) => Ok(None),
            told => told,
        }
    }

    fn told_objects(
        &self,
        have: &ArtifactId,
        want: &ArtifactId,
        effort: Effort,
        progress: &dyn Progress,
    ) -> Result<Option<Vec<u8>>> {
        let store = self.local();
        let new = objects(&store, Some(have), want, progress)?;
        let plain_len: usize = new.iter().map(|object| object.len as usize).sum();
        if new.is_empty() || new.len() > CHUNKS_MAX || plain_len > PLAIN_MAX {
            return Ok(None);
        }
        let all: HashSet<ChunkId> =
            objects(&store, None, want, progress)?.iter().map(|object| object.id).collect();
        let olds = objects(&store, None, have, progress)?;
        let (mut bases, mut prefix) = (Vec::new(), Vec::new());
        for (number, old) in (0u32..).zip(&olds) {
            let fits = bases.len() < BASES_MAX && prefix.len() + old.len as usize <= PREFIX_MAX;
            if fits && !all.contains(&old.id) {
                bases.push(number);
                prefix.extend_from_slice(&store.whole_chunk(*old)?);
            }
        }
        let mut plain = Vec::with_capacity(plain_len);
        for object in &new {
            plain.extend_from_slice(&store.whole_chunk(*object)?);
        }
        let lens = new.iter().map(|object| object.len).collect();
        let payload = prefix::Encoder::new(effort).encode(&prefix, &plain);
        Ok(Some(Unit::Objects { lens, bases, payload: &payload }.to_bytes()))
    }

    /// The other side of [`Store::encode_objects`]: frames of objects, each hashed. Which are wanted is for the caller to
    /// know.
    ///
    /// # Errors
    /// [`UnitError`].
    pub fn decode_objects(
        &self,
        have: &ArtifactId,
        unit: &[u8],
        tools: &mut UnitTools,
        progress: &dyn Progress,
    ) -> Result<Vec<VerifiedFrame>, UnitError> {
        let Unit::Objects { lens, bases, payload } = Unit::decode(unit)? else {
            return Err(DeltaError::Invalid("something else than metadata").into());
        };
        let plain_len = lens.iter().map(|len| *len as usize).sum();
        if plain_len > PLAIN_MAX {
            return Err(DeltaError::TooLarge("a unit's plain bytes").into());
        }
        let store = self.local();
        let olds = objects(&store, None, have, progress)?;
        let prefix = prefix_of(&store, &olds, &bases)?;
        let plain = tools.decoder.decode(&prefix, payload, plain_len, Vec::new())?;
        let (mut frames, mut builder, mut rest) = (Vec::new(), BlockBuilder::default(), &plain[..]);
        for len in lens {
            let (object, after) = rest.split_at(len as usize);
            rest = after;
            if builder.is_full_for(object.len()) {
                frames.push(super::decode::verified(std::mem::take(&mut builder), tools)?);
            }
            builder.push(ChunkId::of(object), object);
        }
        frames.push(super::decode::verified(builder, tools)?);
        Ok(frames)
    }
}

/// The bytes of old chunks, one after the other.
pub(super) fn prefix_of(store: &Store, olds: &[ChunkRef], bases: &[u32]) -> Result<Vec<u8>, UnitError> {
    let mut prefix = Vec::new();
    for base in bases {
        let chunk = olds.get(*base as usize).ok_or(DeltaError::Invalid("a base that is none"))?;
        if prefix.len() + chunk.len as usize > PREFIX_MAX {
            return Err(DeltaError::TooLarge("a prefix").into());
        }
        prefix.extend_from_slice(&store.whole_chunk(*chunk)?);
    }
    Ok(prefix)
}
