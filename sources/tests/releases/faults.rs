//! Downloads that break off, stall, lie and are resumed.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cairn_sources::release::Found;
use cairn_sources::{Error, Sha256};

use crate::release_server::{Answer, Fault, ReleaseServer};
use crate::setup::*;

const PATH: &str = "/app-1.2/cli-linux-amd64";
const LEN: usize = 3_000_000;

/// A server with one program, and where it is found.
fn started() -> (ReleaseServer, Setup, Found, Vec<u8>) {
    let server = ReleaseServer::start();
    let body = noise(1, LEN);
    server.file(PATH, body.clone());
    server.file("/app-1.2/SHA256SUMS", sums(&[("cli-linux-amd64", &body)]));
    let setup = Setup::plain(&server.url(), &["cli"]);
    let found = setup.find("1.2").unwrap();
    assert_eq!(found.assets[0].size, Some(LEN as u64));
    server.forget();
    (server, setup, found, body)
}

/// From where on the file was asked for, each time; -1 for the whole.
fn ranges(server: &ReleaseServer) -> Vec<i64> {
    let asked = server.asked(PATH);
    let range = |range: &String| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok();
    asked.iter().map(|seen| seen.headers.get("range").and_then(range).unwrap_or(-1)).collect()
}

fn is_whole(setup: &Setup, body: &[u8]) {
    assert!(setup.laid()["cli"] == body, "other bytes were laid");
    // Nothing that was unfinished is left.
    let left: Vec<_> = files(&setup.downloads()).into_keys().collect();
    assert_eq!(left, [Sha256::of(body).to_string()]);
    let (expected, came) =
        (setup.watch.expected.load(Ordering::Relaxed), setup.watch.came.load(Ordering::Relaxed));
    assert_eq!((expected, came), (LEN as u64, LEN as i64));
}

#[test]
fn what_breaks_off_goes_on_where_it_did() {
    let (server, setup, found, body) = started();
    server.fail(PATH, Fault::Truncate(1_000_000));
    server.fail(PATH, Fault::Truncate(500_000));
    server.fail(PATH, Fault::Close);
    server.fail(PATH, Fault::Answer(Answer::new(503, "")));
    let brought = setup.bring(&found).unwrap();
    assert_eq!(brought.wire_bytes, LEN as u64);
    assert_eq!(ranges(&server), [-1, 1_000_000, 1_500_000, 1_500_000, 1_500_000]);
    let asked = server.asked(PATH);
    assert!(asked[1].headers["if-range"].starts_with('"'), "{asked:?}");
    is_whole(&setup, &body);
}

#[test]
fn what_stalls_or_trickles_is_broken_off_and_goes_on() {
    for fault in [Fault::Stall(1_000_000), Fault::Trickle(1_000_000)] {
        let (server, setup, found, body) = started();
        server.fail(PATH, fault);
        let began = Instant::now();
        let brought = setup.bring(&found).unwrap();
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_eq!(brought.wire_bytes, LEN as u64);
        assert!(ranges(&server)[1] >= 1_000_000, "{:?}", ranges(&server));
        is_whole(&setup, &body);
    }
}

#[test]
fn a_download_that_never_gets_anywhere_is_given_up() {
    let (server, setup, found, _) = started();
    for _ in 0..5 {
        server.fail(PATH, Fault::Truncate(1000));
    }
    let text = told(setup.bring(&found));
    assert!(text.contains("(asked 5 times)") && text.ends_with("what has come so far is kept"), "{text}");
    assert_eq!(setup.laid().len(), 0);
    assert_eq!(ranges(&server).len(), 5);
    // Another process goes on with what came.
    server.forget();
    setup.bring(&found).unwrap();
    assert_eq!(ranges(&server), [5000]);
}

#[test]
fn a_download_that_gets_on_is_not_given_up() {
    let (server, setup, found, body) = started();
    // Each time comes more than the MiB after which what fails fails for the first time.
    for _ in 0..2 {
        for _ in 0..3 {
            server.fail(PATH, Fault::Close);
        }
        server.fail(PATH, Fault::Truncate(1_100_000));
    }
    setup.bring(&found).unwrap();
    is_whole(&setup, &body);
}

#[test]
fn wrong_bytes_are_brought_once_again_and_then_not_believed() {
    let (server, setup, found, body) = started();
    server.fail(PATH, Fault::Corrupt);
    setup.bring(&found).unwrap();
    assert_eq!(ranges(&server), [-1, -1]);
    assert_eq!(server.asked(PATH)[1].headers["cache-control"], "no-cache");
    assert!(setup.watch.warned.lock().unwrap()[0].contains("is not what it has to be"));
    is_whole(&setup, &body);

    let (server, setup, found, body) = started();
    let mut wrong = body.clone();
    wrong[LEN - 1] ^= 1;
    server.file(PATH, wrong.clone());
    let error = setup.bring(&found).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Untrusted { .. }), "{text}");
    assert!(text.contains(&Sha256::of(&wrong).to_string()) && text.contains(&Sha256::of(&body).to_string()));
    assert_eq!((files(&setup.downloads()).len(), setup.laid().len()), (0, 0));
}

#[test]
fn ranges_that_are_not_what_was_asked_for_are_not_put_together() {
    for fault in [Fault::IgnoreRange, Fault::WrongRange] {
        let (server, setup, found, body) = started();
        server.fail(PATH, Fault::Truncate(1_000_000));
        server.fail(PATH, fault);
        setup.bring(&found).unwrap();
        is_whole(&setup, &body);
    }
}

