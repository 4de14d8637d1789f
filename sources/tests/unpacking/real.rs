//! What real programs make.

use cairn_sources::Error;

use crate::{Bench, has, noise, refused, run};

/// A release: two programs, and things that are not wanted.
fn release(bench: &Bench) -> (Vec<u8>, Vec<u8>) {
    let (one, two) = (noise(1, 300_000), b"#!/bin/sh\necho two\n".repeat(1000));
    let bin = bench.path("app-1.0/bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(bench.path("app-1.0/share/doc")).unwrap();
    std::fs::write(bin.join("one"), &one).unwrap();
    std::fs::write(bin.join("two"), &two).unwrap();
    std::fs::write(bench.path("app-1.0/share/doc/README"), "read me").unwrap();
    std::fs::write(bench.path("app-1.0/local_one"), "not this").unwrap();
    (one, two)
}

#[test]
fn every_format_gives_its_members() {
    let bench = Bench::new();
    let (one, two) = release(&bench);
    let cases = [
        ("a.tar", "tar", &["-cf", "a.tar", "app-1.0"][..]),
        ("a.tar.gz", "tar", &["-czf", "a.tar.gz", "app-1.0"]),
        ("a.tgz", "tar", &["-czf", "a.tgz", "./app-1.0"]),
        ("a.tar.xz", "tar", &["-cJf", "a.tar.xz", "app-1.0"]),
        ("a.tar.zst", "tar", &["--zstd", "-cf", "a.tar.zst", "app-1.0"]),
        ("b.tar", "tar", &["--format=v7", "-cf", "b.tar", "app-1.0"]),
        ("c.tar", "tar", &["--format=ustar", "-cf", "c.tar", "app-1.0"]),
        ("d.tar", "tar", &["--format=pax", "-cf", "d.tar", "app-1.0"]),
        ("e.tar", "tar", &["--format=oldgnu", "-cf", "e.tar", "app-1.0"]),
        ("a.zip", "zip", &["-qr", "a.zip", "app-1.0"]),
        ("b.zip", "zip", &["-qr0", "b.zip", "app-1.0"]),
        ("c.zip", "zip", &["-qr", "-fd", "c.zip", "app-1.0"]),
        ("d.zip", "zip", &["-qr", "-fz", "d.zip", "app-1.0"]),
        ("e.zip", "sh", &["-c", "zip -qr - app-1.0 | cat >e.zip"]),
    ];
    for (archive, program, args) in cases {
        if !has(program) || !has("xz") || !has("zstd") || !has("zip") {
            continue;
        }
        run(bench.folder.path(), program, args);
        let found = bench.unpack(archive, 1, &["bin/two", "bin/one"]);
        bench.check(&found.unwrap_or_else(|error| panic!("{archive}: {error}")), &[&two, &one]);
        let found = bench.unpack(archive, 2, &["one"]).unwrap();
        bench.check(&found, &[&one]);
        let found = bench.unpack(archive, 0, &["app-1.0/bin/one"]).unwrap();
        bench.check(&found, &[&one]);
        match bench.unpack(archive, 1, &["bin/one", "one"]) {
            Err(Error::Absent { what, hint }) => {
                assert_eq!(
                    what,
                    format!("{archive} has no file one once the first folder of its paths is left out")
                );
                assert_eq!(hint, "it has local_one, bin/two, share/doc/README", "{archive}");
            }
            other => panic!("{archive}: {other:?}"),
        }
        bench.check_nothing();
        refused(bench.unpack(archive, 1, &["bin"]));
        bench.check_nothing();
    }
}
