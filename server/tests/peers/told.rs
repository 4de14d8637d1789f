//! Deltas in terms of what the client has: made once, kept, and only of what is published.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_net::wire::{Item, ItemDecoder};
use cairn_server::{Access, DeltaServing, PeerLimits, Scope};
use cairn_store::ArtifactId;
use harness::{bytes, stores};

use crate::http::{Answer, PATIENCE, ask, get, get_with};
use crate::served::{Folder, Served, Setup, token};

const ASYNC: [(&str, &str); 1] = [("prefer", "respond-async, wait=20")];

/// Two versions of a file that differ by a few bytes.
fn versions(folder: &Folder) -> (ArtifactId, ArtifactId) {
    let add = |version: &str, step: usize| {
        let tree = folder.scratch.folder(&format!("app-{version}"));
        let mut data = bytes::noise(3, 3_000_000);
        data.iter_mut().step_by(step).for_each(|byte| *byte ^= 1);
        fs::write(tree.join("data"), data).unwrap();
        stores::add(&folder.writer(), &tree, &stores::options("app", version)).artifact
    };
    (add("1.0", usize::MAX), add("2.0", 5000))
}

fn path(have: ArtifactId, want: ArtifactId) -> String {
    format!("/v1/delta/{have}/{want}?part=chunks&codecs=prefix,relocation,bitcode")
}

fn units(answer: &Answer) -> usize {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (mut decoder, mut input, mut units) = (ItemDecoder::new(), &answer.body[..], 0);
    while !input.is_empty() {
        units += usize::from(matches!(decoder.next(&mut input).unwrap(), Some(Item::Unit(_))));
    }
    decoder.finish().unwrap();
    units
}

fn kept(folder: &Folder) -> Vec<PathBuf> {
    let Ok(list) = fs::read_dir(folder.store_path().join("cache/deltas-1")) else { return Vec::new() };
    list.map(|entry| entry.unwrap().path()).collect()
}

fn told(served: &Served) -> f64 {
    served.metric("cairn_deltas_total{how=\"told\"}")
}

#[test]
fn it_is_made_once_and_kept_for_ever() {
    let folder = Folder::new();
    let (one, two) = versions(&folder);
    let served = folder.serve(Setup::default());
    let path = path(one, two);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| get_with(served.address, &path, &ASYNC))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for answer in &answers {
        assert!(units(answer) > 0 && answer.body.len() < 100_000, "{} bytes", answer.body.len());
        assert_eq!(answer.body, answers[0].body);
        assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
        assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    }
    assert_eq!(told(&served), 8.0);
    let tag = answers[0].header("etag");
    assert_eq!(get_with(served.address, &path, &[("if-none-match", tag)]).status, 304);
    assert_eq!(ask(served.address, "HEAD", &path, &ASYNC, b"").header("etag"), tag);
    assert_eq!(kept(&folder).len(), 1);
    drop(served);
    // Another process finds it.
    let served = folder.serve(Setup::default());
    assert_eq!(get(served.address, &path).body, answers[0].body);
}

#[test]
fn who_offers_no_codecs_or_other_ones_is_answered_plainly() {
    let folder = Folder::new();
    let (one, two) = versions(&folder);
    let served = folder.serve(Setup::default());
    assert!(units(&get_with(served.address, &path(one, two), &ASYNC)) > 0);
    for query in [
        "?part=chunks",
        "?part=chunks&codecs=zip",
        "?codecs=prefix,relocation,bitcode",
        "?part=chunks&codecs=prefix,relocation",
    ] {
        let answer = get_with(served.address, &format!("/v1/delta/{one}/{two}{query}"), &ASYNC);
        assert_eq!(units(&answer), 0, "{query}");
        assert!(answer.body.len() > 1_000_000);
    }
}

