//! Segments of the journal: as they come, and with checksums that hold. Who reads beside the writer sees what the writer
//! sees, and opening once more changes nothing.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use cairn_store::Journal;
use cairn_store::io::{Io, Sim};
use libfuzzer_sys::fuzz_target;

const HEADER_LEN: usize = 24;
const GROUP_LEN: usize = 32;

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes")) as usize
}

/// Makes checksums hold, group by group, as far as there are groups.
fn mend(bytes: &mut [u8]) {
    if bytes.len() < HEADER_LEN {
        return;
    }
    let crc = crc32c::crc32c(&bytes[..20]);
    put(bytes, 20, crc);
    let mut at = HEADER_LEN;
    while at + GROUP_LEN <= bytes.len() {
        let end = at + GROUP_LEN + word(bytes, at + 4);
        if end + 4 > bytes.len() {
            return;
        }
        let payload = crc32c::crc32c(&bytes[at + GROUP_LEN..end]);
        put(bytes, at + 20, payload);
        let head = crc32c::crc32c(&bytes[at..at + 28]);
        put(bytes, at + 28, head);
        at = end + 4;
    }
}

/// A machine with this segment alone.
fn machine(bytes: &[u8]) -> (Sim, &'static Path) {
    let (sim, dir) = (Sim::new(0), Path::new("/store/journal"));
    sim.create_dir_all(dir).expect("a new folder");
    let first = bytes.get(8..16).map_or(1, |seq| u64::from_le_bytes(seq.try_into().expect("8 bytes")));
    let path = dir.join(format!("{first:016x}.journal"));
    sim.create(&path).and_then(|file| file.write_all_at(bytes, 0)).expect("a new file");
    (sim, dir)
}

fn check(bytes: &[u8]) {
    let (sim, dir) = machine(bytes);
    // The writer first: who only reads waits a moment where something does not hold, for a writer might be at it.
    let Ok(journal) = Journal::open_write(Arc::new(sim.clone()), dir) else { return };
    let view = Arc::clone(journal.view());
    for key in view.refs.keys() {
        let _ = view.statement_of(key);
    }
    drop(journal);
    let (beside, _) = machine(bytes);
    let (read, _) = Journal::open_read(&beside, dir).expect("the writer could read it");
    // A journal of which nothing is whole is begun anew.
    assert!(read.seq == 0 || read == *view, "readers and the writer see the same");
    for record in cairn_store::journal::log(Arc::new(sim.clone()), dir).expect("it was just opened") {
        record.expect("it was just recovered");
    }
    let again = Journal::open_write(Arc::new(sim), dir).expect("it was just opened");
    assert_eq!(**again.view(), *view);
}

fuzz_target!(|data: &[u8]| {
    check(data);
    let mut mended = data.to_vec();
    mend(&mut mended);
    if mended != data {
        check(&mended);
    }
});
