//! A key ring of `gpg` in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::{DAY, START};

/// A folder with keys, secret and public. Its agent ends with it.
pub(crate) struct Ring {
    home: TempDir,
}

impl Ring {
    pub(crate) fn new() -> Self {
        let home = tempfile::Builder::new().prefix("ring").tempdir_in("/tmp").unwrap();
        std::fs::write(home.path().join("gpg.conf"), "allow-weak-digest-algos\nno-auto-check-trustdb\n")
            .unwrap();
        Self { home }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs `gpg` on a day; gives what it prints.
    #[track_caller]
    pub(crate) fn run(&self, day: u64, args: &[&str]) -> Vec<u8> {
        self.feed(day, args, b"")
    }

    /// Runs it with something on its standard input.
    #[track_caller]
    pub(crate) fn feed(&self, day: u64, args: &[&str], input: &[u8]) -> Vec<u8> {
        use std::io::Write;
        let time = format!("{}!", START + day * DAY);
        let mut child = Command::new("gpg")
            .env("GNUPGHOME", self.home.path())
            .env("LC_ALL", "C")
            .args(["--batch", "--yes", "--quiet", "--no-tty", "--pinentry-mode", "loopback"])
            .args(["--passphrase", "", "--faked-system-time", &time, "--command-fd", "0"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that does not read its input is no error here.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gpg {args:?}: {told}");
        output.stdout
    }

    /// Makes a key that signs and certifies; gives its fingerprint.
    pub(crate) fn key(&self, name: &str, algorithm: &str, expires: &str) -> String {
        let id = format!("{name} <{name}@example.org>");
        self.run(0, &["--quick-generate-key", &id, algorithm, "cert,sign", expires]);
        self.fingerprints(name).remove(0)
    }

    /// Makes a primary key that only certifies.
    pub(crate) fn certifier(&self, name: &str) -> String {
        let id = format!("{name} <{name}@example.org>");
        self.run(0, &["--quick-generate-key", &id, "ed25519", "cert", "never"]);
        self.fingerprints(name).remove(0)
    }

    /// Adds a subkey; gives its fingerprint.
    pub(crate) fn subkey(&self, primary: &str, usage: &str, expires: &str) -> String {
        let before = self.fingerprints(primary);
        self.run(0, &["--quick-add-key", primary, "ed25519", usage, expires]);
        self.fingerprints(primary).into_iter().find(|found| !before.contains(found)).unwrap()
    }

    /// Of a key and its subkeys, the primary first.
    pub(crate) fn fingerprints(&self, name: &str) -> Vec<String> {
        let listed = self.run(0, &["--with-colons", "--with-subkey-fingerprint", "--list-keys", name]);
        let listed = String::from_utf8(listed).unwrap();
        let prints = listed.lines().filter(|line| line.starts_with("fpr:"));
        prints.map(|line| line.split(':').nth(9).unwrap().to_owned()).collect()
    }

    /// A detached signature by these keys, armored.
    pub(crate) fn sign(&self, day: u64, signers: &[&str], data: &[u8]) -> Vec<u8> {
        self.sign_as(day, signers, data, &["--armor", "--detach-sign"])
    }

    pub(crate) fn sign_as(&self, day: u64, signers: &[&str], data: &[u8], how: &[&str]) -> Vec<u8> {
        let file = self.path("data");
        std::fs::write(&file, data).unwrap();
        let mut args: Vec<&str> = signers.iter().flat_map(|signer| ["--local-user", signer]).collect();
        args.extend(how);
        args.extend(["--output", "-", file.to_str().unwrap()]);
        self.run(day, &args)
    }

    /// The certificates of these keys, in a file.
    pub(crate) fn export(&self, names: &[&str]) -> PathBuf {
        let path = self.path(&format!("{}.asc", names.join("-")));
        let bytes = self.run(0, &[&["--armor", "--export"], names].concat());
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Takes in a certificate as it lies in a file.
    pub(crate) fn import(&self, file: &Path) {
        self.run(0, &["--import", file.to_str().unwrap()]);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf")
            .env("GNUPGHOME", self.home.path())
            .args(["--kill", "all"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
