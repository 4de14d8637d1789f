//! nginx as a plain cache in front, with the configuration that docs/operations.md has.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use cairn_net::wire::ids_to_bytes;
use cairn_net::{Net, NetOptions, Source};
use cairn_server::{Access, Scope};
use harness::program::until;
use harness::scratch::Scratch;
use harness::stores;

use crate::http::{Answer, ask, get, get_with};
use crate::served::{Folder, Served, Setup, token};

/// How often a port is chosen that somebody else takes first.
const TRIES: usize = 5;

/// An nginx that runs until this is dropped.
struct Proxy {
    child: Child,
    address: SocketAddr,
    _scratch: Scratch,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It has no other processes: see `daemon off; master_process off;`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// None where there is no nginx.
fn proxy(served: &Served, asks_for_tokens: bool) -> Option<Proxy> {
    if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_err() {
        eprintln!("skipped: there is no nginx");
        return None;
    }
    (0..TRIES).find_map(|_| start(served, asks_for_tokens))
}

fn start(served: &Served, asks_for_tokens: bool) -> Option<Proxy> {
    let scratch = Scratch::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let page = include_str!("../../../docs/operations.md");
    let mut blocks = page.split("```nginx\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let (plain, guarded) = (blocks.next().unwrap(), blocks.next().unwrap());
    let mut site = plain.to_owned();
    if asks_for_tokens {
        site = replace(&site, "    location / {", &format!("{guarded}\n    location / {{"));
    }
    let cache = scratch.join("cache").display().to_string();
    site = replace(&site, "/var/cache/nginx/cairn", &cache);
    site = replace(&site, "listen 7080;", &format!("listen {address};"));
    site = replace(&site, "server 127.0.0.1:7001;", &format!("server {};", served.address));
    let folder = scratch.path().display();
    let mut main = format!("pid {folder}/pid;\ndaemon off;\nmaster_process off;\n");
    main += &format!("error_log {folder}/log;\nevents {{}}\nhttp {{\naccess_log off;\n");
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        main += &format!("{kind}_temp_path {folder}/{kind};\n");
    }
    main += &format!("{site}}}\n");
    fs::write(scratch.join("conf"), main).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(scratch.path()).arg("-c").arg(scratch.join("conf"));
    command.arg("-e").arg(scratch.join("log")).stdin(Stdio::null()).stderr(Stdio::null());
    let mut proxy = Proxy { child: command.spawn().unwrap(), address, _scratch: scratch };
    let mut has_ended = false;
    until("nginx listens", || {
        has_ended = proxy.child.try_wait().unwrap().is_some();
        has_ended || TcpStream::connect(address).is_ok()
    });
    if has_ended {
        let log = fs::read_to_string(proxy._scratch.join("log")).unwrap_or_default();
        assert!(log.contains("bind()"), "nginx ended: {log}");
        return None;
    }
    Some(proxy)
}

/// What the page says is there to be replaced.
fn replace(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "docs/operations.md has no {from}");
    text.replacen(from, to, 1)
}

fn status(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.header("x-cache-status"))
}

