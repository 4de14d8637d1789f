//! Folders that change while they are watched, asked as clients ask.

#![expect(clippy::disallowed_methods, reason = "files of tests")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{Method, Request, Response, StatusCode};
use cairn_store::{IngestOptions, Input, PublishOptions, RefKey, Writer, WriterOptions};
use http_body_util::BodyExt;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use super::{Binaries, BinariesOptions};
use crate::routes::openapi_tests::check_answer;

const DEADLINE: Duration = Duration::from_secs(60);
const FILE: &str = "tool-1.0.0-linux-x86_64";

fn checksum(bytes: &[u8]) -> String {
    super::watch::hex(&Sha256::digest(bytes))
}

fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A watched folder.
struct World {
    scratch: tempfile::TempDir,
    binaries: Arc<Binaries>,
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn new() -> Self {
        Self::with(&[], false)
    }

    /// With files that are there at the start, and perhaps with a store.
    fn with(files: &[(&str, &[u8])], has_store: bool) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("folder")).unwrap();
        for (name, bytes) in files {
            fs::write(scratch.path().join("folder").join(name), bytes).unwrap();
        }
        let writer = has_store.then(|| writer(scratch.path()));
        let binaries = start(scratch.path(), writer);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { scratch, binaries, runtime }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join("folder").join(name)
    }

    /// Puts a whole file into its place.
    fn place(&self, name: &str, bytes: &[u8]) {
        let new = self.scratch.path().join("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    /// Places a file and waits until it is registered.
    fn register(&self, name: &str, bytes: &[u8]) {
        self.place(name, bytes);
        until(name, || self.checksum_of(name) == Some(checksum(bytes)));
    }

    fn checksum_of(&self, name: &str) -> Option<String> {
        let listed = self.binaries.list(None);
        listed.into_iter().find(|binary| binary.file == name).map(|binary| binary.checksum.clone())
    }

    fn is_registered(&self, name: &str) -> bool {
        self.checksum_of(name).is_some()
    }

    fn waits_for_writer(&self, name: &str) -> bool {
        let waiting = self.binaries.status().waiting;
        waiting.iter().any(|waiting| waiting.file == name && waiting.reason.contains("open for writing"))
    }

    fn refusal_of(&self, name: &str) -> Option<String> {
        let refused = self.binaries.status().refused;
        refused.into_iter().find(|refused| refused.file == name).map(|refused| refused.reason)
    }

    fn router(&self) -> axum::Router {
        let records = crate::routes::binaries::records(Arc::clone(&self.binaries));
        records.merge(crate::routes::binaries::files(Arc::clone(&self.binaries)))
    }

    fn send(&self, request: Request<Body>) -> Response<Body> {
        self.runtime.block_on(self.router().oneshot(request)).unwrap()
    }

    fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> (Response<()>, Bytes) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.send(request.body(Body::from(body.to_owned())).unwrap());
        let (parts, body) = response.into_parts();
        let bytes = self.runtime.block_on(body.collect()).unwrap().to_bytes();
        (Response::from_parts(parts, ()), bytes)
    }

    fn get(&self, path: &str) -> (StatusCode, Value) {
        let (response, bytes) = self.ask(Method::GET, path, &[], "");
        let value = serde_json::from_slice(&bytes).unwrap();
        let described = match path.split('?').next().unwrap() {
            path @ ("/api/binaries" | "/api/binaries/status") => path,
            path if path.starts_with("/api/") => "/api/binaries/{version}/{platform}/{arch}",
            _ => "/binaries/{filename}",
        };
        check_answer(described, "get", response.status().as_str(), &value);
        (response.status(), value)
    }

    fn version_at(&self, path: &str) -> String {
        let (status, record) = self.get(path);
        assert_eq!(status, StatusCode::OK, "{path}: {record}");
        record["version"].as_str().unwrap().to_owned()
    }
}

fn start(scratch: &Path, writer: Option<Writer>) -> Arc<Binaries> {
    let options = BinariesOptions {
        dir: Some(scratch.join("folder")),
        sums: Some(scratch.join("cache/binaries.json")),
    };
    Binaries::start(options, writer).unwrap()
}

