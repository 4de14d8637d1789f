//! GitHub's API: pages, names, tokens, and what is said where something is not there.

use std::os::unix::fs::PermissionsExt;

use cairn_sources::{Error, Sha256};

use crate::release_server::{Answer, Fault, GitHub, Published, PublishedFile};
use crate::setup::*;

const VALIDATOR: &[u8] = b"#!/bin/sh\necho validator\n";
const LOCAL: &[u8] = b"#!/bin/sh\necho local\n";
const CLI: &[u8] = b"#!/bin/sh\necho cli\n";

fn release(tag: &str) -> Published {
    let files: [(&str, &[u8]); 3] = [
        ("local_validator-linux-amd64", LOCAL),
        ("validator-linux-amd64", VALIDATOR),
        ("cli-linux-amd64", CLI),
    ];
    let sums = sums(&files);
    let mut all = files.to_vec();
    all.extend([("app-linux-arm64", &b"arm"[..]), ("SHA256SUMS", &sums)]);
    Published::new(tag, &all)
}

/// With `v1.2` as [`release`] makes it, and no more than two of anything a page.
fn started() -> GitHub {
    let github = GitHub::start(REPOSITORY, 2);
    github.publish(release("v1.2"));
    github
}

#[test]
fn programs_are_found_by_their_exact_names_and_brought_once() {
    let github = started();
    let setup = Setup::github(&github.api.url(), &["validator", "cli"]);
    let found = setup.find("1.2").unwrap();
    assert_eq!(found.verified, "SHA256SUMS");
    assert_eq!(found.page, format!("{}/acme/app/releases/tag/v1.2", github.web.url()));
    let names: Vec<_> = found.assets.iter().map(|asset| asset.name.as_str()).collect();
    assert_eq!(names, ["validator-linux-amd64", "cli-linux-amd64"]);
    assert_eq!(found.assets[0].sha256, Some(Sha256::of(VALIDATOR)));
    assert_eq!(found.assets[0].size, Some(VALIDATOR.len() as u64));
    // The five files are on three pages.
    assert_eq!(github.api.asked("/repos/acme/app/releases/1/assets").len(), 3);
    assert!(github.assets.seen().iter().all(|seen| seen.path.contains("SHA256SUMS")));

    let brought = setup.bring(&found).unwrap();
    assert_eq!(brought.wire_bytes, (VALIDATOR.len() + CLI.len()) as u64);
    let laid = setup.laid();
    assert_eq!(laid.keys().collect::<Vec<_>>(), ["cli", "validator"]);
    assert_eq!((&laid["validator"][..], &laid["cli"][..]), (VALIDATOR, CLI));
    assert_eq!(brought.files[0].sha256, Sha256::of(VALIDATOR));
    assert_eq!(brought.assets[1], ("cli-linux-amd64".to_owned(), Sha256::of(CLI)));
    let mode = std::fs::metadata(setup.to().join("cli")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);

    github.assets.forget();
    let again = setup.bring_to(&found, &setup.folder.path().join("again")).unwrap();
    assert_eq!((again.wire_bytes, &again.files), (0, &brought.files));
    assert_eq!(github.assets.seen().len(), 0);
}

#[test]
fn headers_are_those_that_the_api_wants() {
    let github = started();
    Setup::github(&github.api.url(), &["cli"]).find("1.2").unwrap();
    let seen = &github.api.seen()[0];
    assert_eq!(seen.path, "/repos/acme/app/releases/tags/v1.2");
    assert_eq!(seen.headers["accept"], "application/vnd.github+json");
    assert_eq!(seen.headers["x-github-api-version"], "2022-11-28");
    assert!(seen.headers["user-agent"].starts_with("cairn/"));
    assert!(!seen.headers.contains_key("authorization"));
    // Neither is a file asked for as the API is.
    assert!(!github.assets.seen()[0].headers.contains_key("x-github-api-version"));
}

#[test]
fn a_program_that_is_not_there_is_named_with_what_is_closest() {
    let github = GitHub::start(REPOSITORY, 100);
    let many: Vec<_> = (0..9).map(|number| format!("zz-{number}")).collect();
    let mut files: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    files.extend([("local_validator-linux-amd64", LOCAL), ("validator-linux-arm64", VALIDATOR)]);
    github.publish(Published::new("v1.2", &files));
    let text = told(Setup::github(&github.api.url(), &["validator"]).find("1.2"));
    assert!(
        text.starts_with(
            "the release v1.2 of app has no file validator-linux-amd64 (for the program validator) | it has \
             validator-linux-arm64, local_validator-linux-amd64, zz-0,"
        ),
        "{text}"
    );
    assert!(text.ends_with(" and 3 more"), "{text}");
}

