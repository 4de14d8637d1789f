//! `kv-node apply`: what `cairn join --replay` runs to bring a copied state to the present.
//!
//! On standard input comes a frame for each round, `length u32 | round u64 | hash 32 | payload`, little-endian, the length being that of
//! what follows it and the hash the payload's BLAKE3. For each a line goes back, `ROUND STATE_HASH`, once the round is durable. What has come by then is
//! applied in one transaction, so a long replay syncs seldom and a single round at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use cairn_store::event::{EVENT_LEN_MAX, Event, EventHash};

use crate::db::Db;
use crate::error::Error;
use crate::node;

/// Bytes between a frame's length and its payload.
const HEAD_LEN: usize = 8 + 32;
/// Bytes of frames that are applied at once, but for one that alone is longer.
const AHEAD_BYTES: usize = 1 << 20;

/// Applies frames until they end.
pub(crate) fn apply(dir: &Path, input: impl Read, mut out: impl Write) -> Result<(), Error> {
    let mut db = Db::open(dir)?;
    let mut input = BufReader::with_capacity(AHEAD_BYTES, input);
    while let Some(first) = read(&mut input)? {
        let mut change = db.begin()?;
        let mut lines = apply_one(&mut change, &first)?;
        while has_whole_frame(&input) {
            let Some(next) = read(&mut input)? else { break };
            lines += &apply_one(&mut change, &next)?;
        }
        db.commit(change)?;
        out.write_all(lines.as_bytes()).and_then(|()| out.flush()).map_err(Error::printing)?;
    }
    db.close()?;
    Ok(())
}

fn apply_one(change: &mut crate::db::Change, event: &Event) -> Result<String, Error> {
    node::apply(change, event)?;
    if event.round < change.round() {
        // The state had it; what it was after that round is forgotten.
        return Ok(format!("{}\n", event.round));
    }
    Ok(format!("{} {}\n", event.round, change.hash()))
}

/// Whether a frame can be read without waiting.
fn has_whole_frame(input: &BufReader<impl Read>) -> bool {
    let held = input.buffer();
    held.first_chunk().is_some_and(|len| held.len() - len.len() >= u32::from_le_bytes(*len) as usize)
}

fn read(input: &mut impl BufRead) -> Result<Option<Event>, Error> {
    let failed = |source| Error::Io { what: "standard input".into(), source };
    if input.fill_buf().map_err(failed)?.is_empty() {
        return Ok(None);
    }
    let mut len = [0; 4];
    input.read_exact(&mut len).map_err(failed)?;
    let payload_len = (u32::from_le_bytes(len) as usize).checked_sub(HEAD_LEN);
    let payload_len = payload_len.filter(|len| *len <= EVENT_LEN_MAX);
    let payload_len = payload_len.ok_or(Error::Frame("a length is out of bounds"))?;
    let (mut round, mut hash) = ([0; 8], [0; 32]);
    input.read_exact(&mut round).and_then(|()| input.read_exact(&mut hash)).map_err(failed)?;
    let mut payload = Vec::new();
    input.take(payload_len as u64).read_to_end(&mut payload).map_err(failed)?;
    if payload.len() < payload_len {
        return Err(Error::Frame("it ends within a frame"));
    }
    if EventHash::of(&payload) != EventHash(hash) {
        return Err(Error::Frame("a payload is not what its hash says"));
    }
    Ok(Some(Event { round: u64::from_le_bytes(round), state_hash: None, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{self, Write as Entry};

    fn frame(round: u64, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(HEAD_LEN + payload.len()).unwrap();
        [&len.to_le_bytes()[..], &round.to_le_bytes(), &EventHash::of(payload).0, payload].concat()
    }

    fn round(number: u64) -> Vec<u8> {
        frame(number, &batch::encode(&[Entry::put(b"round", number.to_string().as_bytes()).unwrap()]))
    }

    fn replay(dir: &Path, frames: &[u8]) -> (Result<(), Error>, String) {
        let mut out = Vec::new();
        let applied = apply(dir, frames, &mut out);
        (applied, String::from_utf8(out).unwrap())
    }

    #[test]
    fn rounds_are_applied_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (applied, out) = replay(dir.path(), &[round(1), round(2), round(2), round(1), round(3)].concat());
        applied.unwrap();
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines.len(), 5);
        assert_eq!((lines[1], lines[3]), (lines[2], "1"));
        let at = Db::open(dir.path()).unwrap().at().clone();
        assert_eq!(lines[4], crate::control::at_line(&at));

        let (applied, out) = replay(dir.path(), &[round(4), round(6)].concat());
        assert!(matches!(applied, Err(Error::Gap { at: 4, round: 6 })), "{applied:?}");
        // What came with the gap is not kept, and was not acknowledged.
        assert_eq!(out, "");
        assert_eq!(Db::open(dir.path()).unwrap().at().round, 3);
    }

    #[test]
    fn what_is_cut_or_changed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let whole = round(1);
        for len in 1..whole.len() {
            replay(dir.path(), &whole[..len]).0.unwrap_err();
        }
        for at in [0, 3, 12, whole.len() - 1] {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            replay(dir.path(), &bad).0.unwrap_err();
        }
        let (applied, _) = replay(dir.path(), &frame(1, b"no batch"));
        assert!(matches!(applied, Err(Error::Batch(_))), "{applied:?}");
        assert_eq!(Db::open(dir.path()).unwrap().at().round, 0);
    }
}
