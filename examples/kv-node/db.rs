//! The state: a database of one file, `kv.redb`, in a directory that holds nothing else.
//!
//! The contents, the round after which they are so and their sum change in one transaction, so whatever happens to the
//! process, the file tells exactly which events it has: those up to its round. A node therefore needs no log of its own. It
//! asks the stream for the next round, and skips what it already has.
//!
//! A closed database is consistent as it lies, which is when it is copied: see [`crate::node::Node::freeze`].

use std::path::Path;

use cairn_store::event::StateHash;
use redb::{
    Builder, Database, ReadOnlyDatabase, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use crate::batch::Write;
use crate::error::Error;
use crate::sum::StateSum;

/// The database's file in the directory of the state.
const FILE: &str = "kv.redb";
/// Bytes that the database keeps in memory, at most.
const CACHE_BYTES_MAX: usize = 64 << 20;
const CONTENTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("contents");
/// `round` as 8 little-endian bytes, and `sum`.
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");

/// The round after which a state is so, and what it sums up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At {
    /// 0 before the first event.
    pub(crate) round: u64,
    sum: StateSum,
}

impl At {
    fn beginning() -> Self {
        Self { round: 0, sum: StateSum::empty() }
    }

    /// The state's hash.
    pub(crate) fn hash(&self) -> StateHash {
        self.sum.hash()
    }

    fn read(facts: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Self, redb::Error> {
        let round =
            facts.get("round")?.and_then(|round| Some(u64::from_le_bytes(round.value().try_into().ok()?)));
        let sum = facts.get("sum")?.and_then(|sum| StateSum::from_bytes(sum.value()));
        let at = round.zip(sum).map(|(round, sum)| Self { round, sum });
        at.ok_or_else(|| redb::Error::Corrupted("the state has no round or no sum".to_owned()))
    }

    fn write(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut facts = transaction.open_table(FACTS)?;
        facts.insert("round", &self.round.to_le_bytes()[..])?;
        facts.insert("sum", &self.sum.to_bytes()[..])?;
        Ok(())
    }
}

/// The state, open. One process has it at a time.
pub(crate) struct Db {
    database: Database,
    at: At,
}

/// Rounds applied in a transaction that is not committed. Without [`Db::commit`] they never happened.
pub(crate) struct Change {
    transaction: WriteTransaction,
    at: At,
}

impl Db {
    /// Opens the state in `dir`; where there is none, makes an empty one, at round 0.
    ///
    /// # Errors
    /// Where it cannot be opened: above all, [`Error::InUse`].
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(dir).map_err(|source| Error::Io { what: dir.into(), source })?;
        let open = || -> Result<Self, redb::Error> {
            let database = Builder::new().set_cache_size(CACHE_BYTES_MAX).create(dir.join(FILE))?;
            let transaction = database.begin_write()?;
            transaction.open_table(CONTENTS)?;
            let is_new = transaction.open_table(FACTS)?.get("round")?.is_none();
            if !is_new {
                let at = At::read(&transaction.open_table(FACTS)?)?;
                transaction.abort()?;
                return Ok(Self { database, at });
            }
            let at = At::beginning();
            at.write(&transaction)?;
            transaction.commit()?;
            Ok(Self { database, at })
        };
        open().map_err(|error| opening(dir, error))
    }

    /// Makes an empty state in `dir`, which has none.
    pub(crate) fn create(dir: &Path) -> Result<Self, Error> {
        if dir.join(FILE).exists() {
            return Err(Error::Refused(format!("{}: there is a state already", dir.display())));
        }
        Self::open(dir)
    }

