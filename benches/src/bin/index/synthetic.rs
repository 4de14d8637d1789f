//! A store whose packs have footers alone, and ids that are known by their number.
#![expect(clippy::disallowed_methods, reason = "makes files that look like a store's; none is one")]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use cairn_store::ChunkId;
use cairn_store::pack::format::{HEADER_LEN, encode_header};
use cairn_store::pack::{ChunkRow, Footer, FrameRow, PackKind, SEALED};

use super::Result;

/// Chunks of a pack: 64 MiB of frames hold as many of 16 KiB as compress little.
const PACK_CHUNKS: u64 = 3_300;
/// 256 KiB of plain bytes.
const FRAME_CHUNKS: usize = 16;
const FRAME_PLAIN_LEN: u32 = 256 << 10;
const FRAME_LEN: u32 = 240 << 10;

/// The id of a made-up chunk: uniformly distributed, as ids are.
pub(crate) fn id(number: u64) -> ChunkId {
    let mut id = [0; 32];
    for (word, at) in id.chunks_exact_mut(8).zip(0..) {
        word.copy_from_slice(&mix(number * 4 + at).to_le_bytes());
    }
    ChunkId(id)
}

/// The `number`th output of SplitMix64 (Steele, Lea, Flood 2014) from the seed 0.
pub(crate) fn mix(number: u64) -> u64 {
    let mut word = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Makes packs of the chunks 0 to `chunks`; gives their number.
pub(crate) fn make_store(folder: &Path, chunks: u64) -> Result<usize> {
    fs::create_dir(folder.join("packs"))?;
    add_packs(folder, chunks)
}

/// The same beside the packs that a store has.
pub(crate) fn add_packs(folder: &Path, chunks: u64) -> Result<usize> {
    let packs = folder.join("packs");
    let mut made = 0;
    let mut first = 0;
    while first < chunks {
        let end = chunks.min(first + PACK_CHUNKS);
        make_pack(&packs, (first..end).map(id).collect())?;
        first = end;
        made += 1;
    }
    Ok(made)
}

/// Lets a writer meet the packs in stages, each a little less than a quarter of the one before, and calls `persist`
/// after each: no two of the runs are merged.
pub(crate) fn in_stages(folder: &Path, persist: impl Fn() -> Result<()>) -> Result<()> {
    let (packs, aside) = (folder.join("packs"), folder.join("aside"));
    fs::rename(&packs, &aside)?;
    fs::create_dir(&packs)?;
    let listed = fs::read_dir(&aside)?;
    let mut left: Vec<_> = listed.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    // From the last, of one pack, to the second; the first has the rest.
    let mut stages = vec![1];
    let mut rest = left.len() - 1;
    while rest > stages[stages.len() - 1] * 9 {
        stages.push(stages[stages.len() - 1] * 4 + 1);
        rest -= stages[stages.len() - 1];
    }
    for stage in stages.into_iter().chain([rest]).rev() {
        for path in left.drain(..stage) {
            fs::rename(&path, packs.join(path.file_name().unwrap_or_default()))?;
        }
        persist()?;
    }
    Ok(fs::remove_dir(&aside)?)
}

pub(crate) fn remove_runs(folder: &Path) -> Result<()> {
    Ok(fs::remove_dir_all(folder.join("index"))?)
}

fn make_pack(packs: &Path, ids: Vec<ChunkId>) -> Result<()> {
    let mut footer =
        Footer { kind: PackKind::Data, frames: Vec::new(), chunks: Vec::with_capacity(ids.len()) };
    let mut end = HEADER_LEN as u64;
    for (number, ids) in (0u16..).zip(ids.chunks(FRAME_CHUNKS)) {
        footer.frames.push(FrameRow { offset: end, len: FRAME_LEN, plain_len: FRAME_PLAIN_LEN });
        end += u64::from(FRAME_LEN);
        footer.chunks.extend((0u16..).zip(ids).map(|(slot, id)| ChunkRow { id: *id, frame: number, slot }));
    }
    footer.chunks.sort_unstable();
    let (bytes, id) = footer.encode();
    let file = File::create_new(packs.join(format!("{id}.{SEALED}")))?;
    file.write_all_at(&encode_header(footer.kind), 0)?;
    file.write_all_at(&bytes, end)?;
    Ok(())
}
