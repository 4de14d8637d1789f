//! Archives: as they come, and with an end that is true of them. What is named after an import is whole.
#![no_main]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cairn_fuzz::mend_frame;
use cairn_store::archive::{ArchiveReader, ImportOptions};
use cairn_store::block::FrameHeader;
use cairn_store::io::Sim;
use cairn_store::{Writer, WriterOptions};
use libfuzzer_sys::fuzz_target;

const HEADER_LEN: usize = 16;
const ITEM_LEN: usize = 5;

/// The same items with checksums that hold, and an end that counts them.
fn mended(data: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = data.get(..HEADER_LEN)?.to_vec();
    let mut at = HEADER_LEN;
    let (mut items, mut chunks, mut plain) = ([0u64; 6], 0u64, 0u64);
    while let Some(head) = data.get(at..at + ITEM_LEN) {
        let (tag, len) = (head[0], u32::from_le_bytes(head[1..].try_into().ok()?) as usize);
        at += ITEM_LEN;
        if tag == 0 || tag > 5 {
            break;
        }
        let mut body = data.get(at..at.checked_add(len)?)?.to_vec();
        at += len;
        if tag >= 4 {
            mend_frame(&mut body);
            if let Ok((header, _)) = FrameHeader::decode(&body) {
                chunks += header.chunks.len() as u64;
                plain += u64::from(header.plain_len);
            }
        }
        items[usize::from(tag)] += 1;
        bytes.extend(head);
        bytes.extend(body);
    }
    bytes.extend([0, 80, 0, 0, 0]);
    for count in [items[3], items[2], items[1], 0] {
        bytes.extend(u32::try_from(count).ok()?.to_le_bytes());
    }
    for count in [items[4], items[5], chunks, plain] {
        bytes.extend(count.to_le_bytes());
    }
    let hash = blake3::hash(&bytes);
    bytes.extend(hash.as_bytes());
    Some(bytes)
}

fn read(mut data: &[u8]) -> bool {
    let Ok(mut reader) = ArchiveReader::open(&mut data, Path::new("archive")) else { return false };
    loop {
        match reader.part() {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

fn import(mut data: &[u8]) {
    let options = WriterOptions { wait: Duration::ZERO, command: String::new(), who: String::new() };
    let writer =
        Writer::open_with(Arc::new(Sim::new(0)), Path::new("/store"), &options).expect("a new store");
    let Ok(reader) = ArchiveReader::open(&mut data, Path::new("archive")) else { return };
    let imported = writer.import_archive(reader, &ImportOptions::default(), &());
    for record in writer.names().refs.values() {
        let missing = writer.missing(&record.artifact, &()).expect("it is named");
        assert!(missing.is_nothing() && imported.is_ok());
    }
}

fuzz_target!(|data: &[u8]| {
    read(data);
    if let Some(mended) = mended(data)
        && read(&mended)
    {
        import(&mended);
    }
});
