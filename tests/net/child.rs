//! A pull in a process of its own: what it takes at most is what the kernel says of that process.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cairn_net::{Net, NetOptions, PeerUrl, Source, Timeouts};
use harness::scratch::Scratch;
use harness::stores::writer;

/// What nothing that a peer sends may make a pull take, in bytes.
pub(crate) const MEMORY_MAX: u64 = 64 << 20;
/// When a pull that does not end is taken for one that hangs.
const TIME_MAX: Duration = Duration::from_secs(90);

/// What came of a pull.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Nothing if it went well.
    pub(crate) error: Option<String>,
    /// Bytes resident at most.
    pub(crate) memory: u64,
}

/// Short waits, so that a test of one is short.
pub(crate) fn short_timeouts() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(5),
        answer: Duration::from_secs(5),
        idle: Duration::from_secs(2),
        patience: Duration::from_secs(4),
    }
}

/// Pulls `app@1` from a peer into a new store below a folder, in a process of its own.
pub(crate) fn pull(url: &PeerUrl, store: &Path) -> Outcome {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child::pulls_in_a_process_of_its_own", "--exact", "--nocapture", "--test-threads=1"])
        .env("CAIRN_TEST_PULL_FROM", url.as_str())
        .env("CAIRN_TEST_PULL_TO", store)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > TIME_MAX {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the pull hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.split_once(name)).unwrap_or_else(|| panic!("{text}"));
        line.1.to_owned()
    };
    let error = field("outcome: ");
    Outcome { error: (error != "fine").then_some(error), memory: field("memory: ").parse().unwrap() }
}

#[test]
fn pulls_in_a_process_of_its_own() {
    let (Ok(url), Ok(store)) = (std::env::var("CAIRN_TEST_PULL_FROM"), std::env::var("CAIRN_TEST_PULL_TO"))
    else {
        return;
    };
    let writer = writer(Path::new(&store));
    let net = Net::start(NetOptions { timeouts: short_timeouts() }).unwrap();
    let from = [Source::open(url.parse().unwrap())];
    let result = net
        .resolve(&from, &"app@1".parse().unwrap(), None)
        .and_then(|resolved| net.plan(&writer, &from, &resolved, &()))
        .and_then(|plan| net.pull(&writer, plan, &()));
    let text = result.map_or_else(|error| error.to_string().replace('\n', " "), |_| "fine".to_owned());
    println!("outcome: {text}");
    println!("memory: {}", peak());
}

/// Bytes that this process had resident at most.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Pulls from a hostile peer: the error names the peer and says `expected`, memory stays bounded, and nothing is written
/// beside the store.
pub(crate) fn assert_refused(url: &PeerUrl, expected: &str) {
    let scratch = Scratch::new();
    let outcome = pull(url, &scratch.join("store"));
    let error = outcome.error.expect("what a hostile peer sends is refused");
    assert!(error.contains(url.as_str()), "{error} does not name {url}");
    assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    assert!(outcome.memory <= MEMORY_MAX, "{} bytes resident", outcome.memory);
    assert_eq!(Scratch::names(scratch.path()), ["store"]);
}
