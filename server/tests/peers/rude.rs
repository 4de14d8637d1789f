//! Clients that mean no good, or know no better: whatever they do, others are answered.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use cairn_server::PeerLimits;
use harness::bytes::noise;
use harness::program::until;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::http::{ask, connect, get, receive, send};
use crate::served::{Folder, Setup};

/// The settings of the process that only holds connections.
const ADDRESS: &str = "CAIRN_TEST_ADDRESS";
const COUNT: &str = "CAIRN_TEST_COUNT";
/// Descriptors that other tests have open meanwhile.
const OTHERS: u64 = 4000;

fn is_answered(address: SocketAddr) {
    assert_eq!(get(address, "/v1/peer").status, 200);
}

#[test]
fn random_bytes() {
    let folder = Folder::new();
    let served = folder.serve(Setup::default());
    for seed in 0..200 {
        let mut stream = connect(served.address);
        let mut bytes = noise(seed, 2000);
        // Some begin as if they knew how.
        let begins: [&[u8]; 5] = [
            b"",
            b"GET ",
            b"GET / HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00",
        ];
        bytes.splice(0..0, begins[usize::try_from(seed).unwrap() % 5].iter().copied());
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    is_answered(served.address);
    until("all of them are gone", || served.api.open() == 0);
}

#[test]
fn requests_that_contradict_themselves() {
    let folder = Folder::new();
    let served = folder.serve(Setup::default());
    for text in [
        "GET /v1/peer HTTP/9.9\r\nhost: t\r\n\r\n",
        "GET  HTTP/1.1\r\n\r\n",
        "GET /v1/peer\0 HTTP/1.1\r\nhost: t\r\n\r\n",
        "GET /v1/\u{fffd} HTTP/1.1\r\nhost: t\r\n\r\n",
        "GET http://else.where/v1/peer HTTP/1.1\r\nhost: t\r\n\r\n",
        "POST /v1/have HTTP/1.1\r\nhost: t\r\ncontent-length: -1\r\n\r\n",
        "POST /v1/have HTTP/1.1\r\nhost: t\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        "POST /v1/have HTTP/1.1\r\nhost: t\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n12345",
        "POST /v1/have HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "POST /v1/have HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "CONNECT else.where:80 HTTP/1.1\r\nhost: t\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: t\r\n\r\n",
    ] {
        let mut stream = connect(served.address);
        stream.write_all(text.as_bytes()).unwrap();
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let is_refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(is_refused || text.contains("http://else.where"), "{text:?} {answer}");
    }
    is_answered(served.address);
}

#[test]
fn half_closed_sockets_get_their_answers() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 4 << 20);
    let served = folder.serve(Setup::default());
    let path = format!("/v1/delta/none/{artifact}");
    let whole = get(served.address, &path).body;
    let mut stream = connect(served.address);
    send(&mut stream, "GET", &path, &[], b"");
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(receive(&mut stream, false).unwrap().body == whole);
}

#[test]
fn clients_that_go_away_leave_nothing_behind() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 8 << 20);
    let served = folder.serve(Setup::default());
    for _ in 0..50 {
        let mut stream = connect(served.address);
        send(&mut stream, "GET", &format!("/v1/delta/none/{artifact}"), &[], b"");
        stream.read_exact(&mut [0; 50]).unwrap();
    }
    until("all of them are forgotten", || {
        served.metric("cairn_transfers_running") == 0.0 && served.metric("cairn_requests_running") == 1.0
    });
    is_answered(served.address);
}

/// As many descriptors as this process may have.
fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[test]
#[ignore = "thousands_of_connections_that_say_nothing runs it, as a process with descriptors of its own"]
fn holds_connections() {
    let Ok(address) = std::env::var(ADDRESS) else { return };
    let (address, count) = (address.parse().unwrap(), std::env::var(COUNT).unwrap().parse().unwrap());
    raise_descriptors();
    let mut streams = Vec::new();
    for n in 0..count {
        let mut stream = connect(address);
        if n % 2 == 0 {
            // It may have had to make room already.
            let _ = stream.write_all(b"GET /v1/peer HTTP/1.1\r\nhost:");
        }
        streams.push(stream);
        if n % 1000 == 999 {
            eprintln!("{} connections", n + 1);
        }
    }
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

#[test]
fn thousands_of_connections_that_say_nothing() {
    let folder = Folder::new();
    let descriptors = raise_descriptors();
    let count = descriptors.saturating_sub(OTHERS).min(10_000) / 1000 * 1000;
    if count < 10_000 {
        eprintln!("skipped in part: {count} connections, not 10,000: there are {descriptors} descriptors");
    }
    let connections = usize::try_from(count * 9 / 10).unwrap();
    let limits = PeerLimits { connections, ..PeerLimits::default() };
    let served = folder.serve(Setup { limits, ..Setup::default() });
    is_answered(served.address);
    let before = resident_bytes();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "rude::holds_connections"]);
    command.env(ADDRESS, served.address.to_string()).env(COUNT, count.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    for _ in 0..count / 1000 {
        lines.next().unwrap().unwrap();
        is_answered(served.address);
    }
    let took = resident_bytes().saturating_sub(before);
    assert!(served.metric("cairn_connections_total") > count as f64);
    // Who holds them ends when nobody speaks to him any more.
    drop(child.stdin.take());
    harness::program::finish(child);
    assert!(took < 256 << 20, "{count} connections took {took} bytes");
}

#[test]
fn others_are_answered_while_many_stall() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 8 << 20);
    let limits = PeerLimits {
        transfers: 300,
        transfers_per_client: 300,
        stall_time_max: Duration::from_secs(600),
        ..PeerLimits::default()
    };
    let served = folder.serve(Setup { limits, ..Setup::default() });
    let (path, before) = (format!("/v1/delta/none/{artifact}"), resident_bytes());
    let mut stalled = Vec::new();
    for _ in 0..200 {
        let mut stream = connect(served.address);
        send(&mut stream, "GET", &path, &[], b"");
        stream.read_exact(&mut [0; 50]).unwrap();
        stalled.push(stream);
    }
    let mut slow = connect(served.address);
    slow.write_all(b"POST /v1/chunks HTTP/1.1\r\nhost: t\r\ncontent-length: 320\r\n\r\n1").unwrap();
    for n in 0..5 {
        // It may have been noticed by then that this is no list of ids.
        let _ = slow.write_all(&[n]);
        is_answered(served.address);
        assert!(get(served.address, &path).body.len() > 8 << 20);
        assert_eq!(ask(served.address, "POST", "/v1/have", &[], &[0; 64]).status, 200);
    }
    let took = resident_bytes().saturating_sub(before);
    assert!(took < 256 << 20, "{took} bytes");
}

/// Memory of this process that is in use, as the kernel counts it.
fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
