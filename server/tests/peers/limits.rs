//! Every limit, and what is answered where it is met.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use cairn_server::{Access, PeerLimits, Scope};
use harness::program::until;

use crate::http::{ask, connect, get, get_with, receive, send};
use crate::served::{Folder, Setup, token};

fn with(limits: PeerLimits) -> Setup {
    Setup { limits, ..Setup::default() }
}

#[test]
fn requests_a_second_are_counted_by_client() {
    let folder = Folder::new();
    let tokens = folder.tokens();
    let [one, two] = [(); 2].map(|()| format!("Bearer {}", token(&tokens, Scope::Read, &[])));
    let limits = PeerLimits { rate_per_client: 0.01, burst_per_client: 3, ..PeerLimits::default() };
    let access = Access { anonymous_reads: true, ..Access::by_tokens(tokens) };
    let served = folder.serve(Setup { limits, access, ..Setup::default() });
    for _ in 0..3 {
        assert_eq!(get_with(served.address, "/v1/peer", &[("authorization", &one)]).status, 200);
    }
    let refused = get_with(served.address, "/v1/peer", &[("authorization", &one)]);
    assert_eq!((refused.status, refused.kind().as_str()), (429, "busy"));
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=100).contains(&wait), "{wait}");
    assert_eq!(get_with(served.address, "/v1/peer", &[("authorization", &two)]).status, 200);
    // Guesses are the address's.
    for expected in [401, 401, 401, 429] {
        let guess = get_with(served.address, "/v1/peer", &[("authorization", "Bearer cairn_guess")]);
        assert_eq!(guess.status, expected);
    }
    assert_eq!(get(served.address, "/healthz").status, 200);
    let page = get_with(served.address, "/metrics", &[("authorization", &two)]).text();
    assert!(page.contains("cairn_limits_hit_total{limit=\"requests a second\"} 2"), "{page}");
    assert!(page.contains("cairn_tokens_refused_total 3"), "{page}");
    assert!(page.contains("cairn_http_requests_total{route=\"/v1/peer\",method=\"GET\",status=\"429\"} 2"));
}

#[test]
fn a_proxy_says_who_asks_and_nobody_else_does() {
    let folder = Folder::new();
    let limits = PeerLimits { rate_per_client: 0.01, burst_per_client: 1, ..PeerLimits::default() };
    let ask = |served: &crate::served::Served, forwarded: &str| {
        get_with(served.address, "/v1/peer", &[("x-forwarded-for", forwarded)]).status
    };
    let served = folder.serve(Setup { limits: limits.clone(), by_proxy: true, ..Setup::default() });
    assert_eq!(ask(&served, "10.0.0.1"), 200);
    // What stands before the last address is what somebody else says.
    assert_eq!(ask(&served, "10.9.9.9, 10.0.0.1"), 429);
    assert_eq!(ask(&served, "10.0.0.2"), 200);
    let served = folder.serve(with(limits));
    assert_eq!(ask(&served, "10.0.0.1"), 200);
    assert_eq!(ask(&served, "10.0.0.2"), 429);
}

#[test]
fn transfers_at_a_time_are_bounded() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 32 << 20);
    let path = format!("/v1/delta/none/{artifact}");
    for (limits, status) in [
        (PeerLimits { transfers_per_client: 1, ..PeerLimits::default() }, 429),
        (PeerLimits { transfers: 1, ..PeerLimits::default() }, 503),
    ] {
        let served = folder.serve(with(limits));
        let mut first = connect(served.address);
        send(&mut first, "GET", &path, &[], b"");
        // It has begun, and does not end before it is read.
        first.read_exact(&mut [0; 100]).unwrap();
        let refused = get(served.address, &path);
        assert_eq!((refused.status, refused.kind().as_str()), (status, "busy"));
        assert_eq!(refused.header("retry-after"), "1");
        // Short answers are no transfers.
        assert_eq!(get(served.address, "/v1/refs").status, 200);
        drop(first);
        until("its end is noticed", || get(served.address, &path).status == 200);
    }
}

#[test]
fn bandwidth_is_shared_out() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 1 << 20);
    let path = format!("/v1/delta/none/{artifact}");
    for limits in [
        PeerLimits { bandwidth: Some(2 << 20), ..PeerLimits::default() },
        PeerLimits { bandwidth_per_client: Some(2 << 20), ..PeerLimits::default() },
    ] {
        let served = folder.serve(with(limits));
        let began = Instant::now();
        let sent: usize = std::thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(|| get(served.address, &path).body.len()));
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // Not faster than is allowed; how much slower is the machine's matter.
        let least = sent as f64 / f64::from(2 << 20) - 0.2;
        assert!(sent > 2 << 20 && began.elapsed().as_secs_f64() > least, "{sent} {:?}", began.elapsed());
    }
}

