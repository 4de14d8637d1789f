//! Files of settings and what is in them: the peers that a store knows, tokens, addresses, globs, file names of binaries.
#![no_main]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use cairn_net::{PeerUrl, Peers};
use cairn_server::{Glob, Scope, TokenFile};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(cairn_fuzz::folder);

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 3 {
        0 => {
            std::fs::write(FOLDER.join("peers.json"), data).expect("a file");
            if let Ok(peers) = Peers::open(&FOLDER).list() {
                for peer in &peers {
                    let text = peer.url.to_string();
                    assert_eq!(text.parse::<PeerUrl>().ok().as_ref(), Some(&peer.url));
                }
                let _ = Peers::open(&FOLDER).sources();
            }
        }
        1 => {
            let path = FOLDER.join("tokens.json");
            std::fs::write(&path, data).expect("a file");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("its owner may");
            if let Ok(file) = TokenFile::open(&path) {
                let _ = file.list();
                assert!(file.check("cairn_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 1).is_none());
            }
        }
        _ => {
            let Ok(text) = std::str::from_utf8(data) else { return };
            let (first, second) = text.split_once('\n').unwrap_or((text, ""));
            if let Ok(url) = first.parse::<PeerUrl>() {
                assert_eq!(url.to_string().parse::<PeerUrl>().ok(), Some(url));
            }
            if let Ok(glob) = first.parse::<Glob>() {
                let _ = glob.matches(second);
            }
            let _ = first.parse::<Scope>();
        }
    }
});
