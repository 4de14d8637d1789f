//! A tree of files such as bitcoincore.org has: a listing, checksums that several builders signed, an archive.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cairn_sources::config::{Origin, Signatures};
use cairn_sources::{Error, Sha256};

use crate::release_server::{Answer, ReleaseServer};
use crate::setup::*;

const ARCHIVE: &str = "bitcoin-29.0-x86_64-linux-gnu.tar.gz";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bitcoincore").join(name)
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

/// Two days after the release.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_744_804_800)
}

fn started() -> ReleaseServer {
    let server = ReleaseServer::start();
    server.answer("/bin/", Answer::new(200, read("index.html")).with("Content-Type", "text/html"));
    for name in [ARCHIVE, "SHA256SUMS", "SHA256SUMS.asc"] {
        server.file(&format!("/bin/bitcoin-core-29.0/{name}"), read(name));
    }
    server
}

fn setup(server: &ReleaseServer, required: usize) -> Setup {
    let url = server.url();
    let origin = Origin::Http {
        url: template(&format!("{url}/bin/bitcoin-core-{{version}}/bitcoin-{{version}}-{{platform}}.tar.gz")),
        versions: Some((format!("{url}/bin/"), template("bitcoin-core-{version}/"))),
    };
    let mut setup = Setup::new(origin, &["bitcoind", "bitcoin-cli"]);
    setup.package.name = "bitcoin".parse().unwrap();
    setup.package.platforms = [(platform(), "x86_64-linux-gnu".to_owned())].into();
    let source = setup.source();
    source.asset = template("bitcoin-{version}-{platform}.tar.gz");
    source.member = template("bin/{binary}");
    source.strip = 1;
    source.signatures = Some(Signatures {
        file: template("SHA256SUMS.asc"),
        key_files: ["alice", "bob", "carol"]
            .map(|name| fixture(&format!("builder-keys/{name}.gpg")))
            .to_vec(),
        minisign_keys: Vec::new(),
        required: count(required),
    });
    setup
}

#[test]
fn a_release_with_enough_signatures_is_unpacked() {
    let server = started();
    let setup = setup(&server, 3);
    let found = setup.find_at("29.0", now()).unwrap();
    assert_eq!(found.verified, "SHA256SUMS signed by 3 keys");
    assert_eq!(found.signers.len(), 3);
    assert!(found.signers.is_sorted());
    assert_eq!(found.page, format!("{}/bin/bitcoin-core-29.0/", server.url()));
    let asset = &found.assets[0];
    assert_eq!((found.assets.len(), asset.name.as_str(), asset.gives.len()), (1, ARCHIVE, 2));
    assert_eq!(asset.gives[1].member.as_deref(), Some("bin/bitcoin-cli"));
    assert_eq!((asset.size, asset.sha256), (Some(433), Some(Sha256::of(&read(ARCHIVE)))));

    let brought = setup.bring(&found).unwrap();
    let laid = setup.laid();
    assert_eq!(laid.keys().collect::<Vec<_>>(), ["bitcoin-cli", "bitcoind"]);
    assert_eq!(laid["bitcoind"], b"#!/bin/sh\necho \"Bitcoin Core bitcoind v29.0.0\"\n");
    assert_eq!(brought.files[0].sha256, Sha256::of(&laid["bitcoind"]));
    assert_eq!(brought.files[1].size, laid["bitcoin-cli"].len() as u64);
    assert_eq!(brought.assets, [(ARCHIVE.to_owned(), Sha256::of(&read(ARCHIVE)))]);
    assert_eq!(brought.wire_bytes, 433);
}