fn writer(scratch: &Path) -> Writer {
    let options = WriterOptions { wait: DEADLINE, command: "test".to_owned(), who: "test@here".to_owned() };
    Writer::open(&scratch.join("store"), &options, &()).unwrap()
}

#[test]
fn clients_find_what_they_know() {
    let world = World::new();
    assert_eq!(world.get("/api/binaries"), (StatusCode::OK, Value::Array(Vec::new())));
    world.register(FILE, b"the bytes");
    let (status, list) = world.get("/api/binaries");
    assert_eq!(status, StatusCode::OK);
    let uploaded_at = list[0]["uploaded_at"].as_u64().unwrap();
    let expected = serde_json::json!({
        "name": "tool", "version": "1.0.0", "platform": "linux", "arch": "x86_64",
        "checksum": checksum(b"the bytes"), "size_bytes": 9, "path": FILE, "uploaded_at": uploaded_at,
    });
    assert_eq!(list, Value::Array(vec![expected.clone()]));
    for path in
        ["1.0.0/linux/x86_64", "latest/linux/x86_64", "1.0.0/linux/amd64", "1.0.0/Linux/x64?name=tool"]
    {
        assert_eq!(world.get(&format!("/api/binaries/{path}")), (StatusCode::OK, expected.clone()), "{path}");
    }
    for path in [
        "1.0.1/linux/x86_64",
        "1.0.0/darwin/x86_64",
        "1.0.0/plan9/x86_64",
        "1.0.0/linux/riscv64",
        "%20/linux/x86",
    ] {
        let (status, answer) = world.get(&format!("/api/binaries/{path}"));
        assert_eq!(
            (status, &answer["error"]["kind"]),
            (StatusCode::NOT_FOUND, &Value::from("not_found")),
            "{path}"
        );
    }
    let (response, bytes) = world.ask(Method::GET, &format!("/binaries/{FILE}"), &[], "");
    assert_eq!((response.status(), &*bytes), (StatusCode::OK, &b"the bytes"[..]));
}