#[test]
fn a_version_that_is_not_there_is_told_with_those_that_are() {
    let github = GitHub::start(REPOSITORY, 5);
    for number in 0..13 {
        github.publish(release(&format!("v1.{number}")));
    }
    github.publish(Published { is_draft: true, ..release("v2.0") });
    github.publish(release("nightly-2026-05-04"));
    let setup = Setup::github(&github.api.url(), &["validator"]);
    let text = told(setup.find("99.0"));
    let place = format!("acme/app of {}", github.api.url());
    let ten = "1.12, 1.11, 1.10, 1.9, 1.8, 1.7, 1.6, 1.5, 1.4, 1.3";
    assert_eq!(text, format!("app has no release 99.0 at {place} | there are {ten}"));
    // Drafts are not there for anybody.
    assert!(told(setup.find("2.0")).starts_with("app has no release 2.0"));
    assert_eq!(setup.versions(100).unwrap().len(), 13);
    assert_eq!(setup.versions(2).unwrap(), ["1.12", "1.11"]);
    // 15 releases, five a page.
    github.api.forget();
    setup.versions(100).unwrap();
    assert_eq!(github.api.asked("/repos/acme/app/releases").len(), 3);
}

#[test]
fn where_nothing_is_released_another_way_is_named() {
    let github = GitHub::start(REPOSITORY, 100);
    let mut setup = Setup::github(&github.api.url(), &["validator"]);
    setup.package.vm = Some(cairn_sources::config::MachineSource {
        machines: vec!["dev".to_owned()],
        user: None,
        path: template("target/release/{binary}"),
        tree: None,
        ssh: vec!["ssh".to_owned()],
        is_multipass: true,
    });
    let text = told(setup.find("1.0"));
    assert!(text.contains("no release is published there") && text.ends_with("use --strategy vm"), "{text}");
}

#[test]
fn a_repository_that_is_not_seen_may_be_private() {
    let github = started();
    let mut setup = Setup::github(&github.api.url(), &["validator"]);
    github.api.require(TOKEN);
    let text = told(setup.find("1.2"));
    assert!(text.starts_with("there is no repository acme/app at "), "{text}");
    assert!(text.ends_with("if it is private, it needs a token in $APP_TOKEN"), "{text}");
    setup.token("ghp_wrong");
    let text = told(setup.find("1.2"));
    assert!(text.contains("does not take the token of $GITHUB_TOKEN: Bad credentials"), "{text}");
    assert!(!text.contains("ghp_wrong"), "{text}");
}

#[test]
fn a_token_is_for_the_api_and_nobody_else() {
    let github = started();
    github.api.require(TOKEN);
    let mut setup = Setup::github(&github.api.url(), &["validator", "cli"]);
    setup.token(TOKEN);
    let found = setup.find("1.2").unwrap();
    assert!(
        found.assets[0].url.starts_with(&format!("{}/repos/acme/app/releases/assets/", github.api.url()))
    );
    setup.bring(&found).unwrap();
    assert_eq!(setup.laid()["validator"], VALIDATOR);
    let api = github.api.seen();
    assert!(api.iter().all(|seen| seen.headers["authorization"] == format!("Bearer {TOKEN}")));
    assert!(api.iter().any(|seen| seen.headers["accept"] == "application/octet-stream"));
    let stored = github.assets.seen();
    assert_eq!(stored.len(), 3);
    assert!(stored.iter().all(|seen| !seen.headers.contains_key("authorization")), "{stored:?}");
    assert_eq!(github.web.seen().len(), 0);
}

#[test]
fn a_token_that_left_does_not_come_back() {
    let github = started();
    let mut setup = Setup::github(&github.api.url(), &["cli"]);
    setup.token(TOKEN);
    // To another host, and from there back to where the token is for.
    let path = "/repos/acme/app/releases/tags/v1.2";
    github.api.fail(path, Fault::Answer(Answer::redirect(format!("{}/away", github.web.url()))));
    github.web.answer("/away", Answer::redirect(format!("{}{path}", github.api.url())));
    setup.find("1.2").unwrap();
    let seen = github.api.asked(path);
    assert!(seen[0].headers.contains_key("authorization") && !seen[1].headers.contains_key("authorization"));
    assert!(!github.web.asked("/away")[0].headers.contains_key("authorization"));
}