#[test]
fn what_never_changes_comes_from_the_cache() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 3_000_000);
    let served = folder.serve(Setup { writes: true, ..Setup::default() });
    let Some(proxy) = proxy(&served, false) else { return };
    let store = folder.store();
    let chunk = store.lacking_chunks(None, &artifact, &()).unwrap().chunks[0].id;
    let pack = store.packs().unwrap()[0].id;
    for path in [
        format!("/v1/artifacts/{artifact}"),
        format!("/v1/chunks/{chunk}"),
        format!("/v1/chunks/{chunk}?frame=1"),
        format!("/v1/packs/{pack}"),
        format!("/v1/delta/none/{artifact}"),
        format!("/v1/delta/none/{artifact}?part=objects"),
    ] {
        let direct = get(served.address, &path);
        assert_eq!(status(&get(proxy.address, &path)), (200, "MISS"), "{path}");
        let hit = get(proxy.address, &path);
        assert_eq!(status(&hit), (200, "HIT"), "{path}");
        assert!(hit.body == direct.body);
        assert_eq!(hit.header("etag"), direct.header("etag"));
        let known = get_with(proxy.address, &path, &[("if-none-match", hit.header("etag"))]);
        assert_eq!(known.status, 304, "{path}");
    }
    let whole = get(served.address, &format!("/v1/packs/{pack}")).body;
    let part = get_with(proxy.address, &format!("/v1/packs/{pack}"), &[("range", "bytes=10-19")]);
    assert_eq!(status(&part), (206, "HIT"));
    assert!(part.body == whole[10..20]);
    // Refusals are nobody's to keep, and what is asked in a body is asked each time.
    let absent = format!("/v1/artifacts/{}", "0".repeat(64));
    for _ in 0..2 {
        assert_eq!(status(&get(proxy.address, &absent)), (404, "MISS"));
        let have = ask(proxy.address, "POST", "/v1/have", &[], &ids_to_bytes(&[chunk]));
        assert_eq!((have.status, &have.body[..]), (200, &[1][..]));
    }
}

#[test]
fn names_are_kept_for_a_moment() {
    let folder = Folder::new();
    folder.add("tool", "1.0", 1, 1000);
    let served = folder.serve(Setup::default());
    let Some(proxy) = proxy(&served, false) else { return };
    assert!(get(proxy.address, "/v1/refs").text().contains("1.0"));
    folder.add("tool", "2.0", 2, 1000);
    until("the new version is seen", || get(proxy.address, "/v1/refs").text().contains("2.0"));
}

#[test]
fn a_pull_goes_through_it() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 3_000_000);
    let served = folder.serve(Setup { writes: true, ..Setup::default() });
    let Some(proxy) = proxy(&served, false) else { return };
    let net = Net::start(NetOptions::default()).unwrap();
    let from = [Source::open(format!("http://{}", proxy.address).parse().unwrap())];
    for name in ["one", "two"] {
        let scratch = Scratch::new();
        let writer = stores::writer(&scratch.join("store"));
        let spec = "tool@1.0".parse().unwrap();
        let resolved = net.resolve(&from, &spec, Some(&"linux/x86_64".parse().unwrap())).unwrap();
        let plan = net.plan(&writer, &resolved.holders, &resolved, &()).unwrap();
        net.pull(&writer, plan, &()).unwrap();
        stores::restore(&writer, &artifact, &scratch.join(name));
        let pulled = fs::read(scratch.join(name).join("large")).unwrap();
        assert!(pulled == fs::read(folder.scratch.join("tool-1.0/large")).unwrap());
    }
}

#[test]
fn a_cache_that_asks_for_tokens_keeps_what_is_private() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 1_000_000);
    let tokens = folder.tokens();
    let good = format!("Bearer {}", token(&tokens, Scope::Read, &[]));
    let served = folder.serve(Setup { access: Access::by_tokens(tokens), ..Setup::default() });
    let Some(proxy) = proxy(&served, true) else { return };
    let path = format!("/v1/delta/none/{artifact}");
    let with = |path: &str| get_with(proxy.address, path, &[("authorization", &good)]);
    assert_eq!(get(proxy.address, &path).status, 401);
    assert_eq!(status(&with(&path)), (200, "MISS"));
    let hit = with(&path);
    assert_eq!(status(&hit), (200, "HIT"));
    assert!(hit.body == get_with(served.address, &path, &[("authorization", &good)]).body);
    assert_eq!(get(proxy.address, &path).status, 401);
    assert_eq!(get_with(proxy.address, &path, &[("authorization", "Bearer cairn_x")]).status, 401);
    // Names are not among what it keeps.
    assert_eq!(with("/v1/refs").status, 200);
    assert_eq!(get(proxy.address, "/v1/refs").status, 401);
}
