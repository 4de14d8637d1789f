//! Units of a delta, in a row, against two versions that are held. The first byte says which two, the parts are the units. What
//! decodes is the chunks that lack, and nothing is wrong with the store whatever comes.
#![no_main]

use std::sync::Arc;

use cairn_fuzz::{parts, units};
use cairn_store::delta::{DeltaReader, UnitError, UnitTools};
use cairn_store::{ChunkId, VerifiedFrame};
use libfuzzer_sys::fuzz_target;

/// As a stream has them, that many units are more than the bytes of one input are good for.
const UNITS_MAX: usize = 64;

fn check(frame: &VerifiedFrame) {
    for (slot, (id, len)) in frame.chunks().iter().enumerate() {
        let bytes = frame.chunk(slot);
        assert!(
            bytes.len() == *len as usize && ChunkId::of(bytes) == *id,
            "a chunk that is not what its id says"
        );
    }
}

/// What came of a unit; a lie is nothing, and a fault of the store is none of the sender's.
fn honest(result: Result<Vec<VerifiedFrame>, UnitError>) -> Option<Vec<VerifiedFrame>> {
    match result {
        Ok(frames) => {
            frames.iter().for_each(check);
            Some(frames)
        }
        Err(UnitError::Lied(_)) => None,
        Err(UnitError::Store(error)) => panic!("the store is sound: {error}"),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&which, data)) = data.split_first() else { return };
    let all = units::pairs();
    let pair = &all.pairs[usize::from(which) % all.pairs.len()];
    let (mut reader, mut tools) = (DeltaReader::new(Arc::clone(&pair.gap)), UnitTools::default());
    let mut told = 0;
    for unit in parts(data).into_iter().take(UNITS_MAX) {
        // As metadata it is another thing.
        honest(all.store.decode_objects(&pair.have, unit, &mut tools, &()));
        let Ok(Some(job)) = reader.take(unit.to_vec()) else { continue };
        assert_eq!(job.chunks().start, told, "a chunk is passed over");
        told = job.chunks().end;
        if let Some(frames) = honest(job.run(&all.store, &mut tools)) {
            let came: Vec<ChunkId> =
                frames.iter().flat_map(|frame| frame.chunks()).map(|(id, _)| *id).collect();
            let wanted: Vec<ChunkId> = job.chunks().map(|number| pair.gap.chunk(number).id).collect();
            assert_eq!(came, wanted);
        }
    }
    // All of it, or it is said that it is not.
    assert_eq!(reader.finish().is_ok(), told == pair.gap.chunks());
});