#[test]
fn bodies_and_heads_that_are_too_long() {
    let folder = Folder::new();
    let limits = PeerLimits { ids_bytes_max: 320, head_bytes_max: 8192, ..PeerLimits::default() };
    let served = folder.serve(with(limits));
    assert_eq!(ask(served.address, "POST", "/v1/have", &[], &[1; 320]).status, 200);
    let refused = ask(served.address, "POST", "/v1/have", &[], &[1; 352]);
    assert_eq!((refused.status, refused.kind().as_str()), (413, "usage"));
    // Without a length it is noticed when it has come.
    let mut stream = connect(served.address);
    stream.write_all(b"POST /v1/have HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    for _ in 0..11 {
        stream.write_all(b"20\r\n12345678901234567890123456789012\r\n").unwrap();
    }
    assert_eq!(receive(&mut stream, false).unwrap().status, 413);
    // The head's own limit, and the one of what is read before it is one.
    for len in [8180, 9000, 100_000] {
        let answer = get_with(served.address, "/v1/peer", &[("x-long", &"x".repeat(len))]);
        assert_eq!(answer.status, 431, "{len}");
    }
    assert_eq!(get(served.address, &format!("/{}", "x".repeat(7000))).status, 404);
    let answer = get(served.address, &format!("/{}", "x".repeat(100_000)));
    assert!([414, 431].contains(&answer.status), "{}", answer.status);
}

#[test]
fn memory_for_bodies_is_bounded() {
    let folder = Folder::new();
    let limits = PeerLimits { bodies_bytes_max: 64 << 10, ..PeerLimits::default() };
    let served = folder.serve(with(limits));
    let mut first = connect(served.address);
    let head = format!("POST /v1/have HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n", 64 << 10);
    first.write_all(head.as_bytes()).unwrap();
    first.write_all(&[0; 32]).unwrap();
    until("the first body is being read", || served.metric("cairn_http_received_bytes_total") >= 32.0);
    let refused = ask(served.address, "POST", "/v1/have", &[], &[0; 1024]);
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    first.write_all(&vec![0; (64 << 10) - 32]).unwrap();
    assert_eq!(receive(&mut first, false).unwrap().status, 200);
    until("its memory is free", || ask(served.address, "POST", "/v1/have", &[], &[0; 1024]).status == 200);
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let folder = Folder::new();
    let limits = PeerLimits { stall_time_max: Duration::from_millis(200), ..PeerLimits::default() };
    let served = folder.serve(with(limits));
    let mut stream = connect(served.address);
    stream.write_all(b"POST /v1/have HTTP/1.1\r\nhost: t\r\ncontent-length: 64\r\n\r\n12345").unwrap();
    let answer = receive(&mut stream, false).unwrap();
    assert_eq!((answer.status, answer.kind().as_str()), (408, "usage"));
    assert_eq!(get(served.address, "/v1/peer").status, 200);
}

#[test]
fn who_takes_nothing_is_cut_off() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 32 << 20);
    let limits =
        PeerLimits { stall_time_max: Duration::from_millis(300), transfers: 1, ..PeerLimits::default() };
    let served = folder.serve(with(limits));
    let mut stalled = connect(served.address);
    send(&mut stalled, "GET", &format!("/v1/delta/none/{artifact}"), &[], b"");
    stalled.read_exact(&mut [0; 100]).unwrap();
    until("it is cut off", || {
        served.metric("cairn_connections_closed_total{why=\"stalled\"}") >= 1.0
            && served.metric("cairn_transfers_running") == 0.0
    });
    assert_eq!(served.metric("cairn_transfers_cut_total"), 1.0);
}

#[test]
fn slow_heads_and_idle_connections_are_closed() {
    let folder = Folder::new();
    let limits = PeerLimits {
        head_time_max: Duration::from_millis(200),
        idle_time_max: Duration::from_millis(200),
        ..PeerLimits::default()
    };
    let served = folder.serve(with(limits));
    let mut silent = connect(served.address);
    let mut slow = connect(served.address);
    slow.write_all(b"GET /v1/peer HTTP/1.1\r\nhost:").unwrap();
    let mut idle = connect(served.address);
    send(&mut idle, "GET", "/v1/peer", &[], b"");
    assert_eq!(receive(&mut idle, false).unwrap().status, 200);
    for stream in [&mut silent, &mut slow, &mut idle] {
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap_or(0), 0);
    }
    assert_eq!(served.metric("cairn_connections_closed_total{why=\"slow head\"}"), 2.0);
    assert!(served.metric("cairn_connections_closed_total{why=\"idle\"}") >= 1.0);
}

#[test]
fn who_is_idle_makes_room() {
    let folder = Folder::new();
    let served = folder.serve(with(PeerLimits { connections: 4, ..PeerLimits::default() }));
    let mut first = connect(served.address);
    send(&mut first, "GET", "/v1/peer", &[], b"");
    assert_eq!(receive(&mut first, false).unwrap().status, 200);
    let silent: Vec<_> = (0..20).map(|_| connect(served.address)).collect();
    assert_eq!(get(served.address, "/v1/peer").status, 200);
    assert_eq!(first.read(&mut [0]).unwrap_or(0), 0);
    assert!(served.metric("cairn_connections_closed_total{why=\"made room\"}") >= 10.0);
    drop(silent);
}
