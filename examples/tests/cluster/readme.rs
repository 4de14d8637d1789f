//! The README's story of a node that joins, run as it is written there: only the port is another, and `/srv` is a folder of
//! the test.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use harness::program::{finish, text, until};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::world::{Daemon, World, binary};

/// The heading of the story.
const HEADING: &str = "\n## A node joins in four commands\n";

/// What is started and goes on: ended with the test.
struct Background(Child);

impl Background {
    /// Lets it end in order.
    fn end(mut self) {
        kill_process_group(Pid::from_child(&self.0), Signal::TERM).unwrap();
        until("a node of the README to end", || self.0.try_wait().unwrap().is_some());
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// The commands of the story: lines after a prompt, with those that go on behind a backslash.
fn commands() -> Vec<String> {
    let readme = include_str!("../../../README.md");
    let story = readme.split_once(HEADING).expect("the README has no such story").1;
    let story = story.split("\n## ").next().unwrap();
    let mut commands: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in story.split("```").skip(1).step_by(2).flat_map(str::lines) {
        match line.strip_prefix("$ ") {
            Some(command) => commands.push(command.to_owned()),
            None if goes_on => *commands.last_mut().unwrap() += line,
            None => continue,
        }
        let command = commands.last_mut().unwrap();
        goes_on = command.ends_with('\\');
        if goes_on {
            command.pop();
        }
    }
    commands
}

#[test]
fn a_node_joins_in_four_commands() {
    let world = World::new();
    std::fs::create_dir(world.path("srv")).unwrap();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let bins = binary("cairn").parent().unwrap().to_owned();
    let path = std::env::join_paths(
        [bins].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    )
    .unwrap();
    let shell = |command: &str| {
        let command = command.replace("/srv/", &format!("{}/srv/", world.path("").display()));
        let command = command.replace(":7001", &format!(":{port}"));
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).current_dir(world.path("")).env("PATH", &path);
        shell.env("CAIRN_LISTEN", format!("127.0.0.1:{port}"));
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        shell
    };
    let mut background = Vec::new();
    let mut daemon = None;
    let commands = commands();
    assert!(commands.len() >= 7, "{commands:?}");
    for command in &commands {
        if let Some(command) = command.strip_suffix(" &") {
            let mut shell = shell(command);
            std::os::unix::process::CommandExt::process_group(&mut shell, 0);
            background.push(Background(shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()));
            let dir = command.split_once("--dir ").unwrap().1.split(' ').next().unwrap();
            let socket = world.path(&format!("{dir}.sock"));
            until("a node of the README to answer", || {
                std::os::unix::net::UnixStream::connect(&socket).is_ok()
            });
            continue;
        }
        let mut shell = shell(command);
        if command.contains("--detach") {
            // What goes on in the background would keep a pipe open.
            shell.stdout(Stdio::null()).stderr(Stdio::null());
        }
        let output = finish(shell.spawn().unwrap());
        let said = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{command}: {said:?}");
        if command.contains("--detach") {
            daemon = Some(Detached(world.json("srv/a", &["status"])[0]["daemon"]["pid"].as_i64().unwrap()));
        }
    }
    let written: PathBuf = world.path("kv2.sock");
    assert!(written.exists());
    // What the last command wrote is read at the first node.
    let get = || {
        let output = finish(shell("kv-node get kv1.sock colour").spawn().unwrap());
        text(&output.stdout)
    };
    until("the write to arrive", || get() == "blue\n");
    background.into_iter().for_each(Background::end);
    let served = Daemon::at(format!("http://127.0.0.1:{port}"));
    world.all_are_equal(&served, Vec::new(), &["kv1", "kv2"]);
    drop(daemon);
}

/// A daemon that went into the background by itself.
struct Detached(i64);

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
