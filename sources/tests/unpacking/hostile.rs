//! Archives that attack, or are wrong.

use cairn_sources::archive::{self, Bounds, Format, Member};
use cairn_sources::{Error, NoWatch, Sha256};

use crate::made::{entry, file, hardlink, pax, seal, sized, symlink, tar};
use crate::{Bench, Stop, has, noise, refused, run};

/// That an archive is refused, for this reason, and that nothing is left of it.
#[track_caller]
fn check_refused(entries: &[Vec<u8>], members: &[&str], reason: &str) {
    let bench = Bench::new();
    bench.put("a.tar", &tar(entries));
    let told = refused(bench.unpack("a.tar", 0, members));
    assert!(told.contains(reason), "{told}");
    bench.check_nothing();
}

/// That it gives its members all the same.
#[track_caller]
fn check_given(entries: &[Vec<u8>], members: &[&str], bodies: &[&[u8]]) {
    let bench = Bench::new();
    bench.put("a.tar", &tar(entries));
    let unpacked = bench.unpack("a.tar", 0, members).unwrap();
    bench.check(&unpacked, bodies);
}

#[test]
fn paths_that_lead_out_are_an_attack() {
    let app = file("app", b"app");
    for bad in ["../x", "/etc/cron.d/x", "a/../../x", "a/..", "..", "//x"] {
        let is_absolute = bad.starts_with('/');
        let reason =
            if is_absolute { "is absolute: this is an attack" } else { "leads out by ..: this is an attack" };
        check_refused(&[app.clone(), file(bad, b"x")], &["app"], reason);
        check_refused(&[symlink(bad, "app"), app.clone()], &["app"], reason);
        check_refused(&[pax(&[("path", bad)]), file("x", b"x"), app.clone()], &["app"], reason);
        check_refused(
            &[entry(b"l", b'L', b"", bad.as_bytes()), file("x", b"x"), app.clone()],
            &["app"],
            reason,
        );
    }
    // Where a path is taken apart otherwise than it seems.
    check_given(&[file("..app", b"x"), file("a..", b"y"), app.clone()], &["app", "a.."], &[b"app", b"y"]);
    check_given(&[file("./a//b/.//app", b"x")], &["a/b/app"], &[b"x"]);
    for member in ["/app", "../app", "a/../app", "", "."] {
        let bench = Bench::new();
        bench.put("a.tar", &tar(std::slice::from_ref(&app)));
        let wrong = bench.unpack("a.tar", 0, &[member]);
        assert!(matches!(wrong, Err(Error::Usage { .. })), "{wrong:?}");
    }
}

#[test]
fn links_are_followed_within_the_archive() {
    let app = file("app/bin/app-1.0", b"app");
    // Before and behind what they lead to, by one and by several.
    check_given(&[app.clone(), symlink("app/bin/app", "app-1.0")], &["app/bin/app"], &[b"app"]);
    check_given(&[symlink("app/bin/app", "./app-1.0"), app.clone()], &["app/bin/app"], &[b"app"]);
    check_given(&[symlink("app/app", "../app/bin/app-1.0"), app.clone()], &["app/app"], &[b"app"]);
    check_given(&[app.clone(), hardlink("app/bin/app", "app/bin/app-1.0")], &["app/bin/app"], &[b"app"]);
    let chain = [symlink("a", "b"), hardlink("c", "app/bin/app-1.0"), symlink("b", "c"), app.clone()];
    check_given(&chain, &["a", "b", "app/bin/app-1.0"], &[b"app", b"app", b"app"]);

    // With folders left out, which the links do not leave out.
    let bench = Bench::new();
    bench.put(
        "a.tar",
        &tar(&[hardlink("app/one", "app/bin/app-1.0"), symlink("app/two", "bin/app-1.0"), app]),
    );
    let unpacked = bench.unpack("a.tar", 1, &["one", "two"]).unwrap();
    bench.check(&unpacked, &[b"app", b"app"]);
}