#[test]
fn a_repository_that_was_renamed_is_followed_with_its_token() {
    let github = started();
    let mut setup = Setup::github(&github.api.url(), &["cli"]);
    setup.token(TOKEN);
    github.api.require(TOKEN);
    let new = "/repositories/17/releases/tags/v1.2";
    let old = "/repos/acme/app/releases/tags/v1.2";
    github.api.fail(old, Fault::Answer(Answer::redirect(new)));
    github.api.answer(new, Answer::redirect(old));
    setup.find("1.2").unwrap();
}

#[test]
fn tokens_that_are_none_are_refused_before_anything_is_sent() {
    let github = started();
    let mut setup = Setup::github(&github.api.url(), &["cli"]);
    setup.token("two words");
    let text = told(setup.find("1.2"));
    assert!(text.starts_with("$GITHUB_TOKEN is no token") && !text.contains("two words"), "{text}");
    assert_eq!(github.api.seen().len(), 0);
    setup.token(" \n");
    setup.find("1.2").unwrap();
    assert!(!github.api.seen()[0].headers.contains_key("authorization"));
}

#[test]
fn what_it_has_to_hash_to_may_be_said_in_several_ways() {
    let github = GitHub::start(REPOSITORY, 100);
    let single = format!("{}\n", Sha256::of(VALIDATOR));
    let named = format!("{}  dist/cli-linux-amd64\n", Sha256::of(CLI));
    github.publish(Published::new(
        "v1.2",
        &[
            ("validator-linux-amd64", VALIDATOR),
            ("validator-linux-amd64.sha256", single.as_bytes()),
            ("cli-linux-amd64", CLI),
            ("cli-linux-amd64.sha256", named.as_bytes()),
        ],
    ));
    let mut setup = Setup::github(&github.api.url(), &["validator", "cli"]);
    setup.source().checksums.file = Some(template("{asset}.sha256"));
    let found = setup.find("1.2").unwrap();
    assert_eq!(found.verified, "*.sha256");
    assert_eq!(found.assets[1].sha256, Some(Sha256::of(CLI)));

    setup.source().checksums.pinned.insert("cli-linux-amd64".to_owned(), Sha256::of(CLI));
    setup.source().checksums.waived = vec![template("validator-{platform}")];
    github.assets.forget();
    let found = setup.find("1.2").unwrap();
    assert_eq!(found.verified, "waived, pinned");
    assert_eq!((found.assets[0].sha256, found.assets[1].sha256), (None, Some(Sha256::of(CLI))));
    assert_eq!(github.assets.seen().len(), 0);
    setup.bring(&found).unwrap();
    assert_eq!(setup.laid().len(), 2);

    setup.source().checksums.waived.clear();
    setup.source().checksums.file = None;
    let text = told(setup.find("1.2"));
    assert!(text.starts_with("nothing says what validator-linux-amd64 has to hash to"), "{text}");
}

#[test]
fn checksums_that_leave_a_file_out_or_contradict_are_not_believed() {
    let github = GitHub::start(REPOSITORY, 100);
    let sums = sums(&[("local_validator-linux-amd64", LOCAL)]);
    let mut release = Published::new("v1.2", &[("validator-linux-amd64", VALIDATOR), ("SHA256SUMS", &sums)]);
    github.publish(release.clone());
    let setup = Setup::github(&github.api.url(), &["validator"]);
    let text = told(setup.find("1.2"));
    assert!(text.contains("SHA256SUMS has no checksum of it | it has local_validator-linux-amd64"), "{text}");

    release.tag = "v1.3".to_owned();
    release.files[1].body = format!("{}  validator-linux-amd64\n", Sha256::of(b"other")).into_bytes();
    release.files[0].digest = Some(format!("sha256:{}", Sha256::of(VALIDATOR)));
    github.publish(release.clone());
    let error = setup.find("1.3").unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }), "{error}");
    assert!(error.to_string().contains(&Sha256::of(VALIDATOR).to_string()), "{error}");

    release.tag = "v1.4".to_owned();
    release.files[1].body = b"<html>no checksums</html>".to_vec();
    github.publish(release.clone());
    let text = told(setup.find("1.4"));
    assert!(text.contains("SHA256SUMS of the release v1.4 of app: line 1: "), "{text}");

    release.tag = "v1.5".to_owned();
    release.files.truncate(1);
    github.publish(release);
    let text = told(setup.find("1.5"));
    assert!(text.contains("has no file SHA256SUMS that says what validator-linux-amd64 has to be"), "{text}");
}

