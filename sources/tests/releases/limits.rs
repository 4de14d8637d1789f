//! Servers that have enough of us, that fail for a while, and that say that nothing changed.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cairn_sources::Error;

use crate::release_server::{Answer, Fault, GitHub, Published, ReleaseServer};
use crate::setup::*;

const TAG: &str = "/repos/acme/app/releases/tags/v1.2";

fn started() -> GitHub {
    let github = GitHub::start(REPOSITORY, 100);
    let sums = sums(&[("cli-linux-amd64", b"cli")]);
    github.publish(Published::new("v1.2", &[("cli-linux-amd64", b"cli"), ("SHA256SUMS", &sums)]));
    github
}

fn seconds_from_now(seconds: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + seconds
}

#[test]
fn a_short_rate_limit_is_waited_out() {
    let github = started();
    let setup = Setup::github(&github.api.url(), &["cli"]);
    github.api.fail(TAG, Fault::Answer(Answer::rate_limit(seconds_from_now(0))));
    github.api.fail(TAG, Fault::Answer(Answer::secondary_rate_limit(Some(1))));
    let began = Instant::now();
    setup.find("1.2").unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    let said = setup.watch.said.lock().unwrap();
    assert!(said.iter().any(|line| line == "127.0.0.1 wants us to wait 1 s"), "{said:?}");
}

#[test]
fn a_long_rate_limit_is_told_with_its_end_and_the_remedy() {
    let github = started();
    let mut setup = Setup::github(&github.api.url(), &["cli"]);
    github.api.fail(TAG, Fault::Answer(Answer::rate_limit(seconds_from_now(1700))));
    let began = Instant::now();
    let error = setup.find("1.2").unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(4) && matches!(error, Error::Refused { .. }), "{error}");
    let text = told::<()>(Err(error));
    assert!(text.contains("it answers again at ") && text.contains(" UTC (in 29 min)"), "{text}");
    assert!(text.ends_with("set a token in $APP_TOKEN, which raises the limit"), "{text}");

    setup.token(TOKEN);
    github.api.fail(TAG, Fault::Answer(Answer::rate_limit(seconds_from_now(1700))));
    assert!(told(setup.find("1.2")).ends_with("the limit is that of the token in $GITHUB_TOKEN"));
    // One that does not say how long: a minute is meant.
    github.api.fail(TAG, Fault::Answer(Answer::secondary_rate_limit(None)));
    assert!(told(setup.find("1.2")).contains("(in 60 s)"));
    let limit = Answer::new(429, "").with("retry-after", "18446744073709551615");
    github.api.fail(TAG, Fault::Answer(limit));
    assert!(told(setup.find("1.2")).contains(" days)"));
}

#[test]
fn a_limit_without_end_is_not_waited_for_without_end() {
    let github = started();
    let setup = Setup::github(&github.api.url(), &["cli"]);
    github.api.answer(TAG, Answer::new(429, "").with("retry-after", "0"));
    assert!(told(setup.find("1.2")).contains("we asked it too often"));
    assert_eq!(github.api.asked(TAG).len(), 5);
}

#[test]
fn a_refusal_that_is_no_limit_is_told_as_it_is() {
    let github = started();
    let setup = Setup::github(&github.api.url(), &["cli"]);
    let body = "{\"message\":\"Resource not accessible\\u001b[2J by integration\"}";
    github.api.fail(TAG, Fault::Answer(Answer::json(403, body)));
    assert!(told(setup.find("1.2")).contains("it refuses: Resource not accessible[2J by integration"));
    assert_eq!(github.api.asked(TAG).len(), 1);
}

#[test]
fn what_fails_for_a_while_is_asked_again() {
    let github = started();
    let setup = Setup::github(&github.api.url(), &["cli"]);
    github.api.fail(TAG, Fault::Answer(Answer::new(502, "<html>Bad Gateway")));
    github.api.fail(TAG, Fault::Close);
    github.api.fail(TAG, Fault::Truncate(100));
    github.api.fail(TAG, Fault::Stall(100));
    setup.find("1.2").unwrap();
    assert_eq!(github.api.asked(TAG).len(), 5);
}

