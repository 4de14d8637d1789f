//! Who is let in, who serves, and what is said to whom who is not or does not.

use std::fs;

use harness::program::{finish, text};
use rustix::process::Signal;

use crate::world::World;

#[test]
fn a_token_lets_in_for_what_it_is_good_for() {
    let world = World::new();
    let origin = world.origin();
    let tokens = origin.path("tokens.json");
    let make = |arguments: &[&str]| {
        let made = origin.json(&[&["token", "create"], arguments].concat()).remove(0);
        (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned())
    };
    let (read_id, read) = make(&["--scope", "read"]);
    let (_, other) = make(&["--scope", "read", "--names", "other*", "--expires", "30d"]);
    let server = origin.serve(&["--token-file", tokens.to_str().unwrap()]);
    let node = world.node("node");
    let pull = ["pull", "tool@1", "--from", &server.url];
    let with = |token: &str| finish(node.command(&pull).env("CAIRN_TOKEN", token).spawn().unwrap());
    for token in ["", "cairn_wrong", &other] {
        let output = with(token);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(7), "{token}: {said}");
        assert!(said.contains(&server.url) && said.contains("--token-file"), "{said}");
        assert!(!node.has("tool@1"));
    }
    let refused = finish(node.command(&pull).arg("--json").spawn().unwrap());
    let refused: serde_json::Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert_eq!(refused["error"]["kind"], "refused");
    assert!(with(&read).status.success());
    node.check(1);
    // The token that is kept with the peer lets in too.
    fs::write(world.path("token"), format!("{read}\n")).unwrap();
    node.good(&["peers", "add", &server.url, "--token-file", "token"]);
    let peers = node.json(&["peers", "ls"]).remove(0);
    assert_eq!((&peers["url"], &peers["token"]), (&server.url.as_str().into(), &true.into()));
    assert!(!peers.to_string().contains(&read));
    node.good(&["pull", "tool@2"]);
    // Reading is not publishing.
    let refused = node.bad(7, &["push", "tool@2", "--to", &server.url]);
    assert!(refused.contains("publish"), "{refused}");
    // From the moment of its revocation on it lets nobody in.
    origin.good(&["token", "revoke", &read_id]);
    assert_eq!(with(&read).status.code(), Some(7));
    let left = origin.json(&["token", "ls"]);
    assert_eq!(left.len(), 1);
    assert_eq!((&left[0]["names"][0], &left[0]["expired"]), (&"other*".into(), &false.into()));
    assert!(origin.bad(3, &["token", "revoke", &read_id]).contains("token ls"));
    // Neither store nor log has a token in it.
    let kept = fs::read_to_string(tokens).unwrap() + &origin.log() + &node.log();
    assert!(!kept.contains(&read) && !kept.contains(&other));
}

#[test]
fn an_address_that_others_reach_takes_tls_and_a_token() {
    let world = World::new();
    let origin = world.origin();
    let public = ["serve", "--listen", "0.0.0.0:0"];
    let refused = origin.bad(2, &public);
    assert!(refused.contains("there is no TLS") && refused.contains("--insecure-public"), "{refused}");
    let server = origin.begin(&[&public[..], &["--insecure-public"]].concat(), Vec::new());
    let url = format!("http://127.0.0.1:{}", server.port());
    world.node("node").good(&["pull", "tool@1", "--from", &url]);
    // A port that is taken is said to be, and nothing is left behind.
    let other = world.node("other");
    let taken = other.bad(5, &["serve", "--listen", &format!("127.0.0.1:{}", server.port())]);
    assert!(taken.contains("another program listens"), "{taken}");
    assert_eq!(other.status()["daemon"], serde_json::Value::Null);
    let busy = origin.bad(5, &["serve", "--listen", "127.0.0.1:0"]);
    assert!(busy.contains("daemon --takeover --listen"), "{busy}");
}

#[test]
fn settings_come_from_the_environment_too() {
    let world = World::new();
    let origin = world.origin();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let mut child = origin.command(&["serve"]).env("HTTP_PORT", &port).spawn().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut said).unwrap();
    let url = origin.status()["serving"]["url"].clone();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    let output = finish(child);
    assert_eq!(url, format!("http://127.0.0.1:{port}"), "{}", text(&output.stderr));
    assert!(output.status.success());
    let wrong = finish(origin.command(&["serve"]).env("HTTP_PORT", "http").spawn().unwrap());
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn who_does_not_answer_and_who_does_not_have_it_are_told_apart() {
    let world = World::new();
    let server = world.origin().serve(&[]);
    let node = world.node("node");
    let absent = node.bad(3, &["pull", "tool@3", "--from", &server.url]);
    assert!(absent.contains("tool@3") && absent.contains(&server.url), "{absent}");
    let url = server.url.clone();
    server.kill();
    let away = node.bad(6, &["pull", "tool@1", "--from", &url]);
    assert!(away.contains(&url) && away.contains("hint"), "{away}");
    let nobody = node.bad(6, &["pull", "tool@1"]);
    assert!(nobody.contains("cairn peers add"), "{nobody}");
    for wrong in ["ftp://x", "http://user:secret@x", "not a url"] {
        let refused = node.bad(2, &["pull", "tool@1", "--from", wrong]);
        assert!(!refused.contains("secret") || wrong.contains("secret"), "{refused}");
    }
}

#[test]
fn peers_are_added_listed_and_removed() {
    let world = World::new();
    let node = world.node("node");
    assert!(node.json(&["peers", "ls"]).is_empty());
    let added = node.json(&["peers", "add", "http://127.0.0.1:1/"]).remove(0);
    assert_eq!((&added["url"], &added["change"]), (&"http://127.0.0.1:1".into(), &"added".into()));
    assert_eq!(node.json(&["peers", "add", "http://127.0.0.1:1"])[0]["change"], "changed");
    // It is asked, and what became of it noted.
    assert!(node.bad(6, &["pull", "tool@1"]).contains("http://127.0.0.1:1"));
    assert!(node.good(&["peers", "ls"]).contains("http://127.0.0.1:1"));
    assert_eq!(node.json(&["peers", "rm", "http://127.0.0.1:1"])[0]["change"], "removed");
    assert!(node.bad(3, &["peers", "rm", "http://127.0.0.1:1"]).contains("peers ls"));
}

#[test]
fn a_takeover_refuses_nobody_who_connects() {
    let world = World::new();
    let origin = world.origin();
    // Nobody here is to be told that they ask too much.
    let mut server = origin.serve(&["--rate", "1000000"]);
    let url = server.url.clone();
    let node = world.node("node");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let address = url.trim_start_matches("http://");
            let mut asked = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) || asked == 0 {
                let answer = ask(address, "/v1/peer");
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                asked += 1;
            }
            asked
        });
        for _ in 0..5 {
            let next = origin.begin(&["daemon", "--takeover"], Vec::new());
            assert_eq!(next.url, url);
            let old = std::mem::replace(&mut server, next);
            assert_eq!(old.ended(), Some(0));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(asked.join().unwrap() > 5);
    });
    node.good(&["pull", "tool@1", "--from", &url]);
    // A successor can also be told to listen elsewhere, or nowhere.
    let next = origin.begin(&["daemon", "--takeover", "--listen", "off"], Vec::new());
    assert_eq!(next.url, "");
    assert_eq!(server.ended(), Some(0));
    node.bad(6, &["pull", "tool@2", "--from", &url]);
}

/// One request on a connection of its own; gives the whole answer.
fn ask(address: &str, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(harness::program::DEADLINE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: cairn\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