#[test]
fn who_does_not_wait_is_answered_plainly_and_no_cache_keeps_that() {
    let folder = Folder::new();
    let (one, two) = versions(&folder);
    let served = folder.serve(Setup::default());
    let answer = get(served.address, &path(one, two));
    assert_eq!((units(&answer), answer.header("cache-control")), (0, "no-store"));
    let began = Instant::now();
    // It is being made meanwhile.
    while units(&get(served.address, &path(one, two))) == 0 {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn who_would_rather_ask_again_is_told_when() {
    let folder = Folder::new();
    let (one, two) = versions(&folder);
    let served = folder.serve(Setup::default());
    let began = Instant::now();
    loop {
        let answer = get_with(served.address, &path(one, two), &[("prefer", "respond-async")]);
        if answer.status == 200 {
            assert!(units(&answer) > 0);
            break;
        }
        assert_eq!((answer.status, answer.header("retry-after")), (202, "1"), "{}", answer.text());
        assert!(began.elapsed() < PATIENCE);
    }
}

#[test]
fn there_is_none_where_it_does_not_pay_or_none_are_made() {
    let folder = Folder::new();
    let one = folder.add("tool", "1.0", 1, 1_000_000);
    let tree = folder.scratch.folder("other");
    fs::write(tree.join("x"), bytes::noise(99, 500_000)).unwrap();
    let other = stores::add(&folder.writer(), &tree, &stores::options("tool", "2.0")).artifact;
    let served = folder.serve(Setup::default());
    let answer = get_with(served.address, &path(one, other), &ASYNC);
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert_eq!(units(&get(served.address, &path(one, other))), 0);
    assert!(kept(&folder).is_empty());
    drop(served);
    let (one, two) = versions(&folder);
    let deltas = DeltaServing { kept_bytes_max: 0, ..DeltaServing::default() };
    let served = folder.serve(Setup { deltas, ..Setup::default() });
    assert_eq!(get_with(served.address, &path(one, two), &ASYNC).status, 404);
}

#[test]
fn only_what_is_published_is_compared() {
    let folder = Folder::new();
    let (one, two) = versions(&folder);
    let nobody = ArtifactId([3; 32]);
    let writer = folder.writer();
    let key = writer.names().refs.keys().find(|key| key.version.as_str() == "1.0").unwrap().clone();
    writer.remove_ref(&key, true).unwrap();
    drop(writer);
    let served = folder.serve(Setup::default());
    for (have, want) in [(nobody, two), (two, nobody), (one, two)] {
        assert_eq!(get_with(served.address, &path(have, want), &ASYNC).status, 404);
    }
    assert!(kept(&folder).is_empty());
}

#[test]
fn a_file_that_rotted_is_made_anew() {
    let folder = Folder::new();
    let (one, two) = versions(&folder);
    let served = folder.serve(Setup::default());
    let answer = get_with(served.address, &path(one, two), &ASYNC);
    drop(served);
    let file = kept(&folder).pop().unwrap();
    let mut rotten = fs::read(&file).unwrap();
    let at = rotten.len() / 2;
    rotten[at] ^= 1;
    fs::write(&file, rotten).unwrap();
    let served = folder.serve(Setup::default());
    assert_eq!(get_with(served.address, &path(one, two), &ASYNC).body, answer.body);
}

#[test]
fn deltas_are_prepared_before_anybody_asks_and_the_oldest_go() {
    let folder = Folder::new();
    let (one, two) = versions(&folder);
    let deltas = DeltaServing { prepare: 2, ..DeltaServing::default() };
    let served = folder.serve(Setup { deltas, ..Setup::default() });
    let began = Instant::now();
    while kept(&folder).iter().filter(|path| path.extension().is_some_and(|end| end == "chunks")).count() == 0
    {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(units(&get(served.address, &path(one, two))) > 0);
    drop(served);
    // There is room for one of them alone.
    let bytes = kept(&folder).iter().map(|path| path.metadata().unwrap().len()).sum();
    let deltas = DeltaServing { kept_bytes_max: bytes, ..DeltaServing::default() };
    let served = folder.serve(Setup { deltas, ..Setup::default() });
    assert!(units(&get_with(served.address, &path(two, one), &ASYNC)) > 0);
    assert!(kept(&folder).iter().map(|path| path.metadata().unwrap().len()).sum::<u64>() <= bytes);
}

#[test]
fn waiting_is_bounded_by_the_server() {
    let folder = Folder::new();
    let (one, two) = versions(&folder);
    let limits = PeerLimits { request_time_max: Duration::from_millis(400), ..PeerLimits::default() };
    let served = folder.serve(Setup { limits, ..Setup::default() });
    let patient = [("prefer", "respond-async, wait=100000")];
    let status = get_with(served.address, &path(one, two), &patient).status;
    assert!([200, 202].contains(&status), "{status}");
}

/// Versions of a file, each the one before with other bytes changed, and of its last so many replaced.
fn row(folder: &Folder, names: [&str; 3], replaced: usize) -> [ArtifactId; 3] {
    let mut data = bytes::noise(3, 3_000_000);
    let mut number = 0;
    names.map(|name| {
        number += 1;
        data.iter_mut().skip(number * 100).step_by(5000).for_each(|byte| *byte ^= 1);
        let at = (number * 900_000).min(data.len() - replaced);
        data[at..at + replaced].copy_from_slice(&bytes::noise(40 + number as u64, replaced));
        let tree = folder.scratch.folder(&format!("row-{number}"));
        fs::write(tree.join("data"), &data).unwrap();
        let options = stores::options(name, &number.to_string());
        stores::add(&folder.writer(), &tree, &options).artifact
    })
}

fn way_path(have: ArtifactId, want: ArtifactId) -> String {
    path(have, want) + "&via=1"
}

#[test]
fn a_way_through_what_is_kept_is_shown_until_the_delta_itself_is_there() {
    let folder = Folder::new();
    let [one, two, three] = row(&folder, ["app"; 3], 0);
    let served = folder.serve(Setup::default());
    let lens = [(one, two), (two, three)].map(|(have, want)| {
        let answer = get_with(served.address, &path(have, want), &ASYNC);
        assert!(units(&answer) > 0);
        answer.body.len()
    });
    let shown = get_with(served.address, &way_path(one, three), &ASYNC);
    assert_eq!((shown.status, shown.header("retry-after")), (202, "1"), "{}", shown.text());
    assert_eq!(shown.header("cairn-via"), format!("{two}={}, {three}={}", lens[0], lens[1]));
    assert_eq!(shown.header("cache-control"), "no-store");
    // The delta itself is made meanwhile, and comes first then.
    assert!(units(&get_with(served.address, &path(one, three), &ASYNC)) > 0);
    assert!(units(&get_with(served.address, &way_path(one, three), &ASYNC)) > 0);
    assert_eq!(served.metric("cairn_deltas_total{how=\"way\"}"), 1.0);
}

#[test]
fn no_way_is_shown_that_is_not_asked_for_or_costs_too_much() {
    let folder = Folder::new();
    let [one, two, three] = row(&folder, ["app"; 3], 800_000);
    let served = folder.serve(Setup::default());
    for (have, want) in [(one, two), (two, three)] {
        assert!(units(&get_with(served.address, &path(have, want), &ASYNC)) > 0);
    }
    // Who takes none is answered as ever, and who would take one is not shown one that is as long as the thing itself.
    assert_eq!(units(&get(served.address, &way_path(one, three))), 0);
    let answer = get_with(served.address, &way_path(one, three), &ASYNC);
    assert!(units(&answer) > 0, "it was waited for");
}

#[test]
fn a_way_leads_over_nothing_that_the_token_does_not_cover() {
    let folder = Folder::new();
    let [one, two, three] = row(&folder, ["app", "secret", "app"], 0);
    let tokens = folder.tokens();
    let (all, some) = (token(&tokens, Scope::Read, &[]), token(&tokens, Scope::Read, &["app"]));
    let setup = Setup { access: Access::by_tokens(Arc::clone(&tokens)), ..Setup::default() };
    let served = folder.serve(setup);
    let ask = |token: &str, path: &str, prefer: &str| {
        let bearer = format!("Bearer {token}");
        get_with(served.address, path, &[("authorization", &bearer), ("prefer", prefer)])
    };
    for (have, want) in [(one, two), (two, three)] {
        assert!(units(&ask(&all, &path(have, want), ASYNC[0].1)) > 0);
        assert_eq!(ask(&some, &path(have, want), ASYNC[0].1).status, 404);
    }
    let answer = ask(&some, &way_path(one, three), "respond-async, wait=0");
    assert!(answer.headers.iter().all(|(name, _)| name != "cairn-via"), "{:?}", answer.headers);
    // Whoever may see it is shown the way, unless the delta itself is there by now.
    let answer = ask(&all, &way_path(one, three), "respond-async, wait=0");
    assert!(answer.status == 200 || answer.header("cairn-via").contains(&two.to_string()));
}
