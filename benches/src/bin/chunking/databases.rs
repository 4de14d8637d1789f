//! Databases that change.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use redb::{Database, TableDefinition};

use super::Result;

/// Makes the states of a database: what it has in `live` is copied after each.
type Make = fn(live: &Path, states: &[PathBuf], rows: u32) -> Result<()>;

pub(super) const ALL: [(&str, Make); 4] =
    [("redb", redb), ("sled", sled), ("sst", sst), ("sst merged", sst_merged)];

/// Rows of a block of a sorted file, compressed together; RocksDB has 4 KiB.
const BLOCK_BYTES: usize = 4 << 10;
/// Bytes of a sorted file, about.
const FILE_BYTES: usize = 16 << 20;

fn key(row: u32) -> [u8; 16] {
    let mut key = [0; 16];
    blake3::Hasher::new().update(&row.to_le_bytes()).finalize_xof().fill(&mut key);
    key
}

/// Some 160 bytes, half of them noise.
fn value(row: u32, version: u32) -> Vec<u8> {
    let mut noise = [0; 72];
    blake3::Hasher::new()
        .update(&row.to_le_bytes())
        .update(&version.to_le_bytes())
        .finalize_xof()
        .fill(&mut noise);
    let mut value = format!("account {row:010} version {version:06} balance ").into_bytes();
    value.extend_from_slice(&noise);
    value.extend_from_slice(&[b'.'; 32]);
    value
}

/// One row in a hundred, anywhere: those that a state changes.
fn changed(rows: u32, state: u32) -> Vec<u32> {
    let is_changed = |row: &u32| {
        let hash = blake3::hash(&[row.to_le_bytes(), state.to_le_bytes()].concat());
        u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]]).is_multiple_of(100)
    };
    (0..rows).filter(is_changed).collect()
}

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

/// Makes so many databases of redb, each of rows of its own.
pub(super) fn fill(folder: &Path, files: u32, rows: u32) -> Result<()> {
    fs::create_dir_all(folder)?;
    for file in 0..files {
        put(&folder.join(format!("{file:03}.redb")), file * rows..(file + 1) * rows, 0)?;
    }
    Ok(())
}

/// Changes one row in a hundred of the first so many.
pub(super) fn change(folder: &Path, files: u32, rows: u32, state: u32) -> Result<()> {
    for file in 0..files {
        let changed = changed(rows, state).into_iter().map(|row| file * rows + row);
        put(&folder.join(format!("{file:03}.redb")), changed, state)?;
    }
    Ok(())
}

/// Writes rows into a database of redb, and closes it.
fn put(file: &Path, rows: impl IntoIterator<Item = u32>, state: u32) -> Result<()> {
    let database = Database::create(file)?;
    let rows: Vec<u32> = rows.into_iter().collect();
    for rows in rows.chunks(10_000) {
        let write = database.begin_write()?;
        {
            let mut table = write.open_table(TABLE)?;
            for row in rows {
                table.insert(key(*row).as_slice(), value(*row, state).as_slice())?;
            }
        }
        write.commit()?;
    }
    Ok(())
}

fn redb(live: &Path, states: &[PathBuf], rows: u32) -> Result<()> {
    fs::create_dir_all(live)?;
    let file = live.join("state.redb");
    for (state, copy) in (0..).zip(states) {
        // Closed between states, as a snapshot finds it.
        let rows = if state == 0 { (0..rows).collect() } else { changed(rows, state) };
        put(&file, rows, state)?;
        copy_files(live, copy)?;
    }
    Ok(())
}

fn sled(live: &Path, states: &[PathBuf], rows: u32) -> Result<()> {
    for (state, copy) in (0..).zip(states) {
        let database = sled::open(live)?;
        let put: Vec<u32> = if state == 0 { (0..rows).collect() } else { changed(rows, state) };
        for row in put {
            database.insert(key(row), value(row, state))?;
        }
        database.flush()?;
        drop(database);
        copy_files(live, copy)?;
    }
    Ok(())
}

/// Sorted files: one for each state with what it changed.
fn sst(live: &Path, states: &[PathBuf], rows: u32) -> Result<()> {
    fs::create_dir_all(live)?;
    for (state, copy) in (0..).zip(states) {
        let put: Vec<u32> = if state == 0 { (0..rows).collect() } else { changed(rows, state) };
        let sorted = put.into_iter().map(|row| (key(row), value(row, state))).collect();
        write_sorted(live, &format!("{state}"), &sorted)?;
        copy_files(live, copy)?;
    }
    Ok(())
}

/// Sorted files that are written anew by each state, with what it changed in its place.
fn sst_merged(live: &Path, states: &[PathBuf], rows: u32) -> Result<()> {
    fs::create_dir_all(live)?;
    let mut sorted: BTreeMap<[u8; 16], Vec<u8>> = (0..rows).map(|row| (key(row), value(row, 0))).collect();
    for (state, copy) in (0..).zip(states) {
        if state > 0 {
            sorted.extend(changed(rows, state).into_iter().map(|row| (key(row), value(row, state))));
            fs::remove_dir_all(live)?;
            fs::create_dir_all(live)?;
        }
        write_sorted(live, "merged", &sorted)?;
        copy_files(live, copy)?;
    }
    Ok(())
}

fn write_sorted(folder: &Path, name: &str, rows: &BTreeMap<[u8; 16], Vec<u8>>) -> Result<()> {
    let (mut file, mut block, mut number) = (Vec::new(), Vec::new(), 0);
    let write = |file: &mut Vec<u8>, number: &mut u32| -> Result<()> {
        let path = folder.join(format!("{name}-{number:06}.sst"));
        fs::File::create(path)?.write_all(file)?;
        file.clear();
        *number += 1;
        Ok(())
    };
    for (key, value) in rows {
        block.extend_from_slice(key);
        block.extend_from_slice(value);
        if block.len() >= BLOCK_BYTES {
            file.extend_from_slice(&zstd::bulk::compress(&block, 1)?);
            block.clear();
        }
        if file.len() >= FILE_BYTES {
            write(&mut file, &mut number)?;
        }
    }
    file.extend_from_slice(&zstd::bulk::compress(&block, 1)?);
    write(&mut file, &mut number)
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_files(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
