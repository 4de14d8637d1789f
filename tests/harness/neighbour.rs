//! Another store that chunks are fetched from, as from a peer, without a network: it counts what it is asked for, and is out
//! of reach or silent when it is told to.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_store::{
    ArtifactId, ChannelKey, ChunkId, ChunkRef, Decoder, Error, Fetch, Intake, Piece, RefKey, Result, Store,
    VerifiedFrame, Version, Why, Writer,
};
use cairn_trust::Envelope;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// At once, with all that is wanted.
    Willing,
    /// With an error, at once.
    OutOfReach,
    /// Not at all, until it is of another mood or its patience ends, with an error then.
    Silent,
}

/// What it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The chunks.
    pub chunks: Vec<ChunkRef>,
    /// Why.
    pub why: Why,
}

impl Asked {
    /// Plain bytes of the chunks.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.len)).sum()
    }
}

struct State {
    mood: Mood,
    /// Who waits for an answer now.
    waiting: usize,
    asked: Vec<Asked>,
}

/// The other store.
pub struct Neighbour {
    from: Store,
    intake: Arc<Intake>,
    patience: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

impl Neighbour {
    /// Has what `to` lacks fetched from `from` from now on. Silent, it has so much patience.
    #[must_use]
    pub fn new(from: Store, to: &Writer, patience: Duration) -> Arc<Self> {
        let state = Mutex::new(State { mood: Mood::Willing, waiting: 0, asked: Vec::new() });
        let (intake, changed) = (to.intake(), Condvar::new());
        let neighbour = Arc::new(Self { from, intake, patience, state, changed });
        to.store().set_fetch(Some(Arc::clone(&neighbour) as Arc<dyn Fetch>));
        neighbour
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes it answer in another way, also those who wait.
    pub fn set(&self, mood: Mood) {
        self.lock().mood = mood;
        self.changed.notify_all();
    }

    /// Waits until so many wait for an answer.
    ///
    /// # Panics
    /// When they do not come.
    pub fn wait_for_waiting(&self, count: usize) {
        let max = Duration::from_secs(60);
        let waited = self.changed.wait_timeout_while(self.lock(), max, |state| state.waiting < count);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "{} wait instead of {count}", state.waiting);
    }

    /// What it was asked for since this was last called.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.lock().asked)
    }

    fn give(&self, wanted: &[ChunkRef], why: Why) -> Result<()> {
        let ids: Vec<ChunkId> = wanted.iter().map(|chunk| chunk.id).collect();
        send(&self.from, &self.intake, ids, why)?;
        Ok(())
    }
}

impl Fetch for Neighbour {
    fn fetch(&self, wanted: &[ChunkRef], why: Why) -> Result<()> {
        let mut state = self.lock();
        state.asked.push(Asked { chunks: wanted.to_vec(), why });
        state.waiting += 1;
        self.changed.notify_all();
        let silent = |state: &mut State| state.mood == Mood::Silent;
        let waited = self.changed.wait_timeout_while(state, self.patience, silent);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        let mood = state.mood;
        drop(state);
        match mood {
            Mood::Willing => self.give(wanted, why),
            Mood::OutOfReach | Mood::Silent => Err(Error::Unavailable {
                what: format!("chunk {}", wanted[0].id),
                detail: "the neighbour does not answer".to_owned(),
            }),
        }
    }
}

/// Copies all metadata of an artifact, and nothing of its files.
///
/// # Panics
/// When something of it cannot be sent or kept.
pub fn copy_metadata(from: &Store, to: &Writer, artifact: &ArtifactId) {
    let lacking = from.lacking_objects(None, artifact, &()).expect("it is all there");
    let ids = lacking.chunks.iter().map(|chunk| chunk.id).collect();
    send(from, &to.intake(), ids, Why::Absent).expect("it can be kept");
}

/// Copies chunks, new or in place of damaged ones, and makes them durable.
///
/// # Errors
/// [`Error::Unavailable`] when they are not all there; as keeping them.
///
/// # Panics
/// If what is sent does not hold.
pub fn send(from: &Store, intake: &Intake, wanted: Vec<ChunkId>, why: Why) -> Result<()> {
    let mut decoder = Decoder::default();
    for piece in from.sending(wanted) {
        match piece? {
            Piece::Frame(kind, bytes) => {
                let frame = VerifiedFrame::verify(bytes, &mut decoder).expect("it was just encoded");
                match why {
                    Why::Absent => intake.keep(kind, &frame)?,
                    Why::Damaged => intake.heal(kind, &frame)?,
                };
            }
            Piece::Absent(ids) => {
                let what = format!("chunk {}", ids[0]);
                return Err(Error::Unavailable { what, detail: "the neighbour has not got it".to_owned() });
            }
        }
    }
    intake.flush()
}

/// Copies chunks.
///
/// # Errors
/// As keeping them.
pub fn send_all(from: &Store, to: &Writer, chunks: &[ChunkRef]) -> Result<()> {
    send(from, &to.intake(), chunks.iter().map(|chunk| chunk.id).collect(), Why::Absent)
}

/// Copies the bytes of all files of an artifact.
///
/// # Panics
/// When something of it cannot be sent or kept.
pub fn copy_data(from: &Store, to: &Writer, artifact: &ArtifactId) {
    let lacking = from.lacking_chunks(None, artifact, &()).expect("it is all there");
    let ids = lacking.chunks.iter().map(|chunk| chunk.id).collect();
    send(from, &to.intake(), ids, Why::Absent).expect("it can be kept");
}

/// What a store states of a version, and of the channels that point to it.
///
/// # Panics
/// When it states nothing.
#[must_use]
pub fn statements(from: &Writer, key: &RefKey) -> Vec<Envelope> {
    from.origin().expect("the journal can be written");
    let view = from.names();
    let of_ref = view.statement_of(key).expect("there is such a ref");
    let points = |(channel, version): &(&ChannelKey, &Version)| {
        (&channel.name, &channel.platform, *version) == (&key.name, &key.platform, &key.version)
    };
    let channels = view.channels.iter().filter(points);
    let of_channels =
        channels.map(|(channel, _)| view.channel_statement_of(channel).expect("there is such a channel"));
    std::iter::once(of_ref).chain(of_channels).collect()
}