    /// Where the state is.
    pub(crate) fn at(&self) -> &At {
        &self.at
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, redb::Error> {
        let contents = self.database.begin_read()?.open_table(CONTENTS)?;
        Ok(contents.get(key)?.map(|value| value.value().to_owned()))
    }

    /// Begins a change. There is one at a time.
    pub(crate) fn begin(&self) -> Result<Change, redb::Error> {
        Ok(Change { transaction: self.database.begin_write()?, at: self.at.clone() })
    }

    /// Makes a change durable.
    pub(crate) fn commit(&mut self, change: Change) -> Result<(), redb::Error> {
        change.at.write(&change.transaction)?;
        change.transaction.commit()?;
        self.at = change.at;
        Ok(())
    }

    /// Closes the file: it is consistent as it lies, until it is opened again.
    pub(crate) fn close(self) -> Result<(), redb::Error> {
        Ok(self.database.close()?)
    }
}

impl Change {
    /// The last round that is applied.
    pub(crate) fn round(&self) -> u64 {
        self.at.round
    }

    /// The hash of the state after that.
    pub(crate) fn hash(&self) -> StateHash {
        self.at.hash()
    }

    /// Applies the next round; gives the hash of the state after it.
    pub(crate) fn apply(&mut self, writes: &[Write]) -> Result<StateHash, redb::Error> {
        let mut contents = self.transaction.open_table(CONTENTS)?;
        let sum = &mut self.at.sum;
        for write in writes {
            match write {
                Write::Put { key, value } => {
                    if let Some(old) = contents.insert(&key[..], &value[..])? {
                        sum.take_away(key, old.value());
                    }
                    sum.add(key, value);
                }
                Write::Delete { key } => {
                    if let Some(old) = contents.remove(&key[..])? {
                        sum.take_away(key, old.value());
                    }
                }
            }
        }
        self.at.round += 1;
        Ok(self.at.hash())
    }

    /// What was applied is what the network begins with: round 0.
    pub(crate) fn is_the_beginning(&mut self) {
        self.at.round = 0;
    }
}

/// Reads a state that nobody has open, and changes no byte of it.
pub(crate) struct Closed(ReadOnlyDatabase);

impl Closed {
    /// Opens the state in `dir`.
    ///
    /// # Errors
    /// Where it cannot be opened: above all, [`Error::InUse`].
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let database = Builder::new().set_cache_size(CACHE_BYTES_MAX).open_read_only(dir.join(FILE));
        database.map(Self).map_err(|error| opening(dir, error.into()))
    }

    /// Goes through all contents: the state hashes to what it says.
    ///
    /// # Errors
    /// [`Error::Untrue`] if it does not.
    pub(crate) fn check(&self) -> Result<At, Error> {
        let transaction = self.0.begin_read().map_err(redb::Error::from)?;
        let said = At::read(&transaction.open_table(FACTS).map_err(redb::Error::from)?)?;
        let mut sum = StateSum::empty();
        self.each(|key, value| {
            sum.add(key, value);
            Ok(())
        })?;
        if sum == said.sum { Ok(said) } else { Err(Error::Untrue { said: said.hash(), is: sum.hash() }) }
    }

    /// Writes a line for each entry, in the order of the keys: key, tab, value, with `\x00` and the like for what is not
    /// printable. Equal contents are equal bytes.
    pub(crate) fn dump(&self, out: &mut impl std::io::Write) -> Result<(), Error> {
        self.each(|key, value| {
            writeln!(out, "{}\t{}", key.escape_ascii(), value.escape_ascii()).map_err(Error::printing)
        })
    }

    fn each(&self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let transaction = self.0.begin_read().map_err(redb::Error::from)?;
        let contents = transaction.open_table(CONTENTS).map_err(redb::Error::from)?;
        for entry in contents.iter().map_err(redb::Error::from)? {
            let (key, value) = entry.map_err(redb::Error::from)?;
            visit(key.value(), value.value())?;
        }
        Ok(())
    }
}

fn opening(dir: &Path, error: redb::Error) -> Error {
    match error {
        redb::Error::DatabaseAlreadyOpen => Error::InUse { dir: dir.into() },
        error => Error::Open { dir: dir.into(), source: Box::new(error) },
    }
}