#[test]
fn links_that_lead_elsewhere_are_refused() {
    let passwd = "app is a link to /etc/passwd, which is absolute";
    check_refused(&[symlink("app", "/etc/passwd")], &["app"], passwd);
    check_refused(
        &[hardlink("app", "/etc/passwd")],
        &["app"],
        "app is a hard link to /etc/passwd, which is absolute",
    );
    check_refused(&[symlink("a/app", "../../etc/passwd")], &["a/app"], "which leads out by ..");
    check_refused(&[hardlink("a/app", "../etc/passwd")], &["a/app"], "which leads out by ..");
    check_refused(&[symlink("app", "gone")], &["app"], "app is a link to gone, which is no file in it");
    check_refused(&[symlink("app", "app")], &["app"], "leads to no end");
    check_refused(&[symlink("a", "b"), symlink("b", "a")], &["a"], "leads to no end");
    check_refused(&[symlink("app", "bin"), entry(b"bin/", b'5', b"", b"")], &["app"], "bin is a folder");
    check_refused(&[symlink("app", "")], &["app"], "which is no file in it");
    // A folder that is a link is not gone through: nothing is ever written behind one.
    let through = [symlink("bin", "/etc"), file("bin/app", b"app")];
    check_given(&through, &["bin/app"], &[b"app"]);
    check_refused(
        &[symlink("dir", "real"), file("real/app", b""), symlink("app", "dir/app")],
        &["app"],
        "no file in it",
    );
}

#[test]
fn what_is_no_file_is_no_program() {
    let kinds = [
        (b'3', "a device"),
        (b'4', "a device"),
        (b'5', "a folder"),
        (b'6', "a pipe"),
        (b'Z', "of an unknown kind"),
    ];
    for (kind, what) in kinds {
        let odd = entry(b"odd", kind, b"", b"");
        check_refused(std::slice::from_ref(&odd), &["odd"], &format!("odd is {what}, and no program"));
        check_given(&[odd, file("app", b"app")], &["app"], &[b"app"]);
    }
    check_refused(&[file("app/", b"")], &["app"], "app is a folder");
    let body = entry(b"dir", b'5', b"", b"a body");
    check_refused(&[body, file("app", b"app")], &["app"], "dir has no room for the 6 bytes");
}

#[test]
fn one_path_is_one_file() {
    let one = file("app", b"one");
    check_given(&[one.clone(), one.clone()], &["app"], &[b"one"]);
    check_given(&[one.clone(), file("./app", b"one")], &["app"], &[b"one"]);
    check_refused(&[one.clone(), file("app", b"two")], &["app"], "it has app twice, and not the same");
    check_refused(&[one.clone(), file("app", b"")], &["app"], "twice");
    check_refused(&[one.clone(), symlink("app", "other"), file("other", b"one")], &["app"], "twice");
    check_refused(
        &[symlink("app", "a"), symlink("app", "b"), file("a", b""), file("b", b"")],
        &["app"],
        "twice",
    );
    // Two folders that are left out make one path.
    let bench = Bench::new();
    bench.put("a.tar", &tar(&[file("a/app", b"one"), file("b/app", b"two")]));
    assert!(refused(bench.unpack("a.tar", 1, &["app"])).contains("twice"));
    bench.check_nothing();
    // One path may become two files.
    let bench = Bench::new();
    bench.put("a.tar", &tar(&[one]));
    let unpacked = bench.unpack("a.tar", 0, &["app", "app"]).unwrap();
    bench.check(&unpacked, &[b"one", b"one"]);
}

