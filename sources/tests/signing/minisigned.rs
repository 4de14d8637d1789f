//! Minisign.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::{SUMS, day, has, keys, refused, verify};

fn minisign(folder: &Path, args: &[&str]) {
    let output = Command::new("minisign").current_dir(folder).args(args).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "minisign {args:?}: {told}");
}

/// A folder with keys `a` and `b`, and what is signed.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        let (public, secret) = (format!("{name}.pub"), format!("{name}.key"));
        minisign(folder.path(), &["-G", "-W", "-f", "-p", &public, "-s", &secret]);
    }
    std::fs::write(folder.path().join("SUMS"), SUMS).unwrap();
    folder
}

fn sign(folder: &Path, name: &str, how: &[&str]) -> Vec<u8> {
    let key = format!("{name}.key");
    minisign(folder, &[&["-S", "-s", &key, "-m", "SUMS", "-x", "sig"], how].concat());
    std::fs::read(folder.join("sig")).unwrap()
}

#[test]
fn signatures_count_by_key() {
    if !has("minisign") {
        return;
    }
    let folder = folder();
    let at = folder.path();
    let public = std::fs::read_to_string(at.join("b.pub")).unwrap();
    let line = public.lines().nth(1).unwrap();
    let both = keys(&[at.join("a.pub")], &[line]).unwrap();
    assert_eq!(both.len(), 2);
    let (a, b) = (sign(at, "a", &[]), sign(at, "b", &["-t", "what it is"]));
    let id = public.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    let signers = verify(&both, &b, 1, day(1)).unwrap();
    assert_eq!(signers.valid[0].fingerprint, id);
    let two = [a.clone(), b.clone()].concat();
    assert_eq!(verify(&both, &two, 2, day(1)).unwrap().valid.len(), 2);
    let twice = [a.clone(), a.clone()].concat();
    assert!(refused(verify(&both, &twice, 2, day(1))).starts_with("1 of 2 needed signatures"));

    // The key of a alone does not know b; the whole of a .pub may be in the configuration.
    let one = keys(&[], &[&std::fs::read_to_string(at.join("a.pub")).unwrap()]).unwrap();
    assert_eq!(refused(verify(&one, &b, 1, day(1))), format!("0 of 1 needed signatures: unknown key {id}"));
}

#[test]
fn what_was_changed_does_not_count() {
    if !has("minisign") {
        return;
    }
    let folder = folder();
    let at = folder.path();
    let trusted = keys(&[at.join("a.pub"), at.join("b.pub")], &[]).unwrap();
    let good = String::from_utf8(sign(at, "a", &["-t", "for app 1.0"])).unwrap();
    assert!(verify(&trusted, good.as_bytes(), 1, day(1)).is_ok());
    let comment = good.replace("for app 1.0", "for app 2.0");
    assert!(refused(verify(&trusted, comment.as_bytes(), 1, day(1))).contains("bad signature by"));
    std::fs::write(at.join("SUMS"), "another file").unwrap();
    let other = sign(at, "a", &[]);
    assert!(refused(verify(&trusted, &other, 1, day(1))).contains("bad signature by"));
    let cut = good.lines().take(2).collect::<Vec<_>>().join("\n");
    assert!(refused(verify(&trusted, cut.as_bytes(), 1, day(1))).contains("damaged signature of minisign"));
}