#[test]
fn checksums_are_compared() {
    let world = World::new();
    world.register(FILE, b"the bytes");
    let expected = checksum(b"the bytes");
    let verify = |body: &str| {
        let path = "/api/binaries/1.0.0/linux/x86_64/verify";
        let (response, bytes) = world.ask(Method::POST, path, &[("content-type", "application/json")], body);
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        let path = "/api/binaries/{version}/{platform}/{arch}/verify";
        check_answer(path, "post", response.status().as_str(), &value);
        (response.status(), value)
    };
    for (given, valid) in
        [(&*expected, true), (&*expected.to_uppercase(), true), (&"0".repeat(64), false), ("", false)]
    {
        let (status, answer) = verify(&format!("{{\"checksum\": \"{given}\"}}"));
        let valid = serde_json::json!({ "valid": valid, "expected_checksum": expected });
        assert_eq!((status, answer), (StatusCode::OK, valid), "{given}");
    }
    for body in
        ["", "{}", "[]", "{\"checksum\": 5}", "{\"checksum\": null}", "nonsense", "{\"checksum\": \"\"} x"]
    {
        let (status, answer) = verify(body);
        assert_eq!(
            (status, &answer["error"]["kind"]),
            (StatusCode::BAD_REQUEST, &Value::from("usage")),
            "{body}"
        );
    }
    assert_eq!(verify(&"x".repeat(20 << 10)).0, StatusCode::PAYLOAD_TOO_LARGE);
    let (response, bytes) = world.ask(
        Method::POST,
        "/api/binaries/latest/linux/x86_64/verify",
        &[],
        &format!("{{\"checksum\": \"{expected}\"}}"),
    );
    assert_eq!(response.status(), StatusCode::OK, "{bytes:?}");
    let (response, _) =
        world.ask(Method::POST, "/api/binaries/2.0.0/linux/x86_64/verify", &[], "{\"checksum\": \"\"}");
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let (response, _) = world.ask(Method::GET, "/api/binaries/1.0.0/linux/x86_64/verify", &[], "");
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn the_latest_is_the_greatest_release_whatever_came_last() {
    let world = World::new();
    for version in ["1.9.0", "1.10.0", "1.2.0", "2.0.0-rc.1"] {
        world.register(&format!("tool-{version}-linux-x86_64"), version.as_bytes());
    }
    assert_eq!(world.version_at("/api/binaries/latest/linux/x86_64"), "1.10.0");
    world.register("tool-2.0.0-rc.1-linux-arm", b"a");
    world.register("tool-2.0.0-beta-linux-arm", b"b");
    assert_eq!(world.version_at("/api/binaries/latest/linux/arm"), "2.0.0-rc.1");
    world.register("tool-2.0.0-linux-x86_64", b"2");
    assert_eq!(world.version_at("/api/binaries/latest/linux/x86_64"), "2.0.0");
}

#[test]
fn with_several_programs_one_has_to_be_named() {
    let world = World::new();
    world.register(FILE, b"tool");
    world.register("my-tool-3.0.0-rc.1+build-linux-x86_64", b"mine");
    world.register("my-tool-2.0.0-windows-x86.exe", b"exe");
    let (status, answer) = world.get("/api/binaries/latest/linux/x86_64");
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("my-tool, tool"), "{message}");
    assert_eq!(world.version_at("/api/binaries/latest/linux/x86_64?name=tool"), "1.0.0");
    assert_eq!(world.version_at("/api/binaries/latest/linux/x86_64?name=my%2dtool"), "3.0.0-rc.1+build");
    assert_eq!(
        world.version_at("/api/binaries/3.0.0-rc.1+build/linux/x86_64?x&name=my-tool"),
        "3.0.0-rc.1+build"
    );
    assert_eq!(
        world.version_at("/api/binaries/3.0.0-rc.1%2Bbuild/linux/x86_64?name=my-tool"),
        "3.0.0-rc.1+build"
    );
    assert_eq!(world.get("/api/binaries/latest/linux/x86_64?name=other").0, StatusCode::NOT_FOUND);
    assert_eq!(world.get("/api/binaries/latest/linux/x86_64?name=tool&name=x").0, StatusCode::BAD_REQUEST);
    assert_eq!(world.get("/api/binaries").1.as_array().unwrap().len(), 3);
    assert_eq!(world.get("/api/binaries?name=my-tool").1.as_array().unwrap().len(), 2);
    assert_eq!(world.get("/api/binaries?name=%ff").1.as_array().unwrap().len(), 0);
    // A plus in a file's name stands for itself.
    let (response, bytes) =
        world.ask(Method::GET, "/binaries/my-tool-3.0.0-rc.1+build-linux-x86_64", &[], "");
    assert_eq!((response.status(), &*bytes), (StatusCode::OK, &b"mine"[..]));
}