#[test]
fn what_is_told_of_an_entry_is_bounded_and_agrees() {
    let app = file("x", b"app");
    let long = |len| entry(b"l", b'L', b"", &vec![b'a'; len]);
    check_refused(&[long(70_000), app.clone()], &["app"], "70000 bytes tell of one entry");
    check_refused(&[long(10), long(10), app.clone()], &["app"], "named twice");
    check_refused(&[long(10)], &["app"], "it ends behind the name of an entry that is not there");
    let named = entry(b"l", b'L', b"", b"app\0ignored");
    check_given(&[named.clone(), app.clone()], &["app"], &[b"app"]);
    check_refused(&[named, pax(&[("path", "other")]), app.clone()], &["app"], "is called both other and app");
    check_refused(&[pax(&[]), pax(&[]), app.clone()], &["app"], "described twice");
    check_given(&[pax(&[("mtime", "1.5"), ("path", "a=b\nc")]), app.clone()], &["a=b\nc"], &[b"app"]);
    let wrong = entry(b"pax", b'x', b"", b"9 path=ab\n");
    check_refused(&[wrong, app.clone()], &["app"], "records of pax");
    let global = |key| {
        let mut records = pax(&[(key, "3")]);
        records[156] = b'g';
        seal(&mut records);
        records
    };
    check_given(&[global("comment"), app.clone()], &["x"], &[b"app"]);
    for key in ["path", "size", "linkpath", "GNU.sparse.major"] {
        check_refused(&[global(key), app.clone()], &["x"], "what can be true of one alone");
    }
    // The length that counts is that of the records.
    let short = sized(b"app", b'0', b"", b"app", 0);
    check_given(&[pax(&[("size", "3")]), short, file("b", b"b")], &["app", "b"], &[b"app", b"b"]);
    check_refused(&[pax(&[("size", "-1")]), app.clone()], &["x"], "records of pax");
    check_refused(&[sized(b"app", b'0', b"", b"", 0o77_777_777_777)], &["app"], "app is longer than");
    check_refused(&[sized(b"x", b'0', b"", b"", 5000)], &["app"], "cut off in x");
    let sparse = [pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.name", "app")]), app];
    check_refused(&sparse, &["app"], "app is a sparse file");
}

#[test]
fn names_cannot_speak_to_the_terminal() {
    let bench = Bench::new();
    bench.put(
        "a.tar",
        &tar(&[file("bin/a\x1b[2Jpp", b""), file("\u{202e}ppa", b""), entry(b"\xff\xfe", b'0', b"", b"")]),
    );
    match bench.unpack("a.tar", 0, &["bin/app"]) {
        Err(Error::Absent { hint, .. }) => {
            assert!(!hint.contains('\x1b') && hint.contains("\\u{1b}"), "{hint}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_cut_off_or_goes_on_is_refused() {
    let bench = Bench::new();
    let app = noise(1, 3000);
    let entries = [file("app", &app), file("other", &noise(2, 700))];
    let whole = tar(&entries);
    let end = entries.concat().len();
    for len in (0..end + 512).step_by(100).chain([end, end + 511]) {
        bench.put("a.tar", &whole[..len]);
        refused(bench.unpack("a.tar", 0, &["app"]));
        bench.check_nothing();
    }
    for more in [&b"x"[..], &entries[0], &[0; 3], &[0; 511]] {
        bench.put("a.tar", &[&whole, more].concat());
        let result = bench.unpack("a.tar", 0, &["app"]);
        if more.iter().all(|byte| *byte == 0) {
            bench.check(&result.unwrap(), &[&app]);
        } else {
            assert!(refused(result).contains("goes on behind the mark of its end"));
            bench.check_nothing();
        }
    }
    let mut flipped = whole.clone();
    flipped[10] ^= 1;
    bench.put("a.tar", &flipped);
    assert!(refused(bench.unpack("a.tar", 0, &["app"])).contains("checksum is wrong"));
    bench.put("a.tar", b"<html><body>404 Not Found</body></html>");
    refused(bench.unpack("a.tar", 0, &["app"]));
}

#[test]
fn compressed_ones_have_to_end_too() {
    let app = noise(1, 100_000);
    let whole = tar(&[file("app", &app), file("other", &noise(2, 700))]);
    let packed = [
        ("a.tar.gz", Some(gzip(&whole))),
        ("a.tar.zst", Some(zstd_of(&whole, 20))),
        ("a.tar.xz", xz_of(&whole, &["-1"])),
    ];
    for (name, bytes) in packed {
        let Some(bytes) = bytes else { continue };
        let bench = Bench::new();
        bench.put(name, &bytes);
        bench.check(&bench.unpack(name, 0, &["app"]).unwrap(), &[&app]);
        for len in (0..bytes.len()).step_by(9973).chain(bytes.len() - 40..bytes.len()) {
            bench.put(name, &bytes[..len]);
            refused(bench.unpack(name, 0, &["app"]));
            bench.check_nothing();
        }
        for more in [&b"garbage"[..], b"x", &whole] {
            bench.put(name, &[&bytes, more].concat());
            refused(bench.unpack(name, 0, &["app"]));
            bench.check_nothing();
        }
        for at in (0..bytes.len()).step_by(7919) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            bench.put(name, &flipped);
            match bench.unpack(name, 0, &["app"]) {
                // Of its own header: times, names, flags.
                Ok(unpacked) => bench.check(&unpacked, &[&app]),
                Err(_) => bench.check_nothing(),
            }
        }
    }
}

#[test]
fn nothing_fills_the_disk_or_the_memory() {
    let bench = Bench::new();
    let bounds =
        Bounds { member_bytes_max: 1000, total_bytes_max: 100_000, entries_max: 5, ..Bounds::default() };
    let app = file("app", b"app");
    let within = |bytes: &[u8], name: &str| {
        bench.put(name, bytes);
        let reason = refused(bench.unpack_within(name, 0, &["app"], &bounds));
        bench.check_nothing();
        reason
    };
    assert_eq!(within(&tar(&[file("app", &[1; 1001])]), "a.tar"), "app is longer than 1000 bytes");
    let long = tar(&[app.clone(), file("b", &[0; 200_000])]);
    let reason = "it is longer than 100000 bytes when it is unpacked";
    assert_eq!(within(&long, "a.tar"), reason);
    assert_eq!(within(&gzip(&long), "a.tar.gz"), reason);
    assert_eq!(within(&gzip(&[&app[..], &vec![0; 1 << 20]].concat()), "a.tar.gz"), reason);
    assert_eq!(within(&tar(&vec![app.clone(); 6]), "a.tar"), "it has more than 5 entries");

    let wide = zstd_of(&tar(std::slice::from_ref(&app)), 27);
    bench.put("a.tar.zst", &wide);
    let reason = refused(bench.unpack("a.tar.zst", 0, &["app"]));
    assert_eq!(reason, "it needs more memory to unpack than the 64 MiB that are allowed");
    let bounds = Bounds { window_bytes_max: 128 << 20, ..Bounds::default() };
    let unpacked = bench.unpack_within("a.tar.zst", 0, &["app"], &bounds).unwrap();
    bench.check(&unpacked, &[b"app"]);

    let whole = tar(std::slice::from_ref(&app));
    if let Some(wide) = xz_of(&whole, &["--lzma2=dict=128MiB"]) {
        bench.put("a.tar.xz", &wide);
        let reason = refused(bench.unpack("a.tar.xz", 0, &["app"]));
        assert_eq!(reason, "it needs more memory to unpack than the 64 MiB that are allowed");
        bench.put("a.tar.xz", &xz_of(&whole, &["-9e"]).unwrap());
        bench.check(&bench.unpack("a.tar.xz", 0, &["app"]).unwrap(), &[b"app"]);
    }

    // A gibibyte and more of nothing, out of little.
    let (piece, pieces) = (16 << 20, 70);
    let head = sized(b"zeros", b'0', b"", b"", piece * pieces);
    let zeros = gzip(&vec![0; usize::try_from(piece).unwrap()]);
    let mut bomb = gzip(&[&app[..], &head].concat());
    for _ in 0..pieces {
        bomb.extend(&zeros);
    }
    bomb.extend(gzip(&[0; 1024]));
    bench.put("bomb.tar.gz", &bomb);
    let reason = refused(bench.unpack("bomb.tar.gz", 0, &["app"]));
    assert!(reason.ends_with("it is made to fill the disk"), "{reason}");
    bench.check_nothing();
    let bounds = Bounds { ratio_max: 2000, ..Bounds::default() };
    bench.check(&bench.unpack_within("bomb.tar.gz", 0, &["app"], &bounds).unwrap(), &[b"app"]);
}

#[test]
fn files_that_are_there_stay() {
    let bench = Bench::new();
    let archive = bench.put("a.tar", &tar(&[file("a", b"a"), file("b", b"b")]));
    std::fs::write(bench.to().join("1"), "mine").unwrap();
    let there = bench.unpack("a.tar", 0, &["a", "b"]);
    assert!(matches!(there, Err(Error::Io { action: "create", .. })), "{there:?}");
    assert_eq!(std::fs::read(bench.to().join("1")).unwrap(), b"mine");
    assert!(!bench.to().join("0").exists());

    // Not through a link either.
    let link = bench.to().join("link");
    std::os::unix::fs::symlink(bench.path("victim"), &link).unwrap();
    let members = [Member { path: "a", to: &link }];
    let bounds = Bounds::default();
    let through = archive::unpack(&archive, "a.tar", Format::Tar, 0, &members, &bounds, &NoWatch);
    assert!(through.is_err() && !bench.path("victim").exists());
    assert!(link.is_symlink());
}

#[test]
fn it_stops_when_it_is_told_to() {
    let bench = Bench::new();
    let whole = tar(&[file("a", &noise(1, 2_000_000)), file("b", &noise(2, 2_000_000))]);
    for (name, bytes) in [("a.tar.gz", gzip(&whole)), ("a.tar", whole)] {
        let archive = bench.put(name, &bytes);
        let to = bench.to().join("0");
        let members = [Member { path: "a", to: &to }];
        for looks in [0, 1, 2, 10, 20] {
            let stop = Stop::after(looks);
            let format = Format::of_name(name).unwrap();
            let stopped = archive::unpack(&archive, name, format, 0, &members, &Bounds::default(), &stop);
            assert!(matches!(stopped, Err(Error::Cancelled)), "{looks}: {stopped:?}");
            bench.check_nothing();
        }
    }
}

/// Bytes of real archives changed at random, with a seed: what is written is what is told, or nothing is.
#[test]
fn changed_bytes_do_no_harm() {
    let bench = Bench::new();
    let kept = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/archives");
    let bounds = Bounds { member_bytes_max: 1 << 20, total_bytes_max: 8 << 20, ..Bounds::default() };
    let rounds: u64 =
        std::env::var("CAIRN_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(300);
    for name in ["app.tar", "pax.tar", "app.tar.gz", "app.tar.xz", "app.tar.zst", "app.zip", "streamed.zip"] {
        let good = std::fs::read(kept.join(name)).unwrap();
        for round in 0..rounds {
            let mut bytes = good.clone();
            let dice = noise(round + 1, 16);
            for change in dice[1..].chunks_exact(3).take(usize::from(dice[0] % 5) + 1) {
                let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
                bytes[at] = change[2];
                if name == "app.tar" || name == "pax.tar" {
                    let header = at / 512 * 512;
                    seal(&mut bytes[header..header + 512]);
                }
            }
            bench.put(name, &bytes);
            if let Ok(unpacked) = bench.unpack_within(name, 1, &["bin/app", "tool"], &bounds) {
                for (number, unpacked) in unpacked.iter().enumerate() {
                    let path = bench.to().join(number.to_string());
                    assert_eq!(
                        Sha256::of_file(&path).unwrap(),
                        (unpacked.sha256, unpacked.size),
                        "{name} {round}"
                    );
                    std::fs::remove_file(path).unwrap();
                }
            }
            bench.check_nothing();
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd_of(bytes: &[u8], window_log: u32) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// By the program, which is the reference; nothing where it is not there.
fn xz_of(bytes: &[u8], args: &[&str]) -> Option<Vec<u8>> {
    if !has("xz") {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("plain"), bytes).unwrap();
    run(folder.path(), "sh", &["-c", &format!("xz -c {} <plain >packed", args.join(" "))]);
    Some(std::fs::read(folder.path().join("packed")).unwrap())
}
