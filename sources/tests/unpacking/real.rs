//! What real programs make.

use cairn_sources::Error;

use crate::{Bench, has, noise, refused, run};

/// Those that are kept with the tests: no program is needed for them.
#[test]
fn kept_archives_give_their_members() {
    let bench = Bench::new();
    let kept = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/archives");
    for name in ["app.tar", "pax.tar", "app.tar.gz", "app.tar.xz", "app.tar.zst", "app.zip", "streamed.zip"] {
        bench.put(name, &std::fs::read(kept.join(name)).unwrap());
        let unpacked = bench.unpack(name, 1, &["bin/app", "tool"]).unwrap();
        bench.check(&unpacked, &[b"#!/bin/sh\necho app\n", b"tool"]);
        if name != "streamed.zip" {
            let unpacked = bench.unpack(name, 1, &["link", "hard"]).unwrap();
            bench.check(&unpacked, &[b"#!/bin/sh\necho app\n", b"tool"]);
        }
    }
}

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

#[test]
fn long_names_and_sparse_files() {
    if !has("tar") {
        return;
    }
    let bench = Bench::new();
    let (deep, long) = ("d".repeat(90) + "/" + &"e".repeat(60), "f".repeat(120));
    std::fs::create_dir_all(bench.path(&format!("x/{deep}"))).unwrap();
    std::fs::write(bench.path(&format!("x/{deep}/app")), "deep").unwrap();
    std::fs::write(bench.path("x/short"), "short").unwrap();
    let member = format!("{deep}/app");
    for format in ["gnu", "pax", "ustar"] {
        run(bench.folder.path(), "tar", &[&format!("--format={format}"), "-cf", "a.tar", "x"]);
        let unpacked = bench.unpack("a.tar", 1, &[&member, "short"]).unwrap();
        bench.check(&unpacked, &[b"deep", b"short"]);
    }
    std::fs::write(bench.path(&format!("x/{deep}/{long}")), "long").unwrap();
    std::os::unix::fs::symlink(format!("{deep}/{long}"), bench.path("x/link")).unwrap();
    std::fs::hard_link(bench.path(&format!("x/{deep}/{long}")), bench.path("x/zz")).unwrap();
    let member = format!("{deep}/{long}");
    for format in ["gnu", "pax"] {
        run(bench.folder.path(), "tar", &[&format!("--format={format}"), "-cf", "a.tar", "x"]);
        let unpacked = bench.unpack("a.tar", 1, &["link", &member, "zz"]).unwrap();
        bench.check(&unpacked, &[b"long", b"long", b"long"]);
    }
    // Many holes: more than one header has room for.
    let holes = std::fs::File::create(bench.path("x/holes")).unwrap();
    for hole in 0..60 {
        std::os::unix::fs::FileExt::write_all_at(&holes, &[7; 4096], hole * 131_072).unwrap();
    }
    for format in [
        "--format=gnu",
        "--format=pax",
        "--format=pax --sparse-version=0.1",
        "--format=pax --sparse-version=0.0",
    ] {
        run(bench.folder.path(), "sh", &["-c", &format!("tar {format} -S -cf a.tar x")]);
        let unpacked = bench.unpack("a.tar", 1, &["link", "short"]).unwrap();
        bench.check(&unpacked, &[b"long", b"short"]);
        let size = std::fs::metadata(bench.path("a.tar")).unwrap().len();
        assert!(size < 2_000_000, "the file system keeps no holes");
        let reason = refused(bench.unpack("a.tar", 1, &["holes"]));
        assert!(reason.ends_with("holes is a sparse file, and no program"), "{format}: {reason}");
        bench.check_nothing();
    }
}

#[test]
fn what_others_pack() {
    let bench = Bench::new();
    let (one, two) = release(&bench);
    let script = "import tarfile, zipfile, shutil\n\
        for f, n in (('gz', 'a.tar.gz'), ('xz', 'a.tar.xz')):\n\
        \x20 for k in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):\n\
        \x20   t = tarfile.open(str(k) + n, 'w:' + f, format=k)\n\
        \x20   t.add('app-1.0'); t.close()\n\
        z = zipfile.ZipFile('0a.zip', 'w', zipfile.ZIP_DEFLATED)\n\
        z.write('app-1.0/bin/one'); z.write('app-1.0/bin/two'); z.close()\n\
        class Pipe:\n\
        \x20 def __init__(self, f): self.f = f\n\
        \x20 def write(self, b): return self.f.write(b)\n\
        \x20 def flush(self): self.f.flush()\n\
        z = zipfile.ZipFile(Pipe(open('1a.zip', 'wb')), 'w', zipfile.ZIP_DEFLATED)\n\
        z.write('app-1.0/bin/one'); z.write('app-1.0/bin/two'); z.close()\n";
    if !has("python3") {
        return;
    }
    run(bench.folder.path(), "python3", &["-c", script]);
    let names =
        ["0a.tar.gz", "1a.tar.gz", "2a.tar.gz", "0a.tar.xz", "1a.tar.xz", "2a.tar.xz", "0a.zip", "1a.zip"];
    for name in names {
        let found = bench.unpack(name, 1, &["bin/two", "bin/one"]);
        bench.check(&found.unwrap_or_else(|error| panic!("{name}: {error}")), &[&two, &one]);
    }
    if has("xz") && has("zstd") {
        // Several streams, as those make that compress in parallel; and much window.
        run(bench.folder.path(), "tar", &["-cf", "a.tar", "app-1.0"]);
        let pack = "xz -T2 --block-size=65536 -k -c a.tar >b.tar.xz; zstd -q -T2 --ultra -20 --long=26 a.tar -o b.tar.zst; \
            split -b 100000 a.tar part.; for p in part.*; do gzip -c $p; done >b.tar.gz; \
            for p in part.*; do xz -c $p; done >c.tar.xz; for p in part.*; do zstd -q -c $p; done >c.tar.zst";
        run(bench.folder.path(), "sh", &["-c", pack]);
        for name in ["b.tar.xz", "b.tar.zst", "b.tar.gz", "c.tar.xz", "c.tar.zst"] {
            let found = bench.unpack(name, 1, &["bin/two", "bin/one"]);
            bench.check(&found.unwrap_or_else(|error| panic!("{name}: {error}")), &[&two, &one]);
        }
    }
}
