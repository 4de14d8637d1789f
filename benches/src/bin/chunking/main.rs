//! `chunking --work DIR [--rows N] [STATE...]`: what a store grows by with each next state of a database, for several ways to
//! cut its files, as one JSON object a line. A STATE is a directory; those that are given are states one after the other.
//!
//! Beside them it makes databases by itself, of rows of some 160 bytes, and changes one row in a hundred, anywhere,
//! for each next state: one of redb, one of sled, and files as a log-structured tree has them: sorted rows in
//! compressed blocks, of which each state writes new ones for the changed rows (`sst`), or merges these in (`sst merged`).
//!
//! With `--fill` it makes so many databases of redb in DIR and measures nothing, and with `--change` it changes one row in a
//! hundred of the first so many of them: for bars that need a state.
//!
//! Growth is that of all files of the store: packs with their footers, lists of chunks, index. `pages` says that files
//! are cut as they are found; where it is not so, the first byte of each is changed, so that nobody sees what it is.

#![expect(clippy::disallowed_methods, reason = "makes states and reads a store from outside")]

mod databases;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cairn_store::chunker::CdcBounds;
use cairn_store::{IngestOptions, Input, PublishOptions, Writer, WriterOptions};
use serde_json::json;

const USAGE: &str = "chunking --work DIR [--rows N] [--fill FILES | --change FILES] [STATE...]";
const ROWS_DEFAULT: u32 = 300_000;
/// States of each database that is made here.
const STATES: u32 = 3;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A way to cut files.
struct Way {
    name: &'static str,
    bounds: CdcBounds,
    pages: bool,
}

const fn way(name: &'static str, (min, avg, max): (u32, u32, u32), pages: bool) -> Way {
    let bounds = CdcBounds { min: min << 10, avg: avg << 10, max: max << 10 };
    Way { name, bounds, pages }
}

const WAYS: [Way; 6] = [
    way("as found, else 4/16/64 KiB", (4, 16, 64), true),
    way("as found, else 16/64/256 KiB", (16, 64, 256), true),
    way("4/16/64 KiB", (4, 16, 64), false),
    way("2/8/32 KiB", (2, 8, 32), false),
    way("16/64/256 KiB", (16, 64, 256), false),
    way("every 4 KiB", (4, 4, 4), false),
];

fn main() -> ExitCode {
    match run(std::env::args_os().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: impl Iterator<Item = OsString>) -> Result<()> {
    let (mut work, mut rows, mut given) = (None, ROWS_DEFAULT, Vec::new());
    let (mut fill, mut change) = (None, None);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--work") => work = args.next().map(PathBuf::from),
            Some("--rows") => rows = args.next().and_then(|rows| rows.to_str()?.parse().ok()).ok_or(USAGE)?,
            Some("--fill") => {
                fill = Some(args.next().and_then(|files| files.to_str()?.parse().ok()).ok_or(USAGE)?)
            }
            Some("--change") => {
                change = Some(args.next().and_then(|files| files.to_str()?.parse().ok()).ok_or(USAGE)?)
            }
            _ => given.push(PathBuf::from(arg)),
        }
    }
    match (fill, change, &work) {
        (Some(files), _, Some(work)) => return databases::fill(work, files, rows),
        (None, Some(files), Some(work)) => return databases::change(work, files, rows, 1),
        _ => {}
    }
    let work = tempfile::Builder::new().prefix("chunking-").tempdir_in(work.ok_or(USAGE)?)?;
    if !given.is_empty() {
        measure("given", &given, work.path())?;
    }
    for (name, make) in databases::ALL {
        let folder = work.path().join("made");
        let states: Vec<PathBuf> = (0..STATES).map(|state| folder.join(state.to_string())).collect();
        make(&folder.join("live"), &states, rows)?;
        measure(name, &states, work.path())?;
        fs::remove_dir_all(&folder)?;
    }
    Ok(())
}

/// Each way in a store of its own.
fn measure(database: &str, states: &[PathBuf], work: &Path) -> Result<()> {
    let live = work.join("state");
    for way in &WAYS {
        let store = work.join("store");
        let options =
            WriterOptions { wait: Duration::ZERO, command: "chunking".to_owned(), who: String::new() };
        let writer = Writer::open(&store, &options, &())?;
        let (mut sizes, mut growths, mut news, mut chunks, mut millis) = (vec![], vec![], vec![], 0, vec![]);
        for (round, state) in (0..).zip(states) {
            copy(state, &live, !way.pages)?;
            let before = size_of(&store)?;
            let options = IngestOptions {
                bounds: way.bounds,
                ..IngestOptions::snapshot("state".parse()?, round, None)
            };
            let begun = Instant::now();
            let ingested = writer.ingest(Input::Paths(vec![live.clone()]), &options, &())?;
            writer.publish(&ingested, &PublishOptions::default())?;
            millis.push(begun.elapsed().as_millis());
            growths.push(size_of(&store)?.saturating_sub(before));
            sizes.push(ingested.bytes);
            news.push(ingested.new_bytes);
            chunks = ingested.chunks;
        }
        let line = json!({
            "database": database,
            "way": way.name,
            "bytes": sizes,
            "growth_bytes": growths,
            "new_plain_bytes": news,
            "chunks": chunks,
            "ms": millis,
        });
        writeln!(io::stdout(), "{line}")?;
        drop(writer);
        fs::remove_dir_all(&store)?;
        fs::remove_dir_all(&live)?;
    }
    Ok(())
}

/// A state in the place of the one before it, with the first byte of each file changed if it is not to be known.
fn copy(state: &Path, live: &Path, masked: bool) -> Result<()> {
    if live.exists() {
        fs::remove_dir_all(live)?;
    }
    fs::create_dir_all(live)?;
    for entry in fs::read_dir(state)? {
        let entry = entry?;
        let to = live.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to, masked)?;
            continue;
        }
        let mut bytes = fs::read(entry.path())?;
        if let Some(first) = bytes.first_mut().filter(|_| masked) {
            *first ^= 0xff;
        }
        fs::write(to, bytes)?;
    }
    Ok(())
}

/// Bytes of packs, lists and index.
fn size_of(store: &Path) -> Result<u64> {
    let mut bytes = 0;
    for folder in ["packs", "index"] {
        for entry in fs::read_dir(store.join(folder))? {
            bytes += entry?.metadata()?.len();
        }
    }
    Ok(bytes)
}