#[test]
fn parts_of_a_file_are_sent() {
    let world = World::new();
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|at| at.to_le_bytes()[usize::from(at % 2 == 0)]).collect();
    world.register(FILE, &bytes);
    let path = format!("/binaries/{FILE}");
    let tag = format!("\"{}\"", checksum(&bytes));
    let header = |response: &Response<()>, name: &str| {
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    let (whole, body) = world.ask(Method::GET, &path, &[], "");
    assert_eq!(whole.status(), StatusCode::OK);
    assert!(body == bytes, "other bytes");
    assert_eq!(header(&whole, "etag").as_ref(), Some(&tag));
    assert_eq!(header(&whole, "accept-ranges").as_deref(), Some("bytes"));
    assert_eq!(header(&whole, "content-length").as_deref(), Some("1000000"));
    assert_eq!(header(&whole, "content-type").as_deref(), Some("application/octet-stream"));
    let (head, body) = world.ask(Method::HEAD, &path, &[("range", "bytes=0-4")], "");
    assert_eq!(
        (head.status(), header(&head, "content-length").as_deref()),
        (StatusCode::OK, Some("1000000"))
    );
    assert!(body.is_empty());
    let (part, body) =
        world.ask(Method::GET, &path, &[("range", "bytes=300000-899999"), ("if-range", &tag)], "");
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(header(&part, "content-range").as_deref(), Some("bytes 300000-899999/1000000"));
    assert_eq!(header(&part, "content-length").as_deref(), Some("600000"));
    assert!(body == bytes[300_000..900_000], "other bytes");
    let (part, body) = world.ask(Method::GET, &path, &[("range", "bytes=-1")], "");
    assert_eq!((part.status(), &*body), (StatusCode::PARTIAL_CONTENT, &bytes[999_999..]));
    let (whole, body) =
        world.ask(Method::GET, &path, &[("range", "bytes=5-"), ("if-range", "\"other\"")], "");
    assert_eq!((whole.status(), body.len()), (StatusCode::OK, 1_000_000));
    let (none, _) = world.ask(Method::GET, &path, &[("range", "bytes=1000000-")], "");
    assert_eq!(none.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(header(&none, "content-range").as_deref(), Some("bytes */1000000"));
    let (same, body) = world.ask(Method::GET, &path, &[("if-none-match", &tag)], "");
    assert_eq!((same.status(), body.len()), (StatusCode::NOT_MODIFIED, 0));
    let (other, _) = world.ask(Method::GET, &path, &[("if-match", "\"other\"")], "");
    assert_eq!(other.status(), StatusCode::PRECONDITION_FAILED);
    world.register("empty-1.0.0-linux-x86_64", b"");
    let (empty, body) = world.ask(Method::GET, "/binaries/empty-1.0.0-linux-x86_64", &[], "");
    assert_eq!((empty.status(), body.len()), (StatusCode::OK, 0));
}

#[test]
fn what_is_written_slowly_is_registered_when_it_is_whole() {
    let world = World::new();
    let mut file = fs::File::create(world.path(FILE)).unwrap();
    file.write_all(b"first half, ").unwrap();
    // It has settled, and is not taken: its writer is there.
    until("the writer to be seen", || world.waits_for_writer(FILE));
    assert!(!world.is_registered(FILE));
    assert_eq!(world.get(&format!("/binaries/{FILE}")).0, StatusCode::NOT_FOUND);
    file.write_all(b"second half").unwrap();
    drop(file);
    until("the file", || world.is_registered(FILE));
    assert_eq!(world.checksum_of(FILE), Some(checksum(b"first half, second half")));
}

#[test]
fn what_is_renamed_while_it_is_written_is_registered_when_it_is_whole() {
    let world = World::new();
    let temporary = world.path(".upload");
    let mut file = fs::File::create(&temporary).unwrap();
    file.write_all(b"half, ").unwrap();
    fs::rename(&temporary, world.path(FILE)).unwrap();
    until("the writer to be seen", || world.waits_for_writer(FILE));
    file.write_all(b"and half").unwrap();
    drop(file);
    until("the file", || world.is_registered(FILE));
    assert_eq!(world.checksum_of(FILE), Some(checksum(b"half, and half")));
}

#[test]
fn what_is_there_at_the_start_is_registered_and_hashed_once() {
    let mut world = World::with(&[(FILE, b"the bytes"), ("README", b"no binary")], false);
    until("the file", || world.is_registered(FILE));
    until("readiness", || world.binaries.is_ready());
    assert!(world.refusal_of("README").unwrap().contains("NAME-VERSION-PLATFORM-ARCH"));
    let sums = world.scratch.path().join("cache/binaries.json");
    until("the checksums", || sums.exists());
    world.binaries.stop();
    // What was kept is believed, so it is not hashed again.
    let kept = fs::read_to_string(&sums).unwrap();
    fs::write(&sums, kept.replace(&checksum(b"the bytes"), &"a".repeat(64))).unwrap();
    world.binaries = start(world.scratch.path(), None);
    until("the file", || world.is_registered(FILE));
    assert_eq!(world.checksum_of(FILE), Some("a".repeat(64)));
    world.binaries.stop();
    // Of another file it is not.
    world.place(FILE, b"the BYTES");
    world.binaries = start(world.scratch.path(), None);
    until("the file", || world.is_registered(FILE));
    assert_eq!(world.checksum_of(FILE), Some(checksum(b"the BYTES")));
}

#[test]
fn what_changes_or_goes_is_followed() {
    let world = World::new();
    world.register(FILE, b"one");
    world.register(FILE, b"another");
    // In place.
    fs::write(world.path(FILE), b"a third").unwrap();
    until("the change", || world.checksum_of(FILE) == Some(checksum(b"a third")));
    fs::rename(world.path(FILE), world.path("tool-1.0.1-linux-x86_64")).unwrap();
    until("the rename", || world.is_registered("tool-1.0.1-linux-x86_64") && !world.is_registered(FILE));
    fs::remove_file(world.path("tool-1.0.1-linux-x86_64")).unwrap();
    until("the removal", || world.binaries.list(None).is_empty());
    assert_eq!(world.get("/api/binaries/latest/linux/x86_64").0, StatusCode::NOT_FOUND);
}

#[test]
fn a_folder_that_appears_goes_and_comes_back_is_watched() {
    let world = World::new();
    let (folder, away) = (world.scratch.path().join("folder"), world.scratch.path().join("away"));
    world.register(FILE, b"one");
    fs::rename(&folder, &away).unwrap();
    until("the problem", || world.binaries.status().problem.is_some() && !world.is_registered(FILE));
    fs::create_dir(&folder).unwrap();
    world.register("tool-2.0.0-linux-x86_64", b"two");
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    until("the first", || world.is_registered(FILE) && world.binaries.status().problem.is_none());
}

#[test]
fn what_is_no_file_of_the_folder_is_refused_with_the_reason() {
    let world = World::new();
    fs::write(world.scratch.path().join("secret"), b"secret").unwrap();
    std::os::unix::fs::symlink("../secret", world.path("link-1.0.0-linux-x86_64")).unwrap();
    fs::create_dir(world.path("folder-1.0.0-linux-x86_64")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        world.path("pipe-1.0.0-linux-x86_64"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    for (name, reason) in
        [("link", "leads out of the folder"), ("folder", "a directory"), ("pipe", "a named pipe")]
    {
        let file = format!("{name}-1.0.0-linux-x86_64");
        until(reason, || world.refusal_of(&file).is_some_and(|refusal| refusal.contains(reason)));
        assert_eq!(world.get(&format!("/binaries/{file}")).0, StatusCode::NOT_FOUND);
    }
    let (status, answer) = world.get("/api/binaries/status");
    assert_eq!((status, answer["refused"].as_array().unwrap().len()), (StatusCode::OK, 3));
    // A registered file that becomes a link gives nothing away.
    world.register(FILE, b"secret");
    fs::remove_file(world.path(FILE)).unwrap();
    std::os::unix::fs::symlink("../secret", world.path(FILE)).unwrap();
    assert!(
        [StatusCode::CONFLICT, StatusCode::NOT_FOUND].contains(&world.get(&format!("/binaries/{FILE}")).0)
    );
    until("the refusal", || world.refusal_of(FILE).is_some());
}

#[test]
fn paths_lead_nowhere_else() {
    let world = World::new();
    fs::write(world.scratch.path().join("secret"), b"secret").unwrap();
    fs::write(world.path("not-registered"), b"secret").unwrap();
    world.register(FILE, b"the bytes");
    for name in [
        "..%2fsecret",
        "%2e%2e%2fsecret",
        "..",
        "%2e%2e",
        "..%5csecret",
        "%2fetc%2fpasswd",
        "a%00b",
        "%00",
        "tool-1.0.0-linux-x86_64%00",
        "tool-1.0.0-linux-x86_64%2f",
        "tool-1.0.0-linux-x86_64%2f..%2f..%2fsecret",
        "not-registered",
        "%ff%fe",
        "%",
        "%zz",
        "%c0%ae%c0%ae%2fsecret",
        ".",
        "TOOL-1.0.0-linux-x86_64",
    ] {
        let (response, bytes) = world.ask(Method::GET, &format!("/binaries/{name}"), &[], "");
        let status = response.status();
        assert!([StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST].contains(&status), "{name}: {status}");
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        assert!(answer["error"]["message"].is_string(), "{name}: {answer}");
        let path = format!("/api/binaries/{name}/linux/x86_64");
        let status = world.get(&path).0;
        assert!([StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST].contains(&status), "{path}: {status}");
    }
    // More than one name: another path.
    for path in ["/binaries/../secret", "/binaries/x/../../secret", "/binaries//etc/passwd", "/binaries/"] {
        assert_eq!(world.ask(Method::GET, path, &[], "").0.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[test]
fn a_file_that_changes_while_it_is_sent_ends_early() {
    let world = World::new();
    let bytes = vec![b'a'; 4 << 20];
    world.register(FILE, &bytes);
    let request = || Request::get(format!("/binaries/{FILE}")).body(Body::empty()).unwrap();
    let mut body = world.send(request()).into_body();
    let first = world.runtime.block_on(body.frame()).unwrap().unwrap().into_data().unwrap();
    assert!(first.iter().all(|byte| *byte == b'a'));
    // In place: the same length, other bytes.
    let mut file = OpenOptions::new().write(true).open(world.path(FILE)).unwrap();
    file.write_all(&vec![b'b'; 4 << 20]).unwrap();
    let rest = world.runtime.block_on(body.collect());
    assert!(rest.is_err(), "bytes of a changed file were sent");
    // And nothing is sent before it is registered again.
    assert_eq!(world.send(request()).status(), StatusCode::CONFLICT);
    drop(file);
    until("the change", || world.checksum_of(FILE) == Some(checksum(&vec![b'b'; 4 << 20])));
    // A file that is replaced by a rename is sent to its end: it is still what it was.
    let mut body = world.send(request()).into_body();
    world.runtime.block_on(body.frame()).unwrap().unwrap();
    world.place(FILE, b"new");
    let rest = world.runtime.block_on(body.collect()).unwrap().to_bytes();
    assert!(rest.iter().all(|byte| *byte == b'b'));
}

#[test]
fn what_many_take_while_it_is_replaced_is_what_its_checksum_says() {
    let world = World::new();
    world.register(FILE, &vec![0; 600_000]);
    let router = world.router();
    let take = |router: axum::Router| async move {
        let mut whole = 0;
        for _ in 0..40 {
            let request = Request::get(format!("/binaries/{FILE}")).body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            if response.status() != StatusCode::OK {
                assert!([StatusCode::CONFLICT, StatusCode::NOT_FOUND].contains(&response.status()));
                tokio::task::yield_now().await;
                continue;
            }
            let said = response.headers()["x-checksum-sha256"].to_str().unwrap().to_owned();
            // Cut off is allowed, other bytes are not.
            if let Ok(body) = response.into_body().collect().await {
                assert_eq!(checksum(&body.to_bytes()), said);
                whole += 1;
            }
        }
        whole
    };
    let takers: Vec<_> = (0..8).map(|_| world.runtime.spawn(take(router.clone()))).collect();
    for round in 1..=20_u8 {
        if round % 2 == 0 {
            fs::write(world.path(FILE), vec![round; 600_000]).unwrap();
        } else {
            world.place(FILE, &vec![round; 600_000]);
        }
    }
    for taker in takers {
        world.runtime.block_on(taker).unwrap();
    }
    until("the last", || world.checksum_of(FILE) == Some(checksum(&vec![20; 600_000])));
}

#[test]
fn a_thousand_files_are_registered_and_listed() {
    let files: Vec<(String, Vec<u8>)> = (0..1000)
        .map(|number| (format!("tool-1.{}.{}-linux-x86_64", number / 50, number % 50), vec![b'x'; number]))
        .collect();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let world = World::with(&files, false);
    until("all", || world.binaries.status().registered == 1000);
    let (_, list) = world.get("/api/binaries");
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 1000);
    for record in list {
        let size = usize::try_from(record["size_bytes"].as_u64().unwrap()).unwrap();
        assert_eq!(record["checksum"].as_str().unwrap(), checksum(&vec![b'x'; size]));
    }
    assert_eq!(world.version_at("/api/binaries/latest/linux/x86_64"), "1.19.49");
    for (name, _) in &files[..900] {
        fs::remove_file(world.path(name)).unwrap();
    }
    until("the removal", || world.binaries.status().registered == 100);
}

#[test]
fn registered_files_are_in_the_store() {
    let world = World::with(&[], true);
    let store = cairn_store::Store::open(&world.scratch.path().join("store")).unwrap();
    let key = |name: &str, platform: &str| RefKey {
        name: name.parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        platform: platform.parse().unwrap(),
    };
    let artifact_of = |key: &RefKey| store.view().unwrap().refs.get(key).map(|record| record.artifact);
    let content = |key: &RefKey, path: &str| {
        let mut bytes = Vec::new();
        let mut file = store.open_file(&artifact_of(key)?, path.as_bytes()).ok()?;
        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        Some(bytes)
    };
    world.register(FILE, b"one");
    world.register("mac-1.0.0-darwin-aarch64", b"mac");
    world.register("win-1.0.0-windows-x86.exe", b"win");
    world.register("Upper-1.0.0-linux-x86_64", b"no name of the store");
    let tool = key("tool", "linux/x86_64");
    until("the first", || content(&tool, "tool").as_deref() == Some(b"one"));
    let commands = store.commands(&artifact_of(&tool).unwrap()).unwrap();
    assert_eq!(commands.into_iter().collect::<Vec<_>>(), [(b"tool".to_vec(), b"tool".to_vec())]);
    until("mac", || content(&key("mac", "macos/aarch64"), "mac").as_deref() == Some(b"mac"));
    until("win", || content(&key("win", "windows/x86"), "win.exe").as_deref() == Some(b"win"));
    until("the refusal", || world.binaries.status().not_in_store.len() == 1);
    assert!(world.binaries.status().not_in_store[0].reason.contains("upper-case"));
    world.register(FILE, b"two");
    until("the second", || content(&tool, "tool").as_deref() == Some(b"two"));
    fs::remove_file(world.path(FILE)).unwrap();
    until("the removal", || !world.is_registered(FILE));
    assert_eq!(content(&tool, "tool").as_deref(), Some(&b"two"[..]));
    // While the store is held, nothing is added.
    let hold = world.binaries.hold_store();
    world.register("later-1.0.0-linux-x86_64", b"later");
    assert_eq!(artifact_of(&key("later", "linux/x86_64")), None);
    drop(hold);
    until("the held", || artifact_of(&key("later", "linux/x86_64")).is_some());
}

#[test]
fn a_version_from_elsewhere_is_not_replaced() {
    let scratch = tempfile::tempdir().unwrap();
    fs::create_dir(scratch.path().join("folder")).unwrap();
    let writer = writer(scratch.path());
    let mut options = IngestOptions::package("tool".parse().unwrap(), "1.0.0".parse().unwrap());
    options.platform = Some("linux/x86_64".parse().unwrap());
    let reader = Box::new(&b"from elsewhere"[..]);
    let input = Input::Reader { name: "tool".to_owned(), executable: true, reader };
    let foreign = writer.ingest(input, &options, &()).unwrap();
    writer.publish(&foreign, &PublishOptions::default()).unwrap();
    fs::write(scratch.path().join("folder").join(FILE), b"of the folder").unwrap();
    let binaries = start(scratch.path(), Some(writer.signed("folder".to_owned())));
    until("the refusal", || !binaries.status().not_in_store.is_empty());
    assert!(binaries.status().not_in_store[0].reason.contains("from elsewhere"));
    assert_eq!(writer.names().refs[&foreign.key].artifact, foreign.artifact);
    assert_eq!(binaries.list(None)[0].checksum, checksum(b"of the folder"));
}