#[test]
fn a_file_that_changes_between_is_begun_again() {
    let (server, setup, found, body) = started();
    server.file(PATH, noise(2, LEN));
    server.fail(PATH, Fault::Truncate(1_000_000));
    for _ in 0..4 {
        server.fail(PATH, Fault::Close);
    }
    assert!(setup.bring(&found).is_err());
    setup.watch.came.store(0, Ordering::Relaxed);
    setup.watch.expected.store(0, Ordering::Relaxed);
    server.file(PATH, body.clone());
    server.forget();
    setup.bring(&found).unwrap();
    // The tag of what came before is no longer that of the file, so the whole came.
    assert_eq!(ranges(&server), [1_000_000]);
    is_whole(&setup, &body);
}

#[test]
fn what_is_longer_or_shorter_than_it_says_is_not_taken() {
    let (server, setup, found, body) = started();
    server.fail(PATH, Fault::Longer(1));
    let text = told(setup.bring(&found));
    assert!(text.contains("it is longer than 3000000 bytes"), "{text}");
    server.forget();
    server.fail(PATH, Fault::Shorter(10));
    setup.bring(&found).unwrap();
    assert!(setup.laid()["cli"] == body);

    let (server, setup, found, _) = started();
    server.file(PATH, noise(1, LEN - 1));
    let text = told(setup.bring(&found));
    assert!(text.contains("it is 2999999 bytes long, not 3000000 bytes"), "{text}");
    server.remove(PATH);
    assert!(told(setup.bring(&found)).starts_with("there is no cli-linux-amd64 at http://"));
}

#[test]
fn a_damaged_download_is_noticed() {
    let (server, setup, found, body) = started();
    setup.bring(&found).unwrap();
    let path = setup.downloads().join(Sha256::of(&body).to_string());
    std::fs::write(&path, b"something else").unwrap();
    std::fs::remove_dir_all(setup.to()).unwrap();
    server.forget();
    setup.bring(&found).unwrap();
    assert_eq!(ranges(&server), [-1]);
    assert!(setup.laid()["cli"] == body);
    assert!(setup.watch.warned.lock().unwrap()[0].contains("was damaged"));
    // So is the beginning of one, as after a loss of power.
    std::fs::remove_dir_all(setup.to()).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(path.with_extension("part"), vec![0; 1_000_000]).unwrap();
    std::fs::write(path.with_extension("note"), b"not even a note").unwrap();
    server.forget();
    setup.bring(&found).unwrap();
    assert_eq!(ranges(&server), [1_000_000, -1]);
    assert!(setup.laid()["cli"] == body);
}

#[test]
fn a_download_that_is_to_stop_stops_and_is_kept() {
    let (server, setup, found, body) = started();
    server.fail(PATH, Fault::Stall(1_000_000));
    let mut slow = Setup::plain(&server.url(), &["cli"]);
    slow.options.timeouts.idle = Duration::from_secs(60);
    slow.folder = setup.folder;
    let stopped = std::thread::scope(|scope| {
        let bringing = scope.spawn(|| slow.bring(&found));
        let deadline = Instant::now() + Duration::from_secs(20);
        while slow.watch.came.load(Ordering::Relaxed) < 1_000_000 {
            assert!(Instant::now() < deadline, "nothing came");
            std::thread::yield_now();
        }
        let told_to_stop = Instant::now();
        slow.watch.is_cancelled.store(true, Ordering::Relaxed);
        assert!(matches!(bringing.join().unwrap(), Err(Error::Cancelled)));
        told_to_stop.elapsed()
    });
    assert!(stopped < Duration::from_millis(1000), "{stopped:?}");
    slow.watch.is_cancelled.store(false, Ordering::Relaxed);
    server.forget();
    slow.bring(&found).unwrap();
    assert_eq!(ranges(&server), [1_000_000]);
    assert!(slow.laid()["cli"] == body);
}

#[test]
fn of_several_files_the_one_that_failed_is_told() {
    let server = ReleaseServer::start();
    let names: Vec<_> = (0..6).map(|number| format!("p{number}")).collect();
    let bodies: Vec<_> = (0..6).map(|seed| noise(seed, 100_000)).collect();
    let assets: Vec<_> = names.iter().map(|name| format!("{name}-linux-amd64")).collect();
    let listed: Vec<_> = assets.iter().zip(&bodies).map(|(name, body)| (name.as_str(), &body[..])).collect();
    for (name, body) in &listed {
        server.file(&format!("/app-1.2/{name}"), *body);
    }
    server.file("/app-1.2/SHA256SUMS", sums(&listed));
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut setup = Setup::plain(&server.url(), &names);
    setup.options.timeouts.idle = Duration::from_secs(60);
    let found = setup.find("1.2").unwrap();
    // The others would wait for a minute.
    server.fail("/app-1.2/p0-linux-amd64", Fault::Stall(10));
    server.fail("/app-1.2/p2-linux-amd64", Fault::Stall(10));
    server.remove("/app-1.2/p1-linux-amd64");
    let began = Instant::now();
    let text = told(setup.bring(&found));
    assert!(text.starts_with("there is no p1-linux-amd64"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(20));
    server.file("/app-1.2/p1-linux-amd64", bodies[1].clone());
    std::fs::remove_dir_all(setup.to()).unwrap();
    setup.bring(&found).unwrap();
    let laid = setup.laid();
    assert!(laid.len() == 6 && laid.iter().zip(&bodies).all(|((_, laid), body)| laid == body));
}
