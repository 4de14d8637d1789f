//! Tokens: who gets in, and how far.

use cairn_server::{Access, Scope};

use crate::http::{ask, get, get_with};
use crate::served::{Folder, Setup, token};

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[test]
fn without_a_good_token_nothing_is_told() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 1000);
    let tokens = folder.tokens();
    let good = token(&tokens, Scope::Read, &[]);
    let access = Access::by_tokens(tokens.clone());
    let served = folder.serve(Setup { access, ..Setup::default() });
    let path = format!("/v1/artifacts/{artifact}");
    let none = get(served.address, &path);
    assert_eq!((none.status, none.kind().as_str()), (401, "refused"));
    assert!(none.header("www-authenticate").starts_with("Bearer"));
    for wrong in [
        "Bearer",
        "Bearer ",
        "Bearer cairn_x",
        "Basic dXNlcjpwYXNz",
        &bearer(&good[..good.len() - 1]),
        &bearer(&"x".repeat(4000)),
    ] {
        let answer = get_with(served.address, &path, &[("authorization", wrong)]);
        assert_eq!(answer.status, 401, "{wrong}");
        assert!(!answer.text().contains(&good));
    }
    let answer = get_with(served.address, &path, &[("authorization", &bearer(&good))]);
    assert_eq!(
        (answer.status, answer.header("cache-control")),
        (200, "private, max-age=31536000, immutable")
    );
    assert_eq!(get_with(served.address, &path, &[("authorization", &format!("bearer  {good}"))]).status, 200);
    // Whether it lives is nobody's secret.
    assert_eq!(get(served.address, "/healthz").status, 200);
    assert_eq!(get(served.address, "/metrics").status, 401);
    let id = tokens.list().unwrap()[0].id.clone();
    tokens.revoke(&id).unwrap();
    assert_eq!(get_with(served.address, &path, &[("authorization", &bearer(&good))]).status, 401);
}

#[test]
fn everybody_may_read_where_that_is_said() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 1000);
    let tokens = folder.tokens();
    let access = Access { anonymous_reads: true, ..Access::by_tokens(tokens) };
    let served = folder.serve(Setup { access, ..Setup::default() });
    let path = format!("/v1/artifacts/{artifact}");
    let answer = get(served.address, &path);
    assert_eq!((answer.status, answer.header("cache-control")), (200, "public, max-age=31536000, immutable"));
    // Who shows a token that is not good is told so all the same.
    assert_eq!(get_with(served.address, &path, &[("authorization", "Bearer cairn_x")]).status, 401);
}

#[test]
fn a_token_of_some_names_sees_these_alone() {
    let folder = Folder::new();
    let ours = folder.add("bitcoin", "1.0", 1, 1000);
    let theirs = folder.add("other", "1.0", 2, 1000);
    let tokens = folder.tokens();
    let some = bearer(&token(&tokens, Scope::Read, &["bit*"]));
    let served = folder.serve(Setup { access: Access::by_tokens(tokens), ..Setup::default() });
    let ask = |path: &str| get_with(served.address, path, &[("authorization", &some)]);
    let list = ask("/v1/refs");
    assert!(list.text().contains("bitcoin") && !list.text().contains("other"));
    assert_eq!(list.header("cache-control"), "private, no-cache");
    assert_eq!(ask("/v1/refs/bitcoin").status, 200);
    let refused = ask("/v1/refs/other");
    assert_eq!((refused.status, refused.kind().as_str()), (403, "refused"));
    assert_eq!(ask(&format!("/v1/artifacts/{ours}")).status, 200);
    assert_eq!(ask(&format!("/v1/artifacts/{theirs}")).status, 404);
    assert_eq!(ask(&format!("/v1/delta/none/{ours}")).status, 200);
    assert_eq!(ask(&format!("/v1/delta/none/{theirs}")).status, 404);
}

#[test]
fn paths_and_methods_that_there_are_not() {
    let folder = Folder::new();
    let served = folder.serve(Setup::default());
    for path in [
        "/",
        "/v1",
        "/v1/",
        "//v1/refs",
        "/v1//refs",
        "/v1/refs/",
        "/v1/../v1/refs",
        "/v1/%2e%2e/refs",
        "/../../etc/passwd",
        "/v1/chunks/../../../etc/passwd",
        "/v1/refs%00",
        "/v1/control/run",
    ] {
        let answer = get(served.address, path);
        assert_eq!(answer.status, 404, "{path} {}", answer.text());
    }
    for path in [
        "/v1/chunks/..",
        "/v1/chunks/%2e%2e%2fetc%2fpasswd",
        "/v1/chunks/%00",
        "/v1/artifacts/x",
        "/v1/refs/..",
        "/v1/refs/%2e%2e",
        "/v1/refs/a%00b",
        "/v1/refs/%ff",
        "/v1/refs/A",
        "/v1/delta/x/y",
    ] {
        let answer = get(served.address, path);
        assert_eq!(answer.status, 400, "{path} {}", answer.text());
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "BREW"] {
        let answer = ask(served.address, method, "/v1/peer", &[], b"");
        assert_eq!((answer.status, answer.kind().as_str()), (405, "usage"), "{method}");
    }
}