#[test]
fn too_few_signatures_and_changed_checksums_are_not_believed() {
    let server = started();
    let mut few = setup(&server, 3);
    few.source().signatures.as_mut().unwrap().key_files.pop();
    few.source().signatures.as_mut().unwrap().required = count(2);
    assert_eq!(few.find_at("29.0", now()).unwrap().verified, "SHA256SUMS signed by 2 keys");
    few.source().signatures.as_mut().unwrap().key_files.pop();
    few.source().signatures.as_mut().unwrap().required = count(1);
    assert_eq!(few.find_at("29.0", now()).unwrap().verified, "SHA256SUMS signed by 1 key");

    let setup = setup(&server, 3);
    let mut changed = String::from_utf8(read("SHA256SUMS")).unwrap();
    changed = changed.replace(&Sha256::of(&read(ARCHIVE)).to_string(), &Sha256::of(b"evil").to_string());
    server.file("/bin/bitcoin-core-29.0/SHA256SUMS", changed);
    let error = setup.find_at("29.0", now()).unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }), "{error}");
    assert!(error.to_string().contains("0 of 3 needed signatures"), "{error}");
    // Signed before its keys were made.
    server.file("/bin/bitcoin-core-29.0/SHA256SUMS", read("SHA256SUMS"));
    assert!(setup.find_at("29.0", SystemTime::UNIX_EPOCH).is_err());
    server.remove("/bin/bitcoin-core-29.0/SHA256SUMS.asc");
    let text = told(setup.find_at("29.0", now()));
    assert!(text.starts_with("the release 29.0 of bitcoin has no file SHA256SUMS.asc"), "{text}");
}

#[test]
fn versions_are_those_of_the_listing() {
    let server = started();
    let setup = setup(&server, 1);
    let versions = setup.versions(100).unwrap();
    assert_eq!(versions, ["29.0", "28.1", "28.0", "27.2", "25.0", "22.0", "0.21.2", "0.10.0"]);
    assert_eq!(setup.versions(1).unwrap(), ["29.0"]);
    let text = told(setup.find_at("99.0", now()));
    let place = format!("{}/bin/bitcoin-core-99.0/", server.url());
    assert!(
        text.starts_with(&format!("bitcoin has no release 99.0 at {place} | there are 29.0, 28.1,")),
        "{text}"
    );
    server.remove("/bin/");
    assert!(told(setup.versions(1)).starts_with("there is no page "));
}

#[test]
fn without_a_listing_the_place_is_named() {
    let server = started();
    let mut setup = setup(&server, 1);
    if let Origin::Http { versions, .. } = &mut setup.source().origin {
        *versions = None;
    }
    let text = told(setup.find_at("99.0", now()));
    assert!(text.starts_with("bitcoin has no release 99.0 with a file SHA256SUMS at http://"), "{text}");
    assert!(told(setup.versions(1)).contains("nothing says where the versions of bitcoin are listed"));
}

#[test]
fn a_platform_that_is_not_built_is_told_by_the_checksums() {
    let server = started();
    let mut setup = setup(&server, 3);
    setup.package.platforms = [(platform(), "x86_64-linux-musl".to_owned())].into();
    let text = told(setup.find_at("29.0", now()));
    assert!(
        text.starts_with(
            "the release 29.0 of bitcoin has no file bitcoin-29.0-x86_64-linux-musl.tar.gz (for the programs \
             bitcoind, bitcoin-cli) | by SHA256SUMS, it has bitcoin-29.0-x86_64-linux-gnu.tar.gz, "
        ),
        "{text}"
    );
    assert!(text.ends_with("and 5 more"), "{text}");
    // Listed, and not there.
    setup.package.platforms = [(platform(), "riscv64-linux-gnu".to_owned())].into();
    let text = told(setup.find_at("29.0", now()));
    assert!(
        text.starts_with("the release 29.0 of bitcoin has no file bitcoin-29.0-riscv64-linux-gnu"),
        "{text}"
    );
}

#[test]
fn a_program_that_the_archive_does_not_have_leaves_nothing() {
    let server = started();
    let mut setup = setup(&server, 3);
    setup.package.binaries.push("bitcoin-qt".to_owned());
    let found = setup.find_at("29.0", now()).unwrap();
    let text = told(setup.bring(&found));
    assert!(text.contains("bitcoin-qt"), "{text}");
    assert_eq!(setup.laid().len(), 0);
}
