//! How servers are reached: through a proxy where the environment says so, encrypted, and this machine directly. What depends on the
//! environment is tried in a process of its own, which is this binary again.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::release_server::ReleaseServer;
use crate::setup::*;

/// Where the process of its own is told what to ask.
const URL: &str = "CAIRN_TEST_RELEASE_URL";

/// Ends when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test: what [`ask_apart`] runs.
#[test]
#[ignore = "is run by other tests, in a process of its own"]
fn asks_for_what_the_environment_says() {
    let url = std::env::var(URL).unwrap();
    let setup = Setup::plain(&url, &["cli"]);
    let found = setup.find("1.2").unwrap();
    setup.bring(&found).unwrap();
    assert_eq!(setup.laid()["cli"], b"cli");
}

/// Finds and brings a program from an address in another process; says how that went.
fn ask_apart(url: &str, environment: &[(&str, &str)]) -> Result<(), String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    for proxy in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
    ] {
        command.env_remove(proxy);
    }
    let command = command
        .args(["--exact", "ways::asks_for_what_the_environment_says", "--ignored", "--nocapture"])
        .env(URL, url)
        .env_remove("REQUEST_METHOD")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&command.stdout).into_owned() + &String::from_utf8_lossy(&command.stderr);
    assert!(said.contains("running 1 test"), "{said}");
    if command.status.success() { Ok(()) } else { Err(said) }
}

fn has_release(server: &ReleaseServer, prefix: &str) {
    server.file(&format!("{prefix}/app-1.2/cli-linux-amd64"), b"cli");
    server.file(&format!("{prefix}/app-1.2/SHA256SUMS"), sums(&[("cli-linux-amd64", b"cli")]));
}

#[test]
fn a_proxy_of_the_environment_is_asked_but_not_for_this_machine() {
    let proxy = ReleaseServer::start();
    has_release(&proxy, "http://releases.invalid");
    ask_apart("http://releases.invalid", &[("http_proxy", &proxy.url())]).unwrap();
    assert!(!proxy.seen().is_empty());
    proxy.forget();

    let direct = ReleaseServer::start();
    has_release(&direct, "");
    ask_apart(&direct.url(), &[("http_proxy", &proxy.url()), ("all_proxy", &proxy.url())]).unwrap();
    assert!(proxy.seen().is_empty() && !direct.seen().is_empty());
}

#[test]
fn certificates_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let release = folder.path().join("app-1.2");
    std::fs::create_dir(&release).unwrap();
    std::fs::write(release.join("cli-linux-amd64"), b"cli").unwrap();
    std::fs::write(release.join("SHA256SUMS"), sums(&[("cli-linux-amd64", b"cli")])).unwrap();
    let Some((_server, port)) = encrypted(folder.path()) else {
        eprintln!("SKIPPED: there is no openssl that serves files (package openssl)");
        return;
    };
    let url = format!("https://localhost:{port}");
    let certificate = folder.path().join("cert.pem");
    ask_apart(&url, &[("SSL_CERT_FILE", certificate.to_str().unwrap())]).unwrap();
    let said = ask_apart(&url, &[]).unwrap_err();
    assert!(said.contains("certificates do not vouch for it"), "{said}");
    let said =
        ask_apart(&format!("https://127.0.0.1:{port}"), &[("SSL_CERT_FILE", certificate.to_str().unwrap())]);
    assert!(said.unwrap_err().contains("certificate"));
}

/// A server with TLS that has the files of a folder, for `localhost`, once it listens.
fn encrypted(folder: &Path) -> Option<(Running, u16)> {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
        .current_dir(folder)
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return None;
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new("openssl")
        .args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-WWW"])
        .args(["-cert", "cert.pem", "-key", "key.pem"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut server = Running(child);
    let mut said = BufReader::new(server.0.stdout.take()?);
    let (deadline, mut line) = (Instant::now() + Duration::from_secs(20), String::new());
    while !line.starts_with("ACCEPT") {
        line.clear();
        if Instant::now() > deadline || said.read_line(&mut line).ok()? == 0 {
            return None;
        }
    }
    // What it says further has to go somewhere.
    std::thread::spawn(move || drop(said.read_to_end(&mut Vec::new())));
    Some((server, port))
}
