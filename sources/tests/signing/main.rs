//! Signatures that real `gpg` and `minisign` made: good ones, and all that must not count.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "makes files as users have them; a test that fails says so"
)]

mod files;
mod gnupg;
mod minisigned;
mod openpgp;
mod policy;

use std::num::NonZero;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use cairn_sources::config::Signatures;
use cairn_sources::signature::{self, Keys, Signers};
use cairn_sources::{Error, Result};

/// What is signed.
const SUMS: &[u8] = b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  app-1.0.tar.gz\n\
    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  app-1.1.tar.gz\n";

/// Keys and signatures are made at this moment unless a test says otherwise: 2024-01-01.
const START: u64 = 1_704_067_200;

const DAY: u64 = 86_400;

/// A moment so many days after [`START`].
fn day(days: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(START + days * DAY)
}

/// Whether a program is there; says so loudly if not.
fn has(program: &str) -> bool {
    let is_there = Command::new(program).arg("--version").output().is_ok()
        || program == "minisign" && { Command::new(program).arg("-v").output().is_ok() };
    if !is_there {
        eprintln!("SKIPPED: there is no {program} here");
    }
    is_there
}

fn keys(files: &[PathBuf], texts: &[&str]) -> Result<Keys> {
    Keys::read(&Signatures {
        file: "SHA256SUMS.asc".parse().unwrap(),
        key_files: files.to_vec(),
        minisign_keys: texts.iter().map(|text| (*text).to_owned()).collect(),
        required: NonZero::<usize>::MIN,
    })
}

fn verify(keys: &Keys, signature: &[u8], required: usize, now: SystemTime) -> Result<Signers> {
    signature::verify(keys, SUMS, signature, NonZero::new(required).unwrap(), now, "SHA256SUMS.asc")
}

/// Why a signature is not believed.
#[track_caller]
fn refused(result: Result<Signers>) -> String {
    match result {
        Err(Error::Untrusted { what, reason, hint }) => {
            assert_eq!(what, "SHA256SUMS.asc");
            assert!(!hint.is_empty());
            reason
        }
        other => panic!("{other:?}"),
    }
}
