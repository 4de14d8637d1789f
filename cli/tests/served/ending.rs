//! A daemon that ends while it is asked, and one that cannot write any more.

use std::process::Stdio;

use harness::program::{finish, text, until};
use rustix::process::Signal;

use crate::world::World;

#[test]
fn who_asks_a_daemon_that_is_stopping_is_served_all_the_same() {
    let mut world = World::served(&[]);
    world.good(&["add", "one", "--name", "hello", "--version", "1"]);
    // A job that keeps the daemon from ending.
    let mut slow = world.command(&["add", "-", "--file-name", "f", "--name", "slow", "--version", "1"]);
    let mut slow = slow.stdin(Stdio::piped()).spawn().unwrap();
    until("the job to run", || world.jobs() == Some(1));
    // These have connected, and say what they want only when the daemon is stopping.
    let waiting: Vec<_> = (0..4)
        .map(|_| std::os::unix::net::UnixStream::connect(world.path("store/daemon.sock")).unwrap())
        .collect();
    world.signal(Signal::TERM);
    until("the socket to go", || !world.path("store/daemon.sock").exists());
    for mut stream in waiting {
        let body = r#"{"command":{"ls":{}}}"#;
        let head =
            format!("POST /v1/control/run HTTP/1.1\r\nhost: c\r\ncontent-length: {}\r\n\r\n", body.len());
        std::io::Write::write_all(&mut stream, format!("{head}{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains(r#""kind":"stopping""#), "{answer}");
    }
    // A command finds no daemon, reads at once, and waits for the lock when it writes.
    assert!(world.good(&["ls"]).contains("hello"));
    let tag = world.command(&["tag", "hello@1", "beta", "--wait", "60s"]).spawn().unwrap();
    std::io::Write::write_all(slow.stdin.as_mut().unwrap(), b"slow").unwrap();
    assert!(finish(slow).status.success());
    let tagged = finish(tag);
    assert!(tagged.status.success(), "{}", text(&tagged.stderr));
    assert_eq!(world.wait(), Some(0));
    assert_eq!(world.good(&["cat", "slow@1:f"]), "slow");
}

#[test]
fn commands_go_on_while_daemons_come_and_go() {
    let mut world = World::served(&[]);
    world.good(&["add", "one", "--name", "hello", "--version", "1"]);
    for round in 0..8 {
        let channels: Vec<String> = (0..6).map(|number| format!("c{round}-{number}")).collect();
        let start = |channel: &String| {
            let mut command =
                world.command(&["add", "-", "--file-name", "f", "--name", channel, "--version", "1"]);
            let mut child = command.args(["--wait", "60s"]).stdin(Stdio::piped()).spawn().unwrap();
            std::io::Write::write_all(child.stdin.as_mut().unwrap(), channel.as_bytes()).unwrap();
            drop(child.stdin.take());
            child
        };
        let children: Vec<_> = channels.iter().map(start).collect();
        world.signal(Signal::TERM);
        for (channel, child) in channels.iter().zip(children) {
            let output = finish(child);
            assert!(output.status.success(), "{channel}: {}", text(&output.stderr));
        }
        assert_eq!(world.wait(), Some(0));
        for channel in &channels {
            assert_eq!(world.good(&["cat", &format!("{channel}@1:f")]), *channel);
        }
        let mut daemon = world.command(&["daemon"]);
        world.begin(&mut daemon, Stdio::null());
    }
}

#[test]
fn a_daemon_whose_writer_stopped_says_that_it_has_to_be_restarted() {
    let mut world = World::alone();
    world.good(&["add", "one", "--name", "hello", "--version", "1"]);
    // No file can grow past some blocks of 512 or 1024 bytes, and who tries is told so.
    let script = r#"trap "" XFSZ; ulimit -f 8; exec "$0" daemon"#;
    let mut daemon = world.program("/bin/sh", &["-c", script, env!("CARGO_BIN_EXE_cairn")]);
    world.begin(&mut daemon, Stdio::null());
    let tag = |number: u32| {
        let output = world.run(&["tag", "hello@1", &format!("a-channel-with-a-longer-name-{number}")], b"");
        (output.status.code(), text(&output.stderr))
    };
    let first = (0..1000).map(tag).find(|(code, _)| *code != Some(0)).expect("no file grows for ever");
    assert_eq!(first.0, Some(1), "{}", first.1);
    let (code, said) = tag(1000);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("stopped after a failed write") && said.contains("restart the daemon"), "{said}");
    assert!(world.good(&["ls"]).contains("hello"), "reading goes on");
    world.signal(Signal::TERM);
    assert_eq!(world.wait(), Some(0));
    let mut daemon = world.command(&["daemon"]);
    world.begin(&mut daemon, Stdio::null());
    world.good(&["tag", "hello@1", "after"]);
}
