//! What other stores say of names, as they said it, and what this store says of its own.
//!
//! A ref that was pulled is served with the envelope that it came in, byte for byte; one that was made here gets a
//! statement of this store. For each name, the last word of each origin is kept, so that an older one is noticed when it
//! is shown again: [`View::check_statement`]. Words stay when the name goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_trust::Envelope;

use super::{ChannelKey, Origin, RefKey, RefStatement, Subject, SubjectName, View};
use crate::error::{Error, Result};
use crate::shared::Shared;

/// Origins whose last word about one name is kept, at most; the oldest word goes.
const WORDS_MAX: usize = 16;

/// A statement that came from elsewhere, in its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// What is said.
    pub statement: RefStatement,
    /// As it came.
    pub envelope: Envelope,
}

impl Witness {
    /// Reads the statement in an envelope.
    ///
    /// # Errors
    /// As [`RefStatement::of`].
    pub fn of(envelope: Envelope) -> Result<Self> {
        Ok(Self { statement: RefStatement::of(&envelope)?, envelope })
    }
}

/// The words about one name, each of another origin, the latest last. Clones share them.
pub(crate) type Words = Arc<[Arc<Witness>]>;

/// The words about each name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Witnessed(Shared<BTreeMap<SubjectName, Words>>);

impl Witnessed {
    /// Every word, name by name.
    pub fn iter(&self) -> impl Iterator<Item = &Witness> {
        self.0.values().flat_map(|words| words.iter().map(|word| &**word))
    }

    /// The words about a name, the latest last.
    pub fn about<'a>(&'a self, name: &SubjectName) -> impl DoubleEndedIterator<Item = &'a Witness> + use<'a> {
        self.0.get(name).map_or(&[][..], |words| words).iter().map(|word| &**word)
    }

    /// Number of names that are spoken of.
    #[must_use]
    pub fn names(&self) -> usize {
        self.0.len()
    }

    /// Adds a word, in place of what its origin said before. Gives what was there.
    pub(crate) fn add(&mut self, witness: Witness) -> Option<Words> {
        let (name, origin) = (witness.statement.subject.name(), witness.statement.origin);
        let before = self.0.get(&name).cloned();
        let earlier = before.iter().flat_map(|words| words.iter().cloned());
        let mut words: Vec<_> = earlier.filter(|word| word.statement.origin != origin).collect();
        if words.len() == WORDS_MAX {
            words.remove(0);
        }
        words.push(Arc::new(witness));
        self.0.insert(name, words.into());
        before
    }

    /// Makes the words about a name what they were.
    pub(crate) fn put_back(&mut self, name: &SubjectName, words: Option<Words>) {
        match words {
            Some(words) => drop(self.0.insert(name.clone(), words)),
            None => drop(self.0.remove(name)),
        }
    }
}

/// The change of this store's journal that made each name what it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Changes {
    /// By ref.
    pub(crate) refs: Shared<BTreeMap<RefKey, u64>>,
    /// By channel.
    pub(crate) channels: Shared<BTreeMap<ChannelKey, u64>>,
}

impl View {
    /// What is to be passed on about a ref: the envelope that it came in, or what this store says of it. Nothing where
    /// there is no such ref, or this store has no [`Origin`] yet.
    #[must_use]
    pub fn statement_of(&self, key: &RefKey) -> Option<Envelope> {
        let subject = Subject::Ref { key: key.clone(), artifact: self.refs.get(key)?.artifact };
        self.passed_on(subject)
    }

    /// The same about a channel. Nothing either where it leads to no ref.
    #[must_use]
    pub fn channel_statement_of(&self, key: &ChannelKey) -> Option<Envelope> {
        let version = self.channels.get(key)?.clone();
        let (name, platform) = (key.name.clone(), key.platform.clone());
        let artifact = self.refs.get(&RefKey { name, version: version.clone(), platform })?.artifact;
        self.passed_on(Subject::Channel { key: key.clone(), version, artifact })
    }

    fn passed_on(&self, subject: Subject) -> Option<Envelope> {
        let mut words = self.witnessed.about(&subject.name()).rev();
        match words.find(|word| word.statement.subject == subject) {
            Some(word) => Some(word.envelope.clone()),
            None => self.own_word(subject).map(|statement| statement.to_envelope()),
        }
    }

    /// What this store says itself. A name that was made before the store had an origin has the number of the change
    /// that gave it one.
    fn own_word(&self, subject: Subject) -> Option<RefStatement> {
        let (origin, since) = self.origin?;
        let (key, changed) = match &subject {
            Subject::Ref { key, .. } => (key.clone(), 0),
            Subject::Channel { key, version, .. } => {
                let (name, platform) = (key.name.clone(), key.platform.clone());
                let changed = self.changes.channels.get(key).copied().unwrap_or(since);
                (RefKey { name, version: version.clone(), platform }, changed)
            }
        };
        let time_ms = self.refs.get(&key)?.time_ms;
        let seq = self.changes.refs.get(&key).copied().unwrap_or(since).max(changed);
        Some(RefStatement { origin, seq, time_ms, subject })
    }

    /// The last word of an origin about a name, if it is known here.
    #[must_use]
    pub fn last_word(&self, name: &SubjectName, origin: &Origin) -> Option<RefStatement> {
        let word = self.witnessed.about(name).find(|word| word.statement.origin == *origin);
        let own = || {
            self.origin.filter(|(own, _)| own == origin)?;
            let artifact = |key: &RefKey| self.refs.get(key).map(|record| record.artifact);
            let subject = match name {
                SubjectName::Ref(key) => Subject::Ref { key: key.clone(), artifact: artifact(key)? },
                SubjectName::Channel(key) => {
                    let version = self.channels.get(key)?.clone();
                    let (name, platform) = (key.name.clone(), key.platform.clone());
                    let artifact = artifact(&RefKey { name, version: version.clone(), platform })?;
                    Subject::Channel { key: key.clone(), version, artifact }
                }
            };
            self.own_word(subject)
        };
        let word = word.map(|word| word.statement.clone());
        match (word, own()) {
            (Some(word), Some(own)) => Some(if own.seq > word.seq { own } else { word }),
            (word, own) => word.or(own),
        }
    }

    /// Refuses what its origin has taken back: a statement that is older than the last one that is known of this origin
    /// about this name, or as old and another.
    ///
    /// # Errors
    /// [`Error::RolledBack`].
    pub fn check_statement(&self, given: &RefStatement) -> Result<()> {
        let name = given.subject.name();
        let Some(known) = self.last_word(&name, &given.origin) else { return Ok(()) };
        if given.seq > known.seq || (given.seq == known.seq && given.subject == known.subject) {
            return Ok(());
        }
        Err(Error::RolledBack {
            what: name.to_string(),
            origin: given.origin,
            known: known.seq,
            given: given.seq,
        })
    }
}
