//! Packs: sealed ones, whose footers are read, and what a writer left behind, whose frames are looked for.
#![no_main]

use std::path::Path;

use cairn_store::block::Decompressor;
use cairn_store::io::{Io, Sim};
use cairn_store::pack::{Footer, Pack, recover};
use cairn_store::{ChunkId, PackId};
use libfuzzer_sys::fuzz_target;

const TRAILER_LEN: usize = 64;

/// Makes the footer's hash hold, if the lengths in the trailer can be; gives the pack's id.
fn mend(bytes: &mut [u8]) -> Option<PackId> {
    let trailer = bytes.len().checked_sub(TRAILER_LEN)?;
    let len = u64::from_le_bytes(bytes[trailer + 8..trailer + 16].try_into().ok()?);
    let tables = trailer.checked_sub(usize::try_from(len).ok()?)?;
    let id = *blake3::hash(&bytes[tables..trailer + 24]).as_bytes();
    bytes[trailer + 24..trailer + 56].copy_from_slice(&id);
    Some(PackId(id))
}

fn read(sim: &Sim, path: &Path, id: PackId) {
    let Ok(pack) = Pack::open(sim, path, id) else { return };
    let footer = pack.footer();
    for number in 0..=u16::try_from(footer.frames.len()).unwrap_or(u16::MAX).min(64) {
        let Ok(block) = pack.block(number, &mut Decompressor::default(), Vec::new()) else { continue };
        for slot in 0..=block.header().chunks.len() {
            if let Ok(chunk) = block.chunk(slot) {
                assert_eq!(ChunkId::of(chunk), block.header().chunks[slot].0);
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok((footer, id)) = Footer::decode(data) {
        let (written, named) = footer.encode();
        assert!(data.ends_with(&written) && named == id, "a footer has two encodings");
    }
    let (mut bytes, packs) = (data.to_vec(), Path::new("/store/packs"));
    let sim = Sim::new(0);
    sim.create_dir_all(packs).expect("a new folder");
    let write = |name: &str, bytes: &[u8]| {
        let path = packs.join(name);
        sim.create(&path).and_then(|file| file.write_all_at(bytes, 0)).expect("a new file");
        path
    };
    if let Some(id) = mend(&mut bytes) {
        read(&sim, &write(&format!("{id}.pack"), &bytes), id);
    }
    // Unsealed: what is sealed then is a pack.
    let open = write("0000000000000000.open", data);
    if let Ok(Some(id)) = recover(&sim, packs, &open) {
        let pack = Pack::open(&sim, &packs.join(format!("{id}.pack")), id).expect("it was just sealed");
        assert!(pack.damage().is_empty() && !pack.footer().chunks.is_empty());
    }
});