#[test]
fn a_file_that_is_still_uploaded_is_not_taken() {
    let github = GitHub::start(REPOSITORY, 100);
    let mut release = release("v1.2");
    release.files[1] = PublishedFile { is_uploading: true, ..release.files[1].clone() };
    github.publish(release);
    let text = told(Setup::github(&github.api.url(), &["validator"]).find("1.2"));
    assert!(text.contains("it is not uploaded to its end yet"), "{text}");
}

#[test]
fn tags_and_names_with_odd_characters_are_escaped() {
    let github = GitHub::start(REPOSITORY, 100);
    github.publish(Published::new("app/v1.2+b~1", &[("SHA256SUMS", b""), ("app#1 %", CLI)]));
    let mut setup = Setup::github(&github.api.url(), &["app"]);
    if let cairn_sources::config::Origin::GitHub { tag, .. } = &mut setup.source().origin {
        *tag = template("{name}/v{version}");
    }
    setup.source().asset = template("app#1 %");
    setup.source().checksums.pinned.insert("app#1 %".to_owned(), Sha256::of(CLI));
    let found = setup.find("1.2+b~1").unwrap();
    assert_eq!(setup.versions(9).unwrap(), ["1.2+b~1"]);
    assert_eq!(github.api.seen()[0].path, "/repos/acme/app/releases/tags/app%2Fv1.2%2Bb~1");
    assert_eq!(found.assets[0].name, "app#1 %");
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_asked() {
    let github = started();
    let url = github.api.url();
    for version in ["", "..", "a/b", "latest", "1.0\n", "-1"] {
        let text = told(Setup::github(&url, &["cli"]).find(version));
        assert!(text.contains("cannot be a version of app"), "{text}");
    }
    for binary in ["", ".", "..", "a/b", "a\0"] {
        let text = told(Setup::github(&url, &[binary]).find("1.2"));
        assert!(text.contains("cannot be the name of"), "{text}");
    }
    let mut setup = Setup::github(&url, &["cli"]);
    setup.package.platforms.clear();
    assert!(told(setup.find("1.2")).contains("what the releases of app call linux/x86_64"));
    let mut setup = Setup::github(&url, &["cli", "validator"]);
    setup.source().asset = template("app-{platform}");
    assert!(told(setup.find("1.2")).contains("cli and validator of app are the same of app-linux-amd64"));
    let mut setup = Setup::github(&url, &["cli"]);
    if let cairn_sources::config::Origin::GitHub { repository, .. } = &mut setup.source().origin {
        *repository = "acme/../app".to_owned();
    }
    assert!(told(setup.find("1.2")).contains("is no repository"));
    assert!(told(Setup::github("ftp://a/b", &["cli"]).find("1.2")).contains("only http and https"));
    assert_eq!(github.api.seen().len(), 0);
}

#[test]
fn answers_that_are_not_understood_are_said_to_be() {
    let github = started();
    let setup = Setup::github(&github.api.url(), &["cli"]);
    let path = "/repos/acme/app/releases/tags/v1.2";
    for body in ["", "{}", "[1]", "{\"tag_name\": 7}", "<html>"] {
        github.api.fail(path, Fault::Answer(Answer::json(200, body)));
        assert!(told(setup.find("1.2")).contains("with what is not understood"), "{body}");
    }
    let other = "{\"tag_name\":\"v9\",\"html_url\":\"x\",\"assets_url\":\"y\"}";
    github.api.fail(path, Fault::Answer(Answer::json(200, other)));
    assert!(told(setup.find("1.2")).contains("asked for v1.2, it answers with v9"));
    // A list that leads to itself ends.
    let again = Answer::json(200, "[]").with("Link", "<?page=2>; rel=\"next\"");
    github.api.answer("/repos/acme/app/releases/1/assets", again);
    assert!(told(setup.find("1.2")).contains("does not end"));
    let long = Answer::json(200, vec![b' '; (16 << 20) + 1]);
    github.api.fail(path, Fault::Answer(long));
    assert!(told(setup.find("1.2")).contains("longer than 16777216 bytes"));
}
