//! The messages in JSON.
#![no_main]

use cairn_net::wire::{ErrorBody, KeptAnswer, PeerAnswer, RefAnswer, RefList};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = serde_json::from_slice::<RefList>(data);
    let _ = serde_json::from_slice::<RefAnswer>(data);
    let _ = serde_json::from_slice::<KeptAnswer>(data);
    let _ = serde_json::from_slice::<PeerAnswer>(data);
    let _ = serde_json::from_slice::<ErrorBody>(data);
});