#[test]
fn what_fails_again_and_again_is_given_up_with_its_reason() {
    let github = started();
    let setup = Setup::github(&github.api.url(), &["cli"]);
    github.api.answer(TAG, Answer::json(503, "{\"message\":\"We are down\"}"));
    let text = told(setup.find("1.2"));
    let url = format!("{}{TAG}", github.api.url());
    assert!(
        text.starts_with(&format!("{url}: it answers 503 Service Unavailable: We are down (asked 5 times)")),
        "{text}"
    );
    assert_eq!(github.api.asked(TAG).len(), 5);
}

#[test]
fn a_server_that_is_not_there_is_told_as_that() {
    let gone = ReleaseServer::start().url();
    // It may take a moment until the port is closed.
    let setup = Setup::github(&gone, &["cli"]);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let text = told(setup.find("1.2"));
        if text.contains("onnection refused") {
            assert!(text.ends_with("and whether a proxy is needed (HTTPS_PROXY)"), "{text}");
            return;
        }
        assert!(Instant::now() < deadline, "{text}");
    }
}

#[test]
fn redirects_end() {
    let github = started();
    let setup = Setup::github(&github.api.url(), &["cli"]);
    github.api.answer(TAG, Answer::redirect(TAG));
    assert!(told(setup.find("1.2")).contains("it redirects more than 10 times"));
    assert_eq!(github.api.asked(TAG).len(), 11);
    for (to, why) in [("file:///etc/passwd", "not spoken"), ("http://", "no address")] {
        github.api.answer(TAG, Answer::redirect(to));
        assert!(told(setup.find("1.2")).contains(why));
    }
    github.api.answer(TAG, Answer::new(302, ""));
    assert!(told(setup.find("1.2")).contains("without saying where to"));
}

#[test]
fn what_did_not_change_is_not_sent_again() {
    let github = started();
    let mut setup = Setup::github(&github.api.url(), &["cli"]);
    setup.options.cache = Some(setup.folder.path().join("a/b/answers"));
    let found = setup.find("1.2").unwrap();
    github.api.forget();
    assert_eq!(setup.find("1.2").unwrap(), found);
    let seen = github.api.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.headers["if-none-match"].starts_with("W/\"")), "{seen:?}");
    // What changed is.
    let sums = sums(&[("cli-linux-amd64", b"cli")]);
    let more: [(&str, &[u8]); 3] =
        [("cli-linux-amd64", b"cli"), ("SHA256SUMS", &sums), ("validator-linux-amd64", b"v")];
    github.publish(Published::new("v1.2", &more));
    setup.package.binaries.push("validator".to_owned());
    setup.source().checksums.waived = vec![template("validator-{platform}")];
    assert_eq!(setup.find("1.2").unwrap().assets.len(), 2);
    // Neither what was answered to a token is anybody else's.
    github.api.forget();
    setup.token(TOKEN);
    setup.find("1.2").unwrap();
    assert!(github.api.seen().iter().all(|seen| !seen.headers.contains_key("if-none-match")));
    // Pages are kept with where the next one is.
    let versions = setup.versions(9).unwrap();
    assert_eq!(setup.versions(9).unwrap(), versions);
}

#[test]
fn damaged_answers_are_asked_for_again() {
    let github = started();
    let mut setup = Setup::github(&github.api.url(), &["cli"]);
    let cache = setup.folder.path().join("answers");
    setup.options.cache = Some(cache.clone());
    let found = setup.find("1.2").unwrap();
    for name in files(&cache).keys() {
        let path = cache.join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    github.api.forget();
    assert_eq!(setup.find("1.2").unwrap(), found);
    assert!(github.api.seen().iter().all(|seen| !seen.headers.contains_key("if-none-match")));
    // A folder that cannot be made keeps nobody from asking.
    setup.options.cache = Some(cache.join(files(&cache).keys().next().unwrap()).join("under a file"));
    assert_eq!(setup.find("1.2").unwrap(), found);
}
