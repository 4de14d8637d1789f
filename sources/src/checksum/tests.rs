//! Files as the programs write them, and files that lie.

use proptest::prelude::*;

use super::*;

const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn names(text: &str) -> Vec<String> {
    parse(text.as_bytes()).unwrap().into_keys().collect()
}

#[test]
fn each_programs_way_is_understood() {
    let hash = HASH.parse::<Sha256>().unwrap();
    let lines = [
        (format!("{HASH}  app.tar.gz\n"), "app.tar.gz"),
        (format!("{HASH} *app.tar.gz\r\n"), "app.tar.gz"),
        (format!("{}  ./app.tar.gz", HASH.to_uppercase()), "app.tar.gz"),
        (format!("{HASH}\tapp.tar.gz"), "app.tar.gz"),
        (format!("{HASH} app.tar.gz"), "app.tar.gz"),
        (format!("\u{feff}{HASH}   app with blanks "), " app with blanks "),
        (format!("\\{HASH}  a\\\\b\\nc"), "a\\b\nc"),
        (format!("SHA256 (app (1).tar.gz) = {HASH}"), "app (1).tar.gz"),
        (format!("\\SHA256 (a\\nb) = {HASH}"), "a\nb"),
        (format!("SHA2-256(app.tar.gz)= {HASH}"), "app.tar.gz"),
        (format!("SHA256(app.tar.gz)= {HASH}"), "app.tar.gz"),
        (format!("{HASH}\n"), ""),
        (format!("{HASH}  -\n"), ""),
        (format!("# made by hand\n\n{HASH}  app.tar.gz\n"), "app.tar.gz"),
    ];
    for (text, name) in lines {
        assert_eq!(parse(text.as_bytes()).unwrap(), BTreeMap::from([(name.to_owned(), hash)]), "{text:?}");
    }
}

#[test]
fn other_hashes_are_passed_over() {
    let md5 = "d41d8cd98f00b204e9800998ecf8427e";
    let text = format!(
        "{md5}  other\n{}  other\nMD5 (other) = {md5}\nSHA512 (other) = {}\n{HASH}  app\n",
        "a".repeat(128),
        "a".repeat(128)
    );
    assert_eq!(names(&text), ["app"]);
}

#[test]
fn the_same_twice_is_once_and_two_that_differ_are_an_error() {
    let same = format!("{HASH}  app\n{HASH} *./app\n");
    assert_eq!(names(&same), ["app"]);
    let other = format!("{HASH}  app\n\n{}  app\n", "0".repeat(64));
    let error = parse(other.as_bytes()).unwrap_err();
    assert_eq!(error.line, 3);
    assert!(error.to_string().contains("another checksum"), "{error}");
}

#[test]
fn what_is_no_checksum_is_named_with_its_line() {
    let bad = [
        "<html><body>Not Found</body></html>".to_owned(),
        format!("{HASH}  app\n{}  short", &HASH[1..]),
        format!("{HASH}  app\n{HASH}0  long"),
        format!("{HASH}  app\nSHA256 (other) = {}", &HASH[1..]),
        format!("{HASH}  app\nSHA256 (other) = "),
        format!("{HASH}  app\n\\{HASH}  bad\\escape"),
        format!("{HASH}  app\n\\{HASH}  bad\\"),
        format!("{HASH}x  app"),
        "abc".to_owned(),
    ];
    for text in bad {
        let error = parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.line, text.lines().count(), "{text:?}: {error}");
        assert!(error.problem.contains("is no checksum"), "{text:?}: {error}");
    }
    assert!(parse(b"").unwrap_err().problem.contains("at all"));
    assert!(parse(b"# nothing\n").unwrap_err().problem.contains("at all"));
    assert!(parse(b"\xff\xfe").unwrap_err().problem.contains("UTF-8"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_lines_like_checksums_are_read_or_refused(text in "(\\\\?[0-9a-f]{0,3}[ (*)=\\\\./]{0,4}(SHA256 \\()?[a-zé\n]{0,4}){0,9}") {
        let _ = parse(text.as_bytes());
    }

    #[test]
    fn what_is_written_is_read(names in proptest::collection::btree_set("[a-z][a-z .()\\\\\n-]{0,12}", 1..6)) {
        let hash = HASH.parse::<Sha256>().unwrap();
        let text: String = names.iter().map(|name| {
            let escaped = name.replace('\\', "\\\\").replace('\n', "\\n");
            let mark = if escaped == *name { "" } else { "\\" };
            format!("{mark}{HASH}  {escaped}\n")
        }).collect();
        prop_assert_eq!(parse(text.as_bytes()).unwrap(), names.into_iter().map(|name| (name, hash)).collect());
    }
}
