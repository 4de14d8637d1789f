//! What the file may say of packages, and what is told where it is wrong.

use super::*;
use crate::error::Error;

const BITCOIN: &str = r#"
[packages.bitcoin]
binaries = ["bitcoind", "bitcoin-cli"]
platforms = { "linux/x86_64" = "x86_64-linux-gnu", "linux/aarch64" = "aarch64-linux-gnu" }

[packages.bitcoin.release]
url = "https://bitcoincore.org/bin/bitcoin-core-{version}/bitcoin-{version}-{platform}.tar.gz"
member = "bitcoin-{version}/bin/{binary}"
checksums = "SHA256SUMS"
signatures = "SHA256SUMS.asc"
keys = ["keys/bitcoin"]
signatures_required = 3
versions = "https://bitcoincore.org/bin/"
version_link = "bitcoin-core-{version}/"
"#;

const APP: &str = r#"
[snapshots.state]
whatever = true

[packages.app]
binaries = ["validator"]
strategy = "vm"
channel = "edge"

[packages.app.release]
github = "owner/app"
asset = "{binary}-{platform}"
checksums = "{asset}.sha256"

[packages.app.vm]
machines = ["builder", "spare"]
path = "src/app/target/release/{binary}"

[packages.app.dir]
path = "../app/{binary}"
"#;

fn parse_at(text: &str) -> Result<Vec<Package>> {
    parse(Path::new("/etc/cairn/cairn.toml"), text)
}

fn problem(text: &str) -> (usize, String) {
    match parse_at(text) {
        Err(Error::Config { line, problem, .. }) => (line, problem),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_project_with_a_web_server() {
    let packages = parse_at(BITCOIN).unwrap();
    let [bitcoin] = packages.as_slice() else { panic!("{packages:?}") };
    assert_eq!(bitcoin.strategies(), [Strategy::Release]);
    let release = bitcoin.release.as_ref().unwrap();
    assert_eq!(release.asset.as_str(), "bitcoin-{version}-{platform}.tar.gz");
    let signatures = release.signatures.as_ref().unwrap();
    assert_eq!(signatures.required.get(), 3);
    assert_eq!(signatures.key_files, [Path::new("/etc/cairn/keys/bitcoin")]);
    assert!(matches!(&release.origin, Origin::Http { versions: Some(_), .. }));
}

#[test]
fn a_project_on_github_with_a_build_machine() {
    let packages = parse_at(APP).unwrap();
    let app = &packages[0];
    assert_eq!(app.strategy, Strategy::Vm);
    assert_eq!(app.strategies(), [Strategy::Release, Strategy::Vm, Strategy::Dir]);
    let Origin::GitHub { api, tag, token_env, .. } = &app.release.as_ref().unwrap().origin else { panic!() };
    assert_eq!((api.as_str(), tag.as_str()), ("https://api.github.com", "v{version}"));
    assert_eq!(token_env[0], "GITHUB_TOKEN");
    assert!(app.vm.as_ref().unwrap().is_multipass);
    assert_eq!(app.dir.as_ref().unwrap().path.as_str(), "/etc/cairn/../app/{binary}");
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let (line, said) = problem("[packages.a]\nbinaries = [\"a\"]\nbinarys = 1\n");
    assert_eq!(line, 3);
    assert!(said.contains("binarys"), "{said}");
    for (text, word) in [
        ("binaries = []", "1 to 256"),
        ("binaries = [\"../x\"]", "no file name"),
        ("binaries = [\"x\", \"x\"]", "twice"),
        ("binaries = [\"x\"]", "nowhere"),
        ("binaries = [\"x\"]\nstrategy = \"scp\"\ndir = { path = \"x\" }", "it has dir"),
        ("binaries = [\"x\", \"y\"]\ndir = { path = \"x\" }", "{binary}"),
        ("binaries = [\"x\"]\nplatforms = { linux = \"x\" }\ndir = { path = \"x\" }", "linux"),
        ("binaries = [\"x\"]\nrelease = { github = \"app\", asset = \"x\", checksums = \"S\" }", "OWNER"),
        ("binaries = [\"x\"]\nrelease = { github = \"o/a\", asset = \"x\" }", "checksums"),
        ("binaries = [\"x\"]\nrelease = { github = \"o/a\", checksums = \"S\" }", "asset"),
        ("binaries = [\"x\"]\nrelease = { url = \"ftp://h/{version}/x\", checksums = \"S\" }", "https://"),
        ("binaries = [\"x\"]\nrelease = { url = \"https://h/x\", checksums = \"S\" }", "{version}"),
        ("binaries = [\"x\"]\nrelease = { url = \"https://h/{versoin}/x\", checksums = \"S\" }", "{versoin}"),
        (
            "binaries = [\"x\"]\nrelease = { url = \"https://h/{version}/x\", checksums = \"S\", signatures = \"S.asc\" }",
            "keys",
        ),
        ("binaries = [\"x\"]\nssh = { machines = [\"-oProxyCommand=x\"], path = \"x\" }", "no name"),
    ] {
        let (line, said) = problem(&format!("\n[packages.a]\n{text}\n"));
        assert!(line >= 2 && said.contains(word), "{text}: {line}: {said}");
    }
}
